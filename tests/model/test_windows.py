"""Texts longer than the encoder's limit, read in windows whose logits are pooled."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from training_runs import arguments
from transformers import PreTrainedTokenizerFast, pipeline

from multihead_hf import MultiHeadDataCollator, MultiHeadModel, MultiHeadTrainer, prepare_dataset
from multihead_hf.model.truncation_multihead import encode_texts

WORDS = [f"w{index}" for index in range(10)]
TEXTS = [" ".join(WORDS), "w1", "w2 w3 w4 w5", ""]


def windows_of(text: str, **options: Any) -> list[list[str]]:
    encoded, _ = encode_texts(tiny.tokenizer(), [text], truncation="windows", **options)
    names = {number: token for token, number in tiny.VOCAB.items()}
    return [[names[token] for token in window] for window in encoded["input_ids"][0]]


def model(**settings: Any) -> MultiHeadModel:
    return tiny.model(max_length=6, truncation="windows", **settings)


def test_windows_cover_the_text_and_overlap_by_the_stride() -> None:
    assert windows_of(TEXTS[0], max_length=6) == [
        ["[CLS]", *WORDS[:4], "[SEP]"],
        ["[CLS]", *WORDS[4:8], "[SEP]"],
        ["[CLS]", *WORDS[8:], "[SEP]"],
    ]
    assert windows_of(TEXTS[0], max_length=6, stride=1) == [
        ["[CLS]", *WORDS[:4], "[SEP]"],
        ["[CLS]", *WORDS[3:7], "[SEP]"],
        ["[CLS]", *WORDS[6:], "[SEP]"],
    ]
    assert windows_of("w1", max_length=6) == [["[CLS]", "w1", "[SEP]"]]
    assert windows_of("", max_length=6) == [["[CLS]", "[SEP]"]]
    encoded, cut = encode_texts(tiny.tokenizer(), TEXTS, truncation="windows", max_length=6, max_windows=2)
    assert [len(windows) for windows in encoded["input_ids"]] == [2, 1, 1, 1]
    assert cut == [True, False, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 6, "stride": 4}, r"a stride of 4: give a max_length that leaves room for new text"),
        ({}, r"windows of max_length None"),
        ({"max_length": 6, "pairs": ["w1"]}, r"'windows' is for single texts"),
    ],
)
def test_windows_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_texts(tiny.tokenizer(), ["w1"], truncation="windows", **options)
    with pytest.raises(ValueError, match=r"max_windows 0, stride 0"):
        model(max_windows=0)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_are_pooled_over_the_windows_of_each_text(pooling: str, side: str) -> None:
    long = model(window_pooling=pooling)
    rows = prepare_dataset(Dataset.from_dict({"text": TEXTS}), tiny.tokenizer(), long, require_labels=False)
    assert rows["length"] == [6, 3, 6, 2]
    collate = MultiHeadDataCollator(tiny.tokenizer(padding_side=side), long, pad_to_multiple_of=8)
    batch = collate(list(rows))
    assert batch["input_ids"].shape == (4, 3, 8)
    assert batch["window_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    del batch["labels"]
    short = tiny.model()  # the same weights
    with torch.no_grad():
        found = long(**batch).logits
        without_mask = long(**{key: value for key, value in batch.items() if key != "window_mask"}).logits
        for index, windows in enumerate(rows["input_ids"]):
            each = [short(input_ids=torch.tensor([ids])).logits["topic"][0] for ids in windows]
            expected = torch.stack(each).mean(0) if pooling == "mean" else torch.stack(each).amax(0)
            torch.testing.assert_close(found["topic"][index], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found["topic"], without_mask["topic"])


def test_training_saving_and_the_pipeline_repeat_it(tmp_path: Path) -> None:
    table = tiny.table(40)
    args = arguments(
        tmp_path / "out",
        num_train_epochs=2,
        learning_rate=1e-2,
        max_length=6,
        truncation="windows",
        stride=1,
        max_windows=4,
        window_pooling="max",
        gradient_accumulation_steps=2,
    )
    trainer = MultiHeadTrainer(tiny.model(), args, None, table, table, tiny.tokenizer())
    trainer.train()
    trainer.save_model()
    loaded = MultiHeadModel.from_pretrained(tmp_path / "out")
    settings = (loaded.config.truncation, loaded.config.max_windows, loaded.config.stride, loaded.config.window_pooling)
    assert settings == ("windows", 4, 1, "max")
    expected = torch.from_numpy(trainer.predict(table).predictions["mood"]).softmax(-1)
    predict = pipeline("multi-head-text-classification", str(tmp_path / "out"), trust_remote_code=True)
    texts = list(table["text"])
    for size in (1, 7):
        for row, prediction in enumerate(predict(texts, batch_size=size, top_k=2)):
            scores = {entry["label"]: entry["score"] for entry in prediction["mood"]}
            assert [scores[mood] for mood in tiny.MOODS] == pytest.approx(expected[row].tolist(), abs=1e-5)


def test_another_batch_size_makes_no_difference(tmp_path: Path) -> None:
    table = tiny.table(30)
    found = []
    for size in (4, 30):
        args = arguments(tmp_path, per_device_eval_batch_size=size)
        trainer = MultiHeadTrainer(model(), args, None, None, table, tiny.tokenizer())
        found.append(trainer.evaluate())
    for key in ("eval_loss", "eval_f1"):
        assert found[0][key] == pytest.approx(found[1][key], abs=1e-5)


@pytest.mark.parametrize("format", ["torch", "numpy", None])
@pytest.mark.parametrize("truncation", ["tail", "windows"])
def test_formatted_datasets_are_collated_alike(format: str | None, truncation: str) -> None:
    made = tiny.model(max_length=6, truncation=truncation)
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), made)
    collate = MultiHeadDataCollator(tiny.tokenizer(), made)
    expected = collate([rows[i] for i in range(8)])
    formatted = rows.with_format(format)
    found = collate([formatted[i] for i in range(8)])
    assert found.keys() == expected.keys()
    assert found["input_ids"].dim() == (3 if truncation == "windows" else 2)
    for key in ("input_ids", "attention_mask"):
        assert torch.equal(found[key], expected[key])


def test_a_prefix_does_not_switch_truncation_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a moment: other threads with this tokenizer would read whole texts."""
    asked, kept = [], PreTrainedTokenizerFast.set_truncation_and_padding

    def recorded(self: PreTrainedTokenizerFast, *args: Any, **kwargs: Any) -> None:
        asked.append(kwargs["truncation_strategy"])
        kept(self, *args, **kwargs)

    monkeypatch.setattr(PreTrainedTokenizerFast, "set_truncation_and_padding", recorded)
    tokens, cut = encode_texts(tiny.tokenizer(), ["w1 " * 100], max_length=20, prefix="w2 ")
    assert (len(tokens["input_ids"][0]), cut) == (20, [True])
    assert len(set(asked)) == 1
