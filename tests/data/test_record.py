"""Prepared rows keep what they were made for, and are refused by a model that would read them otherwise."""

from pathlib import Path

import pytest
import tiny
from datasets import Dataset, concatenate_datasets, load_from_disk

from multihead_hf import HeadConfig, prepare_dataset
from multihead_hf.data.record import check_record


def test_rows_of_other_labels_are_refused(tmp_path: Path) -> None:
    tokenizer, model = tiny.tokenizer(), tiny.model()
    rows = prepare_dataset(tiny.table(), tokenizer, model)
    rows.save_to_disk(tmp_path / "rows")
    swapped = tiny.model(heads={**tiny.two_heads(), "mood": HeadConfig(labels=tiny.MOODS[::-1])})
    other = tiny.model(heads={**tiny.two_heads(), "mood": HeadConfig(labels=["calm", "cross"])})
    further = tiny.model(heads={**tiny.two_heads(), "mood": HeadConfig(labels=[*tiny.MOODS, "sad"])})
    parts = (rows, rows.shuffle(seed=1).select(range(8)), load_from_disk(tmp_path / "rows"))
    for part in (*parts, concatenate_datasets([rows, rows])):
        check_record(part, model.config, tokenizer, "rows")
        check_record(part, further.config, tokenizer, "rows")
        with pytest.raises(ValueError, match=r"head 'mood': rows was prepared for other labels.* label 0 was 'calm'"):
            check_record(part, swapped.config, tokenizer, "rows")
        with pytest.raises(
            ValueError, match=r"the labels were \['calm', 'angry'\], but the model has \['calm', 'cross'\]"
        ):
            check_record(part, other.config, tokenizer, "rows")


def test_rows_of_another_tokenizer_are_refused() -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer()
    rows = prepare_dataset(tiny.table(8), tokenizer, model)
    tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(ValueError, match=r"train_dataset was prepared with a tokenizer other than the model's"):
        check_record(rows, model.config, tokenizer, "train_dataset")


def test_texts_that_were_cut_otherwise_are_said(caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = tiny.model(max_length=8, text_prefix="w1 "), tiny.tokenizer()
    rows = prepare_dataset(tiny.table(8), tokenizer, tiny.model(max_length=12))
    said = []
    from multihead_hf.data import record

    handler = record.logger.warning
    try:
        record.logger.warning = said.append  # type: ignore[method-assign]
        check_record(rows, model.config, tokenizer, "rows")
    finally:
        record.logger.warning = handler  # type: ignore[method-assign]
    assert said == [
        "rows was prepared with max_length 12 (the model has 8), prefix None (the model has 'w1 '), so the model would "
        "read different tokens in predictions"
    ]


def test_single_texts_for_a_model_of_pairs_are_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), tiny.two_heads(), text_columns=["text"])
    check_record(rows, tiny.model(text_columns=["comment"]).config, tiny.tokenizer(), "rows")
    assert "single texts" not in caplog.text
    check_record(rows, tiny.model(text_columns=["q", "a"]).config, tiny.tokenizer(), "rows")
    assert "rows was prepared from single texts (text_columns=['text']), but predictions will read" in caplog.text


def test_rows_without_a_record_are_taken() -> None:
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), tiny.two_heads())
    rows.info.description = "of somebody"
    check_record(rows, tiny.model().config, tiny.tokenizer(), "rows")
    check_record(list(rows), tiny.model().config, tiny.tokenizer(), "rows")


def test_rows_without_a_record_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer()
    prepare_dataset(tiny.table(8), tokenizer, model).to_parquet(str(tmp_path / "rows.parquet"))
    rows = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path))
    check_record(rows, model.config, tokenizer, f"rows of {tmp_path.name}")
    assert f"rows of {tmp_path.name}: these prepared rows do not say for which labels" in caplog.text
    stream = prepare_dataset(tiny.table(8), tokenizer, model).to_iterable_dataset()
    check_record(stream, model.config, tokenizer, f"stream of {tmp_path.name}")
    check_record([*stream], model.config, tokenizer, f"list of {tmp_path.name}")
    assert f"list of {tmp_path.name}: these prepared rows do not say for which labels" in caplog.text
    assert f"stream of {tmp_path.name}: these prepared rows do not say for which labels" in caplog.text


def test_a_stream_that_was_prepared_keeps_its_record(caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer()
    stream = prepare_dataset(tiny.table(8).to_iterable_dataset(), tokenizer, model)
    for rows in (stream, stream.map(lambda row: row), stream.shuffle(seed=0), stream.take(4)):
        check_record(rows, model.config, tokenizer, "rows")
    assert not caplog.records
