"""`MultiHeadPredictor`: the pipeline's answers, computed in another way."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from datasets import Dataset
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from multihead_hf import MultiHeadPredictor
from multihead_hf.prediction import precision as precision_file


def texts(count: int, longest: int = 30, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(tiny.WORDS, k=draw.randint(0, longest))) for _ in range(count)]


def predictor(family: str = "bert", **settings: Any) -> MultiHeadPredictor:
    ours = {
        name: settings.pop(name)
        for name in ("precision", "batch_tokens", "window_rows", "heads", "backend")
        if name in settings
    }
    heads = tiny.two_heads(thresholds=0.47)
    return MultiHeadPredictor(
        tiny.model(family, heads=heads, **settings),
        tiny.tokenizer(),
        **{"precision": "fp32", "device": "cpu", "backend": "torch", **ours},
    )


def pipe(own: MultiHeadPredictor) -> Any:
    return pipeline("multi-head-text-classification", model=own.model, tokenizer=own.tokenizer, device="cpu")


def assert_alike(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other)
    for ours, theirs in zip(one, other, strict=True):
        for name in theirs:
            assert [entry["label"] for entry in ours[name]] == [entry["label"] for entry in theirs[name]]
            scores = [[entry["score"] for entry in row[name]] for row in (ours, theirs)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.parametrize("family", ["bert", "modernbert", "xlm-roberta", "deberta-v2", "llama"])
def test_the_same_as_the_pipeline_in_the_order_of_the_texts(family: str) -> None:
    own = predictor(family, batch_tokens=64, window_rows=7)
    given = texts(40)
    expected = pipe(own)(given)
    assert len({str(row) for row in expected}) > 5  # not one answer for all
    assert_alike(list(own.stream(given)), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 12, "truncation": "head+tail"},
        {"max_length": 8, "truncation": "windows", "max_windows": 3, "stride": 2},
        {"max_length": 8, "truncation": "windows", "max_windows": 2, "window_pooling": "max"},
        {"text_prefix": "w1 w2 "},
        {"max_length": 6},
    ],
)
def test_text_settings_of_the_model(settings: dict[str, Any]) -> None:
    own = predictor(**settings, batch_tokens=50)
    given = texts(30)
    assert_alike(list(own.stream(given)), pipe(own)(given))


def test_text_pairs_and_rows() -> None:
    own = predictor(text_columns=["question", "answer"])
    pairs = [{"text": "w1 w2", "text_pair": "w3"}, {"text": "", "text_pair": "w5 w6 w7"}]
    rows = [{"question": pair["text"], "answer": pair["text_pair"], "id": 1} for pair in pairs]
    expected = pipe(own)(pairs)
    assert_alike(list(own.stream(pairs)), expected)
    assert_alike(list(own.stream(rows)), expected)


def test_a_data_frame_is_read_as_files_are() -> None:
    frame = pd.DataFrame({"text": ["w1 w2", "w3 w4"], "text_pair": ["w9", "w8"]})
    own = predictor()
    with pytest.raises(ValueError, match=r"'text' and 'text_pair', and the model does not remember"):
        own.predict(frame)
    single = predictor(text_columns=["text"])
    assert_alike(list(single.stream(frame)), list(single.stream(frame["text"])))
    pairs = predictor(text_columns=["question", "answer"])
    assert_alike(list(pairs.stream(frame)), list(pairs.stream(frame.to_dict("records"))))


def test_a_column_of_a_data_set() -> None:
    own, rows = predictor(window_rows=3), Dataset.from_dict({"text": texts(8)})
    column = KeyDataset(rows, "text")  # has `__getitem__` and no `__iter__`
    expected = pipe(own)(list(rows["text"]))
    assert_alike(list(own.stream(column)), expected)
    assert own.predict(column)["mood"].labels == [[row["mood"][0]["label"]] for row in expected]


def test_arguments() -> None:
    own = predictor(heads=["mood"])
    assert list(own.predict(["w1"])) == ["mood"]
    assert [len(row["mood"]) for row in own.stream(["w1", "w2"], return_all_scores=True)] == [2, 2]
    own = predictor()
    found = own.predict(["w1", "w2 w3"], top_k=2)
    assert [len(labels) for labels in found["topic"].labels] == [2, 2]
    assert found["topic"].probabilities.shape == (2, 3)
    assert own.predict(["w1"], threshold=0.999)["topic"].labels == [[]]
    assert {name: own.shape for name, own in own.logits([]).items()} == {"topic": (0, 3), "mood": (0, 2)}


def test_equal_texts_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own = predictor(window_rows=10)
    seen: list[str] = []
    run = own._runtime.run

    def counted(batches: list[list[dict[str, Any]]], *settings: Any) -> Any:
        rows = [row for batch in batches for row in batch]
        seen.extend(own.tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in rows)
        return run(batches, *settings)

    monkeypatch.setattr(own._runtime, "run", counted)
    given = ["w1 w2", "w3", "w1 w2", "w3", "w3"]
    assert_alike(list(own.stream(given)), pipe(own)(given))
    assert sorted(seen) == ["w1 w2", "w3"]
    # also in the windows that follow, as far as is remembered
    list(own.stream(["w3", "w4"]))
    assert sorted(seen) == ["w1 w2", "w3", "w4"]
    assert len(own._known) <= 10


def test_batches_hold_about_so_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    own = predictor(batch_tokens=40)
    shapes: list[tuple[int, int]] = []
    model_forward = own.model.forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return model_forward(*args, **kwargs)

    monkeypatch.setattr(own.model, "forward", noted)
    given = list(dict.fromkeys(texts(200, longest=60)))
    own.logits(given)
    assert sum(rows for rows, _ in shapes) == len(given)
    assert all(rows == 1 or rows * length <= 40 for rows, length in shapes)
    assert sum(rows * length for rows, length in shapes) < 1.1 * sum(len(text.split()) + 2 for text in given)


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    own = predictor(batch_tokens=1000)
    given = texts(20)
    expected = own.logits(given)
    own._known.clear()
    sizes: list[int] = []
    model_forward = own.model.forward

    def small(*args: Any, **kwargs: Any) -> Any:
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return model_forward(*args, **kwargs)

    monkeypatch.setattr(own.model, "forward", small)
    found = own.logits(given)
    assert max(sizes) > 3
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_a_stream_reads_no_more_than_a_window() -> None:
    read = itertools.count()

    def endless() -> Iterator[str]:
        while True:
            yield f"w{next(read) % 60}"

    found = list(itertools.islice(predictor(window_rows=5).stream(endless()), 7))
    assert len(found) == 7
    assert next(read) == 10


def test_the_precision_is_chosen_once_there_are_enough_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_file, "is_faster_in_bf16", lambda on_cpu: True)
    own = predictor(precision="auto")
    own.logits(texts(20))
    assert own.chosen is None
    own.logits(texts(900, seed=1))
    assert own.choice is not None
    assert own.chosen == own.choice.precision
    assert own.choice.rows > 100
    assert 0 < own.choice.difference < 0.05
    assert str(own.choice).startswith(f"precision {own.chosen}: {own.choice.changed} of {own.choice.rows} texts ")


def test_a_processor_without_bf16_predicts_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_file, "is_faster_in_bf16", lambda on_cpu: False)
    choice = predictor(precision="auto").choose_precision(texts(600))
    assert str(choice) == "precision fp32: this cpu is not faster in bf16"


def test_bf16_runs_in_bf16() -> None:
    own, exact = predictor(precision="bf16"), predictor()
    given = texts(20)
    difference = np.abs(own.logits(given)["topic"] - exact.logits(given)["topic"])
    assert 0 < difference.max() < 0.05


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"text 1: a text must be a string.*not int: 5"):
        predictor().predict(["w1", 5])
    with pytest.raises(ValueError, match=r"give a list of texts: \[text\]"):
        predictor().predict("w1 w2")
    assert predictor(heads="mood").heads == ["mood"]
    with pytest.raises(ValueError, match="text 1: predict single texts and pairs separately"):
        predictor().predict(["w1", {"text": "w1", "text_pair": "w2"}])
    with pytest.raises(ValueError, match=r"heads: the model has no head 'moot'\. Did you mean 'mood'"):
        predictor(heads=["moot"])
    with pytest.raises(ValueError, match=r"Unknown precision 'bf61'\. Did you mean 'bf16'"):
        predictor(precision="bf61")
    with pytest.raises(ValueError, match="precision='fp16' needs CUDA"):
        predictor(precision="fp16")
    with pytest.raises(ValueError, match="window_rows 0: give a whole number of 1 or more"):
        predictor(window_rows=0)
    for nothing in (5, None, {"text": "w1"}):
        with pytest.raises(ValueError, match=r"give a list of texts: \[text\]"):
            predictor().predict(nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("foo", "unknown device 'foo': give cpu, cuda or cuda:1"),
        ("cuda:77", r"the device 'cuda:77' cannot be used here \(.+\): give cpu, or leave it out$"),
    ],
)
def test_a_device_that_is_not_there(device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiHeadPredictor(tiny.model(), tiny.tokenizer(), device=device)
