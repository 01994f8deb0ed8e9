"""Predictions of files of any size: read, predicted and written window by window, and taken up again after a kill."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .file_run import FileRun, PredictionReport
from .predictor import MultiHeadPredictor
from .rows import check_columns, open_rows
from .tables import Columns, Table


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
    them out; another run over the same output is refused meanwhile.

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
        output: a `.parquet`, `.jsonl` or `.csv` file. In CSV files a text that spreadsheets would take for a formula
            (it begins with =, +, -, @, a tab or a carriage return, and is no number) has an apostrophe before it.
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
        resume: go on where a run that was ended left off; of one that was finished its report is returned. Scores are
            those of a run without a pause to about 1e-6, as texts share other batches.
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
    errors, parts = place.with_name(f"{place.name}.errors.jsonl"), place.with_name(f"{place.name}.parts")
    rows = open_rows(source, delimiter, split, config, (place, errors, parts), encoding)
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
    run = FileRun(predictor, rows, table, (place, errors), texts, strict)
    before = predictor.chosen
    try:
        ended = run.begin(settings, source, resume, overwrite)
        return ended if ended is not None else run.go(top_k, threshold, progress)
    except OSError as error:
        if not run.parts.can_go_on():
            raise
        raise OSError(f"{error}; {parts} holds the predictions made so far: --resume continues from them") from error
    finally:
        run.parts.unlock()
        predictor.use(before if predictor.choice is None else predictor.choice.precision)
