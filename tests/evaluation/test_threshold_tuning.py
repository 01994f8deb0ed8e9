"""tune_thresholds and calibrate on models and trainers: what is stored decides everywhere."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
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
    report = tune_thresholds(trainer, rows, granularity="label", min_support=1)
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
    report = tune_thresholds(model, tiny.table(40), granularity="head", tokenizer=tiny.tokenizer())
    values = model.config.heads["topic"].thresholds
    assert values is not None
    assert len(set(values)) == 1
    assert report.heads["topic"].fallback == {}
    costs = tune_thresholds(
        model, tiny.table(40), "cost", costs=(100.0, 1.0), tokenizer=tiny.tokenizer(), min_support=1
    )
    assert min(costs.heads["topic"].thresholds) >= min(values)


def test_a_head_that_would_get_no_better_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("multihead_hf"), "propagate", True)
    rows = tiny.table(96)
    trainer = trainer_for(tmp_path, model=two_and_learned(), rows=64, num_train_epochs=3, learning_rate=1e-2)
    trainer.train()
    head = trainer.model.config.heads["topic"]
    before = head.to_dict()
    report = tune_thresholds(trainer, rows, min_support=1)
    found = report.heads["topic"]
    assert found.choice == "unchanged"
    assert head.to_dict() == before
    assert head.learn_thresholds == 0.565
    assert trainer.model.heads["topic"].threshold_logits is not None
    assert found.thresholds == head.thresholds
    assert found.before == found.candidates["unchanged"]
    assert f"\ntopic: kept as they were: micro F1 {found.before['f1_micro']:.3f} on held-out folds, " in str(report)
    assert not caplog.records
    # nothing that is asked for without evidence is written either
    few = rows.map(
        lambda row, i: {"topic_labels": ["roads"] if i == 0 else row["topic_labels"] and []}, with_indices=True
    )
    for granularity in ("auto", "head", "label"):
        report = tune_thresholds(trainer, few, granularity=granularity)
        assert head.to_dict() == before
        assert "topic: kept as they were: the number of positive labels is 1, but min_support is 10" in str(report)
    assert len(caplog.records) == 3
    assert "head 'topic': kept as they were: the number of positive labels is 1" in caplog.text
    none = rows.map(lambda row: {"topic_labels": row["topic_labels"] and []})
    with pytest.raises(ValueError, match=r"no row of the dataset has a positive label of the heads \['topic'\]"):
        tune_thresholds(trainer, none)
    assert head.to_dict() == before


def test_a_head_without_positives_stays_beside_one_that_is_tuned() -> None:
    heads = {name: tiny.two_heads(thresholds=0.9)["topic"] for name in ("topic", "other")}
    model = tiny.model(heads=heads, pooling="mean")
    rows = tiny.table(96)
    rows = rows.add_column("other", [own and [] for own in rows["topic_labels"]])
    report = tune_thresholds(model, rows, tokenizer=tiny.tokenizer(), label_columns={"topic": "topic_labels"})
    assert report.heads["other"].choice == "unchanged"
    assert model.config.heads["other"].thresholds == [0.9] * 3
    assert report.heads["topic"].choice != "unchanged"
    assert model.config.heads["topic"].thresholds == report.heads["topic"].thresholds


def test_what_is_chosen_is_shown() -> None:
    model = tiny.model(heads=tiny.two_heads(thresholds=0.9), pooling="mean")
    report = tune_thresholds(model, tiny.table(96), tokenizer=tiny.tokenizer())
    found = report.heads["topic"]
    assert found.choice == "label"
    values = model.config.heads["topic"].thresholds
    assert values == found.thresholds
    micro = {name: f"{metrics['f1_micro']:.3f}" for name, metrics in found.candidates.items()}
    assert (
        f"topic: one threshold per label: micro F1 {micro['label']} on held-out folds, {micro['unchanged']} as they were "
        f"and {micro['head']} with one threshold for the head\n  thresholds {min(values):.3f} to {max(values):.3f}"
    ) in str(report)
    head = tune_thresholds(model, tiny.table(96), granularity="head", tokenizer=tiny.tokenizer())
    assert f"\n  threshold {head.heads['topic'].common:.3f}" in str(head)
    positives = [sum(name in (own or []) for own in tiny.table(96)["topic_labels"]) for name in tiny.TOPICS]
    least = {"granularity": "label", "min_support": max(positives)}
    labels = tune_thresholds(model, tiny.table(96), **least, tokenizer=tiny.tokenizer())
    few = labels.heads["topic"].fallback
    assert 0 < len(few) < 3
    assert f"; {len(few)} of 3 labels share {labels.heads['topic'].common:.3f}" in str(labels)


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
        (
            "unknown granularity 'labels'.*Did you mean 'label'",
            lambda: tune_thresholds(model, rows, granularity="labels", tokenizer=tokenizer),
        ),
        ("unknown granularity 'labels'", lambda: calibrate(model, rows, granularity="labels", tokenizer=tokenizer)),
        (
            "head 'topic': 3 labelled rows",
            lambda: tune_thresholds(model, rows.select([0, 1, 2]), tokenizer=tokenizer),
        ),
        (
            "no row of the dataset is labelled for a multi-label head",
            lambda: tune_thresholds(model, rows.remove_columns("topic_labels"), tokenizer=tokenizer),
        ),
        (
            "head 'topic': no row of the dataset has a label",
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


def test_no_head_is_named() -> None:
    for tune in (tune_thresholds, calibrate):
        with pytest.raises(ValueError, match=r"heads \[\]: name a head of \['topic', 'mood'\], or leave it out"):
            tune(tiny.model(), tiny.table(40), heads=[], tokenizer=tiny.tokenizer())


def test_costs_in_a_tensor() -> None:
    found = [
        tune_thresholds(tiny.model(), tiny.table(40), "cost", costs=costs, tokenizer=tiny.tokenizer(), min_support=1)
        for costs in ((1.0, 5.0), torch.tensor([1.0, 5.0]))
    ]
    assert found[0] == found[1]


def test_a_precision_in_a_tensor_and_a_head_by_its_name() -> None:
    options = {"metric": "recall_at_precision", "tokenizer": tiny.tokenizer(), "min_support": 1}
    found = [
        tune_thresholds(tiny.model(), tiny.table(40), heads=heads, precision=precision, **options)
        for heads, precision in ((["topic"], 0.5), ("topic", torch.tensor(0.5)))
    ]
    assert found[0] == found[1]


def test_an_adapter_does_not_keep_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tiny.tokenizer()
    for fit in (tune_thresholds, calibrate):
        for wrapped in (False, True):
            caplog.clear()
            model = tiny.model()
            adapted = get_peft_model(model, LoraConfig(target_modules=["query"])) if wrapped else model
            fit(adapted, tiny.table(40), tokenizer=tokenizer)
            said = "an adapter does not store thresholds and temperatures" in caplog.text
            assert said == wrapped


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": 0.5}, r"precision has no effect with metric='f1': add metric='recall_at_precision'"),
        ({"costs": (1, 5)}, r"costs has no effect with metric='f1': add metric='cost'"),
        ({"metric": "cost", "costs": 5}, r"costs 5: give two numbers from 1e-09 to 1e\+09"),
        ({"metric": "cost", "costs": (1e308, 1e308)}, r"costs \(1e\+308, 1e\+308\): give two numbers"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune_thresholds(tiny.model(), tiny.table(8), tokenizer=tiny.tokenizer(), **settings)
