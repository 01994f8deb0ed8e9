"""Options that commands share, and their values."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from ..utils.messages import near_names
from .expansion import library

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from ..data.rows_like import AnyDataset
    from ..model.configuration_multihead import MultiHeadConfig

NAME = "multihead-hf"

DataArgument = Annotated[
    list[str],
    typer.Argument(
        help="Files (CSV, TSV, JSON, JSON Lines, Parquet, Arrow, Excel), a glob, a folder, or a dataset on the Hub."
    ),
]
ModelArgument = Annotated[str, typer.Argument(help="A saved multi-head model: a folder, or a name on the Hub.")]
LabelColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A column of labels, once for each head. NAME=COLUMN gives the head another name; NAME=COLUMN,COLUMN is a "
        "head with one column per label."
    ),
]
TextColumnOption = Annotated[
    list[str] | None,
    typer.Option(help="Column of the text; give it twice for text pairs. Default: that of the model, else text."),
]
SepOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Separator between the labels in a cell, such as '|'; for one head NAME=|, where NAME is its "
        "--label-column. Without it (or one that the model remembers) each cell is one label."
    ),
]
EmptyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[missing|none]",
        help="What an empty cell of joined labels means: the row is not labelled (missing), or none of the labels "
        "applies (none); for one head NAME=none. Default: that of the model; without a model it has to be given.",
    ),
]
MultiHotOption = Annotated[
    bool | None,
    typer.Option(
        "--multi-hot/--no-multi-hot",
        help="Lists of integers hold 0 or 1 for each label, or label ids. Default: that of the model; without a model, "
        "as the values allow.",
    ),
]
FileOptions = Annotated[dict[str, Any], library("read_dataset", "delimiter", "encoding")]
SplitOption = Annotated[
    str | None, typer.Option(help="Which split of a folder or Hub dataset. Default: test, else validation.")
]
BatchSizeOption = Annotated[int, typer.Option(help="Number of texts that are read at a time.", min=1)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of tables.")]
OverwriteFolderOption = Annotated[bool, typer.Option("--overwrite", help="Also write into a folder that is not empty.")]


class Report(Protocol):
    """A result that prints as tables."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""


def show(report: Report, as_json: bool) -> None:
    """Print a report as tables, or as plain values."""
    print(as_text(report.to_dict()) if as_json else report)


def as_text(values: object) -> str:
    """Return plain values as readable JSON."""
    return json.dumps(values, ensure_ascii=False, indent=2)


def check_folder(model: str) -> None:
    """Check that the model is a local folder.

    Raises:
        ValueError: If the model is on the Hub, where it cannot be changed from here.
    """
    if not os.path.isdir(model):
        raise ValueError(
            f"{model} is not a local folder: download the model or save it to a folder, and change it there"
        )


@dataclass
class TableOptions:
    """How the texts and labels of a table are read."""

    label_column: LabelColumnOption = None
    text_column: TextColumnOption = None
    sep: SepOption = None
    empty: EmptyOption = None
    multi_hot: MultiHotOption = None

    def columns(self) -> dict[str, str | list[str]]:
        """Return head → column or columns.

        Raises:
            BadParameter: If an option is not of a known form.
        """
        return label_columns(self.label_column or [])

    def options(self, heads: list[str]) -> dict[str, Any]:
        """Return how labels are read, without the columns.

        Raises:
            BadParameter: If an option is for none of the heads, or has a wrong value.
        """
        return label_options(self.sep, self.empty, self.multi_hot, heads)


@dataclass
class LabelOptions(TableOptions):
    """How the rows are read that a model is applied to."""

    batch_size: BatchSizeOption = 32

    def reading(self, config: "MultiHeadConfig") -> dict[str, Any]:
        """Return how rows are read, in the form of `MultiHeadTrainingArguments`.

        Raises:
            BadParameter: If an option is for a head that the model does not have.
        """
        columns = self.columns()
        for name in columns:
            check_head(name, list(config.heads), "--label-column")
        return {
            "text_columns": self.text_column,
            "label_columns": columns or None,
            **self.options(list(config.heads)),
            "per_device_eval_batch_size": self.batch_size,
        }


def read(
    data: Sequence[str], files: Mapping[str, Any], heads: Mapping[str, Any], reading: Mapping[str, Any]
) -> "AnyDataset":
    """Return the rows of files or of a dataset on the Hub, perhaps in several splits.

    Args:
        data: files or names as they were typed.
        files: how the files are read, from `FileOptions`.
        heads: the heads by name.
        reading: how the labels are read.

    Raises:
        ValueError: If the rows cannot be read.
    """
    from .. import read_dataset
    from ..data.reading import string_columns

    return read_dataset(data[0] if len(data) == 1 else list(data), strings=string_columns(heads, reading), **files)


def read_part(
    data: Sequence[str],
    files: Mapping[str, Any],
    heads: Mapping[str, Any],
    reading: Mapping[str, Any],
    split: str | None = None,
    parts: Sequence[str] = ("test", "validation"),
) -> "Dataset | IterableDataset":
    """Return the rows as `read` does; of several splits those of `split`, else of the first of `parts` that exists.

    Raises:
        ValueError: If the rows cannot be read, the split does not exist, or it is not clear which split is meant.
    """
    from ..data.sources import one_part

    return one_part(read(data, files, heads, reading), split, parts)


def warn_of_training_rows(model: str, data: Sequence[str], split: str | None) -> None:
    """Warn if rows are of the table that `multihead-hf train` trained the model on.

    Args:
        model: a saved model.
        data: files or names as they were typed.
        split: the split of them that is evaluated.
    """
    from ..training.table_run import trained_on

    names = trained_on(model, split)
    shared = [name for name in data if os.path.realpath(name) in names]
    if shared:
        print(
            f"{NAME}: the model was trained on rows of {shared[0]}, so scores on them are optimistic; those of the "
            f"test rows are in {os.path.join(model, 'README.md')}",
            file=sys.stderr,
        )


def label_options(
    sep: list[str] | None, empty: list[str] | None, multi_hot: bool | None, heads: list[str]
) -> dict[str, Any]:
    """Return how labels are read, in the form of `ReadingOptions` without the columns.

    Raises:
        BadParameter: If an option is for a head that does not exist, or has an invalid value.
    """
    return {
        "sep": separators(sep or [], heads),
        "empty": empty_cells_of(empty or [], heads),
        "multi_hot": multi_hot,
    }


def label_columns(options: list[str]) -> dict[str, str | list[str]]:
    """Return head → column or columns, from `NAME`, `NAME=COLUMN` and `NAME=COLUMN,COLUMN`."""
    columns: dict[str, str | list[str]] = {}
    for option in options:
        name, equals, column = option.partition("=")
        if not name or (equals and not column):
            raise typer.BadParameter(
                f"{option!r}: give COLUMN, NAME=COLUMN or NAME=COLUMN,COLUMN", param_hint="--label-column"
            )
        if name in columns:
            raise typer.BadParameter(f"the head {name!r} is given twice", param_hint="--label-column")
        columns[name] = column.split(",") if "," in column else column or name
    return columns


def check_head(name: str, heads: list[str], option: str) -> None:
    """Check that the head exists.

    Raises:
        BadParameter: If it is not one of the heads; the message suggests similar names.
    """
    if name not in heads:
        raise typer.BadParameter(
            f"there is no head {name!r}.{near_names(name, heads)} Heads: {heads} (a head has the name given in "
            "--label-column, or in the model)",
            param_hint=option,
        )


def empty_cells_of(options: list[str], heads: list[str]) -> str | dict[str, str] | None:
    """Return `missing` or `none` for all heads, or head → word, from one word or several `NAME=WORD`.

    Raises:
        BadParameter: If the word is unknown, a head does not exist, or several words are for all heads.
    """
    if not options:
        return None
    named = {}
    for option in options:
        name, equals, word = option.rpartition("=")
        if word not in ("missing", "none"):
            hint = near_names(word, ("missing", "none"), 0.5)
            raise typer.BadParameter(f"{option!r}: give missing or none, or NAME=none.{hint}", param_hint="--empty")
        if equals:
            check_head(name, heads, "--empty")
            named[name] = word
    if named and len(named) == len(options):
        return named
    if len(options) > 1:
        raise typer.BadParameter("give one word, or NAME=missing or NAME=none for each head", param_hint="--empty")
    return options[0]


def separators(options: list[str], heads: list[str]) -> str | dict[str, str] | None:
    """Return one separator for all heads, or head → separator, from `SEP` or several `NAME=SEP`.

    Raises:
        BadParameter: If a name before `=` is not that of a head, or several separators are for all heads.
    """
    for option in options:
        if option.endswith("=") and option[:-1] in heads:
            raise typer.BadParameter(
                f'{option!r}: there is no separator after the =. Some need quotes: "{option};"', param_hint="--sep"
            )
    named = {name: sep for name, equals, sep in (option.partition("=") for option in options) if equals and sep}
    for name in named:
        if name.isidentifier() or near_names(name, heads):
            check_head(name, heads, "--sep")
    if len(named) == len(options) and set(named) <= set(heads):
        return named or None
    if len(options) > 1:
        raise typer.BadParameter("give one separator, or NAME=SEP for each head", param_hint="--sep")
    return options[0]
