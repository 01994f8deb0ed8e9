"""`write_report`: a model's or a trainer's predictions as a report."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import CONFIG_NAME

from ..data.reading import joined_columns
from ..data.rows_like import RowsLike
from ..data.sources import one_part, read_dataset
from ..data.texts import texts_of
from ..model.unwrapping import multi_head_model
from .baseline import BaselineReport
from .baseline_rows import TrainingRows, baseline_of, training_rows
from .comparison import check_resampling
from .predictions import is_trainer, predicted, prepared_rows
from .report import EvaluationReport, make_report
from .report_page import save_report


def write_report(
    model: Any,
    dataset: RowsLike,
    folder: str | os.PathLike,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    split: str | None = None,
    title: str | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
    baseline: bool = True,
    train_dataset: RowsLike | None = None,
    max_mistakes: int = 500,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 42,
    **reading: Any,
) -> EvaluationReport:
    """Write what the model is good at and where it fails: `report.html` (one page that needs nothing else), the same
    figures as `report.json`, the pictures as PNG, and the mistakes as CSV and Parquet. Needs the extra `plots`.

    Beside the figures of each head stand those of a linear baseline, TF-IDF with logistic regression, so that anyone
    sees what the encoder adds. It is trained on the training rows (`linear_baseline`), in seconds on a CPU.

    It holds texts of the data set; folders whose name begins with `_` are not pushed with a model. The card that a
    trainer writes when it saves next has the figures with their intervals and the pictures, which show no text.

    Args:
        model: a trainer, or a `MultiHeadModel` (then `tokenizer` is needed).
        dataset: labelled rows that were not trained on: raw, prepared, files or a name on the Hub.
        folder: is made where it does not exist.
        split: the part to judge on, where the rows are in parts; by default `test`, else `validation`.
        title: the page's title; by default the model's name.
        history: log entries of the training run; by default the trainer's.
        baseline: put a linear baseline, TF-IDF with logistic regression, beside each head.
        train_dataset: labelled rows to train it on: raw, prepared, files or a name on the Hub. By default the
            trainer's, for a model the split `train` of `dataset`; without training rows there is no baseline.
        max_mistakes: the most mistakes of a head on the page; the tables have all.
        n_resamples: number of bootstrap samples.
        confidence_level, seed: of these intervals.
        reading: for a model, how rows are read, where it is not as the model remembers: `label_columns`, `sep`,
            `empty`, `multi_hot` and `reading` as for `prepare_dataset`, `text_columns`, `max_length`, `truncation`,
            `max_windows`, `stride` and `window_pooling` as in `MultiHeadConfig`, and `per_device_eval_batch_size`.

    Returns:
        the report, which prints as a summary; with several processes on each of them, written by the first.

    Raises:
        ValueError: no labelled row, rows that cannot be read, or a folder that would be pushed with the model.
        ImportError: matplotlib is missing; says what to type.
    """
    check_resampling(n_resamples, confidence_level)
    from . import plots  # noqa: F401  (before anything is computed)

    from_trainer = is_trainer(model)
    check_not_pushed(folder, [model.args.output_dir] if from_trainer else [])
    heads = multi_head_model(model.model if from_trainer else model).config.heads
    strings = joined_columns(heads, model.args.reading if from_trainer else reading)
    data = read_dataset(dataset, strings=strings)
    rows = one_part(data, split)
    if not isinstance(rows, Dataset):
        raise ValueError(f"a report needs rows that can be read again, and this is a {type(rows).__name__}")
    if not len(rows):
        raise ValueError("the dataset is empty: there is no row to judge the model on")
    config = multi_head_model(model.model if from_trainer else model).config
    columns = (model.args.text_columns if from_trainer else reading.get("text_columns")) or config.text_columns
    columns = [columns] if isinstance(columns, str) else list(columns or ["text"])
    tokenizer = model.processing_class if from_trainer else tokenizer
    read = rows
    training: TrainingRows | str | None = None
    if baseline:
        training = training_rows(model, data, rows, train_dataset, tokenizer, reading, seed, strings)
        if isinstance(training, TrainingRows) and not training.has_texts(columns):
            read = prepared_rows(model, rows, tokenizer, "dataset", reading)
    predictions = predicted(model, read, tokenizer, **reading)
    found: BaselineReport | None = None
    if isinstance(training, TrainingRows):
        found = baseline_of(predictions, training, read, columns, tokenizer, seed)
    elif training is not None:
        found = BaselineReport(reason=training)
    report = make_report(
        config.heads,
        predictions.logits,
        predictions.references,
        texts_of(rows, columns, tokenizer),
        title=title or _title(model, config),
        history=(model.state.log_history if from_trainer else ()) if history is None else history,
        baseline=found,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
        seed=seed,
    )
    if from_trainer:
        model.note_report(report)
    report.folder = Path(folder)
    return save_report(report, folder, max_mistakes) if predictions.is_first else report


def check_not_pushed(folder: str | os.PathLike, models: Iterable[str | None]) -> None:
    """Args:
        folder: of the report.
        models: folders that models are saved in.

    Raises:
        ValueError: it lies in a model's folder and would be pushed to the Hub with it, texts and all.
    """
    place = Path(os.path.abspath(folder))
    parents = {Path(os.path.abspath(model)) for model in models if model is not None}
    parents |= {parent for parent in [place, *place.parents] if (parent / CONFIG_NAME).is_file()}
    for parent in parents & {place, *place.parents}:
        below = place.relative_to(parent).parts
        if not below or not below[0].startswith("_"):
            raise ValueError(
                f"{folder} lies in the model's folder and would be pushed with it, texts and all: take a folder "
                f"elsewhere, or {os.path.join(parent, '_report')} (what begins with _ is not pushed)"
            )


def saved_history(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Log entries of the run that made a saved model: of `trainer_state.json` in it, or in its last checkpoint; empty
    where there is none, and for a name on the Hub.
    """
    if not os.path.isdir(folder):
        return []
    places = [Path(folder), *(Path(each) for each in [get_last_checkpoint(str(folder))] if each is not None)]
    for place in places:
        path = place / TRAINER_STATE_NAME
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["log_history"]
    return []


def _title(model: Any, config: Any) -> str:
    if is_trainer(model):
        name = model.args.hub_model_id or model.args.output_dir
    else:
        name = config.name_or_path
    return Path(str(name).rstrip("/")).name or "Multi-head model"
