"""From raw rows to prepared ones: text → tokens, label values → ids or multi-hot, missing → the missing mark."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, List, Value
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..model.configuration_multihead import HeadsLike, MultiHeadConfig
from ..model.head_multihead import HeadConfig, near_names, one_of
from ..model.losses_multihead import MISSING
from ..model.modeling_multihead import MultiHeadModel, config_of, heads_of
from ..model.pipeline_multihead import encode_texts, text_settings, token_limit
from .heads import (
    EMPTY,
    check_column,
    check_label_column,
    check_separators,
    class_name,
    feature_of,
    features_of,
    is_list,
    is_missing,
    is_multi_hot,
    is_text,
    split_joined,
)
from .sources import in_part, read_dataset

logger = logging.get_logger(__name__)

WEIGHT = "sample_weight"
_CELLS = {0: 0.0, 1: 1.0, None: float(MISSING)}
_CUT = "was_cut"  # whether a text was cut; counted, and not kept


def prepare_dataset(
    dataset: Any,
    tokenizer: PreTrainedTokenizerBase,
    heads: MultiHeadModel | MultiHeadConfig | HeadsLike,
    *,
    text_columns: str | Sequence[str] | None = None,
    label_columns: Mapping[str, str | Sequence[str]] | None = None,
    max_length: int | None = None,
    multi_hot: bool = False,
    sep: str | Mapping[str, str] | None = None,
    empty: str = "missing",
    require_labels: bool = True,
    num_proc: int | None = None,
    name: str | None = None,
) -> Any:
    """Tokenise texts and encode labels, for `MultiHeadDataCollator`.

    Args:
        dataset: rows with a text column (two for text pairs) and a column for some or all heads, or files of them, as
            `read_dataset` takes.
        tokenizer: the encoder's tokenizer.
        heads: the model or its configuration (then also its `max_length`, `text_columns` and `text_prefix` count), or
            the heads by name.
        text_columns: one or two columns; by default the configuration's, else `"text"`.
        label_columns: head → column, or → columns, one for each label. By default the column with the head's name, or
            with `_labels` or `_label` after it, or the columns named after the labels of a multi-label head; a head
            without a column is not labelled in this dataset.
        max_length: tokens after which a text is cut; by default the configuration's, else the tokenizer's limit.
        multi_hot: whether lists of integers are 0/1 for each label, instead of label ids.
        sep: what joins the labels of multi-label heads in strings, for all of them, or head → separator.
        empty: whether an empty joined string is `"missing"`, or `"none"` of the labels.
        require_labels: refuse a dataset without a column for any head; `False` for texts to predict.
        num_proc: processes; not for streams.
        name: what to call these rows in messages.

    Returns:
        a dataset of the kind given, its rows with `input_ids`, `attention_mask` and what else the tokenizer gives,
        `length` (tokens; with windows of the longest one), and `labels`: a dict with every head → id (single-label),
        list of 0/1 with −100 in unknown cells (multi-label), or `None` (not labelled); and `sample_weight` where the
        dataset has that column. How many texts were cut is logged, as a warning where any was.

    Raises:
        ValueError: an empty dataset, a missing column, a text that is not a string, or a label that is not the head's;
            names head, column and row.
    """
    source = read_dataset(dataset)
    if isinstance(source, Mapping):
        options: dict[str, Any] = {
            "text_columns": text_columns,
            "label_columns": label_columns,
            "max_length": max_length,
            "multi_hot": multi_hot,
            "sep": sep,
            "empty": empty,
            "require_labels": require_labels,
            "num_proc": num_proc,
        }
        parts: dict[str, Any] = {}
        for part, rows in source.items():
            with in_part(part):
                named = f"{name} {part!r}" if name else part
                parts[part] = prepare_dataset(rows, tokenizer, heads, name=named, **options)
        return IterableDatasetDict(parts) if isinstance(source, IterableDatasetDict) else DatasetDict(parts)
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length {max_length}: give a whole number above 0")
    config = config_of(heads)
    by_name = heads_of(heads)
    head_row = list(source.with_format(None).take(1))
    if not head_row:
        raise ValueError("the dataset is empty: there is no row to prepare")
    given = features_of(source)
    texts = find_text_columns(given, text_columns or (config and config.text_columns))
    reading = Reading(multi_hot, sep, one_of("empty", empty, EMPTY))
    encoders = label_encoders(given, by_name, label_columns, require_labels, reading)
    if max_length is None:
        max_length = token_limit(config, tokenizer)
    options = {"max_length": max_length, **text_settings(config)}
    truncation = options.get("truncation", "tail")

    def prepare(batch: dict[str, list], rows: list[int]) -> dict[str, list]:
        for column in texts:
            _check_texts(batch[column], column, rows)
        encoded, cut = encode_texts(tokenizer, *(batch[column] for column in texts), **options)
        lengths = [max(map(len, ids)) if truncation == "windows" else len(ids) for ids in encoded["input_ids"]]
        # every head of the model, so that mixed datasets have equal columns
        columns = {name: encoders[name].encode(batch, rows) if name in encoders else None for name in by_name}
        labels = [
            {name: None if values is None else values[i] for name, values in columns.items()} for i in range(len(rows))
        ]
        prepared = {**encoded, "length": lengths, "labels": labels, _CUT: cut}
        if WEIGHT in given:
            prepared[WEIGHT] = [_weight(value, row) for value, row in zip(batch[WEIGHT], rows, strict=True)]
        return prepared

    try:
        return _prepared(source, prepare, head_row[0], given, by_name, truncation, num_proc, max_length, name)
    except UnknownLabel as error:
        if not isinstance(source, Dataset):
            raise
        raise ValueError(f"{error}{_further_unknown(source, encoders[error.head], error.label)}") from None


def _prepared(
    source: Any,
    prepare: Callable[[dict[str, list], list[int]], dict[str, list]],
    row: Mapping[str, Any],
    given: Features,
    heads: Mapping[str, HeadConfig],
    truncation: str,
    num_proc: int | None,
    max_length: int | None,
    name: str | None,
) -> Any:
    """`source` with `prepare` mapped over it; `row` is its first one, `given` its columns."""
    first = prepare({column: [row.get(column)] for column in given}, [0])
    tokens = List(List(Value("int64"))) if truncation == "windows" else List(Value("int64"))
    features = Features({key: tokens for key in first if key not in ("length", "labels", WEIGHT, _CUT)})
    features[_CUT] = Value("bool")
    if WEIGHT in first:
        features[WEIGHT] = Value("float32")
    features["length"] = Value("int64")
    features["labels"] = {
        key: List(Value("float32")) if head.multi_label else Value("int64") for key, head in heads.items()
    }
    table_options = {} if isinstance(source, IterableDataset) else {"num_proc": num_proc, "desc": "Preparing"}
    done = source.with_format(None).map(
        prepare, batched=True, with_indices=True, remove_columns=list(given), features=features, **table_options
    )
    if isinstance(done, Dataset):
        _report_cut_texts(sum(done[_CUT]), len(done), max_length, truncation, name)
    return done.remove_columns(_CUT)


def _report_cut_texts(cut: int, rows: int, max_length: int | None, truncation: Any, name: str | None) -> None:
    what = f"{name}: " if name else ""
    if max_length is None:
        return
    if not cut:
        logger.info(f"{what}none of {rows:,} texts is longer than {max_length} tokens")
        return
    limit = f"{max_length} tokens"
    advice = "A higher max_length keeps more of them, truncation='head+tail' their ends, 'windows' more at more cost"
    if truncation == "windows":
        limit = f"the windows of {limit}"
        advice = "A higher max_windows keeps more of them"
    logger.warning(
        f"{what}{cut:,} of {rows:,} texts ({cut / rows:.1%}) are longer than {limit} and were cut "
        f"(truncation={truncation!r}). {advice}"
    )


def _weight(value: Any, row: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"row {row}, column {WEIGHT!r}: {value!r} is not a number of 0 or more")
    return float(value)


def find_text_columns(features: Features, columns: str | Sequence[str] | None) -> list[str]:
    """The one or two text columns.

    Raises:
        ValueError: they do not exist or are not text; says which columns are.
    """
    names = [columns] if isinstance(columns, str) else list(columns or ["text"])
    strings = [name for name, feature in features.items() if is_text(feature)]
    for name in names:
        if name not in features:
            raise ValueError(
                f"there is no text column {name!r}.{near_names(name, features)} Columns: {list(features)}; columns of "
                f"text: {strings}. Name yours with text_columns=[...]"
            )
        if name not in strings:
            raise ValueError(f"text column {name!r} is not text but {features[name]}; columns of text: {strings}")
    if len(names) > 2:
        raise ValueError(f"text_columns {names}: give one column, or two for text pairs")
    return names


def _check_texts(texts: Sequence[Any], column: str, rows: Sequence[int]) -> None:
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(text, str):
            raise ValueError(
                f"row {row}, column {column!r}: the text is {text!r}; every row needs a text (it may be empty: '')"
            )


class Reading(NamedTuple):
    """How values are read that do not say it themselves; see `prepare_dataset`."""

    multi_hot: bool = False
    sep: str | Mapping[str, str] | None = None
    empty: str = "missing"

    def joined_by(self, name: str) -> str | None:
        return self.sep.get(name) if isinstance(self.sep, Mapping) else self.sep


class LabelEncoder(NamedTuple):
    """Turns the values of a label column, or of a column for each label, into a head's targets."""

    name: str
    head: HeadConfig
    column: str | list[str]
    feature: Any  # of the values, also those in lists
    ids: dict[str, int]
    reading: Reading

    def encode(self, batch: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> list[int | list[float] | None]:
        """Targets of a batch of columns; `None` where a row is not labelled.

        Raises:
            ValueError: a value that is not one of the head's labels; names head, column and row.
        """
        if not isinstance(self.column, str):
            cells = zip(*(batch[label] for label in self.head.labels), strict=True)
            return [self._label_columns(own, row) for own, row in zip(cells, rows, strict=True)]
        values = batch[self.column]
        sep = self.reading.joined_by(self.name)
        if self.head.multi_label and (is_text(self.feature) or self.feature.dtype == "null") and sep is not None:
            values = [
                split_joined(value, sep, self.reading.empty) if value is None or isinstance(value, str) else value
                for value in values
            ]
        encode_row = self._multi_label if self.head.multi_label else self._single_label
        if not self.head.multi_label:
            values = [None if isinstance(value, str) and not value else value for value in values]
        return [None if is_missing(value) else encode_row(value, row) for value, row in zip(values, rows, strict=True)]

    def _label_columns(self, cells: Sequence[Any], row: int) -> list[float] | None:
        if all(is_missing(cell) for cell in cells):
            return None
        return self._multi_hot(cells, row)

    def _single_label(self, value: Any, row: int) -> int:
        if isinstance(value, (list, tuple)):
            raise self._error(row, f"{value!r} is a list, and this single-label head takes one label a row")
        if isinstance(self.feature, ClassLabel):
            if value == -1:
                return MISSING  # how datasets marks a missing class
            value = self.feature.int2str(value)
        return self._id(class_name(value), row)

    def _multi_label(self, value: Any, row: int) -> list[float]:
        if not isinstance(value, (list, tuple)):
            raise self._error(
                row,
                f"{value!r} is one label, and this multi-label head takes a list of labels (or a string, with sep=)",
            )
        if not isinstance(self.feature, ClassLabel) and self._says_cells(value):
            return self._multi_hot(value, row)
        targets = [0.0] * self.head.num_labels
        for label in value:
            if is_missing(label):
                raise self._error(row, f"{value!r} holds a missing label; leave it out, or leave the whole list out")
            label_id = self._label_id(label, row)
            if targets[label_id] and not isinstance(label, str):
                raise self._error(
                    row,
                    f"label id {label} is given twice in {value!r}; for lists of 0/1 say multi_hot=True",
                )
            targets[label_id] = 1.0
        return targets

    def _says_cells(self, value: Sequence[Any]) -> bool:
        """Whether a list is 0/1 for each label; where the column's type is not known, its own values tell."""
        if self.feature.dtype != "null":
            return is_multi_hot(self.feature, self.reading.multi_hot)
        known = [cell for cell in value if not is_missing(cell)]
        counts = self.reading.multi_hot and all(isinstance(cell, int) for cell in known)
        return bool(known) and (counts or all(isinstance(cell, (bool, float)) for cell in known))

    def _label_id(self, label: Any, row: int) -> int:
        if isinstance(self.feature, ClassLabel):
            if not 0 <= label < self.feature.num_classes:
                raise self._error(
                    row, f"class {label} is out of range: the column has {self.feature.num_classes} classes"
                )
            return self._id(self.feature.int2str(label), row)
        if isinstance(label, str):
            return self._id(label, row)
        if not 0 <= label < self.head.num_labels:
            last = self.head.num_labels - 1
            raise self._error(row, f"label id {label} is out of range: the head's ids are 0 to {last}")
        return int(label)

    def _multi_hot(self, cells: Sequence[Any], row: int) -> list[float]:
        if len(cells) != self.head.num_labels:
            raise self._error(
                row, f"a multi-hot list of {len(cells)} cells, and the head has {self.head.num_labels} labels"
            )
        with contextlib.suppress(KeyError):  # nearly always
            return [_CELLS[cell] for cell in cells]
        targets = [float(MISSING) if is_missing(cell) else float(cell) for cell in cells]
        for label, target in zip(self.head.labels, targets, strict=True):
            if target != MISSING and not 0.0 <= target <= 1.0:
                raise self._error(row, f"cell {label!r} is {target}; cells are 0, 1, between them (soft), or None")
        return targets

    def _id(self, label: str, row: int) -> int:
        if label not in self.ids:
            known = ", ".join(repr(name) for name in self.head.labels[:8]) + (", …" if self.head.num_labels > 8 else "")
            near = near_names(label, self.head.labels)
            problem = f"{label!r} is not one of the head's {self.head.num_labels} labels.{near} Labels: {known}"
            raise UnknownLabel(str(self._error(row, problem)), label, self.name)
        return self.ids[label]

    def _error(self, row: int, problem: str) -> ValueError:
        return ValueError(f"head {self.name!r}, column {self.column!r}, row {row}: {problem}")


class UnknownLabel(ValueError):
    """A label that the head does not have.

    Args:
        message: names head, column and row.
        label: that it is.
        head: its name.
    """

    def __init__(self, message: str, label: str, head: str) -> None:
        super().__init__(message, label, head)  # all of them: processes send it to each other
        self.label, self.head = label, head

    def __str__(self) -> str:
        return str(self.args[0])


class _AnyLabel(dict[str, int]):
    """Ids that never lack a label; notes those that they do not have."""

    def __init__(self, known: Mapping[str, int]) -> None:
        super().__init__(known)
        self.unknown: set[str] = set()

    def __contains__(self, label: object) -> bool:
        return True

    def __missing__(self, label: str) -> int:
        self.unknown.add(label)
        return 0


def _further_unknown(rows: Any, encoder: LabelEncoder, first: str) -> str:
    """What the message says of all the labels that the head does not have."""
    counts: dict[str, int] = {}
    columns = [encoder.column] if isinstance(encoder.column, str) else encoder.column
    for place, row in enumerate(rows.select_columns(columns).with_format(None)):
        ids = _AnyLabel(encoder.ids)
        try:
            encoder._replace(ids=ids).encode({column: [row[column]] for column in columns}, [place])
        except ValueError:
            continue  # of another kind: the first error is the one that is told
        for label in ids.unknown:
            counts[label] = counts.get(label, 0) + 1
    others = sorted((label for label in counts if label != first), key=lambda label: (-counts[label], label))
    found = f". {counts.get(first, 0):,} of {len(rows):,} rows have it"
    if not others:
        return f"{found}."
    shown = ", ".join(repr(label) for label in others[:10]) + (", …" if len(others) > 10 else "")
    return f"{found}; {len(others):,} other labels are not the head's, too: {shown}."


def label_encoders(
    features: Features,
    heads: Mapping[str, HeadConfig],
    label_columns: Mapping[str, str | Sequence[str]] | None = None,
    require_labels: bool = True,
    reading: Reading | None = None,
) -> dict[str, LabelEncoder]:
    """Head → encoder, for the heads that have a column.

    Raises:
        ValueError: a named column or head does not exist, a column cannot be this head's, or no head has a column.
    """
    encoders: dict[str, LabelEncoder] = {}
    reading = reading or Reading()
    check_separators(reading.sep, heads)
    for name in label_columns or {}:
        if name not in heads:
            raise ValueError(
                f"label_columns: the model has no head {name!r}.{near_names(name, heads)} Heads: {list(heads)}"
            )
    for name, head in heads.items():
        column = _label_column(features, name, heads, label_columns)
        if column is None:
            continue
        ids = {label: i for i, label in enumerate(head.labels)}
        if not isinstance(column, str):
            encoders[name] = LabelEncoder(name, head, column, None, ids, reading)
            continue
        feature = feature_of(features, column, f"head {name!r}")
        empty = not is_list(features[column]) and feature.dtype == "null"  # no row is labelled
        joined = head.multi_label and is_text(features[column]) and reading.joined_by(name) is not None
        if is_list(features[column]) != head.multi_label and not empty and not joined:
            kind = "lists" if is_list(features[column]) else "one label a row"
            expected = "a list of labels" if head.multi_label else "one label"
            if head.multi_label and is_text(features[column]):
                expected += " (for strings of several labels say what joins them: sep='|')"
            raise ValueError(
                f"head {name!r}, column {column!r}: the column holds {kind}, and this {head.problem_type} head takes "
                f"{expected} in each row"
            )
        encoders[name] = LabelEncoder(name, head, column, feature, ids, reading)
    if not encoders and require_labels:
        raise ValueError(
            f"no column holds labels of the heads {list(heads)}: columns are {list(features)}. A head's column has its "
            "name (or its name and '_labels'); name others with label_columns={head: column}"
        )
    unlabelled = [name for name in heads if name not in encoders]
    if unlabelled and require_labels:
        logger.warning(
            f"no column for the heads {unlabelled}: they are not labelled in this dataset. Columns: {list(features)}. "
            "If one of them holds the labels, name it with label_columns={head: column}"
        )
    return encoders


def _label_column(
    features: Features,
    name: str,
    heads: Mapping[str, HeadConfig],
    label_columns: Mapping[str, str | Sequence[str]] | None,
) -> str | list[str] | None:
    """The column of a head's labels, or those of each label in the order given."""
    head, given = heads[name], (label_columns or {}).get(name)
    if given is None:
        others = [column for column in (f"{name}_labels", f"{name}_label") if column not in heads]
        named = [column for column in (name, *others) if column in features]
        if named or not head.multi_label or not set(head.labels) <= set(features):
            return named[0] if named else None
        given = head.labels
    what = f"head {name!r}"
    if isinstance(given, str):
        check_column(features, given, what)
        return given
    columns = list(given)
    for column in columns:
        check_column(features, column, what)
        check_label_column(features, column, what)
    if set(columns) != set(head.labels) or not head.multi_label:
        raise ValueError(
            f"{what}: a list of columns has one for each label of a multi-label head; its labels are {head.labels}, "
            f"and the columns {columns}"
        )
    return columns
