"""Preparation of rows: texts become tokens, labels become ids or multi-hot lists."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, List, Value
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..model.configuration_multihead import HeadsLike, MultiHeadConfig
from ..model.head_multihead import HeadConfig
from ..model.modeling_multihead import MultiHeadModel, config_of, heads_of
from ..model.truncation_multihead import check_vocabulary, encode_texts, text_settings, token_limit
from ..model.values_multihead import relative_weight
from .columns import column_hint, features_of, is_text
from .labels import LabelEncoder, label_encoders
from .reading import ReadingOptions, check_keywords, column_names, said_readings, string_columns
from .record import keep_record
from .rows_like import AnyDataset, RowsLike
from .sources import column_batches, in_part, read_dataset
from .unknown_labels import UnknownLabel, further_unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.get_logger(__name__)

WEIGHT = "sample_weight"
_CUT = "was_cut"  # whether a text was truncated; counted, then removed
_EMPTY = "is_empty"  # whether a text is empty or blank; also counted, then removed


def prepare_dataset(
    dataset: RowsLike,
    tokenizer: PreTrainedTokenizerBase,
    heads: MultiHeadModel | MultiHeadConfig | HeadsLike,
    *,
    text_columns: str | Sequence[str] | None = None,
    max_length: int | None = None,
    require_labels: bool = True,
    num_proc: int | None = None,
    name: str | None = None,
    **options: "Unpack[ReadingOptions]",
) -> AnyDataset:
    """Tokenise texts and encode labels, for `MultiHeadDataCollator`.

    Args:
        dataset: rows with a text column (two for text pairs) and a column for some or all heads, or files of them, as
            `read_dataset` takes.
        tokenizer: tokenizer of the encoder.
        heads: the model or its configuration (then its `max_length`, `text_columns` and `text_prefix` apply too), or
            the heads by name.
        text_columns: one or two columns; by default those of the configuration, else `"text"`.
        max_length: maximum number of tokens per text; longer texts are truncated. By default that of the configuration,
            else the limit of the tokenizer.
        require_labels: whether a dataset without a column for any head is refused; `False` for texts to predict.
        num_proc: number of processes; not for streams.
        name: name of these rows in messages.
        options: how labels are read; each is a value for all heads, or a dict head → value, and what is not given is as
            the head remembers it (`HeadConfig.reading`). `label_columns`: the column, or a list of columns, one for
            each label; by default the column with the head's name, or with `_labels` or `_label` after it, or the
            columns named after the labels of a multi-label head; a head without a column is unlabelled in this dataset.
            `sep`: the separator between the labels in a cell (`"roads|noise"`). `empty`: what an empty cell of such a
            column means, `"missing"` (unlabelled) or `"none"` (no label applies); required where there is such a cell,
            and for columns of one label each where no cell is 0.
            `multi_hot`: whether lists of integers hold 0 or 1 for each label, or label ids; required where they hold 0
            and 1 only and are of one length. `reading`: a dict head → `LabelReading`.

    Returns:
        A dataset of the type given, whose rows have `input_ids`, `attention_mask` and the other outputs of the
        tokenizer, `length` (in tokens; with windows that of the longest window), and `labels`: a dict with every head →
        id (single-label), list of 0/1 with −100 in unknown cells (multi-label), or `None` (unlabelled); and
        `sample_weight` where the dataset has that column. The number of truncated texts is logged, as a warning if it
        is above 0.

    Raises:
        ValueError: If the dataset is empty, a column is missing, a text is not a string, or a label is not one of the
            head's; the message contains the head, column and row.

    Example:
        >>> from multihead_hf import MultiHeadModel, prepare_dataset
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> rows = prepare_dataset("complaints.csv", AutoTokenizer.from_pretrained("complaints"), model)
        >>> len(rows), sorted(rows[0]["labels"])
        (40, ['mood', 'topics'])
    """
    check_keywords(options, prepare_dataset)
    by_name = heads_of(heads)
    source = read_dataset(dataset, strings=string_columns(by_name, options))
    if isinstance(source, Mapping):
        parts: dict[str, Any] = {}
        for part, rows in source.items():
            with in_part(part):
                parts[part] = prepare_dataset(
                    rows,
                    tokenizer,
                    heads,
                    text_columns=text_columns,
                    max_length=max_length,
                    require_labels=require_labels,
                    num_proc=num_proc,
                    name=f"{name} {part!r}" if name else part,
                    **options,
                )
        return IterableDatasetDict(parts) if isinstance(source, IterableDatasetDict) else DatasetDict(parts)
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length {max_length}: give a whole number above 0")
    config = config_of(heads)
    head_row = list(source.with_format(None).take(1))
    if not head_row:
        raise ValueError("the dataset is empty: there is no row to prepare")
    features = features_of(source)
    texts = find_text_columns(features, text_columns or (config and config.text_columns))
    encoders = label_encoders(source, by_name, options, require_labels, features)
    if not require_labels:  # (a text column may have the name of a head without being its labels)
        named = {head for head, reading in said_readings(by_name, options).items() if reading.column is not None}
        encoders = {head: encoder for head, encoder in encoders.items() if head in named or encoder.column not in texts}
    check_text_is_no_label(encoders, texts)
    if config is not None:
        check_vocabulary(config, tokenizer)
    if max_length is None:
        max_length = token_limit(config, tokenizer)
    settings = {"max_length": max_length, **text_settings(config)}
    truncation = settings.get("truncation", "tail")

    def prepare(batch: dict[str, list], rows: list[int]) -> dict[str, list]:
        for column in texts:
            _check_texts(batch[column], column, rows)
        encoded, cut = encode_texts(tokenizer, *(batch[column] for column in texts), **settings)
        lengths = [max(map(len, ids)) if truncation == "windows" else len(ids) for ids in encoded["input_ids"]]
        # every head of the model, so that mixed datasets have equal columns
        columns = {name: encoders[name].encode(batch, rows) if name in encoders else None for name in by_name}
        labels = [
            {name: None if values is None else values[i] for name, values in columns.items()} for i in range(len(rows))
        ]
        empty = [not any(map(str.strip, parts)) for parts in zip(*(batch[column] for column in texts), strict=True)]
        prepared = {**encoded, "length": lengths, "labels": labels, _CUT: cut, _EMPTY: empty}
        if WEIGHT not in features and WEIGHT in batch:
            raise ValueError(
                f"the rows {rows[0]} to {rows[-1]} of the stream have the column {WEIGHT!r}, unlike the first rows: "
                "give it to every row"
            )
        if WEIGHT in features:
            prepared[WEIGHT] = [_weight(value, row) for value, row in zip(batch[WEIGHT], rows, strict=True)]
        return prepared

    try:
        done = _prepared(source, prepare, head_row[0], features, by_name, truncation, num_proc, max_length, name)
        keep_record(done, by_name, tokenizer, texts, settings)
        return done
    except UnknownLabel as error:
        if not isinstance(source, Dataset):
            raise
        raise ValueError(f"{error}{further_unknown(source, encoders[error.head], error.label)}") from None


def _prepared(
    source: Dataset | IterableDataset,
    prepare: Callable[[dict[str, list], list[int]], dict[str, list]],
    row: Mapping[str, Any],
    columns: Features,
    heads: Mapping[str, HeadConfig],
    truncation: str,
    num_proc: int | None,
    max_length: int | None,
    name: str | None,
) -> Dataset | IterableDataset:
    """Map `prepare` over `source`, of which `row` is the first row and `columns` are the columns."""
    first = prepare({column: [row.get(column)] for column in columns}, [0])
    tokens = List(List(Value("int64"))) if truncation == "windows" else List(Value("int64"))
    features = Features({key: tokens for key in first if key not in ("length", "labels", WEIGHT, _CUT, _EMPTY)})
    features |= {_CUT: Value("bool"), _EMPTY: Value("bool")}
    if WEIGHT in first:
        features[WEIGHT] = Value("float32")
    features["length"] = Value("int64")
    features["labels"] = {
        key: List(Value("float32")) if head.multi_label else Value("int64") for key, head in heads.items()
    }
    table_options = {} if isinstance(source, IterableDataset) else {"num_proc": num_proc, "desc": "Preparing"}
    done = source.with_format(None).map(
        prepare, batched=True, with_indices=True, remove_columns=list(columns), features=features, **table_options
    )
    if isinstance(done, Dataset):
        _report_cut_texts(sum(done[_CUT]), len(done), max_length, truncation, name)
        _warn_of_empty_texts(done[_EMPTY], name)
    return done.remove_columns([_CUT, _EMPTY])


def _warn_of_empty_texts(empty: Sequence[bool], name: str | None) -> None:
    if count := sum(empty):
        logger.warning(
            f"{name + ': ' if name else ''}{count:,} of {len(empty):,} texts are empty (the first of them is row "
            f"{list(empty).index(True):,} of these) and count like any other text: leave them out if they should not"
        )


def _report_cut_texts(cut: int, rows: int, max_length: int | None, truncation: str, name: str | None) -> None:
    what = f"{name}: " if name else ""
    if max_length is None:
        return
    if not cut:
        logger.info(f"{what}none of {rows:,} texts is longer than {max_length} tokens")
        return
    limit = f"{max_length} tokens"
    advice = (
        "A higher max_length keeps more of them, truncation='head+tail' keeps their ends, and truncation='windows' "
        "reads more of them at a higher cost"
    )
    if truncation == "windows":
        limit = f"the windows of {limit}"
        advice = "A higher max_windows keeps more of them"
    logger.warning(
        f"{what}{cut:,} of {rows:,} texts ({cut / rows:.1%}) are longer than {limit} and were truncated "
        f"(truncation={truncation!r}). {advice}"
    )


def _weight(value: object, row: int) -> float:
    if isinstance(value, str):  # from a CSV file, such as "0.50", which may also be a version
        with contextlib.suppress(ValueError):
            value = float(value)
    try:
        return relative_weight(f"row {row}, column {WEIGHT!r}:", value)
    except ValueError as error:
        raise ValueError(
            f"{error}. A column of this name weights the rows; rename it if it holds something else"
        ) from None


def check_text_is_no_label(encoders: Mapping[str, LabelEncoder], texts: Sequence[str]) -> None:
    """Check that no text column holds the labels of a head.

    Args:
        encoders: head → encoder of its labels.
        texts: the text columns.

    Raises:
        ValueError: If one does; the message contains the head and the column.
    """
    for head, encoder in encoders.items():
        if both := [column for column in column_names(encoder.column) if column in texts]:
            raise ValueError(
                f"head {head!r}: the column {both[0]!r} would be both text and labels, so the model would read the "
                "answer. Choose another one with text_columns=[...] (--text-column) or label_columns={...} "
                "(--label-column)"
            )


def find_text_columns(features: Features, columns: str | Sequence[str] | None) -> list[str]:
    """Return the one or two text columns.

    Raises:
        ValueError: If they do not exist or do not hold text; the message lists the text columns.
    """
    names = [columns] if isinstance(columns, str) else list(columns or ["text"])
    strings = [name for name, feature in features.items() if is_text(feature)]
    for name in names:
        if name not in features:
            raise ValueError(
                f"there is no text column {name!r}.{column_hint(name, list(features))} Columns: {list(features)}"
                f"{'' if strings == list(features) else f'; columns of text: {strings}'}. Choose the text column with "
                "text_columns=[...] (--text-column NAME)"
            )
        if name not in strings:
            found = "empty in all rows" if features[name] == Value("null") else f"not text but {features[name]}"
            raise ValueError(f"text column {name!r} is {found}; columns of text: {strings}")
    if len(names) > 2:
        raise ValueError(f"text_columns {names}: give one column, or two for text pairs")
    if len(set(names)) < len(names):
        raise ValueError(f"text_columns {names}: the same column is given twice")
    return names


def check_texts_of(rows: Dataset, text_columns: str | Sequence[str] | None, name: str) -> None:
    """Check that each row of a raw table has a text, before the table is split.

    Raises:
        ValueError: A row has none; the message begins with the table's name, and contains row and column.
    """
    first = 0
    columns = find_text_columns(rows.features, text_columns)
    for batch in column_batches(rows, columns):
        count = len(batch[columns[0]])
        for column in columns:
            try:
                _check_texts(batch[column], column, range(first, first + count))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        first += count


def _check_texts(texts: Sequence[Any], column: str, rows: Sequence[int]) -> None:
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(text, str):
            raise ValueError(
                f"row {row}, column {column!r}: the text is {text!r}; every row needs a text (it may be empty: '', in "
                f"a data frame by frame[{column!r}].fillna(''))"
            )
