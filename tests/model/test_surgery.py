"""Heads that come and go: the others' logits stay bit-equal, and what is saved loads."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from training_runs import arguments, still, weights
from transformers import set_seed

from multihead_hf import HeadConfig, MultiHeadModel, MultiHeadTrainer, prepare_dataset

CHANNEL = HeadConfig(labels=["phone", "mail", "web"], architecture="mlp", dropout=0.0)


def logits(model: MultiHeadModel, **options: Any) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model.eval()(**tiny.batch(), **options).logits


def assert_reloads(model: MultiHeadModel, folder: Path) -> None:
    model.save_pretrained(folder)
    again, info = MultiHeadModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = logits(model)
    found = logits(again)
    assert list(found) == list(expected) == list(model.config.heads)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_head_is_added(tmp_path: Path) -> None:
    model = tiny.model()
    before = logits(model)
    set_seed(3)
    model.add_head("channel", CHANNEL, verify=True)
    after = logits(model)
    assert list(after) == ["topic", "mood", "channel"]
    assert after["channel"].shape == (3, 3)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert_reloads(model, tmp_path)
    other = tiny.model()
    set_seed(3)
    other.add_head("channel", CHANNEL.to_dict())
    assert torch.equal(logits(other)["channel"], after["channel"])
    assert model.heads["channel"].layers[-1].weight.std() < 0.1  # initialised as the encoder says
    with pytest.raises(ValueError, match=r"head 'mood': the model has a head of this name already"):
        model.add_head("mood", CHANNEL)
    with pytest.raises(ValueError, match=r"head 'x': a head needs labels"):
        model.add_head("x", {"labels": []})


def test_a_head_is_removed_and_renamed(tmp_path: Path) -> None:
    model = tiny.model(heads={**tiny.two_heads(), "channel": CHANNEL})
    before = logits(model)
    model.remove_head("mood", verify=True)
    model.rename_head("topic", "subject of the text", verify=True)
    after = logits(model)
    assert list(after) == ["subject of the text", "channel"]
    assert torch.equal(after["subject of the text"], before["topic"])
    assert torch.equal(after["channel"], before["channel"])
    assert_reloads(model, tmp_path)
    with pytest.raises(ValueError, match=r"no head 'chanel'. Did you mean 'channel'"):
        model.remove_head("chanel")
    with pytest.raises(ValueError, match=r"head 'channel': the model has a head of this name already"):
        model.rename_head("subject of the text", "channel")
    model.remove_head("subject of the text")
    with pytest.raises(ValueError, match=r"head 'channel' is the only head"):
        model.remove_head("channel")


@pytest.mark.parametrize("architecture", ["linear", "mlp"])
def test_a_head_is_extended(tmp_path: Path, architecture: str) -> None:
    topic = {
        "thresholds": [0.2, 0.3, 0.4],
        "pos_weight": [1.0, 2.0, 3.0],
        "loss": "soft_f1_bce",
        "learn_thresholds": 0.3,
    }
    model = tiny.model(heads=tiny.two_heads(architecture=architecture, **topic))
    model.heads["topic"].threshold_logits.data.copy_(torch.tensor([0.1, 0.2, 0.3]))
    before, old = logits(model), weights(model.heads["topic"])
    model.extend_head("topic", ["parks", "water"], verify=True)
    after, new = logits(model), weights(model.heads["topic"])
    assert torch.equal(after["mood"], before["mood"])
    assert after["topic"].shape == (3, 5)
    torch.testing.assert_close(after["topic"][:, :3], before["topic"], atol=1e-6, rtol=1e-6)
    assert all(torch.equal(new[key][: len(value)], value) for key, value in old.items())
    assert new["threshold_logits"][3:].sigmoid().tolist() == pytest.approx([0.3, 0.3])
    head = model.config.heads["topic"]
    assert head.labels == [*tiny.TOPICS, "parks", "water"]
    assert head.pos_weight == [1.0, 2.0, 3.0, 1.0, 1.0]
    assert_reloads(model, tmp_path)
    with pytest.raises(ValueError, match=r"head 'topic': label 'waste' is given twice"):
        model.extend_head("topic", ["waste"])
    assert len(model.config.heads["topic"].labels) == 5


def test_heads_of_another_model_on_the_same_encoder(tmp_path: Path) -> None:
    model = tiny.model()
    other = MultiHeadModel.from_pretrained(_saved(tiny.model(), tmp_path / "base"))
    other.add_head("channel", CHANNEL)
    other.config.heads["channel"].calibration_temperature = 2.0
    _saved(other, tmp_path / "other")
    before, expected = logits(model), logits(other)
    model.load_heads(tmp_path / "other", "channel", verify=True)
    after = logits(model)
    assert torch.equal(after["channel"], expected["channel"])
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert model.config.heads["channel"].calibration_temperature == 2.0
    assert model.config.heads["channel"] is not other.config.heads["channel"]
    assert_reloads(model, tmp_path / "both")
    with pytest.raises(ValueError, match=r"has no head 'chanel'. Did you mean 'channel'"):
        model.load_heads(other, ["chanel"])
    with pytest.raises(ValueError, match=r"head 'channel': the model has a head of this name already"):
        model.load_heads(other, ["channel"])
    pairs = tiny.model(heads={"new": CHANNEL}, text_columns=["q", "a"])
    model.config.text_columns = ["text"]
    with pytest.raises(ValueError, match=r"reads text_columns=\['q', 'a'\], but this model \['text'\]: .* text pairs"):
        model.load_heads(pairs)
    stranger = tiny.model(heads={"new": CHANNEL}, seed=5)
    with pytest.raises(ValueError, match=r"the other model has another encoder: embeddings.* differs.*fine-tuned"):
        model.load_heads(stranger)
    with pytest.raises(ValueError, match=r"another encoder: a 'distilbert' with other weights than this 'bert'"):
        model.load_heads(tiny.model("distilbert", heads={"new": CHANNEL}))
    same_weights = tiny.model(heads={"new": CHANNEL})
    same_weights.config.encoder.hidden_dropout_prob = 0.3  # is for training: the vectors are the same
    same_weights.config.encoder.layer_norm_eps = 0.5
    with pytest.raises(ValueError, match=r"another encoder: layer_norm_eps is 0.5 there and 1e-12 in this model"):
        model.load_heads(same_weights)
    same_weights.config.encoder.layer_norm_eps = 1e-12
    model.load_heads(same_weights, verify=True)
    model.remove_head("new")
    with pytest.raises(ValueError, match=r"has text_prefix='query: ', but this model has None"):
        model.load_heads(tiny.model(heads={"new": CHANNEL}, text_prefix="query: "))
    with pytest.raises(ValueError, match=r"has pooling='mean', but this model has 'cls'"):
        model.load_heads(tiny.model(heads={"new": CHANNEL}, pooling="mean"))
    assert list(model.config.heads) == ["topic", "mood", "channel"]


def _saved(model: MultiHeadModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def test_a_change_that_would_show_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model()
    before = logits(model)
    set_heads = MultiHeadModel._set_heads

    def spoil(self: MultiHeadModel, heads: Any, modules: Any) -> None:
        if "channel" in heads:
            modules = {**modules, "mood": self._fresh_head(heads["mood"])}
        set_heads(self, heads, modules)

    monkeypatch.setattr(MultiHeadModel, "_set_heads", spoil)
    with pytest.raises(RuntimeError, match=r"head 'mood': its logits would have changed; the model is as it was"):
        model.add_head("channel", CHANNEL, verify=True)
    after = logits(model)
    assert list(after) == ["topic", "mood"]
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_an_only_head_is_extended_with_nothing_to_compare() -> None:
    model = tiny.model(heads={"mood": tiny.two_heads()["mood"]})
    model.extend_head("mood", ["glad"], verify=True)
    assert logits(model)["mood"].shape == (3, 3)


def test_a_verification_that_fails_leaves_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model()
    before = logits(model)
    forward = MultiHeadModel.forward

    def out_of_memory(self: MultiHeadModel, *args: Any, **kwargs: Any) -> Any:
        if "channel" in self.config.heads:
            raise MemoryError
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(MultiHeadModel, "forward", out_of_memory)
    with pytest.raises(MemoryError):
        model.add_head("channel", CHANNEL, verify=True)
    after = logits(model)
    assert list(after) == ["topic", "mood"]
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_sources_without_heads_to_load(tmp_path: Path) -> None:
    model = tiny.model()
    nowhere = tmp_path / "nothere"
    with pytest.raises(ValueError, match=r"nothere is not a local folder, and cannot be loaded from the Hub: [^\n]*$"):
        model.load_heads(nowhere)
    tiny.model().config.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"bare cannot be loaded: [^\n]*model.safetensors[^\n]*$"):
        model.load_heads(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"source is a NoneType: give a multi-head model, its folder or Hub name"):
        model.load_heads(None)
    with pytest.raises(ValueError, match=r"names is empty: name some of \['new'\], or leave it out for all"):
        model.load_heads(tiny.model(heads={"new": CHANNEL}), [])


def test_an_encoder_that_is_rounded(tmp_path: Path) -> None:
    other = tiny.model(heads={"new": CHANNEL})
    other.half().save_pretrained(tmp_path)
    message = r"the same encoder except for rounding, as one of the two is in float16: .*from_pretrained\(…, dtype='float16'\)"
    with pytest.raises(ValueError, match=message):
        tiny.model().load_heads(tmp_path)
    with pytest.raises(ValueError, match=r"another encoder: embeddings.* differs.*fine-tuned"):
        tiny.model(seed=5).load_heads(tmp_path)
    same = tiny.model().half()
    same.load_heads(tmp_path)
    assert list(same.config.heads) == ["topic", "mood", "new"]


def test_a_head_is_trained_after_the_others_which_do_not_change(tmp_path: Path) -> None:
    """The second head on other data, with the Trainer of the first run: its optimiser follows."""
    model = still(mood=HeadConfig(labels=tiny.MOODS))
    rows = tiny.table(32)
    settings = {"max_steps": 3, "learning_rate": 1e-2, "freeze_encoder": True}
    trainer = MultiHeadTrainer(model, arguments(tmp_path, **settings), None, rows, None, tiny.tokenizer())
    trainer.train()
    before, first = logits(model), weights(model)
    model.add_head("topic", tiny.two_heads()["topic"], verify=True)
    args = arguments(tmp_path, train_heads=["topic"], **settings)
    trainer = MultiHeadTrainer(model, args, None, rows, rows, tiny.tokenizer())
    trainer.train()
    assert torch.equal(logits(model)["mood"], before["mood"])
    assert all(torch.equal(value, weights(model)[key]) for key, value in first.items())
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(log["topic_loss"], abs=1e-6)  # λ of the trained heads only
    assert "mood_loss" not in log
    assert {"eval_mood_f1_macro", "eval_topic_f1_micro"} <= set(trainer.evaluate())


def test_the_optimiser_of_a_trainer_follows(tmp_path: Path) -> None:
    model = still(mood=HeadConfig(labels=tiny.MOODS))
    args = arguments(tmp_path, max_steps=2, head_weighting="uncertainty")
    trainer = MultiHeadTrainer(model, args, None, tiny.table(32), None, tiny.tokenizer())
    trainer.train()
    first = trainer.optimizer
    trainer.train()
    assert trainer.optimizer is first  # nothing changed: its moments go on
    learned = trainer.head_weights.values()
    model.add_head("late", CHANNEL)
    trainer.train_dataset = prepare_dataset(tiny.table(32), tiny.tokenizer(), model)
    trainer.train()
    known = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert known == {id(parameter) for parameter in (*model.parameters(), trainer.head_weights.log_variances)}
    assert trainer.head_weights.values() == pytest.approx({**learned, "late": 0.0}, abs=0.01)
    assert trainer.state.log_history[0]["late_loss"] == 0


@pytest.mark.parametrize("family", ["canine", "modernbert", "t5", "gpt2"])
def test_other_encoders(family: str) -> None:
    model = tiny.model(family)
    model.add_head("channel", CHANNEL, verify=True)
    model.extend_head("mood", "new mood", verify=True)
    assert model.config.heads["mood"].labels == [*tiny.MOODS, "new mood"]
    with pytest.raises(ValueError, match=r"head 'mood': extend_head needs labels"):
        model.extend_head("mood", [])


def test_learned_thresholds_of_half_precision_heads(tmp_path: Path) -> None:
    model = tiny.model(heads=tiny.two_heads(loss="soft_f1", learn_thresholds=0.9))
    model.encoder.bfloat16()
    for layers in (model.heads["topic"].layers, model.heads["mood"].layers):
        layers.bfloat16()
    model.extend_head("topic", ["new"])
    assert model.heads["topic"].dtype == torch.bfloat16
    model.sync_thresholds()
    before = model.config.heads["topic"].thresholds
    assert before == pytest.approx([0.9] * 4)
    expected = logits(model)
    model.save_pretrained(tmp_path)
    again = logits(MultiHeadModel.from_pretrained(tmp_path, dtype="auto"))
    assert all(torch.equal(again[name], expected[name]) for name in expected)


def test_wrapped_heads_are_refused() -> None:
    from peft import LoraConfig, get_peft_model

    base = tiny.model()
    get_peft_model(base, LoraConfig(r=2, target_modules=["query"], modules_to_save=["heads"]))
    for change in (
        lambda: base.add_head("channel", CHANNEL),
        lambda: base.remove_head("mood"),
        lambda: base.rename_head("mood", "x"),
        lambda: base.extend_head("mood", ["x"]),
        lambda: base.load_heads(tiny.model(heads={"new": CHANNEL})),
    ):
        with pytest.raises(ValueError, match=r"merge_and_unload"):
            change()


def test_heads_that_read_long_texts_otherwise_are_said(caplog: pytest.LogCaptureFixture) -> None:
    other = tiny.model(heads={"channel": CHANNEL}, max_length=8)
    tiny.model().load_heads(other)
    assert "the other model was trained with max_length=8, but this model has None" in caplog.text
