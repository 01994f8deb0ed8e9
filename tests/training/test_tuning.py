"""tune_thresholds and calibrate on models and trainers: what is stored decides everywhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from training_runs import trainer_for
from transformers import pipeline

from multihead_hf import HeadConfig, MultiHeadModel, calibrate, tune_thresholds


def two_and_learned() -> MultiHeadModel:
    return tiny.model(heads=tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.565), pooling="mean")


def test_thresholds_are_stored_and_decide_everywhere(tmp_path: Path) -> None:
    rows = tiny.table(96)
    trainer = trainer_for(tmp_path, model=two_and_learned(), rows=64, num_train_epochs=3, learning_rate=1e-2)
    trainer.train()
    before = trainer.evaluate(rows)["eval_topic_f1_macro"]
    report = tune_thresholds(trainer, rows, min_support=1)
    assert list(report.heads) == ["topic"]
    found = report.heads["topic"]
    head = trainer.model.config.heads["topic"]
    assert head.thresholds == found.thresholds
    assert head.learn_thresholds is None
    after = trainer.evaluate(rows)["eval_topic_f1_macro"]
    assert found.before["f1_macro"] == pytest.approx(before, abs=1e-6)
    assert found.fitted["f1_macro"] == pytest.approx(after, abs=1e-6)
    assert after >= before
    assert "topic" in str(report)
    json.dumps(report.to_dict())
    # the saved folder decides with them, and can be trained on
    trainer.save_model(str(tmp_path / "saved"))
    again = MultiHeadModel.from_pretrained(tmp_path / "saved")
    assert again.config.heads["topic"].thresholds == found.thresholds
    assert again.heads["topic"].threshold_logits is None
    predict = pipeline("multi-head-text-classification", str(tmp_path / "saved"), trust_remote_code=True)
    logits = trainer.predict(rows).predictions["topic"]
    decided = 1 / (1 + np.exp(-logits)) >= np.array(found.thresholds, dtype=np.float32)
    for text, chosen in zip(list(rows["text"])[:20], decided, strict=False):
        names = {entry["label"] for entry in predict(text)[0]["topic"]}
        assert names == {label for label, on in zip(tiny.TOPICS, chosen, strict=True) if on}
    trainer.train()


def test_a_model_with_its_tokenizer(tmp_path: Path) -> None:
    model = tiny.model(pooling="mean")
    report = tune_thresholds(model, tiny.table(40), per="head", tokenizer=tiny.tokenizer())
    values = model.config.heads["topic"].thresholds
    assert values is not None
    assert len(set(values)) == 1
    assert report.heads["topic"].fallback == {}
    costs = tune_thresholds(
        model, tiny.table(40), "cost", costs=(100.0, 1.0), tokenizer=tiny.tokenizer(), min_support=1
    )
    assert min(costs.heads["topic"].thresholds) >= min(values)


def test_calibration_moves_thresholds_along(tmp_path: Path) -> None:
    rows = tiny.table(96)
    heads = tiny.two_heads(thresholds=[0.3, 0.5, 0.7])
    trainer = trainer_for(tmp_path, model=tiny.model(heads=heads, pooling="mean"), rows=64, learning_rate=1e-2)
    trainer.train()
    before = trainer.predict(rows)
    old = trainer.model.decode({name: torch.from_numpy(own) for name, own in before.predictions.items()})
    report = calibrate(trainer, rows)
    assert list(report.heads) == ["topic", "mood"]
    assert trainer.model.config.heads["mood"].calibration_temperature == report.heads["mood"].temperature
    new = trainer.model.decode({name: torch.from_numpy(own) for name, own in before.predictions.items()})
    for name in old:
        assert torch.equal(old[name].decisions, new[name].decisions)
        assert not torch.allclose(old[name].probabilities, new[name].probabilities)
    again = calibrate(trainer, rows)
    assert again.heads["mood"].temperature == pytest.approx(report.heads["mood"].temperature, rel=1e-3)
    assert again.heads["mood"].before["nll"] <= report.heads["mood"].before["nll"] + 1e-9
    assert "temperature" in str(report)
    json.dumps(report.to_dict())


def test_bad_input(tmp_path: Path) -> None:
    model, tokenizer, rows = tiny.model(), tiny.tokenizer(), tiny.table(20)
    saved = model.config.heads["topic"].to_dict()
    for message, call in (
        ("pass its tokenizer", lambda: tune_thresholds(model, rows)),
        ("no head 'topc'.*'topic'", lambda: tune_thresholds(model, rows, heads=["topc"], tokenizer=tokenizer)),
        ("head 'mood'.*highest score", lambda: tune_thresholds(model, rows, heads=["mood"], tokenizer=tokenizer)),
        ("unknown metric 'F1'.*'f1'", lambda: tune_thresholds(model, rows, metric="F1", tokenizer=tokenizer)),
        ("unknown per 'labels'", lambda: calibrate(model, rows, per="labels", tokenizer=tokenizer)),
        (
            "head 'topic': 3 labelled rows",
            lambda: tune_thresholds(model, rows.select([0, 1, 2]), tokenizer=tokenizer),
        ),
        (
            "no row of the dataset is labelled for a multi-label head",
            lambda: tune_thresholds(model, rows.remove_columns("topic_labels"), tokenizer=tokenizer),
        ),
        (
            "head 'topic': no row of the dataset is labelled",
            lambda: calibrate(model, rows.remove_columns("topic_labels"), heads=["topic"], tokenizer=tokenizer),
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert model.config.heads["topic"].to_dict() == saved
    only = tiny.model(heads={"mood": HeadConfig(labels=tiny.MOODS)})
    with pytest.raises(ValueError, match="labelled for a multi-label head"):
        tune_thresholds(only, rows, tokenizer=tokenizer)


def test_set_thresholds() -> None:
    model = two_and_learned()
    model.set_thresholds("topic", {"waste": 0.2})
    assert model.config.heads["topic"].thresholds == pytest.approx([0.5, 0.2, 0.5])
    assert model.heads["topic"].threshold_logits is None
    model.sync_thresholds()
    assert model.config.heads["topic"].thresholds == pytest.approx([0.5, 0.2, 0.5])
    with pytest.raises(
        ValueError, match=r"head 'topic': thresholds: 'wast' is not a label of this head\. Did you mean 'waste'"
    ):
        model.set_thresholds("topic", {"wast": 0.2})


def test_limits_of_labels_decide_in_evaluation_tuning_and_after_loading(tmp_path: Path) -> None:
    heads = tiny.two_heads()
    heads["topic"].min_labels, heads["topic"].max_labels = 1, 1
    trainer = trainer_for(tmp_path, model=tiny.model(heads=heads, pooling="mean"), rows=64, learning_rate=1e-2)
    trainer.train()
    rows = tiny.table(96)
    report = tune_thresholds(trainer, rows, min_support=1).heads["topic"]
    found = trainer.predict(rows)
    assert report.fitted["f1_micro"] == pytest.approx(found.metrics["test_topic_f1_micro"], abs=1e-6)
    trainer.save_model(str(tmp_path / "saved"))
    again = MultiHeadModel.from_pretrained(tmp_path / "saved")
    decided = again.decode({"topic": torch.from_numpy(found.predictions["topic"])})["topic"]
    assert (decided.decisions.sum(1) == 1).all()
    assert {len(labels) for labels in decided.labels} == {1}
