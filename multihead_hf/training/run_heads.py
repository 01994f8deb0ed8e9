"""Heads of a run: how their labels are read, and their labels inferred from the training rows."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from datasets import ClassLabel, Dataset

from ..data.heads import heads_off
from ..data.reading import OPTIONS, column_names, said_readings, separator_for_all
from ..data.rows_like import AnyDataset
from ..data.sources import joined
from ..model.head_multihead import HeadConfig
from ..model.reading_multihead import LabelReading
from .arguments import MultiHeadTrainingArguments
from .run_config import RunConfig, head_settings


def take_readings(run: RunConfig, args: MultiHeadTrainingArguments) -> None:
    """Copy the heads' settings on how labels are read into the training arguments."""
    for option, setting in OPTIONS.items():
        readings = {
            name: settings[setting] for name, settings in run.heads.items() if settings.get(setting) is not None
        }
        if getattr(args, option) is None and readings:
            setattr(args, option, readings)


def check_known(run: RunConfig, known: Mapping[str, HeadConfig]) -> None:
    """Check that the configuration does not change heads of the saved model.

    Raises:
        ValueError: There are settings for a head that the saved model has.
    """
    for name, settings in run.heads.items():
        if name in known and head_settings(settings):
            raise ValueError(
                f"heads.{name}: the saved model already has this head and its settings; give only how its labels are "
                "read (column, sep, empty, multi_hot)"
            )


def heads_of_run(
    run: RunConfig,
    args: MultiHeadTrainingArguments,
    rows: AnyDataset | Mapping[str, AnyDataset],
    known: Mapping[str, HeadConfig | None],
) -> dict[str, HeadConfig]:
    """Return the heads that are `None` in `known`; labels and task are inferred from the rows where not given.

    Raises:
        ValueError: No dataset has the column of a head, or its settings are wrong.
    """
    settings = {name: head_settings(run.heads[name]) for name, head in known.items() if head is None}
    known_readings, for_all = said_readings(known, args.reading), separator_for_all(known, args.reading)
    readings = {
        name: replace(known_readings[name], column=known_readings[name].column or name)
        for name, values in settings.items()
        if "labels" not in values
    }
    heads = {}
    for name, head in _inferred(rows, readings, for_all).items():
        inferred: dict[str, Any] = {"labels": head.labels, "problem_type": head.problem_type, "reading": head.reading}
        if "problem_type" not in settings[name]:
            inferred |= {"loss": head.loss, "loss_kwargs": head.loss_kwargs}
        settings[name] = {**inferred, **settings[name]}
    for name, options in settings.items():
        try:
            heads[name] = HeadConfig(**options)
        except (ValueError, TypeError) as error:
            raise ValueError(f"heads.{name}: {error}") from None
    return heads


def _inferred(
    rows: AnyDataset | Mapping[str, AnyDataset], readings: Mapping[str, LabelReading], for_all: Collection[str]
) -> dict[str, HeadConfig]:
    """Infer heads from the rows; with several datasets, each head from all that have its columns.

    Raises:
        ValueError: No dataset has the columns of a head, or a column has types that do not fit together.
    """
    if not isinstance(rows, dict):
        return heads_off(rows, readings, for_all)
    groups: dict[tuple[str, ...], list[str]] = {}  # datasets → the heads whose columns they have
    for name, reading in readings.items():
        wanted = column_names(reading.column or name)
        having = tuple(dataset for dataset, source in rows.items() if {*wanted} <= {*source.column_names})
        if not having:
            raise ValueError(f"heads.{name}: none of the datasets {list(rows)} has the columns {wanted}")
        groups.setdefault(having, []).append(name)
    heads: dict[str, HeadConfig] = {}
    for having, names in groups.items():
        columns = dict.fromkeys(column for name in names for column in column_names(readings[name].column or name))
        tables = [rows[dataset].select_columns(list(columns)) for dataset in having]
        if any(table.features != tables[0].features for table in tables):
            tables = list(map(_with_names, tables))
        table = tables[0] if len(tables) == 1 else joined(tables, having)
        heads |= heads_off(table, {name: readings[name] for name in names}, for_all)
    return {name: heads[name] for name in readings}


def _with_names(table: Dataset) -> Dataset:
    """Return a table with the names of `ClassLabel` columns, to be joined with columns of other types."""
    for column, feature in table.features.items():
        if isinstance(feature, ClassLabel):
            names = [None if value in (None, -1) else feature.int2str(value) for value in table[column][:]]
            table = table.add_column(f"{column} names", names).remove_columns(column)
            table = table.rename_column(f"{column} names", column)
    return table
