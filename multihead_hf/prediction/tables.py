"""Tables of predictions: parts that are written atomically and then joined into one file."""

import base64
import csv
import io
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.readers_text import no_formula
from ..model.decoding_multihead import HeadPrediction
from ..model.head_multihead import HeadConfig
from ..utils.files import naming, write_whole

FORMATS = (".parquet", ".jsonl", ".csv")
ROW = "row"
_DIGITS = 6  # digits of scores in text files


@dataclass(frozen=True)
class Columns:
    """Columns of a table of predictions: row number, input columns, and labels and scores of each head.

    Args:
        heads: Name → head, for the predicted heads.
        kept: Columns of the input; `None` keeps all columns of a row.
        prefix: Prefix of the heads' columns.
        ranked: Whether single-label heads also have a list of labels (with `top_k`).
        all_scores: Whether each head has a column with the scores of all its labels, in label order.
    """

    heads: Mapping[str, HeadConfig]
    kept: Sequence[str] | None
    prefix: str = "predicted_"
    ranked: bool = False
    all_scores: bool = False

    def is_list(self, head: str) -> bool:
        """Return whether a head has a list of labels for each row."""
        return self.ranked or self.heads[head].multi_label

    def ours(self) -> list[tuple[str, pa.DataType]]:
        """Return name and type of the added columns, beginning with the row number."""
        columns: list[tuple[str, pa.DataType]] = [(ROW, pa.int64())]
        for name in self.heads:
            is_list = self.is_list(name)
            columns.append((f"{self.prefix}{name}", pa.list_(pa.string()) if is_list else pa.string()))
            columns.append((f"{self.prefix}{name}_score", pa.list_(pa.float32()) if is_list else pa.float32()))
            if self.all_scores:
                columns.append((f"{self.prefix}{name}_scores", pa.list_(pa.float32())))
        return columns

    def check(self, known: Sequence[str]) -> None:
        """Check that the names of the columns differ.

        Args:
            known: Columns of the input.

        Raises:
            ValueError: Two columns have the same name.
        """
        names = [name for name, _ in self.ours()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two heads would both have the column {name!r}: predict them one by one (--head)")
            if name in (known if self.kept is None else self.kept):
                other = "" if name == ROW else ", or give another prefix (--prefix)"
                raise ValueError(
                    f"the output would have two columns called {name!r}: choose other columns of the input (--keep)"
                    f"{other}"
                )

    def rows(
        self, numbers: Sequence[int], input_rows: Sequence[Mapping[str, Any]], predictions: Mapping[str, HeadPrediction]
    ) -> list[dict[str, Any]]:
        """Return rows of the table.

        Args:
            numbers: Numbers of the rows in the input.
            input_rows: Values of the rows in the input.
            predictions: Predictions of each head.
        """
        rows = []
        for index, (number, values) in enumerate(zip(numbers, input_rows, strict=True)):
            row: dict[str, Any] = {ROW: number}
            row |= values if self.kept is None else {name: values.get(name) for name in self.kept}
            for name, prediction in predictions.items():
                labels, scores = prediction.labels[index], prediction.scores[index]
                is_list = self.is_list(name)
                row[f"{self.prefix}{name}"] = labels if is_list else labels[0]
                row[f"{self.prefix}{name}_score"] = scores if is_list else scores[0]
                if self.all_scores:
                    row[f"{self.prefix}{name}_scores"] = prediction.probabilities[index].tolist()
            rows.append(row)
        return rows


def format_of(path: Path) -> str:
    """Return the suffix of a file of predictions, which determines its format.

    Raises:
        ValueError: The suffix is unknown.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{path}: predictions are written to files that end in {', '.join(FORMATS)}")
    return suffix


class Table:
    """Writes parts, and joins them into one file.

    Args:
        path: Path of the joined file; its suffix determines the format.
        columns: Its columns.
        schema: Types of the input's columns, if the input declares them. Parts are Parquet then, and otherwise JSON
            Lines, because the types are only known after all values have been read.
        sep: Separator between labels in CSV files.

    Attributes:
        facts: How the predictions were made, for the metadata of a Parquet file: name → text.

    Raises:
        ValueError: The suffix is unknown, a label contains `sep`, or the type of a column cannot be written.
    """

    def __init__(self, path: Path, columns: Columns, schema: pa.Schema | None = None, sep: str = "|") -> None:
        self.suffix = format_of(path)
        self.columns = columns
        self.schema = None if schema is None else self._settled(schema)
        self.sep = sep
        self.part_suffix = ".jsonl" if schema is None else ".parquet"
        self.facts: dict[str, str] = {}
        self._ours = dict(columns.ours())
        if self.suffix == ".csv":
            for name in columns.heads:
                for label in columns.heads[name].labels if columns.is_list(name) else []:
                    if sep in label:
                        raise ValueError(
                            f"head {name!r}: the label {label!r} holds {sep!r}, which joins labels in CSV files: give "
                            "another --sep, or write .jsonl or .parquet"
                        )

    def write_part(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one part."""
        if self.schema is None:
            write_whole(path, _json_lines(rows))
            return
        buffer = io.BytesIO()
        pq.write_table(self._arrow(rows, self._typed(self.schema)), buffer)
        write_whole(path, buffer.getvalue())

    def join(self, parts: Sequence[Path], path: Path, known: Sequence[str]) -> None:
        """Join parts in order into one file, atomically.

        Args:
            parts: The written parts.
            path: Path of the file.
            known: Columns of the input, for a file without rows.
        """
        unfinished = (parts[0].parent if parts else path.parent) / f".joined{self.suffix}.part"
        try:
            with naming(path):
                if self.suffix == ".parquet":
                    self._join_parquet(parts, unfinished, known)
                elif self.suffix == ".csv":
                    self._join_csv(parts, unfinished, known)
                else:
                    self._join_json(parts, unfinished)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _read(self, part: Path) -> list[dict[str, Any]]:
        if self.schema is not None:
            return pq.read_table(part).to_pylist()
        with part.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def _settled(self, schema: pa.Schema) -> pa.Schema:
        """Return the input's columns with the types of the parts after reading."""
        names = schema.names if self.columns.kept is None else self.columns.kept
        return pa.schema([_stored(schema.field(name)) for name in names])

    def _typed(self, schema: pa.Schema) -> pa.Schema:
        """Return all columns in order; those of the input have the types of `schema`."""
        names = schema.names if self.columns.kept is None else self.columns.kept
        fields = [pa.field(ROW, self._ours[ROW]), *(schema.field(name) for name in names)]
        fields += [pa.field(name, kind) for name, kind in self._ours.items() if name != ROW]
        labels = {name: head.labels for name, head in self.columns.heads.items()}
        facts = {"labels": json.dumps(labels), **self.facts}
        return pa.schema(fields, metadata={f"multihead_hf.{name}": text for name, text in facts.items()})

    def _arrow(self, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
        return pa.table([_array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema)

    def _join_parquet(self, parts: Sequence[Path], path: Path, known: Sequence[str]) -> None:
        if self.schema is not None:
            with pq.ParquetWriter(path, self._typed(self.schema)) as writer:
                for part in parts:
                    writer.write_table(pq.read_table(part))
            return
        types = self._types(parts, known)
        with pq.ParquetWriter(path, self._typed(pa.schema(list(types.items())))) as writer:
            for part in parts:
                writer.write_table(self._arrow(self._read(part), writer.schema))

    def _types(self, parts: Sequence[Path], known: Sequence[str]) -> dict[str, pa.DataType]:
        """Return types of the input's columns that fit the values of all parts; text for values of mixed kinds."""
        names = known if self.columns.kept is None else self.columns.kept
        types: dict[str, pa.DataType] = {name: pa.null() for name in names}
        seen: dict[str, set[pa.DataType]] = defaultdict(set)
        for part in parts:
            rows = self._read(part)
            for name in dict.fromkeys(name for row in rows for name in row if name not in self._ours):
                column_type = _type_of([row.get(name) for row in rows])
                types[name] = _common(types.get(name, pa.null()), column_type)
                seen[name].add(column_type)
        mixed = [name for name, kinds in seen.items() if len(kinds - {pa.null()}) > 1]
        for part in parts if mixed else ():
            rows = self._read(part)
            for name in mixed:  # such as an integer that a float cannot represent
                if not fits([row.get(name) for row in rows], types[name]):
                    types[name] = pa.string()
        as_text = {name for name, kind in types.items() if pa.types.is_null(kind) or _has_empty_struct(kind)}
        return {name: pa.string() if name in as_text else kind for name, kind in types.items()}

    def _join_csv(self, parts: Sequence[Path], path: Path, known: Sequence[str]) -> None:
        names = list(known if self.columns.kept is None else self.columns.kept)
        if self.columns.kept is None and self.schema is None:
            other_names = (name for part in parts for row in self._read(part) for name in row if name not in self._ours)
            names = list(dict.fromkeys([*names, *other_names]))
        header = [ROW, *names, *(name for name in self._ours if name != ROW)]
        with path.open("w", encoding="utf-8", newline="") as file:
            plain = csv.writer(file, lineterminator="\n")
            quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            plain.writerow(map(no_formula, header))
            for part in parts:
                for row in map(self._rounded, self._read(part)):
                    cells = [self._cell(name, row.get(name)) for name in header]
                    cells = [no_formula(cell) if isinstance(cell, str) else cell for cell in cells]
                    # most readers treat a carriage return as a line end, but the writer does not quote it
                    broken = any(isinstance(cell, str) and "\r" in cell for cell in cells)
                    (quoted if broken else plain).writerow(cells)

    def _join_json(self, parts: Sequence[Path], path: Path) -> None:
        with path.open("wb") as file:
            for part in parts:
                file.write(_json_lines(map(self._rounded, self._read(part))))

    def _cell(self, name: str, value: object) -> object:
        if isinstance(value, list) and name in self._ours:
            return self.sep.join(map(str, value))
        if isinstance(value, (list, dict)):
            return json.dumps(_plain(value), ensure_ascii=False)
        return _plain(value) if isinstance(value, bytes) else value

    def _rounded(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with scores rounded to the precision of float32."""

        def rounded(value: object) -> object:
            if isinstance(value, list):
                return [rounded(item) for item in value]
            return round(value, _DIGITS) if isinstance(value, float) else value

        return {name: rounded(value) if name in self._ours else value for name, value in row.items()}


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()


def _plain(value: object) -> object:
    """Return a value for JSON: NaN and infinity become null, bytes become base64, times become ISO 8601."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _type_of(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.string()


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return a type that fits the values of both types."""
    schemas = [pa.schema([("", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def fits(values: list[Any], kind: pa.DataType) -> bool:
    """Return whether a column of this type fits the values."""
    try:
        _array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True


def _stored(column: pa.Field) -> pa.Field:
    """Return a column with the type that it has after reading it from Parquet.

    Parquet does not support times in seconds, nor structs without a field, which become JSON text.

    Raises:
        ValueError: The column cannot be written.
    """
    if _has_empty_struct(column.type):
        return column.with_type(pa.string())
    buffer = io.BytesIO()
    try:
        pq.write_table(pa.schema([column]).empty_table(), buffer)
    except pa.ArrowNotImplementedError:
        raise ValueError(
            f"column {column.name!r} has the type {column.type}, which cannot be written: leave it out (name the "
            "other columns with --keep), or give it another type"
        ) from None
    return column.with_type(pq.read_schema(buffer).field(0).type)


def _has_empty_struct(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) and not kind.num_fields:
        return True
    return any(_has_empty_struct(kind.field(index).type) for index in range(kind.num_fields))


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Return an Arrow array; other values in a text column are written as JSON."""
    if pa.types.is_string(kind):
        values = [
            value if value is None or isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)
            for value in values
        ]
    return pa.array(values, type=kind)
