"""A training run from its configuration: rows, heads, model, training, and what is done with the model."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from transformers import AutoTokenizer, EarlyStoppingCallback, set_seed

from ..data.heads import infer_heads
from ..data.sources import read_dataset
from ..data.splits import stratified_split
from ..model.head_multihead import HeadConfig
from ..model.modeling_multihead import MultiHeadModel
from .arguments import MultiHeadTrainingArguments
from .predictions import Predictions, predicted
from .preparation import prepared
from .reporting import write_report
from .run_config import RunConfig, head_settings, read_run_config
from .trainer import MultiHeadTrainer
from .tuning import calibrate, tune_thresholds


class FinishedRun(NamedTuple):
    """A run that is done.

    Args:
        trainer: with the trained model, which is saved in `trainer.args.output_dir`.
        metrics: of the test rows, else of the validation rows, without a prefix; empty where there are neither.
        said: what was found on the way (calibration, thresholds, where the report is), to print.
    """

    trainer: MultiHeadTrainer
    metrics: dict[str, float]
    said: list[str]


def train_from_config(source: Any, changes: Mapping[str, Any] | None = None, resume: bool = False) -> FinishedRun:
    """Train as a configuration says (`read_run_config`), save the model, and push it with `training.push_to_hub`.

    It is what one would write by hand: `set_seed`, `infer_heads`, `MultiHeadModel.from_encoder`, `MultiHeadTrainer`.

    Args:
        source, changes: as for `read_run_config`.
        resume: go on from the newest checkpoint in `training.output_dir`.

    Raises:
        ValueError: keys, rows, heads or settings that cannot be.
    """
    run = read_run_config(source, changes)
    args = MultiHeadTrainingArguments(**{"output_dir": "trainer_output", **run.training})
    columns = {name: settings.get("column", name) for name, settings in run.heads.items()}
    if args.label_columns is None:
        args.label_columns = {name: column for name, column in columns.items() if column != name} or None
    if args.label_sep is None:
        args.label_sep = {name: settings["sep"] for name, settings in run.heads.items() if "sep" in settings} or None
    parts = _parts(run, args, columns)
    validation = parts.get("validation")
    set_seed(args.seed)
    model, tokenizer = _model(run, args, parts["train"], columns)
    _check_end(run, args, model.config.heads, validation, parts.get("test", validation))
    patience = run.end.early_stopping_patience
    trainer = MultiHeadTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=parts["train"],
        eval_dataset=parts.get("validation"),
        callbacks=[] if patience is None else [EarlyStoppingCallback(patience)],
    )
    # now, and not when hours have been trained
    test = None if "test" not in parts else _prepared_test(parts["test"], trainer, args, tokenizer)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint or resume or None)
    trainer.save_model()  # whatever becomes of what follows
    return _finished(run, trainer, parts, test)


def _prepared_test(rows: Any, trainer: MultiHeadTrainer, args: MultiHeadTrainingArguments, tokenizer: Any) -> Any:
    if isinstance(rows, dict):
        return {
            name: prepared(own, trainer.config, args, tokenizer, f"data.test {name!r}") for name, own in rows.items()
        }
    return prepared(rows, trainer.config, args, tokenizer, "data.test")


def _check_end(
    run: RunConfig,
    args: MultiHeadTrainingArguments,
    heads: Mapping[str, HeadConfig],
    validation: Any,
    judged: Any,
) -> None:
    """
    Raises:
        ValueError: what is asked for at the end cannot be done; it is said before the training.
        ImportError: a report needs plots, and they need a package.
    """
    several = isinstance(validation, dict)
    if run.end.report:
        from ..evaluation import plots  # noqa: F401 (says what to install)

        if judged is None or isinstance(judged, dict):
            raise ValueError("end.report needs one set of test or validation rows: data.test or data.validation")
    if run.end.tune_thresholds and not any(head.multi_label for head in heads.values()):
        raise ValueError("end.tune_thresholds is for multi-label heads, and there is none")
    if (run.end.calibrate or run.end.tune_thresholds) and (validation is None or several):
        raise ValueError("end.calibrate and end.tune_thresholds need one set of validation rows: data.validation")
    patience = run.end.early_stopping_patience
    if patience is not None and patience < 1:
        raise ValueError(f"end.early_stopping_patience {patience}: give a whole number of 1 or more")
    judges = args.load_best_model_at_end and args.metric_for_best_model and args.eval_strategy != "no"
    if patience is not None and not judges:
        raise ValueError(
            "end.early_stopping_patience needs training.eval_strategy, load_best_model_at_end and metric_for_best_model"
        )


def _parts(run: RunConfig, args: MultiHeadTrainingArguments, columns: Mapping[str, Any]) -> dict[str, Any]:
    """`train`, and `validation` and `test` where there are such rows.

    Raises:
        ValueError: no rows to train on, or a split of what is in parts already.
    """
    data = run.data
    given = {"train": data.train, "validation": data.validation, "test": data.test}
    whole: Any = None
    read: dict[str, Any] = {}
    for part, source in given.items():
        if isinstance(source, dict):  # several data sets
            read[part] = {name: _of_part(_rows(each, run), part) for name, each in source.items()}
        elif source is not None:
            rows = _rows(source, run)
            whole = rows if part == "train" else whole
            read[part] = _of_part(rows, part)
    in_parts = {part: rows for part, rows in whole.items() if part in given} if isinstance(whole, Mapping) else {}
    if data.split is None:
        return {**in_parts, **read}
    if isinstance(data.train, dict) or len(read) > 1 or len(in_parts) > 1:
        raise ValueError("data.split: is for one table, and these rows are in parts already; leave it out")
    rows, heads = read["train"], _heads(run, args, read["train"], columns)
    reading: dict[str, Any] = {
        "label_columns": args.label_columns,
        "multi_hot": args.multi_hot,
        "sep": args.label_sep,
        "empty": args.empty_labels,
    }
    return dict(stratified_split(rows, heads, data.split, data.split_seed, data.groups, **reading))


def _rows(source: str | list[str], run: RunConfig) -> Any:
    hub = {} if run.data.config is None else {"name": run.data.config}
    return read_dataset(source, delimiter=run.data.delimiter, **hub)


def _of_part(rows: Any, part: str) -> Any:
    """
    Raises:
        ValueError: the rows are in parts, and none is this one.
    """
    if not isinstance(rows, Mapping):
        return rows
    if len(rows) == 1:  # a sole part is often called train
        return next(iter(rows.values()))
    if part not in rows:
        raise ValueError(f"data.{part}: there is no part {part!r}, but {list(rows)}")
    return rows[part]


def _heads(
    run: RunConfig, args: MultiHeadTrainingArguments, rows: Any, columns: Mapping[str, Any]
) -> dict[str, HeadConfig]:
    """The heads, with labels and kind of those that do not say them read off the rows.

    Raises:
        ValueError: no data set has the column of a head, or its settings are wrong.
    """
    heads = {}
    for name, settings in run.heads.items():
        own = head_settings(settings)
        if "labels" not in own:
            sep = args.label_sep.get(name) if isinstance(args.label_sep, dict) else args.label_sep
            reading: dict[str, Any] = {"multi_hot": args.multi_hot, "sep": sep, "empty": args.empty_labels}
            source = rows
            if isinstance(rows, dict):  # the first set that is labelled for this head
                wanted = columns[name] if isinstance(columns[name], list) else [columns[name]]
                source = next((each for each in rows.values() if set(wanted) <= set(each.column_names)), None)
                if source is None:
                    raise ValueError(f"heads.{name}: none of the sets {list(rows)} has the columns {wanted}")
            found = infer_heads(source, {name: columns[name]}, **reading)[name]
            own = {"labels": found.labels, "problem_type": found.problem_type, **own}
        try:
            heads[name] = HeadConfig(**own)
        except (ValueError, TypeError) as error:
            raise ValueError(f"heads.{name}: {error}") from None
    return heads


def _model(
    run: RunConfig, args: MultiHeadTrainingArguments, rows: Any, columns: Mapping[str, Any]
) -> tuple[MultiHeadModel, Any]:
    if run.model.start_from is None:
        assert run.model.encoder is not None
        settings = {key: value for key, value in asdict(run.model).items() if key not in ("encoder", "start_from")}
        settings = {key: value for key, value in settings.items() if value is not None}
        model = MultiHeadModel.from_encoder(run.model.encoder, heads=_heads(run, args, rows, columns), **settings)
        return model, AutoTokenizer.from_pretrained(run.model.encoder, revision=run.model.revision)
    model = MultiHeadModel.from_pretrained(run.model.start_from)
    known = {name: settings for name, settings in run.heads.items() if name in model.config.heads}
    for name, settings in known.items():
        if head_settings(settings):
            raise ValueError(
                f"heads.{name}: the saved model has it, with settings of its own; only say its column and sep"
            )
    fresh = {name: settings for name, settings in run.heads.items() if name not in known}
    for name, head in _heads(RunConfig(heads=fresh), args, rows, columns).items():
        model.add_head(name, head)
    return model, AutoTokenizer.from_pretrained(run.model.start_from)


def _tuned(trainer: MultiHeadTrainer, validation: Predictions) -> str:
    """What was found, or why nothing could be: a run that is trained goes on to its metrics and its report."""
    try:
        return str(tune_thresholds(trainer, validation))
    except ValueError as error:
        return f"The thresholds were not tuned: {error}"


def _finished(run: RunConfig, trainer: MultiHeadTrainer, parts: Mapping[str, Any], test: Any) -> FinishedRun:
    said = []
    validation = parts.get("validation")
    if run.end.calibrate or run.end.tune_thresholds:
        found = predicted(trainer, validation)
        said += [str(calibrate(trainer, found))] if run.end.calibrate else []
        said += [_tuned(trainer, found)] if run.end.tune_thresholds else []
    prefix = "eval" if test is None else "test"
    metrics: dict[str, float] = {}
    if test is not None or validation is not None:
        metrics = trainer.evaluate(validation if test is None else test, metric_key_prefix=prefix)
        tuned = " (which the thresholds or temperatures were chosen on)" if test is None and said else ""
        said.append(f"On the {'validation' if test is None else 'test'} rows{tuned}:")
    if run.end.report:
        folder = f"{trainer.args.output_dir}/_report"
        write_report(trainer, parts.get("test", validation), folder)
        said.insert(-1, f"The report is {folder}/report.html")
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.save_model()
    times = ("runtime", "per_second", "preparation_time", "epoch")
    plain = {key.removeprefix(f"{prefix}_"): value for key, value in metrics.items() if not key.endswith(times)}
    return FinishedRun(trainer, plain, said)
