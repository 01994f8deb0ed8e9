"""Predictions of files of any size: read, predicted and written window by window, and resumable."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..model.values_multihead import ThresholdsOfHeads
from .file_run import FileRun
from .predictor import MultiHeadPredictor
from .results import PredictionReport
from .rows import check_columns, open_rows
from .tables import Columns, Table, format_of


def predict_files(
    predictor: MultiHeadPredictor,
    source: str | os.PathLike | Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    text_columns: str | Sequence[str] | None = None,
    keep: str | Sequence[str] | None = None,
    top_k: int | None = None,
    threshold: ThresholdsOfHeads | None = None,
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

    Memory does not grow with the number of rows. Until all rows are done, parts of `predictor.window_rows` rows are in
    the folder `OUTPUT.parts`, each written atomically. Several processes (torchrun, `accelerate launch`) share the
    rows; another run over the same output is refused meanwhile.

    The output has the columns `row` (number in the input, from 0), those of the input, and for each head
    `predicted_<head>` and `predicted_<head>_score`: lists of the predicted labels, best first, and of their
    probabilities; for single-label heads one label and one probability. A column of the input whose values have no
    common type, or which has objects without a key, is JSON text in Parquet files.

    A row that cannot be read (no text, invalid JSON or UTF-8, other columns than the header), or for which the model
    computes logits that are not finite, is left out. It is written to `OUTPUT.errors.jsonl`, with its number, place,
    the reason and its values, or its text in the file (`line`) if that could not be parsed.

    Args:
        predictor: Predictor with the model.
        source: CSV, TSV or JSON Lines files (also as `.gz` or `.zst`), Parquet, Arrow or Excel files, globs or folders
            of them, or a dataset on the Hub. What this and earlier runs write for `output` is not read, though a glob
            or folder has it.
        output: A `.parquet`, `.jsonl` or `.csv` file. In CSV files a text that spreadsheets would take for a formula
            (it begins with =, +, -, @, a tab or a carriage return, and is not a number) has an apostrophe before it.
        text_columns: Column of the text, or two columns of text pairs; by default the model's, else `"text"`.
        keep: Columns of the input that are kept in the output; all by default.
        top_k: Number of best labels of each head instead of the predicted ones.
        threshold: As for `MultiHeadModel.decode`, instead of the saved thresholds.
        all_scores: Whether to add a column `predicted_<head>_scores` with the probabilities of all labels, in their
            order.
        prefix: Prefix of the names of the heads' columns.
        sep: Separator between the labels of a row in CSV files.
        delimiter: Character between the columns of CSV files that are read. By default a comma, a tab in `.tsv` files,
            or a semicolon if the first lines use it.
        encoding: Encoding of text files, such as `"cp1252"`. By default UTF-8, or that of the byte order mark.
        split: Split of a dataset on the Hub.
        config: Configuration of a dataset on the Hub.
        strict: Stop at the first bad row.
        resume: Resume an interrupted run, or return the report of a completed one. Scores may differ by about 1e-6 from
            those of an uninterrupted run, because batches differ.
        overwrite: Replace an existing output, its file of bad rows, and the remains of an earlier run. With `resume`:
            resume, or begin again if the settings have changed.
        progress: Show a progress bar.

    Returns:
        The output file, the numbers of rows, and the precision, runtime and seconds.

    Raises:
        ValueError: A file or column does not exist (the message gives near names), a column cannot be written, the
            output exists, an earlier run had other settings, or, with `strict`, a row is bad.
        OSError: The output cannot be written. Rows that are done are kept for `resume`.

    Example:
        >>> from multihead_hf import MultiHeadPredictor, predict_files
        >>> predictor = MultiHeadPredictor.from_pretrained("complaints")
        >>> report = predict_files(predictor, "complaints.csv", "predictions.csv", overwrite=True)
        >>> report.output, report.rows, report.bad_rows
        ('predictions.csv', 40, 0)
    """
    chosen_columns = [text_columns] if isinstance(text_columns, str) else text_columns
    texts = list(chosen_columns or predictor.model.config.text_columns or ["text"])
    path = Path(output)
    format_of(path)  # (a path such as "." has no name to derive others from)
    errors, parts = path.with_name(f"{path.name}.errors.jsonl"), path.with_name(f"{path.name}.parts")
    names: Any = os.fspath(source) if isinstance(source, os.PathLike) else source
    if isinstance(names, (list, tuple)):
        names = [os.fspath(name) if isinstance(name, os.PathLike) else name for name in names]
    rows = open_rows(names, delimiter, split, config, (path, errors, parts), encoding)
    check_columns(rows.columns, texts, "the text", ". Choose it with text_columns=[...] (--text-column NAME)")
    keep = [keep] if isinstance(keep, str) else keep
    check_columns(rows.columns, list(keep or ()), "--keep")
    heads = {name: predictor.model.config.heads[name] for name in predictor.heads}
    kept = None if keep is None else list(dict.fromkeys(keep))
    columns = Columns(heads, kept, prefix, top_k is not None, all_scores)
    columns.check(rows.columns)
    table = Table(path, columns, rows.schema, sep)
    if kept is not None:
        rows.wanted = list(dict.fromkeys([*texts, *kept]))
    if top_k is not None or threshold is not None:
        predictor.decode(predictor.logits([]), top_k, threshold)  # invalid values raise an error here, before any work
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
    run = FileRun(predictor, rows, table, (path, errors), texts, strict)
    before = predictor.chosen
    try:
        ended = run.begin(settings, names, resume, overwrite)
        return ended if ended is not None else run.go(top_k, threshold, progress)
    except OSError as error:
        if not run.parts.can_go_on():
            raise
        raise OSError(f"{error}; {parts} holds the predictions made so far: --resume continues from them") from error
    finally:
        run.parts.unlock()
        predictor.use(before if predictor.choice is None else predictor.choice.precision)
