"""Training parts of a model: heads by name, top layers, layer-wise learning rates, a frozen encoder."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from training_runs import still, trainer_for, weights


def changed(before: dict[str, torch.Tensor], model: torch.nn.Module) -> set[str]:
    return {key for key, value in weights(model).items() if not torch.equal(value, before[key])}


def test_a_frozen_encoder_stays_in_evaluation_mode(tmp_path: Path) -> None:
    model = tiny.model()  # with dropout
    trainer = trainer_for(tmp_path, model, max_steps=2, freeze_encoder=True, eval_strategy="steps", eval_steps=1)
    before = weights(model)
    modes: list[bool] = []
    model.encoder.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    trainer.train()
    assert modes
    assert not any(modes)
    assert changed(before, model)
    assert all(key.startswith("heads.") for key in changed(before, model))
    model.encoder.requires_grad_(True)
    assert model.train().encoder.training


@pytest.mark.parametrize("family", ["bert", "modernbert", "distilbert", "t5", "gpt2", "deberta-v2"])
def test_only_the_top_layers_are_trained(tmp_path: Path, family: str) -> None:
    model = tiny.model(family)
    trainer = trainer_for(tmp_path, model, max_steps=2, learning_rate=1e-2, train_top_layers=1)
    before = weights(model)
    trainer.train()
    moved = changed(before, model)
    assert any(key.startswith("heads.") for key in moved)
    assert any(".1." in key for key in moved if key.startswith("encoder."))
    assert not [key for key in moved if ".0." in key and key.startswith("encoder.") and ".1." not in key]
    assert not [key for key in moved if "word_embeddings" in key or "embed_tokens" in key or "wte" in key]


def test_learning_rates_fall_with_the_layers(tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path, max_steps=1, learning_rate=1e-2, head_learning_rate=1e-1, layer_learning_rate_decay=0.5
    )
    trainer.train()
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert rates == pytest.approx({"heads": 0.1, "layer_1": 1e-2, "layer_0": 5e-3, "embeddings": 2.5e-3})
    log = trainer.state.log_history[0]
    assert log["learning_rate_embeddings"] == pytest.approx(2.5e-3)
    known = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert known == {id(parameter) for parameter in trainer.model.parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_heads": ["mod"]}, r"train_heads: the model has no head 'mod'. Did you mean 'mood'"),
        ({"train_heads": []}, r"train_heads is empty"),
        ({"train_top_layers": 3}, r"train_top_layers 3: the encoder has 2 layers"),
        ({"train_top_layers": 1, "freeze_encoder": True}, r"contradict each other"),
        ({"layer_learning_rate_decay": 0.0}, r"layer_learning_rate_decay 0.0: give a number above 0"),
    ],
)
def test_what_cannot_be(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer_for(tmp_path, still(), **settings)


def test_layers_that_are_shared_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the layers of a AlbertModel are not a list of 2"):
        trainer_for(tmp_path, tiny.model("albert"), train_top_layers=1)


def test_the_next_trainer_trains_what_the_last_ones_arguments_froze(tmp_path: Path) -> None:
    model = still()
    everything = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.encoder.embeddings.requires_grad_(False)  # by the user: stays

    def trained(**settings: Any) -> set[str]:
        trainer_for(tmp_path, model, **settings)
        return {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    users = {name for name in everything if "embeddings" not in name}
    assert trained(freeze_encoder=True, train_heads=["mood"]) == {name for name in users if "head_mood" in name}
    top = trained(train_top_layers=1)
    assert top
    assert not any("layer.0." in name for name in top)
    assert trained(train_top_layers=2) == users
    assert trained(train_heads="mood") == {name for name in users if "head_topic" not in name}
    assert trained() == users


def test_resuming_with_other_parts_is_refused(tmp_path: Path) -> None:
    """The optimizer's state would be laid over parameters of other shapes."""
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer_for(tmp_path, still(), train_heads=["mood"], **settings).train()
    again = trainer_for(tmp_path, still(), train_heads=["topic"], **settings)
    with pytest.raises(
        ValueError, match=r"its run trained other parameters: only in the checkpoint \['heads.head_mood.*train_heads"
    ):
        again.train(resume_from_checkpoint=True)
    trainer_for(tmp_path, still(), train_heads=["mood"], **settings).train(resume_from_checkpoint=True)


def test_parts_under_lora(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["heads"])
    model = get_peft_model(still(), lora)
    before = weights(model)
    trainer_for(tmp_path, model, max_steps=2, learning_rate=1e-2, train_heads=["mood"]).train()
    moved = changed(before, model)
    assert any("lora_" in key for key in moved)
    assert any("head_mood" in key for key in moved)
    assert not any("head_topic" in key for key in moved)
    with pytest.raises(ValueError, match=r"\(PEFT\), so its adapters would be frozen"):
        trainer_for(tmp_path, get_peft_model(still(), lora), freeze_encoder=True)


def test_an_optimizer_that_lacks_a_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = still()
    optimizer = torch.optim.SGD(model.encoder.parameters(), lr=0.1)
    trainer = trainer_for(tmp_path, model, max_steps=1, optimizers=(optimizer, None))
    trainer.train()
    assert "the optimizer that was passed does not contain ['heads." in caplog.text


def test_nothing_left_to_train(tmp_path: Path) -> None:
    model = still()
    model.heads.requires_grad_(False)
    trainer = trainer_for(tmp_path, model=model, freeze_encoder=True, max_steps=1)
    assert trainer.evaluate()["eval_f1"] >= 0
    message = r"all parameters are frozen, by freeze_encoder=True and requires_grad_\(False\); train a part of them"
    with pytest.raises(ValueError, match=message):
        trainer.train()
