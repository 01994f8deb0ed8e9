"""Prediction of files: windows of rows are read, predicted and written as parts, which are joined at the end."""

import itertools
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm

from ..data.readers import NOT_DECODED, Row
from ..model.decoding_multihead import rows_not_finite
from ..utils.files import naming, write_whole
from ..utils.hardware import processes
from .parts import Part, Parts
from .precision import AUTO
from .predictor import WORTH_MEASURING, Encoded, Logits, MultiHeadPredictor, ThresholdsOfHeads
from .results import PredictionReport
from .rows import Files, RowSource, columns_of, is_read_by, is_within
from .tables import Table

_FORMAT = 1
_MEASURED = 2048  # number of texts used to choose the precision


@dataclass
class _Window:
    """Rows that are predicted and written together.

    Args:
        index: Index of the window.
        end: Number of the first row after it.
        numbers: Numbers of its good rows in the input.
        rows: The good rows.
        places: File and line of the good rows, for messages.
        bad: Lines for the file of errors.
        encoded: Tokens of the good rows' texts; `None` if nothing has to be computed.
        share: Share of the input that has been read.
    """

    index: int
    end: int
    numbers: list[int]
    rows: list[dict[str, Any]]
    places: list[str]
    bad: list[dict[str, Any]]
    encoded: Encoded | None
    share: float


class FileRun:
    """One call of `predict_files`."""

    def __init__(
        self,
        predictor: MultiHeadPredictor,
        rows: RowSource,
        table: Table,
        written: tuple[Path, Path],
        texts: list[str],
        strict: bool,
    ) -> None:
        self.predictor, self.rows, self.table = predictor, rows, table
        self.output, self.errors = written
        self.parts = Parts(self.output, table.part_suffix)
        self.texts, self.strict = texts, strict
        self.processes = processes(predictor.device.type == "cpu")
        self.done: dict[int, Part] = {}  # parts of an earlier run that this run continues
        self.resumed = 0
        self.read_before = predictor.computed, predictor.cut

    def begin(self, settings: dict[str, Any], source: Files, resume: bool, overwrite: bool) -> PredictionReport | None:
        """Check existing results, and set what must be the same in all processes and later runs.

        Returns:
            The report of a completed run that this one resumes, or `None`.
        """
        for path in self.rows.files:
            if is_within(path, (self.output, self.errors, self.parts.folder)):
                raise ValueError(f"{path} is the input: give another output")
        if self.output.is_file() and is_read_by(source, self.output) and not self._is_of_a_run(self.output):
            raise ValueError(
                f"{self.output} is one of the input files, not the output of an earlier run: give another output"
            )
        if self.output.is_dir():
            raise ValueError(f"{self.output} is a folder: give a file")
        files = [[path, os.path.getsize(path), os.stat(path).st_mtime_ns] for path in self.rows.files]
        about = {
            "format": _FORMAT,
            "model": self.predictor.digest(),
            "input": files if files else [source, self.rows.version],
            "heads": self.predictor.heads,
            "precision asked for": self.predictor.precision,
            **settings,
        }
        about = json.loads(json.dumps(about))
        agreed: list[Any] = [None, None, None]  # report of a completed run, precision, run
        if self.processes.is_main_process:
            self.parts.lock()
            agreed[0] = self._ended(about) if resume and not overwrite else None
            if agreed[0] is None:
                agreed[1] = self._begun(about, resume, overwrite)
                agreed[2] = self.parts.run
        # one precision for all processes, whatever each would measure
        broadcast_object_list(agreed)
        if agreed[0] is not None:
            return PredictionReport(**agreed[0])
        self.predictor.use(agreed[1])
        self.table.facts = {"model": about["model"], "precision": agreed[1]}
        self.parts.run = agreed[2]
        self.done = self.parts.done()
        self.processes.wait_for_everyone()
        return None

    def _ended(self, about: dict[str, Any]) -> dict[str, Any] | None:
        """Return the report of a run that has already written this output.

        Raises:
            ValueError: That run had other settings.
        """
        if self.parts.can_go_on() or (before := self.parts.ended()) is None:
            return None
        _refuse_other(self.output, about, before, "give another output, or --overwrite")
        return {**before["report"], "seconds": 0.0, "texts": 0, "truncated": 0, "resumed": before["rows read"]}

    def _begun(self, about: dict[str, Any], resume: bool, overwrite: bool) -> str:
        """Resume an earlier run, or begin a new one, and return the precision.

        Raises:
            ValueError: An output or an earlier run exists, and neither `resume` nor `overwrite` is set, or the earlier
                run had other settings.
        """
        parts = self.parts
        # (an earlier run may have stopped after writing the output and before removing its parts)
        resumes = resume and parts.can_go_on()
        for path in (self.output, self.errors):
            if path.exists() and not overwrite and not resumes:
                raise ValueError(f"{path} exists already: give another output, or --overwrite")
        if parts.can_go_on() and not resume and not overwrite:
            raise ValueError(
                f"{parts.folder} was left by an earlier run: --resume continues it, --overwrite deletes it"
            )
        if resumes:
            before = parts.state()
            if not overwrite:
                _refuse_other(parts.folder, about, before, "repeat that run's settings, or delete it with --overwrite")
            if all(before.get(name) == about[name] for name in about):
                parts.run = before["run"]
                return before["precision"]
        precision = self._precision()
        parts.begin({**about, "precision": precision})
        return precision

    def _is_of_a_run(self, path: Path) -> bool:
        """Return whether a file has the columns of predictions."""
        return {name for name, _ in self.table.columns.ours()} <= set(columns_of(path))

    def _precision(self) -> str:
        """Return the precision that was set or chosen before, else with enough texts the measured choice."""
        if self.predictor.precision != AUTO or self.predictor.chosen is not None:
            return self.predictor.chosen or self.predictor.precision
        texts = []
        for row in itertools.islice(self.rows, _MEASURED):
            if self._problem(row) is None:
                texts.append(tuple(row.values[name] for name in self.texts))
        if len(texts) < WORTH_MEASURING:
            return "fp32"
        return self.predictor.measure(self.predictor.encode(texts)).precision

    def go(self, top_k: int | None, threshold: ThresholdsOfHeads | None, progress: bool) -> PredictionReport:
        """Predict and write all windows, and join them."""
        start = time.perf_counter()
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
        backend = self.predictor.backend
        if self.processes.is_main_process:  # (which removes the run's state at the end)
            self.table.facts["backend"] = backend = ", ".join(self.parts.backends()) or backend
        bad, undecoded, first = self._join(windows, end) if self.processes.is_main_process else (0, 0, None)
        report = PredictionReport(
            str(self.output),
            end - bad,
            bad,
            str(self.errors) if bad else None,
            self.resumed,
            sum(texts for texts, _ in read),
            sum(cut for _, cut in read),
            time.perf_counter() - start,
            self.predictor.chosen or self.predictor.precision,
            backend,
            undecoded,
            None if self.predictor.choice is None else self.predictor.choice.reason,
            first,
        )
        if self.processes.is_main_process:
            self.parts.end({"report": report.to_dict(), "rows read": end})
        return report

    def _windows(self) -> Iterator[_Window]:
        """Yield windows of the input, tokenised if this process has to predict them."""
        numbered = enumerate(self.rows)
        size, processes = self.predictor.window_rows, self.processes
        for index in itertools.count():
            rows = list(itertools.islice(numbered, size))
            if not rows:
                return
            end = rows[-1][0] + 1
            done = index in self.done
            self.resumed += len(rows) if done else 0
            is_own = index % processes.num_processes == processes.process_index
            if done or not is_own:
                yield _Window(index, end, [], [], [], [], None, self.rows.share)
                continue
            numbers, values, places, bad = self._sorted_out(rows)
            encoded = self.predictor.encode([tuple(row[name] for name in self.texts) for row in values])
            yield _Window(index, end, numbers, values, places, bad, encoded, self.rows.share)

    def _sorted_out(
        self, rows: list[tuple[int, Row]]
    ) -> tuple[list[int], list[dict[str, Any]], list[str], list[dict[str, Any]]]:
        """Return numbers, values and places of good rows, and error entries of bad ones.

        Raises:
            ValueError: There is a bad row, and none are allowed.
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
                entry = {"row": number, "place": row.place, "error": problem, "values": row.values}
                bad.append(entry if row.line is None else {**entry, "line": row.line})
        return numbers, good, places, bad

    def _problem(self, row: Row) -> str | None:
        if row.error is not None:
            return row.error
        for name in self.texts:
            if name not in row.values:
                return f"there is no column {name!r}"
            if not isinstance(row.values[name], str):
                return f"column {name!r} is {row.values[name]!r}, but a text is expected"
        taken = [name for name, _ in self.table.columns.ours() if name in row.values]
        if taken and self.table.columns.kept is None:
            return f"column {taken[0]!r} is a column of the output, but this row has a column of the same name"
        return None

    def _predict(self, window: _Window, top_k: int | None, threshold: ThresholdsOfHeads | None) -> None:
        assert window.encoded is not None
        logits = self._without_bad(window, self.predictor.compute(window.encoded))
        if self.processes.is_main_process:
            self.parts.add_backend(self.predictor.backend)
        rows = self.table.columns.rows(window.numbers, window.rows, self.predictor.decode(logits, top_k, threshold))
        if window.bad:  # before the part, which marks the window as done
            lines = [json.dumps(entry, ensure_ascii=True, default=str) for entry in window.bad]
            write_whole(self.parts.errors(window.index), "".join(f"{line}\n" for line in lines).encode())
        self.parts.write(window.index, len(rows), lambda path: self.table.write_part(path, rows))

    def _without_bad(self, window: _Window, logits: Logits) -> Logits:
        """Return the logits without rows in which they are not finite, which count as bad.

        Raises:
            ValueError: There is a bad row, and none are allowed.
        """
        wrong: dict[int, str] = {}
        for name, values in logits.items():
            for row in rows_not_finite(torch.from_numpy(values)):
                wrong.setdefault(row, f"the logits of head {name!r} are not finite (NaN or infinity)")
        if not wrong:
            return logits
        for row in sorted(wrong):
            if self.strict:
                raise ValueError(f"row {window.numbers[row]} ({window.places[row]}): {wrong[row]}")
            entry = {"row": window.numbers[row], "place": window.places[row], "error": wrong[row]}
            window.bad.append({**entry, "values": window.rows[row]})
        window.bad.sort(key=lambda entry: entry["row"])
        good = [row for row in range(len(window.rows)) if row not in wrong]
        window.numbers = [window.numbers[row] for row in good]
        window.rows = [window.rows[row] for row in good]
        return {name: values[good] for name, values in logits.items()}

    def _join(self, windows: int, rows: int) -> tuple[int, int, str | None]:
        """Join the parts; return the number of bad rows, and of those that could not be decoded, and the first of them.

        Raises:
            ValueError: Rows are missing from the parts.
        """
        parts = self.parts.done()
        missing = [index for index in range(windows) if index not in parts]
        errors = [path for path in map(self.parts.errors, range(windows)) if path.is_file()]
        bad, undecoded, first = 0, 0, None
        unfinished = self.parts.folder / f".errors.{self.parts.run}"
        with naming(self.errors), unfinished.open("wb") as file:
            for path in errors:
                lines = path.read_bytes()
                bad += lines.count(b"\n")
                entries = [json.loads(line) for line in lines.splitlines()]
                undecoded += sum(NOT_DECODED in entry["error"] for entry in entries)
                first = first or f"{entries[0]['place']}: {entries[0]['error']}"
                file.write(lines)
        written = sum(part.rows for part in parts.values())
        if missing or written + bad != rows:
            raise ValueError(
                f"{self.parts.folder} holds {written:,} predicted rows and {bad:,} bad rows of {rows:,}: --resume "
                "predicts the missing rows"
            )
        if bad:
            os.replace(unfinished, self.errors)
        else:
            self.errors.unlink(missing_ok=True)
        self.table.join([parts[index].path for index in range(windows)], self.output, self.rows.columns)
        return bad, undecoded, first


def _refuse_other(folder: Path, about: dict[str, Any], before: dict[str, Any], advice: str) -> None:
    """Refuse to resume a run that had other settings.

    Raises:
        ValueError: The existing results belong to a run with other settings.
    """
    changed = [name for name in about if before.get(name) != about[name]]
    if changed:
        raise ValueError(f"{folder} belongs to a run with another {', '.join(changed)}: {advice}")


def _ahead(windows: Iterator[_Window]) -> Iterator[_Window]:
    """Yield the same windows; the next one is read and tokenised while this one is predicted."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, windows, None)
        while (window := following.result()) is not None:
            following = pool.submit(next, windows, None)
            yield window
