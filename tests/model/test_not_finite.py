"""Logits that are no numbers are no prediction, and labels are ranked by logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import pipeline

from multihead_hf import (
    HeadConfig,
    MultiHeadModel,
    MultiHeadPredictor,
    calibrate,
    confidence_intervals,
    predict_files,
    predict_proba,
    tune_thresholds,
    write_report,
)
from multihead_hf.model.decoding_multihead import predict

MESSAGE = r"head 'topic': its logits are not finite \(NaN or infinity\) in "


def broken() -> MultiHeadModel:
    """A model in which one word makes everything NaN."""
    model = tiny.model()
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny.VOCAB["w3"]] = torch.nan
    return model


def test_predictions_are_refused() -> None:
    model, tokenizer = broken(), tiny.tokenizer()
    with pytest.raises(ValueError, match=MESSAGE + r"1 of 2 rows \(the first is row 1\)"):
        MultiHeadPredictor(model, tokenizer).predict(["w1", "w3"])
    with pytest.raises(ValueError, match=MESSAGE + "1 of 1 rows"):
        pipeline("multi-head-text-classification", model=model, tokenizer=tokenizer)("w3")
    with pytest.raises(ValueError, match="head 'mood': its logits are not finite"):
        predict_proba(model, tokenizer, "mood")(["w3"])


def test_in_files_they_are_bad_rows(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("w1", "w3", "w2")))
    predictor = MultiHeadPredictor(broken(), tiny.tokenizer())
    report = predict_files(predictor, str(source), tmp_path / "out.jsonl")
    assert (report.rows, report.bad_rows) == (2, 1)
    assert [json.loads(line)["row"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [0, 2]
    (said,) = [json.loads(line) for line in (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()]
    assert (said["row"], said["error"]) == (1, "the logits of head 'topic' are not finite (NaN or infinity)")
    with pytest.raises(ValueError, match=r"row 1 \(.*\): the logits of head 'topic' are not finite"):
        predict_files(predictor, str(source), tmp_path / "strict.jsonl", strict=True)


@pytest.mark.parametrize("function", [calibrate, tune_thresholds, confidence_intervals])
def test_nothing_is_chosen_or_judged_by_them(function: Any) -> None:
    with pytest.raises(ValueError, match=MESSAGE):
        function(broken(), tiny.table(), tokenizer=tiny.tokenizer())


def test_learned_thresholds_are_named(tmp_path: Path) -> None:
    model = tiny.model(
        heads={"topic": HeadConfig(tiny.TOPICS, "multi_label_classification", loss="soft_f1", learn_thresholds=0.4)}
    )
    with torch.no_grad():
        model.heads["topic"].threshold_logits[1] = torch.nan
    with pytest.raises(ValueError, match="head 'topic': its learned thresholds are not finite"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_no_report_is_written_of_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=MESSAGE):
        write_report(broken(), tiny.table(), tmp_path / "_report", tokenizer=tiny.tokenizer())
    assert not (tmp_path / "_report").exists()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    # (a score of 0.5 is at its threshold, and float32 rounds the sigmoid of ±1e-8 to 0.5)
    logits=st.lists(
        st.floats(-60, 60, width=32).filter(lambda value: value == 0 or abs(value) > 1e-5), min_size=2, max_size=6
    ),
    temperature=st.sampled_from([None, 0.05, 1.7]),
    multi_label=st.booleans(),
    limits=st.sampled_from([(None, None), (1, None), (None, 1), (1, 2)]),
)
def test_order_and_decisions_are_those_of_float64(
    logits: list[float], temperature: float | None, multi_label: bool, limits: tuple[int | None, int | None]
) -> None:
    head = HeadConfig(
        labels=[str(place) for place in range(len(logits))],
        problem_type="multi_label_classification" if multi_label else "single_label_classification",
        calibration_temperature=temperature,
        **(dict(zip(("min_labels", "max_labels"), limits, strict=True)) if multi_label else {}),
    )
    found = predict(head, torch.tensor([logits]), len(logits), None)
    exact = torch.tensor([logits]).double() / (temperature or 1.0)
    ranked = sorted(range(len(logits)), key=lambda place: -float(exact[0, place].float()))
    assert found.labels[0] == [str(place) for place in ranked]
    if not multi_label:
        assert found.decisions[0].nonzero().flatten().tolist() == ranked[:1]
    elif limits != (None, None):
        count = sum(value >= 0 for value in exact[0].tolist())
        count = min(max(count, limits[0] or 0), len(logits) if limits[1] is None else limits[1])
        assert sorted(found.decisions[0].nonzero().flatten().tolist()) == sorted(ranked[:count])
