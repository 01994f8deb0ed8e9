"""Tables of predictions, in parts that are there as a whole or not at all, and then in one file."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..evaluation.files import write_whole
from ..model.decoding_multihead import HeadPrediction
from ..model.head_multihead import HeadConfig

FORMATS = (".parquet", ".jsonl", ".csv")
ROW = "row"
_DIGITS = 6  # of scores in text files


@dataclass(frozen=True)
class Columns:
    """What a table of predictions holds of each row: its number, columns of the input, and of each head labels and
    scores.

    Args:
        heads: by name, those that are predicted.
        kept: columns of the input.
        prefix: of the columns of heads.
        ranked: whether also a single-label head has a list of labels (with `top_k`).
        all_scores: whether each head has a column with the scores of all its labels, in their order.
    """

    heads: Mapping[str, HeadConfig]
    kept: Sequence[str]
    prefix: str = "predicted_"
    ranked: bool = False
    all_scores: bool = False

    def is_list(self, head: str) -> bool:
        """Whether a head has a list of labels for each row."""
        return self.ranked or self.heads[head].multi_label

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Of the columns that are ours."""
        found: dict[str, pa.DataType] = {ROW: pa.int64()}
        for name in self.heads:
            several = self.is_list(name)
            found[f"{self.prefix}{name}"] = pa.list_(pa.string()) if several else pa.string()
            found[f"{self.prefix}{name}_score"] = pa.list_(pa.float32()) if several else pa.float32()
            if self.all_scores:
                found[f"{self.prefix}{name}_scores"] = pa.list_(pa.float32())
        return found

    def check(self) -> None:
        """
        Raises:
            ValueError: two columns of one name.
        """
        names = list(self.types)
        for name in names:
            if names.count(name) > 1 or name in self.kept:
                raise ValueError(
                    f"the output would have two columns called {name!r}: keep other columns of the input (--keep), or "
                    "give another prefix (--prefix)"
                )

    def table(
        self, rows: Sequence[int], kept: Sequence[Mapping[str, Any]], found: Mapping[str, HeadPrediction]
    ) -> dict[str, list[Any]]:
        """The values of all columns.

        Args:
            rows: numbers of the rows in the input.
            kept: values of each row.
            found: what each head says of them.
        """
        values: dict[str, list[Any]] = {ROW: list(rows)}
        values |= {name: [row.get(name) for row in kept] for name in self.kept}
        for name in self.heads:
            own = found[name]
            labels: list[Any] = own.labels
            scores: list[Any] = own.scores
            if not self.is_list(name):
                labels, scores = [each[0] for each in labels], [each[0] for each in scores]
            values[f"{self.prefix}{name}"], values[f"{self.prefix}{name}_score"] = labels, scores
            if self.all_scores:
                values[f"{self.prefix}{name}_scores"] = own.probabilities.tolist()
        return values


class Table:
    """Writes and joins parts of one format.

    Args:
        path: of the joined file; its suffix says the format.
        columns: that it has.
        schema: types of the kept columns, where the input says them; else they are those of the first part.
        sep: between labels in CSV files.

    Raises:
        ValueError: another suffix, or a label that holds `sep`.
    """

    def __init__(self, path: Path, columns: Columns, schema: pa.Schema | None = None, sep: str = "|") -> None:
        self.suffix = path.suffix.lower()
        if self.suffix not in FORMATS:
            raise ValueError(f"{path}: predictions are written to files that end in {', '.join(FORMATS)}")
        self.columns = columns
        self.schema = schema
        self.sep = sep
        columns.check()
        if self.suffix == ".csv":
            for name in columns.heads:
                for label in columns.heads[name].labels if columns.is_list(name) else []:
                    if sep in label:
                        raise ValueError(
                            f"head {name!r}: the label {label!r} holds {sep!r}, which joins labels in CSV files: give "
                            "another --sep, or write .jsonl or .parquet"
                        )

    def fit(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Settle the types of kept columns by the first rows, where the input does not say them."""
        if self.suffix != ".parquet" or self.schema is not None:
            return
        types = {}
        for name in self.columns.kept:
            known = [row[name] for row in rows if row.get(name) is not None]
            # of values of several kinds the first one counts; rows with others are misfits
            some = known if _is_array(known, None) else known[:1]
            types[name] = pa.array(some).type if some else pa.string()
        self.schema = pa.schema(list(types.items()))

    def misfits(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Which of the rows cannot be written, and why."""
        found: dict[int, str] = {}
        for name in self.columns.kept if self.suffix == ".parquet" else []:
            assert self.schema is not None
            kind = self.schema.field(name).type
            values = [row.get(name) for row in rows]
            if _is_array(values, kind):
                continue
            for number, value in enumerate(values):
                if not _is_array([value], kind):
                    found.setdefault(number, f"column {name!r}: {value!r} is no {kind}, as in the rows before")
        return found

    def write_part(self, path: Path, values: Mapping[str, list[Any]]) -> None:
        """Write one part."""
        write_whole(path, {".parquet": self._parquet, ".jsonl": self._jsonl, ".csv": self._csv}[self.suffix](values))

    def join(self, parts: Iterable[Path], path: Path) -> None:
        """Put parts, in their order, into one file; it is there as a whole or not at all."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            if self.suffix == ".parquet":
                self._join_parquet(list(parts), unfinished)
            else:
                with unfinished.open("wb") as file:
                    if self.suffix == ".csv":
                        file.write(self._csv_lines([self._names()]))
                    for part in parts:
                        file.write(part.read_bytes())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _names(self) -> list[str]:
        own = list(self.columns.types)
        return [own[0], *self.columns.kept, *own[1:]]

    def _whole_schema(self) -> pa.Schema:
        assert self.schema is not None
        types = self.columns.types
        fields = [pa.field(name, types[name]) if name in types else self.schema.field(name) for name in self._names()]
        labels = {name: head.labels for name, head in self.columns.heads.items()}
        return pa.schema(fields, metadata={"multihead_hf.labels": json.dumps(labels)})

    def _parquet(self, values: Mapping[str, list[Any]]) -> bytes:
        schema = self._whole_schema()
        table = pa.table([pa.array(values[field.name], type=field.type) for field in schema], schema=schema)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue()

    def _join_parquet(self, parts: list[Path], path: Path) -> None:
        with pq.ParquetWriter(path, self._whole_schema()) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part))

    def _jsonl(self, values: Mapping[str, list[Any]]) -> bytes:
        rounded = [_rounded(values[name]) if name in self.columns.types else values[name] for name in values]
        lines = (dict(zip(values, row, strict=True)) for row in zip(*rounded, strict=True))
        return "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines).encode()

    def _csv(self, values: Mapping[str, list[Any]]) -> bytes:
        ours = self.columns.types
        cells = [
            [self._joined(value) for value in _rounded(own)] if name in ours else [_cell(value) for value in own]
            for name, own in values.items()
        ]
        return self._csv_lines(zip(*cells, strict=True))

    def _csv_lines(self, rows: Iterable[Sequence[Any]]) -> bytes:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        return buffer.getvalue().encode()

    def _joined(self, value: Any) -> Any:
        return self.sep.join(map(str, value)) if isinstance(value, list) else value


def _is_array(values: list[Any], kind: pa.DataType | None) -> bool:
    try:
        pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True


def _rounded(values: list[Any]) -> list[Any]:
    """Scores with the digits that float32 has."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(each) for each in value]
        return round(value, _DIGITS) if isinstance(value, float) else value

    return [rounded(value) for value in values]


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value
