"""cache_features: a frozen encoder encodes every text once, and the run is the one without the cache."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset, concatenate_datasets
from datasets.arrow_writer import ArrowWriter
from training_runs import arguments, trainer_for, weights
from transformers import set_seed

from multihead_hf import MultiHeadDataCollator, MultiHeadModel, MultiHeadTrainer, prepare_dataset
from multihead_hf.training.features import DTYPES, FeatureCache, different_texts

TIMES = ("runtime", "per_second", "flos")
WINDOWS = {"truncation": "windows", "max_length": 6, "max_windows": 3, "stride": 1}


def run(folder: Path, model: Any = None, **settings: Any) -> MultiHeadTrainer:
    set_seed(0)
    trainer = trainer_for(
        folder,
        model=model if model is not None else tiny.model(pooling="mean"),
        **{
            "freeze_encoder": True,
            "num_train_epochs": 3,
            "eval_strategy": "epoch",
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-2,
            **settings,
        },
    )
    trainer.train()
    return trainer


def figures(trainer: MultiHeadTrainer) -> list[dict[str, float]]:
    return [
        {key: value for key, value in entry.items() if not any(time in key for time in TIMES)}
        for entry in trainer.state.log_history
    ]


def assert_same_run(one: MultiHeadTrainer, other: MultiHeadTrainer, tolerance: float = 1e-5) -> None:
    logs = list(zip(figures(one), figures(other), strict=True))
    assert len(logs) > 10
    for expected, found in logs:
        assert found == pytest.approx(expected, abs=tolerance)
    for key, value in weights(one.model).items():
        torch.testing.assert_close(other.model.state_dict()[key], value, atol=tolerance, rtol=0)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Texts that each call of the encoder reads."""
    calls: list[int] = []
    original = MultiHeadModel._encode

    def counting(self: MultiHeadModel, tokens: dict, *args: Any) -> Any:
        calls.append(len(tokens["input_ids"]))
        return original(self, tokens, *args)

    monkeypatch.setattr(MultiHeadModel, "_encode", counting)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train_sampling_strategy": "group_by_length", "gradient_accumulation_steps": 2},
        WINDOWS,
        {**WINDOWS, "window_pooling": "max", "dataloader_num_workers": 1},
        {"bf16": True},
        {"head_weighting": "uncertainty", "train_heads": ["mood"], "per_device_eval_batch_size": 3},
    ],
    ids=["plain", "by length", "windows", "windows and a worker", "autocast", "uncertainty"],
)
def test_the_run_is_the_one_without_the_cache(tmp_path: Path, settings: dict[str, Any], encoded: list[int]) -> None:
    without = run(tmp_path / "without", **settings)
    encoded.clear()
    cached = run(tmp_path / "with", cache_features=True, **settings)
    assert_same_run(without, cached)
    texts = 64 if "truncation" not in settings else 64 * 3
    assert 0 < sum(encoded) <= texts  # of training and evaluation rows together, over all epochs
    assert cached.predict(tiny.table(4)).predictions["mood"].shape == (4, 2)


def test_each_different_text_is_encoded_once(tmp_path: Path, encoded: list[int]) -> None:
    rows = tiny.table(20)
    model, tokenizer = tiny.model(), tiny.tokenizer()
    prepared = prepare_dataset(concatenate_datasets([rows, rows.shuffle(seed=1), rows.take(1)]), tokenizer, model)
    model.freeze_encoder()
    cache = FeatureCache(tmp_path, tokenizer, batch_size=1, quiet=True)

    def encode(tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        assert len(tokens["input_ids"]) <= 8
        with torch.no_grad():
            return model.encode(**tokens)

    encoded.clear()  # what an encoder is tried with when its model is made
    found = cache.rows(model, prepared, encode)
    assert set(found.column_names) == {"labels", "length", "features"}
    assert sum(encoded) == 20
    assert len(found) == 41
    # every row has the features of its own text, and its own labels
    collator = MultiHeadDataCollator(tokenizer, model)
    for place in (0, 7, 25, 40):
        tokens = collator([prepared[place]])
        batch = collator([found[place]])
        with torch.no_grad():
            expected = model.encode(tokens["input_ids"], tokens["attention_mask"])
        torch.testing.assert_close(batch["features"], expected, atol=1e-5, rtol=0)
        assert {name: labels.tolist() for name, labels in batch["labels"].items()} == {
            name: labels.tolist() for name, labels in tokens["labels"].items()
        }
    # the same texts in another order, and once only, are the same file
    encoded.clear()
    other = cache.rows(model, prepared.select(range(19, -1, -1)), encode)
    assert not encoded
    torch.testing.assert_close(other[0]["features"], found[19]["features"], atol=0, rtol=0)


def test_texts_are_told_apart_by_all_their_tokens() -> None:
    rows = tiny.table(4).select_columns(["text"])
    table = prepare_dataset(
        rows.add_column("second", ["w1 w2", "w1", "w1 w2", ""]),
        tiny.tokenizer(),
        tiny.model(),
        text_columns=["text", "second"],
        require_labels=False,
    )
    same = table.map(
        lambda row: {**row, "input_ids": [1, 2, 3], "attention_mask": [1, 1, 1], "token_type_ids": [0, 0, 1]}
    )
    assert len(different_texts(table, ["input_ids"]).first) == 4
    assert len(different_texts(same, ["input_ids", "token_type_ids"]).first) == 1
    other = same.map(lambda row, index: {"token_type_ids": [0, int(index == 2), 1]}, with_indices=True)
    assert len(different_texts(other, ["input_ids"]).first) == 1
    assert len(different_texts(other, ["input_ids", "token_type_ids"]).first) == 2


def test_a_second_run_reads_the_file_of_the_first(tmp_path: Path, encoded: list[int]) -> None:
    first = run(tmp_path, cache_features=True)
    assert (
        sorted(path.suffix for path in (tmp_path / "_features").iterdir() if path.suffix != ".lock") == [".arrow"] * 2
    )
    encoded.clear()
    model = first.model
    model.add_head("channel", tiny.two_heads()["mood"])
    second = run(tmp_path, model=model, cache_features=True, train_heads=["channel"], label_columns={"channel": "mood"})
    assert not encoded
    assert second.evaluate()["eval_channel_f1_macro"] > 0


def test_a_stale_file_is_made_anew_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path / "with", cache_features=True)
    without = run(tmp_path / "without", model=tiny.model(seed=5, pooling="max"))
    caplog.clear()
    cached = run(tmp_path / "with", model=tiny.model(seed=5, pooling="max"), cache_features=True)
    notices = [record.getMessage() for record in caplog.records if "feature cache" in record.getMessage()]
    assert len(notices) == 2  # of the training and the evaluation rows
    assert all("made with another encoder and pooling; its texts are encoded again" in notice for notice in notices)
    assert_same_run(without, cached)


@pytest.mark.parametrize("damage", ["cut", "empty", "junk"])
def test_a_damaged_file_is_made_anew_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    first = run(tmp_path, cache_features=True)
    path = max((tmp_path / "_features").glob("*.arrow"), key=lambda file: file.stat().st_size)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-50], "empty": b"", "junk": b"x" * len(whole)}[damage])
    # what a killed process leaves
    path.with_name(f"{path.name}.part").mkdir()
    (path.with_name(f"{path.name}.part") / "tmp").write_bytes(b"half")
    caplog.clear()
    second = run(tmp_path, cache_features=True)
    (notice,) = [record.getMessage() for record in caplog.records if "feature cache" in record.getMessage()]
    assert str(path) in notice
    assert "it cannot be read" in notice
    assert "\n" not in notice
    assert path.read_bytes() == whole
    assert not list((tmp_path / "_features").glob("*.part"))
    assert_same_run(first, second, 0)


def test_a_file_that_is_damaged_inside_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = run(tmp_path, cache_features=True)
    path = max((tmp_path / "_features").glob("*.arrow"), key=lambda file: file.stat().st_size)
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + bytes(len(whole) - half))
    caplog.clear()
    second = run(tmp_path, cache_features=True)
    (notice,) = [record.getMessage() for record in caplog.records if "feature cache" in record.getMessage()]
    assert "it is damaged (the checksum does not match); its texts are encoded again" in notice
    assert path.read_bytes() == whole
    assert_same_run(first, second, 0)


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    run(tmp_path, cache_features=True)
    path = next((tmp_path / "_features").glob("*.arrow"))
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=rf"feature cache {path} is a folder: remove it"):
        run(tmp_path, cache_features=True)


def test_changed_weights_are_noticed_within_a_run(tmp_path: Path) -> None:
    trainer = run(tmp_path, cache_features=True)
    before = trainer.evaluate()["eval_topic_loss"]
    assert trainer.evaluate()["eval_topic_loss"] == before
    with torch.no_grad():
        trainer.model.encoder.get_input_embeddings().weight.normal_()
    after = trainer.evaluate()["eval_topic_loss"]
    trainer.args.cache_features = False
    assert after == pytest.approx(trainer.evaluate()["eval_topic_loss"], abs=1e-5)
    assert after != pytest.approx(before, abs=1e-5)
    trainer.args.cache_features = True
    trainer.model.encoder.get_input_embeddings().weight.data.mul_(0.5)  # which torch does not note
    trainer.model.encoder.encoder.layer[0].intermediate.intermediate_act_fn = torch.nn.Tanh()
    last = trainer.evaluate()["eval_topic_loss"]
    trainer.args.cache_features = False
    assert last == pytest.approx(trainer.evaluate()["eval_topic_loss"], abs=1e-5)
    assert last != pytest.approx(after, abs=1e-5)


def test_bfloat16_is_half_as_large_and_says_how_much_it_differs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exact = run(tmp_path / "exact", cache_features=True)
    rounded = run(tmp_path / "rounded", cache_features=True, feature_dtype="bfloat16")
    sizes = [sum(f.stat().st_size for f in (tmp_path / n / "_features").iterdir()) for n in ("exact", "rounded")]
    assert sizes[1] < 0.6 * sizes[0]
    said = [record.getMessage() for record in caplog.records if "kept in bfloat16" in record.getMessage()]
    assert len(said) == 2
    assert "differ from the encoder's by 0.0" in said[0]
    logs = zip(figures(exact), figures(rounded), strict=True)
    assert any(one["loss"] != other["loss"] for one, other in logs if "loss" in one)
    assert rounded.evaluate()["eval_loss"] == pytest.approx(exact.evaluate()["eval_loss"], abs=0.02)


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(writer: ArrowWriter, *args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    original = FeatureCache._make

    def make(*args: Any) -> None:
        monkeypatch.setattr(ArrowWriter, "write_table", full)
        original(*args)

    monkeypatch.setattr(FeatureCache, "_make", make)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, cache_features=True)
    assert not [path for path in (tmp_path / "_features").iterdir() if path.suffix != ".lock"]


def test_where_memory_is_short_fewer_texts_are_encoded_at_a_time(
    tmp_path: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = MultiHeadModel._encode

    def small(self: MultiHeadModel, tokens: dict, *args: Any) -> Any:
        if len(tokens["input_ids"]) > 5:
            raise RuntimeError("CUDA out of memory.")
        return counting(self, tokens, *args)

    monkeypatch.setattr(MultiHeadModel, "_encode", small)
    run(tmp_path, cache_features=True)
    assert max(encoded) <= 5
    assert sum(encoded) == 64


def test_a_folder_that_several_runs_share(tmp_path: Path) -> None:
    """Each reads what its own encoder made, also in workers that open the file again."""
    shared = {"cache_features": True, "feature_cache_dir": str(tmp_path / "shared")}
    one = run(tmp_path / "one", **shared)
    rows = one._with_features(one.train_dataset, "training")
    packed, expected = pickle.dumps(rows), rows[0]["features"]
    other = run(tmp_path / "other", model=tiny.model(seed=5, pooling="mean"), **shared)
    different = other._with_features(other.train_dataset, "training")[0]["features"]
    assert torch.equal(pickle.loads(packed)[0]["features"], expected)
    assert torch.equal(rows[-len(rows)]["features"], expected)
    assert not torch.equal(different, expected)
    # what is whole is read without being written to
    (tmp_path / "shared").chmod(0o555)
    assert run(tmp_path / "again", **shared).evaluate()["eval_loss"] == one.evaluate()["eval_loss"]


def test_the_folder_of_ones_own(tmp_path: Path) -> None:
    run(tmp_path / "run", cache_features=True, feature_cache_dir=str(tmp_path / "shared"))
    assert len(list((tmp_path / "shared").glob("*.arrow"))) == 2
    assert not (tmp_path / "run" / "_features").exists()


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cache_features needs a frozen encoder.*freeze_encoder=True"):
        trainer_for(tmp_path, cache_features=True)
    with pytest.raises(ValueError, match="your data_collator"):
        trainer_for(tmp_path, cache_features=True, freeze_encoder=True, data_collator=list)
    with pytest.raises(ValueError, match="include_for_metrics"):
        trainer_for(tmp_path, cache_features=True, freeze_encoder=True, include_for_metrics=["inputs"])
    inside = {"feature_cache_dir": str(tmp_path / "features"), "cache_features": True, "freeze_encoder": True}
    with pytest.raises(ValueError, match="would be pushed with the model"):
        trainer_for(tmp_path, **inside)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"feature_cache_dir .*file is a file: give a folder"):
        trainer_for(tmp_path / "run", cache_features=True, freeze_encoder=True, feature_cache_dir=str(file))
    model, args = tiny.model(), arguments(tmp_path, cache_features=True, freeze_encoder=True)
    prepared = prepare_dataset(tiny.table(8), tiny.tokenizer(), model).with_transform(lambda batch: batch)
    with pytest.raises(ValueError, match="train_dataset has a transform: remove"):
        MultiHeadTrainer(model=model, args=args, processing_class=tiny.tokenizer(), train_dataset=prepared)
    for setting in ({"stride": -1}, {"max_windows": 2.5}, {"max_length": 0}):
        with pytest.raises(ValueError, match="give a whole number"):
            arguments(tmp_path, truncation="windows", **setting)
    with pytest.raises(ValueError, match="bf16_full_eval"):
        trainer_for(tmp_path, cache_features=True, freeze_encoder=True, bf16_full_eval=True)
    with pytest.raises(ValueError, match=r"feature_dtype.*float32"):
        arguments(tmp_path, feature_dtype="int8")
    for part in ("train_dataset", "eval_dataset"):
        rows = {"train_dataset": tiny.table(8), "eval_dataset": tiny.table(8)}
        with pytest.raises(ValueError, match=f"datasets with a length, but {part} is a IterableDataset"):
            MultiHeadTrainer(
                model=tiny.model(),
                args=arguments(tmp_path, cache_features=True, freeze_encoder=True, max_steps=1),
                processing_class=tiny.tokenizer(),
                **{**rows, part: rows[part].to_iterable_dataset()},
            )
    trainer = trainer_for(tmp_path, cache_features=True, freeze_encoder=True)
    trainer.model.encoder.requires_grad_(True)
    with pytest.raises(ValueError, match="cache_features needs a frozen encoder"):
        trainer.train()
    assert not os.path.exists(tmp_path / "_features")
    assert set(DTYPES) == {"float32", "bfloat16"}


@pytest.mark.parametrize("cached", [False, True])
def test_lengths_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    """A column of a dataset would be read row by row, in each epoch."""
    settings = {"cache_features": True, "freeze_encoder": True} if cached else {}
    trainer = trainer_for(tmp_path, train_sampling_strategy="group_by_length", **settings)
    loaders = [trainer.get_train_dataloader(), trainer.get_eval_dataloader()]
    read: list[object] = []
    plain = Dataset.__getitem__
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, key: read.append(key) or plain(self, key))
    for loader in loaders:
        order = list(loader.batch_sampler.sampler)
        assert sorted(order) == list(range(len(loader.dataset)))
    assert read == []
