"""Evaluation report of a model or trainer, written to files."""

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

from ..data.reading import string_columns
from ..data.rows_like import RowsLike
from ..data.sources import one_part, read_dataset
from ..data.texts import texts_of
from ..model.configuration_multihead import MultiHeadConfig
from ..model.unwrapping import multi_head_model
from .baseline import BaselineReport
from .baseline_rows import TrainingRows, baseline_of, training_rows
from .comparison import check_resampling
from .predictions import ModelOrTrainer, check_keywords, is_trainer, predicted, prepared_rows
from .report import EvaluationReport, make_report
from .report_page import save_report


def write_report(
    model: ModelOrTrainer,
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
    row_numbers: Sequence[int] | None = None,
    **reading: Any,
) -> EvaluationReport:
    """Evaluate a model and write `report.html`, `report.json`, plots (PNG), and mistakes (CSV and Parquet).

    The page is self-contained. Plots need the extra `plots`.

    The metrics of each head are shown next to those of a linear baseline, TF-IDF with logistic regression, as a
    reference for the gain of the encoder. The baseline is trained on the training rows (`linear_baseline`), in seconds
    on a CPU.

    The report contains texts of the dataset; folders whose name begins with `_` are not pushed with a model. The next
    model card that a trainer writes contains the metrics with their intervals and the plots, which contain no text.

    Args:
        model: a trainer, or a `MultiHeadModel` (then `tokenizer` is needed).
        dataset: labelled rows that were not trained on: raw, prepared, files or a name on the Hub.
        folder: folder of the report, created if it does not exist.
        tokenizer: tokenizer of the model; a trainer has one already.
        split: split to evaluate on, if the dataset has splits; by default `test`, else `validation`.
        title: title of the page; by default the model's name.
        history: log entries of the training run; by default the trainer's.
        baseline: put a linear baseline, TF-IDF with logistic regression, next to each head.
        train_dataset: labelled rows to train the baseline on: raw, prepared, files or a name on the Hub. By default the
            trainer's, for a model the split `train` of `dataset`; without training rows the report has no baseline.
        max_mistakes: maximum number of mistakes per head on the page; the tables contain all of them.
        n_resamples: number of bootstrap samples.
        confidence_level: share of the bootstrap samples that an interval holds.
        seed: seed of the bootstrap samples.
        row_numbers: number of each row in the table that it was taken from, for the tables of mistakes; by default rows
            are counted from 0.
        reading: for a model, how rows are read, where it differs from what the model remembers: `label_columns`, `sep`,
            `empty`, `multi_hot` and `reading` as for `prepare_dataset`, `text_columns`, `max_length`, `truncation`,
            `max_windows`, `stride` and `window_pooling` as in `MultiHeadConfig`, and `per_device_eval_batch_size`.

    Returns:
        An `EvaluationReport`, which prints as a summary; with several processes on each of them, written by the first.

    Raises:
        ValueError: If no row is labelled, rows cannot be read, or the folder would be pushed with the model.
        ImportError: If matplotlib is not installed; the message contains the command that installs it.

    Example:
        >>> from multihead_hf import MultiHeadModel, write_report
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> report = write_report(model, "complaints.csv", "report", tokenizer=tokenizer, n_resamples=100)
        >>> sorted(path.name for path in report.folder.glob("report.*"))
        ['report.html', 'report.json']
    """
    check_resampling(n_resamples, confidence_level)
    check_keywords(model, reading)
    from . import plots  # noqa: F401  (fails before anything is computed)

    trainer = model if is_trainer(model) else None
    check_not_pushed(folder, [trainer.args.output_dir] if trainer is not None else [])
    heads = multi_head_model(trainer.model if trainer is not None else model).config.heads
    strings = string_columns(heads, trainer.args.reading if trainer is not None else reading)
    data = read_dataset(dataset, strings=strings)
    rows = one_part(data, split)
    names = [name for name, part in data.items() if part is rows] if isinstance(data, Mapping) else []
    if not isinstance(rows, Dataset):
        raise ValueError(f"a report needs rows that can be read more than once, but this is a {type(rows).__name__}")
    if row_numbers is not None and len(row_numbers) != len(rows):
        raise ValueError(f"row_numbers: {len(row_numbers):,} numbers were given for {len(rows):,} rows")
    if not len(rows):
        raise ValueError("the dataset is empty: there are no rows to evaluate the model on")
    config = multi_head_model(trainer.model if trainer is not None else model).config
    columns = (trainer.args.text_columns if trainer is not None else reading.get("text_columns")) or config.text_columns
    columns = [columns] if isinstance(columns, str) else list(columns or ["text"])
    tokenizer = trainer.processing_class if trainer is not None else tokenizer
    evaluation_rows = rows
    training: TrainingRows | str | None = None
    if baseline:
        training = training_rows(model, data, rows, train_dataset, tokenizer, reading, seed, strings)
        if isinstance(training, TrainingRows) and not training.has_texts(columns):
            evaluation_rows = prepared_rows(model, rows, tokenizer, "dataset", reading)
    predictions = predicted(model, evaluation_rows, tokenizer, **reading)
    baseline_report: BaselineReport | None = None
    if isinstance(training, TrainingRows):
        baseline_report = baseline_of(predictions, training, evaluation_rows, columns, tokenizer, seed)
    elif training is not None:
        baseline_report = BaselineReport(reason=training)
    report = make_report(
        config.heads,
        predictions.logits,
        predictions.references,
        texts_of(rows, columns, tokenizer),
        title=title or _title(model, config),
        history=(trainer.state.log_history if trainer is not None else ()) if history is None else history,
        baseline=baseline_report,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
        seed=seed,
    )
    report.split = names[0] if names else None
    if row_numbers is not None:
        report.number_rows(row_numbers)
    if trainer is not None:
        trainer.note_report(report)
    report.folder = Path(folder)
    return save_report(report, folder, max_mistakes) if predictions.is_first else report


def check_not_pushed(folder: str | os.PathLike, models: Iterable[str | None]) -> None:
    """Check that a report would not be pushed to the Hub with a model.

    Args:
        folder: folder of the report.
        models: folders that models are saved in.

    Raises:
        ValueError: If the report lies in a model's folder and would be pushed with it, texts included.
    """
    report_path = Path(os.path.abspath(folder))
    parents = {Path(os.path.abspath(model)) for model in models if model is not None}
    parents |= {parent for parent in [report_path, *report_path.parents] if (parent / CONFIG_NAME).is_file()}
    for parent in parents & {report_path, *report_path.parents}:
        below = report_path.relative_to(parent).parts
        if not below or not below[0].startswith("_"):
            raise ValueError(
                f"{folder} is inside the model's folder and would be pushed with it, including the texts: use a "
                f"folder elsewhere, or {os.path.join(parent, '_report')} (names that begin with _ are not pushed)"
            )


def saved_history(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the log entries of the run that made a saved model.

    They are read from `trainer_state.json` in its folder, or in its last checkpoint. The list is empty where the file
    does not exist, and for a name on the Hub.
    """
    if not os.path.isdir(folder):
        return []
    folders = [
        Path(folder),
        *(Path(checkpoint) for checkpoint in [get_last_checkpoint(str(folder))] if checkpoint is not None),
    ]
    for run_folder in folders:
        path = run_folder / TRAINER_STATE_NAME
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["log_history"]
    return []


def _title(model: ModelOrTrainer, config: MultiHeadConfig) -> str:
    if is_trainer(model):
        name = model.args.hub_model_id or model.args.output_dir
    else:
        name = config.name_or_path
    return Path(str(name).rstrip("/")).name or "Multi-head model"
