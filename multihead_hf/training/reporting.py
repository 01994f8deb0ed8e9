"""`write_report`: a trainer's or a model's predictions as the report of `evaluation.report`."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from ..evaluation.report import Report, make_report, save_report
from .comparison import check_draws
from .predictions import predicted, texts_of
from .preparation import multi_head_model, opened


def write_report(
    model: Any,
    dataset: Any,
    folder: str | os.PathLike,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    title: str | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
    most: int = 500,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 42,
    **reading: Any,
) -> Report:
    """Write what the model is good at and where it fails: `report.html` (one page that needs nothing else), the same
    figures as `report.json`, the pictures as PNG, and the mistakes as CSV and Parquet. Needs the extra `plots`.

    It holds texts of the data set; folders whose name begins with `_` are not pushed with a model. The card that a
    trainer writes when it saves next has the figures with their intervals and the pictures, which show no text.

    Args:
        model: a trainer, or a `MultiHeadModel` (then `tokenizer` is needed).
        dataset: labelled rows that were not trained on: raw, prepared, files or a name on the Hub.
        folder: is made where it does not exist.
        title: of the page; by default the model's name.
        history: log entries of the training run; by default the trainer's.
        most: mistakes of a head on the page; the tables have all.
        draws, level, seed: of the bootstrap intervals.
        reading: for a model, how rows are read: `text_columns`, `label_columns`, `label_sep`, `empty_labels`,
            `multi_hot`, `max_length`, `per_device_eval_batch_size`, … of `MultiHeadTrainingArguments`.

    Returns:
        the report, which prints as a summary; with several processes on each of them, written by the first.

    Raises:
        ValueError: no labelled row, or rows that cannot be read.
        ImportError: matplotlib is missing; says what to type.
    """
    check_draws(draws, level)
    from ..evaluation import plots  # noqa: F401  (before anything is computed)

    rows = opened(dataset, "dataset")
    if not isinstance(rows, Dataset):
        raise ValueError(f"a report needs rows that can be read again, and this is a {type(rows).__name__}")
    predictions = predicted(model, rows, tokenizer, **reading)
    is_trainer = isinstance(model, Trainer)
    if is_trainer:
        tokenizer = model.processing_class
    config = multi_head_model(model.model if is_trainer else model).config
    report = make_report(
        config.heads,
        predictions.logits,
        predictions.references,
        texts_of(rows, config, tokenizer),
        title=title or _title(model, config),
        history=(model.state.log_history if is_trainer else ()) if history is None else history,
        draws=draws,
        level=level,
        seed=seed,
    )
    if is_trainer:
        model.last_report = report  # the model card tells of it
    if is_trainer and not model.is_world_process_zero():
        return report
    return save_report(report, folder, most)


def saved_history(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Log entries of the run that made a saved model: of `trainer_state.json` in it, or in its last checkpoint; empty
    where there is none."""
    places = [Path(folder), *(Path(each) for each in [get_last_checkpoint(str(folder))] if each is not None)]
    for place in places:
        path = place / TRAINER_STATE_NAME
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["log_history"]
    return []


def _title(model: Any, config: Any) -> str:
    if isinstance(model, Trainer):
        name = model.args.hub_model_id or model.args.output_dir
    else:
        name = config.name_or_path
    return Path(str(name).rstrip("/")).name or "Multi-head model"
