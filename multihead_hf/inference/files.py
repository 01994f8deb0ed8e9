"""Predictions of files of any size: read, predicted and written window by window, and taken up again after a kill."""

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm

from ..data.readers import NOT_DECODED, Row
from ..evaluation.digest import module_digest, plain_config
from ..evaluation.files import naming, write_whole
from ..model.decoding_multihead import rows_not_finite
from .precision import AUTO
from .predictor import WORTH_MEASURING, Encoded, Logits, MultiHeadPredictor
from .rows import RowSource, check_columns, columns_of, is_read_by, is_within, open_rows
from .tables import Columns, Table

_STATE = "state.json"
_FORMAT = 1
_MEASURED = 2048  # texts on which the precision is chosen


@dataclass
class PredictionReport:
    """What `predict_files` did.

    Args:
        output: the file of predictions.
        rows: how many rows it has.
        bad_rows: rows that could not be read; they are in the file `errors`.
        errors: that file, or `None` where every row is good.
        resumed: rows of the input, good and bad, that an earlier run had done.
        texts: texts that the model has read in this run; one that comes again soon is read once.
        cut: how many of them were longer than it reads.
        seconds: of this run, without loading the model.
        precision: in which the model ran.
        undecoded: those of the bad rows whose bytes are of another encoding than was expected.
    """

    output: str
    rows: int
    bad_rows: int
    errors: str | None
    resumed: int
    texts: int
    cut: int
    seconds: float
    precision: str
    undecoded: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        done = self.rows + self.bad_rows - self.resumed
        lines = [f"{self.output}: {self.rows:,} rows; {done / max(self.seconds, 1e-9):,.0f} rows/s ({self.precision})"]
        if self.resumed:
            lines.append(f"{self.resumed:,} rows of the input had been done before")
        if self.cut:
            lines.append(f"{self.cut:,} of {self.texts:,} texts are longer than the model reads, and were cut")
        if self.bad_rows:
            lines.append(f"{self.bad_rows:,} rows could not be predicted: {self.errors}")
        if self.undecoded:
            lines.append(
                f"{self.undecoded:,} of them are in another encoding: name it, such as --encoding cp1252 "
                "(encoding='cp1252')"
            )
        return "\n".join(lines)


@dataclass
class _Window:
    """Rows that are predicted and written together.

    Args:
        index: of the window.
        end: number of the first row after it.
        numbers: of its good rows, in the input.
        rows: the good rows.
        places: where the good rows stand in the input.
        bad: lines of the file of errors.
        encoded: tokens of the good rows' texts; `None` where nothing is to be computed.
        share: of the input, how much has been read.
    """

    index: int
    end: int
    numbers: list[int]
    rows: list[dict[str, Any]]
    places: list[str]
    bad: list[dict[str, Any]]
    encoded: Encoded | None
    share: float


def predict_files(
    predictor: MultiHeadPredictor,
    source: str | list[str],
    output: str | os.PathLike,
    *,
    text_columns: str | Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    top_k: int | None = None,
    threshold: Any = None,
    all_scores: bool = False,
    prefix: str = "predicted_",
    sep: str = "|",
    delimiter: str | None = None,
    encoding: str | None = None,
    split: str | None = None,
    config: str | None = None,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> PredictionReport:
    """Predict the rows of files, and write them to one file, in their order.

    Memory does not grow with the number of rows. Until all is done, parts of `predictor.window_rows` rows are in the
    folder `OUTPUT.parts`, each there as a whole or not at all. Several processes (torchrun, `accelerate launch`) share
    them out.

    The output has the columns `row` (number in the input, from 0), those of the input, and for each head
    `predicted_<head>` and `predicted_<head>_score`: lists of the predicted labels, best first, and of their
    probabilities; of single-label heads one each. A column of the input whose values have no common type, or which has
    objects without a key, is JSON text in Parquet files.

    A row that cannot be read (no text, no JSON, bytes that are no UTF-8, other columns than the header), or of which
    the model makes logits that are not finite, is left out: it goes, with its number, place, the reason and its values,
    to `OUTPUT.errors.jsonl`; with its text as it stands in the file (`line`) where that could not be taken apart.

    Args:
        predictor: with the model.
        source: CSV, TSV or JSON Lines files (also as `.gz` or `.zst`), Parquet, Arrow or Excel files, globs or folders
            of them, or a dataset on the Hub. What this and earlier runs write for `output` is not read, though a glob
            or folder has it.
        output: a `.parquet`, `.jsonl` or `.csv` file.
        text_columns: the column of the text, or two of text pairs; by default the model's, else `"text"`.
        keep: columns of the input that are in the output; all by default.
        top_k: so many best labels of each head instead of the predicted ones.
        threshold: as for `MultiHeadModel.decode`, instead of the saved thresholds.
        all_scores: also a column `predicted_<head>_scores` with the probabilities of all labels, in their order.
        prefix: what the names of the columns of heads begin with.
        sep: separator between the labels of a row in CSV files.
        delimiter: character between the columns of CSV files that are read. By default a comma, a tab in `.tsv` files,
            or a semicolon where that is what the first lines hold.
        encoding: encoding of text files, such as `"cp1252"`. By default UTF-8, or that of the byte order mark.
        split: split of a dataset on the Hub.
        config: configuration of a dataset on the Hub.
        strict: stop at the first bad row.
        resume: go on where a run that was ended left off.
        overwrite: replace an output that exists, its file of bad rows, and what is left of a run before. With `resume`:
            go on, or begin again where the settings have changed.
        progress: show a progress bar.

    Raises:
        ValueError: no such file or column (says which are like it), a column that cannot be written, an output that
            exists, a run before with other settings, or, with `strict`, a bad row.
        OSError: the output cannot be written. What was done is kept for `resume`.
    """
    given = [text_columns] if isinstance(text_columns, str) else text_columns
    texts = list(given or predictor.model.config.text_columns or ["text"])
    place = Path(output)
    written = _Written(place, place.with_name(f"{place.name}.errors.jsonl"), place.with_name(f"{place.name}.parts"))
    rows = open_rows(source, delimiter, split, config, written, encoding)
    check_columns(rows.columns, texts, "the text")
    check_columns(rows.columns, list(keep or ()), "--keep")
    heads = {name: predictor.model.config.heads[name] for name in predictor.heads}
    kept = None if keep is None else list(dict.fromkeys(keep))
    columns = Columns(heads, kept, prefix, top_k is not None, all_scores)
    columns.check(rows.columns)
    table = Table(place, columns, rows.schema, sep)
    if kept is not None:
        rows.wanted = list(dict.fromkeys([*texts, *kept]))
    if top_k is not None or threshold is not None:
        predictor.decode(predictor.logits([]), top_k, threshold)  # says at once what is wrong with them
    settings = {
        "text_columns": texts,
        "top_k": top_k,
        "threshold": threshold,
        "sep": sep,
        "delimiter": delimiter,
        "encoding": encoding,
        "split": split,
        "config": config,
        "columns": [name for name, _ in columns.ours()],
        "keep": kept,
        "window_rows": predictor.window_rows,
    }
    run = _Run(predictor, rows, written, table, texts, strict)
    before = predictor.chosen
    try:
        run.begin(settings, source, resume, overwrite)
        return run.go(top_k, threshold, progress)
    except OSError as error:
        if not run.can_go_on():
            raise
        raise OSError(f"{error}; {written.parts} holds what is done: --resume goes on") from error
    finally:
        predictor.use(before if predictor.choice is None else predictor.choice.precision)


class _Written(NamedTuple):
    """What a run writes: the file of predictions, that of bad rows, and the folder of parts."""

    output: Path
    errors: Path
    parts: Path


class _Run:
    """One call of `predict_files`."""

    def __init__(
        self,
        predictor: MultiHeadPredictor,
        rows: RowSource,
        written: _Written,
        table: Table,
        texts: list[str],
        strict: bool,
    ) -> None:
        self.predictor, self.rows, self.written = predictor, rows, written
        self.output, self.errors, self.parts = written
        self.table, self.texts, self.strict = table, texts, strict
        self.processes = PartialState()
        self.done: set[str] = set()  # parts of an earlier run
        self.resumed = 0
        self.read_before = predictor.computed, predictor.cut

    def begin(self, settings: dict[str, Any], source: Any, resume: bool, overwrite: bool) -> None:
        """Check what is there, and settle what all processes and later runs have to agree on."""
        for path in self.rows.files:
            if is_within(path, self.written):
                raise ValueError(f"{path} is the input: give another output")
        if self.output.is_file() and is_read_by(source, self.output) and not self._is_of_a_run(self.output):
            raise ValueError(f"{self.output} is one of the input's files, and of no earlier run: give another output")
        if self.output.is_dir():
            raise ValueError(f"{self.output} is a folder: give a file")
        # (an earlier run may have been ended between the output and the removal of its parts)
        goes_on = resume and self.can_go_on()
        for place in (self.output, self.errors):
            if place.exists() and not overwrite and not goes_on:
                raise ValueError(f"{place} exists already: give another output, or --overwrite")
        files = [[path, os.path.getsize(path), os.stat(path).st_mtime_ns] for path in self.rows.files]
        about = {
            "format": _FORMAT,
            "model": _digest(self.predictor),
            "input": files if files else [source, self.rows.version],
            "heads": self.predictor.heads,
            "precision asked for": self.predictor.precision,
            **settings,
        }
        about = json.loads(json.dumps(about))
        known = self._state(about, resume, overwrite)
        agreed: list[Any] = [None, set()]
        if self.processes.is_main_process:
            if known is None:
                shutil.rmtree(self.parts, ignore_errors=True)
            agreed = [known or self._precision(), {path.name for path in self.parts.glob("part-*")}]
        # one precision for all, whatever each would have measured
        broadcast_object_list(agreed)
        self.predictor.use(agreed[0])
        self.done = agreed[1]
        if self.processes.is_main_process and known is None:
            self.parts.mkdir(parents=True)
            write_whole(self.parts / _STATE, json.dumps({**about, "precision": agreed[0]}, indent=2).encode())
        self.processes.wait_for_everyone()

    def can_go_on(self) -> bool:
        """Whether parts are there that a later run can go on with."""
        return (self.parts / _STATE).is_file()

    def _is_of_a_run(self, path: Path) -> bool:
        """Whether a file has the columns of predictions."""
        return {name for name, _ in self.table.columns.ours()} <= set(columns_of(path))

    def _state(self, about: dict[str, Any], resume: bool, overwrite: bool) -> str | None:
        """The precision of a run before that is to be gone on with, if there is one.

        Raises:
            ValueError: there is one, and it is not said what is to become of it, or it was of something else.
        """
        path = self.parts / _STATE
        if not path.is_file() or (overwrite and not resume):
            return None
        if not resume:
            raise ValueError(f"{self.parts} was left by an earlier run: --resume goes on with it, --overwrite drops it")
        before = json.loads(path.read_text(encoding="utf-8"))
        precision = before.pop("precision")
        changed = [name for name in about if before.get(name) != about[name]]
        if changed and overwrite:
            return None
        if changed:
            raise ValueError(
                f"{self.parts} is of a run with another {', '.join(changed)}: run it as it was, or --overwrite drops it"
            )
        return precision

    def _precision(self) -> str:
        """As asked for, or, where there are enough texts, the fastest."""
        if self.predictor.precision != AUTO:
            return self.predictor.precision
        texts = []
        for row in itertools.islice(self.rows, _MEASURED):
            if self._problem(row) is None:
                texts.append(tuple(row.values[name] for name in self.texts))
        if len(texts) < WORTH_MEASURING:
            return "fp32"
        return self.predictor.measure(self.predictor.encode(texts)).precision

    def go(self, top_k: int | None, threshold: Any, progress: bool) -> PredictionReport:
        """Predict and write all windows, and put them together."""
        begun = time.perf_counter()
        windows = end = 0
        bar = tqdm(total=self.rows.total, unit=" rows", disable=not (progress and self.processes.is_main_process))
        with bar:
            for window in _ahead(self._windows()):
                windows, end = window.index + 1, window.end
                if window.encoded is not None:
                    self._predict(window, top_k, threshold)
                if self.rows.total is None and window.share > 0:
                    bar.total = round(end / window.share)
                bar.update(end - bar.n)
        self.processes.wait_for_everyone()
        ended = [(self.predictor.computed - self.read_before[0], self.predictor.cut - self.read_before[1])]
        read = gather_object(ended)
        bad, undecoded = self._finish(windows) if self.processes.is_main_process else (0, 0)
        return PredictionReport(
            str(self.output),
            end - bad,
            bad,
            str(self.errors) if bad else None,
            self.resumed,
            sum(texts for texts, _ in read),
            sum(cut for _, cut in read),
            time.perf_counter() - begun,
            self.predictor.chosen or self.predictor.precision,
            undecoded,
        )

    def _windows(self) -> Iterator[_Window]:
        """Windows of the input, tokenised where they are this process's to predict and not yet done."""
        numbered = enumerate(self.rows)
        size, processes = self.predictor.window_rows, self.processes
        for index in itertools.count():
            rows = list(itertools.islice(numbered, size))
            if not rows:
                return
            end = rows[-1][0] + 1
            done = self._part(index).name in self.done
            self.resumed += len(rows) if done else 0
            mine = index % processes.num_processes == processes.process_index
            if done or not mine:
                yield _Window(index, end, [], [], [], [], None, self.rows.share)
                continue
            numbers, values, places, bad = self._sorted_out(rows)
            encoded = self.predictor.encode([tuple(row[name] for name in self.texts) for row in values])
            yield _Window(index, end, numbers, values, places, bad, encoded, self.rows.share)

    def _sorted_out(
        self, rows: list[tuple[int, Row]]
    ) -> tuple[list[int], list[dict[str, Any]], list[str], list[dict[str, Any]]]:
        """Numbers, values and places of good rows, and what is to be said of bad ones.

        Raises:
            ValueError: a bad row where none is allowed.
        """
        numbers, good, places, bad = [], [], [], []
        for number, row in rows:
            problem = self._problem(row)
            if problem is None:
                numbers.append(number)
                good.append(row.values)
                places.append(row.place)
            elif self.strict:
                raise ValueError(f"row {number} ({row.place}): {problem}")
            else:
                said = {"row": number, "place": row.place, "error": problem, "values": row.values}
                bad.append(said if row.line is None else {**said, "line": row.line})
        return numbers, good, places, bad

    def _problem(self, row: Row) -> str | None:
        if row.error is not None:
            return row.error
        for name in self.texts:
            if name not in row.values:
                return f"there is no column {name!r}"
            if not isinstance(row.values[name], str):
                return f"column {name!r} is {row.values[name]!r}, and a text is expected"
        taken = [name for name, _ in self.table.columns.ours() if name in row.values]
        if taken and self.table.columns.kept is None:
            return f"column {taken[0]!r} is one of the output's, and this row has one of that name"
        return None

    def _predict(self, window: _Window, top_k: int | None, threshold: Any) -> None:
        assert window.encoded is not None
        logits = self._without_bad(window, self.predictor.compute(window.encoded))
        rows = self.table.columns.rows(window.numbers, window.rows, self.predictor.decode(logits, top_k, threshold))
        if window.bad:  # before the part, which says that the window is done
            lines = [json.dumps(each, ensure_ascii=True, default=str) for each in window.bad]
            write_whole(self._errors(window.index), "".join(f"{line}\n" for line in lines).encode())
        self.table.write_part(self._part(window.index), rows)

    def _without_bad(self, window: _Window, logits: Logits) -> Logits:
        """The logits, without rows in which they are not finite; these are bad rows.

        Raises:
            ValueError: a bad row where none is allowed.
        """
        wrong: dict[int, str] = {}
        for name, own in logits.items():
            for row in rows_not_finite(torch.from_numpy(own)):
                wrong.setdefault(row, f"the logits of head {name!r} are not finite (NaN or infinity)")
        if not wrong:
            return logits
        for row in sorted(wrong):
            if self.strict:
                raise ValueError(f"row {window.numbers[row]} ({window.places[row]}): {wrong[row]}")
            said = {"row": window.numbers[row], "place": window.places[row], "error": wrong[row]}
            window.bad.append({**said, "values": window.rows[row]})
        window.bad.sort(key=lambda each: each["row"])
        good = [row for row in range(len(window.rows)) if row not in wrong]
        window.numbers = [window.numbers[row] for row in good]
        window.rows = [window.rows[row] for row in good]
        return {name: own[good] for name, own in logits.items()}

    def _part(self, index: int) -> Path:
        return self.parts / f"part-{index:08}{self.table.part_suffix}"

    def _errors(self, index: int) -> Path:
        return self.parts / f"errors-{index:08}.jsonl"

    def _finish(self, windows: int) -> tuple[int, int]:
        """Put the parts together; how many bad rows there are, and how many of them could not be decoded."""
        errors = [path for path in map(self._errors, range(windows)) if path.is_file()]
        bad = undecoded = 0
        unfinished = self.parts / ".errors.part"
        with naming(self.errors), unfinished.open("wb") as file:
            for path in errors:
                lines = path.read_bytes()
                bad += lines.count(b"\n")
                undecoded += sum(NOT_DECODED in json.loads(line)["error"] for line in lines.splitlines())
                file.write(lines)
        if bad:
            os.replace(unfinished, self.errors)
        else:
            self.errors.unlink(missing_ok=True)
        self.table.join([self._part(index) for index in range(windows)], self.output, self.rows.columns)
        (self.parts / _STATE).unlink()  # first: what is left without it is nobody's
        shutil.rmtree(self.parts)
        return bad, undecoded


def _ahead(windows: Iterator[_Window]) -> Iterator[_Window]:
    """The same windows; the next one is read and tokenised while this one is predicted."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, windows, None)
        while (window := following.result()) is not None:
            following = pool.submit(next, windows, None)
            yield window


def _digest(predictor: MultiHeadPredictor) -> str:
    """Of what decides about predictions."""
    tokenizer = predictor.tokenizer
    tokens = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())
    return module_digest(predictor.model, [plain_config(predictor.model.config), tokens])
