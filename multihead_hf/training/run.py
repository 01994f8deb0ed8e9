"""Training run from its configuration: rows, heads, model, training, and the steps after it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from datasets import Dataset, DatasetDict, IterableDataset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from ..data.encoding import check_texts_of
from ..data.reading import string_columns
from ..data.row_numbers import with_numbers, without_numbers
from ..data.rows_like import AnyDataset, PreparedRows, RowsLike, has_length
from ..data.sources import read_dataset
from ..data.splits import stratified_split
from ..data.text_groups import split_by_text, warn_of_shared_texts
from ..evaluation.predictions import Predictions, predicted
from ..evaluation.report_files import write_report
from ..evaluation.threshold_tuning import calibrate, tune_thresholds
from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig
from ..model.modeling_multihead import MultiHeadModel
from ..prediction.loading import load_tokenizer
from ..utils.sizes import no_larger_than_its_file
from .arguments import MultiHeadTrainingArguments
from .console import collected_tables
from .interruption import saved_when_interrupted
from .kept_epoch import kept_epoch
from .preparation import prepared
from .run_config import OUTPUT_DIR, RunConfig, RunLike, read_run_config
from .run_folder import claimed
from .run_heads import check_known, heads_of_run, take_readings
from .trainer import MultiHeadTrainer

logger = logging.get_logger(__name__)


class TrainingReport(NamedTuple):
    """Result of a training run by `train_from_config`.

    Args:
        trainer: The trainer with the trained model, which is saved in `trainer.args.output_dir`.
        metrics: Metrics on the test rows, else on the validation rows, without a prefix; empty if there are neither.
        messages: Messages to print: calibration, thresholds and the place of the report, and at the end the tables of
            the evaluation.

    Example:
        >>> from multihead_hf import train_from_config
        >>> report = train_from_config(
        ...     {
        ...         "model": {"encoder": "sentence-transformers/all-MiniLM-L6-v2"},
        ...         "heads": {"mood": {}},
        ...         "data": {"train": "complaints.csv"},
        ...         "training": {"output_dir": "complaints-mood", "max_steps": 1},
        ...     }
        ... )  # doctest: +ELLIPSIS
        Training...
        >>> report.metrics
        {}
    """

    trainer: MultiHeadTrainer
    metrics: dict[str, float]
    messages: list[str]


def train_from_config(
    source: RunLike, changes: Mapping[str, Any] | None = None, resume: bool = False
) -> TrainingReport:
    """Train as a configuration describes, save the model, and push it with `training.push_to_hub`.

    The steps are `set_seed`, `infer_heads`, `MultiHeadModel.from_encoder` and `MultiHeadTrainer`, as in a script.

    Args:
        source: The configuration, as for `read_run_config`.
        changes: Changes of the configuration, as for `read_run_config`.
        resume: Whether to resume from the newest checkpoint in `training.output_dir`.

    Returns:
        The trainer, the metrics and messages to print.

    Raises:
        ValueError: Keys, rows, heads or settings are wrong.
        TrainingInterrupted: Ctrl+C was pressed during training; a checkpoint is saved, and `resume=True` continues.

    Example:
        >>> from multihead_hf import train_from_config
        >>> heads = {"topics": {"sep": "|", "empty": "none"}, "mood": {}}
        >>> config = {
        ...     "model": {"encoder": "sentence-transformers/all-MiniLM-L6-v2"},
        ...     "heads": heads,
        ...     "data": {"train": "complaints.csv"},
        ...     "training": {"output_dir": "complaints-new", "max_steps": 1},
        ... }
        >>> report = train_from_config(config)  # doctest: +ELLIPSIS
        Training...
        >>> list(report.trainer.config.heads)
        ['topics', 'mood']
    """
    run = read_run_config(source, changes)
    with claimed(output_dir_of(run)):
        return train_run(run, resume)


def output_dir_of(run: RunConfig) -> str:
    """Return the folder of a run's model."""
    return str(run.training.get("output_dir", OUTPUT_DIR))


def train_run(run: RunConfig, resume: bool, begin: Callable[[], None] | None = None) -> TrainingReport:
    """Train as `train_from_config` does, in a folder that is `claimed`.

    Args:
        run: The configuration.
        resume: As for `train_from_config`.
        begin: Called by the first process when the training begins, after all checks.

    Returns:
        As `train_from_config`.
    """
    args = MultiHeadTrainingArguments(**{**run.training, "output_dir": output_dir_of(run)})
    take_readings(run, args)
    start = run.model.start_from
    saved = None if start is None else MultiHeadConfig.from_pretrained(start)
    saved_heads = {} if saved is None else saved.heads
    texts = args.text_columns or (saved and saved.text_columns)
    check_known(run, saved_heads)
    named: dict[str, HeadConfig | None] = {
        **saved_heads,
        **dict.fromkeys(name for name in run.heads if name not in saved_heads),
    }
    parts = _parts(run, string_columns(named, args.reading))
    train_rows = parts["train"]  # heads are inferred from these rows, even if they are split later
    heads = {**saved_heads, **heads_of_run(run, args, train_rows, named)}
    numbers: dict[str, list[int]] = {}
    if run.data.split is None:
        warn_of_shared_texts(parts, texts)
    else:
        if isinstance(train_rows, Dataset):  # before the split, so that an error has the row in the table
            check_texts_of(train_rows, texts, "data.train")
        how = (with_numbers(train_rows), heads, run.data.split, run.data.split_seed)
        by_text = run.data.groups is None and isinstance(train_rows, Dataset)
        splits = (
            split_by_text(*how, texts, args.reading)
            if by_text
            else stratified_split(*how, run.data.groups, **args.reading)
        )
        parts, numbers = without_numbers(splits)
    validation = parts.get("validation")
    set_seed(args.seed)
    model, tokenizer = _model(run, heads)
    _check_end(run, args, model.config.heads, validation, parts.get("test", validation))
    patience = run.after_training.early_stopping_patience
    trainer = MultiHeadTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=parts["train"],
        eval_dataset=parts.get("validation"),
        callbacks=[] if patience is None else [EarlyStoppingCallback(patience)],
    )
    # now, and not after hours of training
    test = None if "test" not in parts else _prepared_test(parts["test"], trainer, args, tokenizer)
    tests = [*test.values()] if isinstance(test, dict) else [test]
    trainer.test_rows = sum(len(rows) for rows in tests if has_length(rows)) or None
    trainer.recommends_thresholds = not run.after_training.tune_thresholds
    if begin is not None:
        trainer.add_callback(_Beginning(begin))
    with saved_when_interrupted(trainer):
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint or resume or None)
    trainer.save_model()  # before later steps that may fail
    return _finished(run, trainer, parts, test, numbers)


class _Beginning(TrainerCallback):
    """Calls a function when the training begins, after a checkpoint that is resumed was checked and loaded."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.begin()


def _prepared_test(
    rows: RowsLike, trainer: MultiHeadTrainer, args: MultiHeadTrainingArguments, tokenizer: PreTrainedTokenizerBase
) -> PreparedRows | dict[str, PreparedRows]:
    if isinstance(rows, dict):
        return {
            name: prepared(dataset, trainer.config, args, tokenizer, f"data.test {name!r}")
            for name, dataset in rows.items()
        }
    return prepared(rows, trainer.config, args, tokenizer, "data.test")


def _check_end(
    run: RunConfig,
    args: MultiHeadTrainingArguments,
    heads: Mapping[str, HeadConfig],
    validation: RowsLike | None,
    evaluation_rows: RowsLike | None,
) -> None:
    """Check, before the training, that the steps after it can be done.

    Raises:
        ValueError: A setting of `after_training` does not fit the data, the heads or the arguments.
        ImportError: A report needs plots, and their package is not installed.
    """
    has_sets = isinstance(validation, dict)
    if run.after_training.report:
        from ..evaluation import plots  # noqa: F401 (the error gives what to install)

        if evaluation_rows is None or isinstance(evaluation_rows, dict):
            raise ValueError(
                "after_training.report needs one set of test or validation rows: data.test or data.validation"
            )
    if run.after_training.tune_thresholds and not any(head.multi_label for head in heads.values()):
        raise ValueError(
            "after_training.tune_thresholds is for multi-label heads, but the model has only single-label heads"
        )
    if (run.after_training.calibrate or run.after_training.tune_thresholds) and (validation is None or has_sets):
        raise ValueError(
            "after_training.calibrate and after_training.tune_thresholds need one set of validation rows: "
            "data.validation"
        )
    patience = run.after_training.early_stopping_patience
    if patience is not None and patience < 1:
        raise ValueError(f"after_training.early_stopping_patience {patience}: give a whole number of 1 or more")
    judges = args.load_best_model_at_end and args.metric_for_best_model and args.eval_strategy != "no"
    if patience is not None and not judges:
        raise ValueError(
            "after_training.early_stopping_patience needs training.eval_strategy, load_best_model_at_end and "
            "metric_for_best_model"
        )


def _parts(run: RunConfig, strings: Collection[str]) -> dict[str, Any]:
    """Return `train`, and `validation` and `test` if there are such rows; with `data.split`, all rows as `train`.

    Raises:
        ValueError: There are no training rows, or rows that already have splits should be split.
    """
    data = run.data
    sources = {"train": data.train, "validation": data.validation, "test": data.test}
    train_rows: Any = None
    read: dict[str, Any] = {}
    for part, source in sources.items():
        if isinstance(source, dict):  # several datasets
            read[part] = {name: _of_part(_rows(dataset, run, strings), part) for name, dataset in source.items()}
        elif source is not None:
            rows = _rows(source, run, strings)
            train_rows = rows if part == "train" else train_rows
            read[part] = _of_part(rows, part)
    in_parts = (
        {part: rows for part, rows in train_rows.items() if part in sources} if isinstance(train_rows, Mapping) else {}
    )
    if data.split is not None and (isinstance(data.train, dict) or len(read) > 1 or len(in_parts) > 1):
        raise ValueError("data.split: is for one table, but these rows already have splits; leave it out")
    return {**in_parts, **read}


def _rows(source: str | list[str], run: RunConfig, strings: Collection[str]) -> AnyDataset:
    hub = {} if run.data.config is None else {"name": run.data.config}
    return read_dataset(source, delimiter=run.data.delimiter, encoding=run.data.encoding, strings=strings, **hub)


def _of_part(rows: AnyDataset, part: str) -> Dataset | IterableDataset:
    """Return the rows of one split.

    Raises:
        ValueError: The rows have several splits, and the wanted one is missing.
    """
    if not isinstance(rows, Mapping):
        return rows
    if len(rows) == 1:  # a single split is often called train
        return next(iter(rows.values()))
    if part not in rows:
        raise ValueError(f"data.{part}: there is no split {part!r}; the splits are {list(rows)}")
    return rows[part]


def _model(run: RunConfig, heads: Mapping[str, HeadConfig]) -> tuple[MultiHeadModel, Any]:
    if run.model.start_from is None:
        assert run.model.encoder is not None
        settings = {key: value for key, value in asdict(run.model).items() if key not in ("encoder", "start_from")}
        settings = {key: value for key, value in settings.items() if value is not None}
        model = MultiHeadModel.from_encoder(run.model.encoder, heads=heads, **settings)
        return model, _with_padding(load_tokenizer(run.model.encoder, revision=run.model.revision))
    with no_larger_than_its_file(run.model.start_from):
        model = MultiHeadModel.from_pretrained(run.model.start_from)
    for name, head in heads.items():
        if name not in model.config.heads:
            model.add_head(name, head)
    return model, load_tokenizer(run.model.start_from)


def _with_padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a padding token, which batches need; those of decoders, such as GPT-2, have none."""
    if tokenizer.pad_token is None:
        tokens = (tokenizer.eos_token, tokenizer.sep_token, tokenizer.unk_token, tokenizer.bos_token)
        tokenizer.pad_token = next((token for token in tokens if token is not None), None)
        if tokenizer.pad_token is None:
            raise ValueError(
                f"{tokenizer.name_or_path}: its tokenizer has no padding token, which batches need: set its pad_token, "
                "and save it with tokenizer.save_pretrained(FOLDER)"
            )
        logger.warning(
            f"{tokenizer.name_or_path}: its tokenizer has no padding token, so {tokenizer.pad_token!r} fills up "
            "batches (filled places are masked)"
        )
    return tokenizer


def _tuned(trainer: MultiHeadTrainer, validation: Predictions) -> str:
    """Return the result, or the reason for a failure: a trained run still computes its metrics and report."""
    try:
        return str(tune_thresholds(trainer, validation))
    except ValueError as error:
        return f"The thresholds were not tuned: {error}"


def _finished(
    run: RunConfig,
    trainer: MultiHeadTrainer,
    parts: Mapping[str, Any],
    test: PreparedRows | dict[str, PreparedRows] | None,
    numbers: Mapping[str, list[int]],
) -> TrainingReport:
    sentences = []
    validation = parts.get("validation")
    has_tuning = run.after_training.calibrate or run.after_training.tune_thresholds
    if has_tuning:
        predictions = predicted(trainer, validation)
        sentences += [str(calibrate(trainer, predictions))] if run.after_training.calibrate else []
        sentences += [_tuned(trainer, predictions)] if run.after_training.tune_thresholds else []
    trainer.recommends_thresholds = True
    sentences += kept_epoch(trainer)
    prefix = "eval" if test is None else "test"
    metrics: dict[str, float] = {}
    tables: list[str] = []
    if test is not None or validation is not None:
        with collected_tables(trainer) as tables:  # the tables are shown at the end
            metrics = trainer.evaluate(test, metric_key_prefix=prefix)  # or its own rows, those of the validation
        if test is not None:
            trainer.note_test_scores(metrics, test)
        tuned = " (which the thresholds or temperatures were chosen on)" if test is None and has_tuning else ""
        tables = [f"On the {'validation' if test is None else 'test'} rows{tuned}:", *tables]
    if run.after_training.report:
        folder = f"{trainer.args.output_dir}/_report"
        split = "validation" if test is None else "test"
        rows = DatasetDict({split: parts[split]})
        of_table = numbers.get(split)
        report = write_report(trainer, rows, folder, baseline=run.after_training.baseline, row_numbers=of_table)
        tables.append(str(report))
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.save_model()
    times = ("runtime", "per_second", "preparation_time", "epoch")
    plain = {key.removeprefix(f"{prefix}_"): value for key, value in metrics.items() if not key.endswith(times)}
    return TrainingReport(trainer, plain, [*sentences, *tables])
