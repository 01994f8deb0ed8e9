"""The pipeline: what it takes, what it gives, and what it refuses."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import tiny
import torch
from datasets import Dataset
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from multihead_hf import MultiHeadPipeline, MultiHeadPredictor

TEXTS = ["w1 w2 w3", "", "w59", "w4 w5 w6 w7 w8 w9 w10"]


def pipe(**settings: Any) -> MultiHeadPipeline:
    heads = tiny.two_heads(thresholds=0.45)
    made = pipeline(
        "multi-head-text-classification", model=tiny.model(heads=heads, **settings), tokenizer=tiny.tokenizer()
    )
    assert isinstance(made, MultiHeadPipeline)
    return made


def flat(rows: list[dict]) -> list:
    return [
        (name, entry["label"], entry["score"]) for row in rows for name, entries in row.items() for entry in entries
    ]


def assert_alike(one: list[dict], other: list[dict]) -> None:
    assert [entry[:2] for entry in flat(one)] == [entry[:2] for entry in flat(other)]
    assert [entry[2] for entry in flat(one)] == pytest.approx([entry[2] for entry in flat(other)], abs=1e-5)


def test_one_text_and_many() -> None:
    found = pipe()(TEXTS[0])
    assert len(found) == 1
    assert list(found[0]) == ["topic", "mood"]
    assert len(found[0]["mood"]) == 1
    assert set(found[0]["mood"][0]) == {"label", "score"}
    assert isinstance(found[0]["mood"][0]["score"], float)
    assert len(pipe()(TEXTS)) == 4


def test_any_batch_size_generator_and_dataset_alike() -> None:
    predict = pipe()
    expected = predict(TEXTS, return_all_scores=True)

    def stream() -> Iterator[str]:
        yield from TEXTS

    for size in (1, 2, 3, 4):
        assert_alike(predict(TEXTS, batch_size=size, return_all_scores=True), expected)
    assert_alike(list(predict(stream(), batch_size=2, return_all_scores=True)), expected)
    rows = KeyDataset(Dataset.from_dict({"text": TEXTS}), "text")
    assert_alike(list(predict(rows, batch_size=3, return_all_scores=True)), expected)


def test_texts_of_like_lengths_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    predict = pipe()
    draw = random.Random(0)
    texts = [" ".join(draw.choices(tiny.WORDS, k=draw.randint(1, 40))) for _ in range(100)]
    expected = predict(texts)
    tokens: list[int] = []
    forward = predict.model.forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        tokens.append(kwargs["input_ids"].numel())
        return forward(*args, **kwargs)

    monkeypatch.setattr(predict.model, "forward", noted)
    least = sum(len(text.split()) + 2 for text in texts)

    def stream() -> Iterator[str]:
        yield from texts

    keyed = KeyDataset(Dataset.from_dict({"text": texts}), "text")
    rows = [{"text": text, "text_pair": "w1"} for text in texts]
    for given in (texts, stream(), keyed):
        tokens.clear()
        assert_alike(list(predict(given, batch_size=5)), expected)
        assert len(tokens) == 20
        assert sum(tokens) < 1.3 * least
    assert len(predict(keyed, batch_size=5)) == 100
    assert_alike(predict(rows, batch_size=7), predict(rows))
    assert len(list(itertools.islice(predict((f"w{i % 60}" for i in itertools.count()), batch_size=2), 50))) == 50


def test_arguments_at_the_call_and_when_made() -> None:
    predict = pipe()
    assert list(predict(TEXTS[0], heads=["mood"])[0]) == ["mood"]
    assert [len(predict(TEXTS[0], top_k=2)[0][name]) for name in ("topic", "mood")] == [2, 2]
    everything = predict(TEXTS[0], return_all_scores=True)[0]
    assert {entry["label"] for entry in everything["topic"]} == set(tiny.TOPICS)
    scores = [entry["score"] for entry in everything["topic"]]
    assert scores == sorted(scores, reverse=True)
    assert predict(TEXTS[0], threshold=0.999)[0]["topic"] == []
    assert len(predict(TEXTS[0], threshold={"topic": {"waste": 0.001}})[0]["topic"]) >= 1
    made = pipeline(
        "multi-head-text-classification", model=tiny.model(), tokenizer=tiny.tokenizer(), heads="mood", top_k=1
    )
    assert list(made(TEXTS[0])[0]) == ["mood"]


def test_text_pairs() -> None:
    predict = pipe()
    pair = {"text": "w1", "text_pair": "w2"}
    tokens = tiny.tokenizer()("w1", "w2", return_tensors="pt")
    with torch.no_grad():
        logits = predict.model(**tokens).logits
    expected = predict.model.decode(logits, top_k=3)["topic"].scores[0]
    assert [entry["score"] for entry in predict(pair, top_k=3)[0]["topic"]] == pytest.approx(expected)
    assert len(predict([pair, pair], batch_size=2)) == 2


def test_rows_with_the_columns_of_the_training() -> None:
    predict = pipe(text_columns=["question", "answer"])
    row = {"question": "w1", "answer": "w2", "id": 7}
    assert torch.equal(
        predict.preprocess(row)["input_ids"], predict.preprocess({"text": "w1", "text_pair": "w2"})["input_ids"]
    )
    assert flat(predict(row)) == flat(predict({"text": "w1", "text_pair": "w2"}))
    with pytest.raises(
        ValueError, match=r"the columns used in training \(\['question', 'answer'\]\); this one has \['question'\]"
    ):
        predict({"question": "w1"})


def test_a_row_with_further_columns() -> None:
    predict = pipe()
    expected = predict("w1 w2")
    for row in ({"text": "w1 w2", "id": 7}, {"id": 7, "label": None, "text": "w1 w2"}):
        assert predict(row) == expected
        assert pipe(text_columns=["text"])(row) == expected
    rows = Dataset.from_dict({"text": TEXTS, "id": range(4)})
    assert predict(list(rows)) == predict(TEXTS)
    assert predict({"text": "w1", "text_pair": "w2", "id": 7}) == predict({"text": "w1", "text_pair": "w2"})
    with pytest.raises(ValueError, match=r"columns used in training \(\['body'\]\); this one has \['text', 'id'\]"):
        pipe(text_columns=["body"])({"text": "w1", "id": 7})


def test_no_text_at_all() -> None:
    assert pipe()([]) == []
    assert pipe()([], batch_size=4) == []


@pytest.mark.parametrize(
    "texts",
    [
        tuple(TEXTS * 20),
        np.array(TEXTS * 20),
        pd.Series(TEXTS * 20),
        Dataset.from_dict({"text": TEXTS * 20})["text"],
        Dataset.from_dict({"text": TEXTS * 20}),
        iter(TEXTS),
    ],
)
def test_several_texts_that_are_no_list(texts: Any) -> None:
    name = type(texts).__name__
    with pytest.raises(ValueError, match=rf"list\(texts\) instead of this {name}: [^\n]{{10,60}}…?$"):
        pipe()(texts)
    if name != "list_iterator":
        assert pipe()(list(texts)) == pipe()(TEXTS * 20)


ROWS = {"id": [1, 2, 3], "text": ["w1 w2", "w3", "w4 w5"], "question": ["w6", "w7", "w8"], "answer": ["w9", "w1", "w2"]}
FRAMES = [pd.DataFrame(ROWS), pd.DataFrame(ROWS, index=[7, 7, 9]), pl.DataFrame(ROWS), pl.DataFrame(ROWS).lazy()]


@pytest.mark.parametrize("frame", FRAMES, ids=["pandas", "index", "polars", "lazy"])
def test_a_data_frame_is_read_as_rows(frame: Any) -> None:
    """And not as its column names, which is what one iterates over."""
    pairs = [{"question": one, "answer": other} for one, other in zip(ROWS["question"], ROWS["answer"], strict=True)]
    for settings, texts in ((None, ROWS["text"]), (["question"], ROWS["question"]), (["question", "answer"], pairs)):
        model = tiny.model(text_columns=settings)
        predictor = MultiHeadPredictor(model, tiny.tokenizer())
        assert predictor.predict(frame)["mood"].scores == predictor.predict(texts)["mood"].scores
        assert list(predictor.stream(frame)) == list(predictor.stream(texts))
        one = pipeline("multi-head-text-classification", model=model, tokenizer=tiny.tokenizer())
        assert one(frame) == one(texts)
        assert len(one(frame)) == 3
        assert one(frame, batch_size=2) == one(texts, batch_size=2)


@pytest.mark.parametrize("library", [pd, pl])
def test_a_data_frame_without_the_column(library: Any) -> None:
    frame = library.DataFrame({"id": [1, 2], "txt": ["w1", "w2"]})
    for predict in (pipe(), MultiHeadPredictor(tiny.model(), tiny.tokenizer()).predict):
        with pytest.raises(
            ValueError, match=r"the data frame has no column 'text'. Did you mean 'txt'\? Its columns are"
        ):
            predict(frame)
    with pytest.raises(ValueError, match=r"text 1: a text must be a string, but 'text' is None\. An"):
        MultiHeadPredictor(tiny.model(), tiny.tokenizer()).predict(
            library.DataFrame({"text": ["w1", None]}, **({"dtype": object} if library is pd else {}))
        )


def test_a_data_frame_with_two_columns_of_texts() -> None:
    frame = pd.DataFrame([["w1", "w2", 3]], columns=["text", "text", "id"])
    for predict in (pipe(), MultiHeadPredictor(tiny.model(), tiny.tokenizer()).predict):
        with pytest.raises(ValueError, match="the data frame has two columns called 'text': drop or rename one"):
            predict(frame)
        assert predict(frame.iloc[:, 1:])


def test_what_a_user_of_transformers_expects_of_top_k_and_function_to_apply() -> None:
    model = tiny.model(heads=tiny.two_heads(thresholds=0.9))
    one = pipeline("multi-head-text-classification", model=model, tokenizer=tiny.tokenizer())
    (usual,) = one("w1 w2")
    assert usual["topic"] == []
    assert len(usual["mood"]) == 1
    (everything,) = one("w1 w2", top_k=None)
    assert {name: len(entries) for name, entries in everything.items()} == {"topic": 3, "mood": 2}
    assert one("w1 w2", function_to_apply="default", top_k=None) == [everything]
    with torch.no_grad():
        logits = model(**tiny.tokenizer()("w1 w2", return_tensors="pt")).logits
    for function, expected in (
        ("none", lambda values: values),
        ("sigmoid", torch.sigmoid),
        ("softmax", lambda values: values.softmax(-1)),
    ):
        (found,) = one("w1 w2", function_to_apply=function, top_k=None)
        for name, entries in found.items():
            by_label = {entry["label"]: entry["score"] for entry in entries}
            values = [by_label[label] for label in model.config.heads[name].labels]
            assert values == pytest.approx(expected(logits[name][0]).tolist(), abs=1e-6)
            assert [entry["score"] for entry in entries] == sorted(values, reverse=True)
    with pytest.raises(ValueError, match=r"unknown function_to_apply 'softmaxx'. Did you mean 'softmax'"):
        one("w1", function_to_apply="softmaxx")


def test_what_is_no_text_is_shown_in_short() -> None:
    with pytest.raises(ValueError, match=r"not list: \['w1', 'w1', [^\n]{,60}…\. An empty text is"):
        pipe()([["w1"] * 100])


def test_length_and_prefix_are_the_models() -> None:
    predict = pipe(max_length=5, text_prefix="w9 ")
    inputs = predict.preprocess("w1 w2 w3 w4 w5 w6")
    expected = [tiny.VOCAB[token] for token in ("[CLS]", "w9", "w1", "w2", "[SEP]")]
    assert inputs["input_ids"].tolist() == [expected]


def test_a_text_longer_than_the_encoder_is_cut() -> None:
    predict = pipe()
    long = " ".join(["w1"] * 500)
    assert predict.preprocess(long)["input_ids"].shape == (1, 64)
    assert len(predict(long)) == 1


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (None, {}, r"a text must be a string.*NoneType"),
        (3, {}, r"a text must be a string.*int: 3"),
        ({"text_pair": "w1"}, {}, r"a text given as a dict must have the keys 'text' and 'text_pair'"),
        ({"text": "w1", "text_pairs": "w2"}, {}, r"this one has \['text', 'text_pairs'\]"),
        ({"text": "w1", "text_pair": None}, {}, r"a text must be a string"),
        ("w1", {"heads": ["moods"]}, r"heads: the model has no head 'moods'.*'mood'"),
        ("w1", {"threshold": 2.0}, r"head 'topic': threshold 2.0"),
        ("w1", {"threshold": {"tpic": 0.3}}, r"threshold: the model has no head 'tpic'.*'topic'"),
        ("w1", {"top_k": -1}, r"top_k -1"),
    ],
)
def test_refusals(text: Any, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe()(text, **arguments)


def test_saved_by_the_pipeline(tmp_path: Path) -> None:
    predict = pipe()
    predict.save_pretrained(tmp_path)
    again = pipeline("multi-head-text-classification", str(tmp_path), trust_remote_code=True)
    assert again(TEXTS) == predict(TEXTS)


@pytest.mark.parametrize("size", [0, -1, "4", 2.5])
def test_a_batch_size_that_is_no_number_of_texts(size: Any) -> None:
    predict = pipeline("multi-head-text-classification", model=tiny.model(), tokenizer=tiny.tokenizer())
    with pytest.raises(ValueError, match=f"batch_size {size!r}: give a whole number of 1 or more"):
        predict(["w1", "w2"], batch_size=size)
    assert predict(["w1", "w2"], batch_size=np.int64(2)) == predict(["w1", "w2"], batch_size=2)
