"""Learned weights of the heads' losses: trained with the model, kept in checkpoints, and no part of what is published."""

import math
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from training_runs import still, trainer_for, weights

from multihead_hf import HeadConfig, MultiHeadModel
from multihead_hf.model.objective_multihead import combined_loss
from multihead_hf.training.head_weights import uncertain_losses


def test_they_are_trained_logged_and_kept_in_checkpoints_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = {"head_weighting": "uncertainty", "learning_rate": 1e-3, "weight_decay": 0.5}
    trainer = trainer_for(out, max_steps=4, save_strategy="steps", save_steps=2, head_learning_rate=0.1, **settings)
    trainer.train()
    learned = trainer.head_weights.log_variances.tolist()
    start = [math.log(2 * trainer.constant_losses[name]) for name in ("topic", "mood")]
    assert all(abs(value - first) > 0.05 for value, first in zip(learned, start, strict=True))
    log = [entry for entry in trainer.state.log_history if "mood_loss" in entry][-1]
    assert [log["topic_log_variance"], log["mood_log_variance"]] == pytest.approx(learned)
    assert log["learning_rate_head_weighting"] == log["learning_rate_heads"]
    (group,) = (group for group in trainer.optimizer.param_groups if group["name"] == "head_weighting")
    assert group["weight_decay"] == 0.0
    assert load_file(out / "checkpoint-4" / "head_weighting.safetensors")["log_variances"].tolist() == learned
    assert "log_variances" not in load_file(out / "checkpoint-4" / "model.safetensors")

    trainer.save_model()
    assert not (out / "head_weighting.safetensors").exists()
    assert "log_variances" not in load_file(out / "model.safetensors")
    published, info = MultiHeadModel.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    # the model has them while it is trained only
    for model in (trainer.model, published):
        assert "log_variances" not in dict(model.named_parameters())
        assert not model._forward_hooks
        assert not model._keys_to_ignore_on_save
    trainer_for(tmp_path / "fixed", trainer.model, max_steps=1).train()


def test_the_evaluation_loss_is_that_of_fixed_weights(tmp_path: Path) -> None:
    """So that it can be compared between evaluations, whatever has been learned in between."""
    trainer = trainer_for(tmp_path, max_steps=1, head_weighting="uncertainty")
    expected = trainer.evaluate()["eval_loss"]
    with torch.no_grad():
        trainer.head_weights.log_variances.fill_(3.0)
    assert trainer.evaluate()["eval_loss"] == expected


def test_a_head_without_labels_leaves_its_log_variance(tmp_path: Path) -> None:
    heads = {**tiny.two_heads(), "other": HeadConfig(labels=["x", "y"])}
    trainer = trainer_for(
        tmp_path, still(**heads), max_steps=2, gradient_accumulation_steps=2, head_weighting="uncertainty"
    )
    trainer.train()
    topic, mood, other = trainer.head_weights.log_variances.tolist()
    start = {name: math.log(2 * loss) for name, loss in trainer.constant_losses.items()}
    assert topic != pytest.approx(start["topic"], abs=1e-9)
    assert mood != pytest.approx(start["mood"], abs=1e-9)
    assert "other" not in start
    assert other == 0


def test_a_run_with_another_weighting_is_not_resumed(tmp_path: Path) -> None:
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer_for(tmp_path, **settings).train()
    with pytest.raises(
        ValueError, match=r"its run had head_weighting='prior' or 'fixed', but this run has 'uncertainty'"
    ):
        trainer_for(tmp_path, head_weighting="uncertainty", **settings).train(resume_from_checkpoint=True)
    learning = {**settings, "head_weighting": "uncertainty"}
    trainer_for(tmp_path / "other", **learning).train()
    with pytest.raises(ValueError, match=r"had head_weighting='uncertainty', but this run has 'fixed'.*Resume with"):
        trainer_for(tmp_path / "other", **settings).train(resume_from_checkpoint=True)
    saved = tmp_path / "other" / "checkpoint-2" / "head_weighting.safetensors"
    saved.write_bytes(saved.read_bytes()[:-2])
    with pytest.raises(
        ValueError, match=r"head_weighting.safetensors cannot be read.*complete checkpoint is .*checkpoint-1"
    ):
        trainer_for(tmp_path / "other", **learning).train(resume_from_checkpoint=True)


def test_the_weighting_is_as_published() -> None:
    """exp(−s)·L + s/2 for each head, and no s/2 for a head without labels in the step."""
    heads = tiny.two_heads()
    heads["topic"].loss_weight = 3.0
    losses = {"topic": torch.tensor(0.7), "mood": torch.tensor(0.0)}
    s = {"topic": torch.tensor(0.4, requires_grad=True), "mood": torch.tensor(-1.0, requires_grad=True)}
    labelled = {"topic": torch.tensor(True), "mood": torch.tensor(False)}
    value = combined_loss(heads, uncertain_losses(losses, s, labelled))
    assert value.item() == pytest.approx(3 / 4 * (0.7 * torch.exp(torch.tensor(-0.4)).item() + 0.2))
    topic, mood = torch.autograd.grad(value, [s["topic"], s["mood"]])
    assert topic.item() == pytest.approx(3 / 4 * (0.5 - 0.7 * torch.exp(torch.tensor(-0.4)).item()))
    assert mood == 0
    # four batches add a quarter of s/2 each
    part = combined_loss(heads, uncertain_losses(losses, s, labelled, torch.tensor(4.0)))
    assert (value - part).item() == pytest.approx(3 / 4 * 0.2 * 3 / 4)


def test_lora_with_learned_weights(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["heads"])
    settings = {"save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2, "head_weighting": "uncertainty"}
    whole = trainer_for(tmp_path / "whole", get_peft_model(still(), lora), max_steps=4, **settings)
    whole.train()
    assert all(abs(value) > 1e-3 for value in whole.head_weights.log_variances.tolist())
    folder = tmp_path / "whole" / "checkpoint-2"
    again = trainer_for(tmp_path / "again", get_peft_model(still(), lora), max_steps=4, **settings)
    again.train(resume_from_checkpoint=str(folder))
    expected = weights(whole.model)
    for key, value in weights(again.model).items():
        assert torch.equal(value, expected[key]), key
    assert torch.equal(again.head_weights.log_variances, whole.head_weights.log_variances)


def test_prior_weights_divide_each_loss_by_that_of_the_best_constant_prediction(tmp_path: Path) -> None:
    heads = {
        "topic": HeadConfig(labels=tiny.TOPICS, problem_type="multi_label_classification", dropout=0.0),
        "mood": HeadConfig(labels=tiny.MOODS, dropout=0.0, loss_weight=3.0),
    }
    trainer = trainer_for(tmp_path, still(**heads), max_steps=1, head_weighting="prior", logging_steps=1)
    labels = [row["labels"] for row in trainer.train_dataset]
    cells = torch.tensor([own["topic"] for own in labels if own["topic"] is not None])
    moods = [own["mood"] for own in labels if own["mood"] is not None]
    share, angry = cells.double().mean(0), sum(moods) / len(moods)
    constant = {
        "topic": -(share * share.log() + (1 - share) * (1 - share).log()).mean().item(),
        "mood": -(angry * math.log(angry) + (1 - angry) * math.log(1 - angry)),
    }
    assert 0 < angry < 1
    assert ((share > 0) & (share < 1)).all()

    def combined(losses: dict[str, float], prefix: str = "") -> float:
        relative = {name: losses[f"{prefix}{name}_loss"] / constant[name] for name in heads}
        return (relative["topic"] + 3 * relative["mood"]) / 4

    evaluated = trainer.evaluate()
    assert evaluated["eval_loss"] == pytest.approx(combined(evaluated, "eval_"), rel=1e-5)
    trainer.train()
    (log,) = (entry for entry in trainer.state.log_history if "mood_loss" in entry)
    assert log["loss"] == pytest.approx(combined(log), rel=1e-4)
    # the heads' own losses are logged as they are, and nothing of the weights is published
    assert log["mood_loss"] == pytest.approx(math.log(2), abs=0.1)
    trainer.save_model()
    assert "prior" not in (tmp_path / "config.json").read_text()


def test_a_run_with_prior_weights_is_resumed_bit_by_bit(tmp_path: Path) -> None:
    settings = {"head_weighting": "prior", "head_learning_rate": None, "save_strategy": "steps", "save_steps": 2}
    whole = trainer_for(tmp_path / "whole", max_steps=4, **settings)
    whole.train()
    again = trainer_for(tmp_path / "again", max_steps=4, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    expected = weights(whole.model)
    for key, value in weights(again.model).items():
        assert torch.equal(value, expected[key]), key


def test_an_unknown_weighting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown head_weighting 'uncertain'. Did you mean 'uncertainty'"):
        trainer_for(tmp_path, head_weighting="uncertain")
