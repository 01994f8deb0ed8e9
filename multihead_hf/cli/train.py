"""`multihead-hf train`: a whole run, from a table or a YAML file."""

import contextlib
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ..utils.files import holds_model, write_whole
from .expansion import library
from .options import NAME, FileOptions, JsonOption, TableOptions, as_text, read


def command(
    settings: Annotated[dict[str, Any], library("train_from_config", "resume")],
    files: FileOptions,
    labels: TableOptions,
    table: Annotated[dict[str, Any], library("training.table_run.table_run", encoder={"unset": True})],
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="Your table (files, a glob, a folder, or a dataset on the Hub), with --label-column; or a YAML file "
            "of a run (--example prints one)."
        ),
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", "-o", help="Folder of the model. Default: runs/ and the table's name.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE of the run, such as training.learning_rate=1e-4. May be given several times."
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Start a new run in a folder that already has one; its checkpoints are deleted when training begins.",
        ),
    ] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a YAML file to start from.")] = False,
    keys: Annotated[
        bool, typer.Option("--keys", help="Print every key of a run, its default and its meaning.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on your table.

    multihead-hf train rows.csv --label-column topics --label-column mood

    The rows are split 80/10/10 (training, validation, test), the model is trained with the defaults, thresholds of
    multi-label heads are chosen on the validation rows, and the test rows are evaluated. The run is stored as
    run.yaml in the folder of the model; with a YAML file, only its own settings are used. Ctrl+C saves a checkpoint,
    and --resume resumes from it.
    Several processes: accelerate launch -m multihead_hf.cli train run.yaml
    """
    if example or keys:
        from ..training.run_help import EXAMPLE, describe_keys

        print(EXAMPLE if example else describe_keys())
        return
    if not source:
        raise typer.BadParameter(
            "name your table, and the columns of its labels: rows.csv --label-column topics; or a YAML file "
            "(--example prints one)",
            param_hint="SOURCE",
        )
    if settings["resume"] and overwrite:
        raise _both("--resume")
    of_table = {**asdict(labels), "output_dir": output_dir, **table, **files}
    is_file = len(source) == 1 and source[0].lower().endswith((".yaml", ".yml"))
    if is_file:
        _check_run_file(source[0], of_table, change or [])
        run: Any = source[0]
    else:
        run = _run_of_table(source, labels, output_dir or _folder_of(source[0]), files, table)
    from ..training.run import output_dir_of, train_run
    from ..training.run_config import as_yaml, parse_change, read_run_config, read_yaml, with_changes
    from ..training.run_folder import RUN_FILE, check_output_dir, claimed, is_first_process, remove_checkpoints

    changes = dict(map(parse_change, change or []))
    configuration = read_run_config(run, changes)
    values = read_yaml(run) if is_file else run
    output = output_dir_of(configuration)
    resumes = bool(configuration.training.get("resume_from_checkpoint"))
    if resumes and overwrite:
        raise _both("training.resume_from_checkpoint")
    goes_on = settings["resume"] or resumes

    def begin() -> None:
        folder = Path(output)
        if overwrite:
            remove_checkpoints(folder)
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / RUN_FILE
        if not is_file or not kept.exists() or not kept.samefile(run):
            write_whole(kept, as_yaml(with_changes(values, changes)).encode())
        elif changes:
            print(f"{kept} stays as it is, without the changes of --set", file=sys.stderr)

    # with --json the output is only the metrics, without the Trainer's messages
    with claimed(output), contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        held_model = holds_model(Path(output))
        if is_first_process():
            check_output_dir(output, goes_on or overwrite)
        try:
            done = train_run(configuration, settings["resume"], begin)
        except KeyboardInterrupt as stop:
            print(f"{NAME}: {_stopped(stop, output, held_model)}", file=sys.stderr)
            raise typer.Exit(130) from None
    if not done.trainer.is_world_process_zero():
        return
    if as_json:
        print(as_text(done.metrics))
    else:
        print("\n\n".join(done.messages))
        if not is_file and not configuration.after_training.report and find_spec("matplotlib") is None:
            print('\nNo report was made, as it needs matplotlib: pip install "multihead-hf[plots]"')
        _say_next(str(done.trainer.args.output_dir), list(done.trainer.config.heads))


def _both(resume: str) -> typer.BadParameter:
    """Return the error for a run that should be resumed and overwritten."""
    return typer.BadParameter(
        f"{resume} continues a run and --overwrite starts a new one: give only one of them", param_hint="--overwrite"
    )


def _stopped(stop: KeyboardInterrupt, folder: str, held_model: bool) -> str:
    """Return what Ctrl+C has left, and how to go on; `held_model` says that the folder had a model before the run."""
    from transformers.trainer_utils import get_last_checkpoint

    checkpoint = get_last_checkpoint(folder) if os.path.isdir(folder) else None
    earlier = f". Until then, {folder} holds the model of an earlier run" if held_model else ""
    if checkpoint is None:
        return f"stopped before a checkpoint was saved; to start again, run the same command with --overwrite{earlier}"
    what = str(stop) or f"stopped; the newest checkpoint is {checkpoint}"
    return f"{what}; run the same command with --resume to continue{earlier}"


def _check_run_file(path: str, of_table: Mapping[str, Any], changes: list[str]) -> None:
    """Check a run's file, and that no option for tables is given with it.

    Raises:
        BadParameter: If an option applies to tables only.
        ValueError: If the file cannot be read, or has an unknown key.
    """
    for name, value in of_table.items():
        if value is not None and value != []:
            raise typer.BadParameter(
                f"this option is for a table; {path} is a YAML file, so change it there or with --set KEY=VALUE",
                param_hint=f"--{name.replace('_', '-')}",
            )
    from .run_keys import check_run_keys

    check_run_keys(path, changes)


def _run_of_table(
    source: list[str],
    labels: TableOptions,
    output_dir: str,
    files: Mapping[str, Any],
    table: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the configuration of a run that trains on a table.

    Raises:
        BadParameter: If no columns of labels are given.
        ValueError: If rows cannot be read, or labels are unclear.
    """
    from .. import infer_heads
    from ..data.sources import one_part, training_part
    from ..training.table_run import SPLIT, table_run

    columns = labels.columns()
    reading = labels.options(list(columns))
    rows = read(source, files, dict.fromkeys(columns), {**reading, "label_columns": columns})
    parts = list(rows) if isinstance(rows, Mapping) and len(rows) > 1 else []
    part = one_part(rows, None, [training_part(rows)] if isinstance(rows, Mapping) else [])
    if not columns:
        raise typer.BadParameter(
            f"name the columns of the labels, --label-column topics --label-column mood. Columns: {part.column_names}",
            param_hint="--label-column",
        )
    with _unsaid("multihead_hf.data"):  # the run infers the heads again, and shows the warnings then
        heads = infer_heads(rows, columns, **reading)
    options = {name: value for name, value in table.items() if value is not None}
    return table_run(
        source[0] if len(source) == 1 else source,
        heads,
        output_dir,
        parts=parts,
        validation_rows=len(rows.get("validation", ())) if parts else int(len(part) * SPLIT["validation"]),
        label_columns=columns,
        text_columns=labels.text_column,
        **options,
        **reading,
        **files,
    )


@contextlib.contextmanager
def _unsaid(name: str) -> Iterator[None]:
    """Context manager: a logger emits errors only."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _folder_of(source: str) -> str:
    """Return `runs/` and the name of the table."""
    name = re.sub(r"[^\w-]+", "-", Path(source).name.partition(".")[0]).strip("-")
    return f"runs/{name or 'model'}"


def _say_next(folder: str, heads: list[str]) -> None:
    model, head = shlex.quote(folder), f" --head {shlex.quote(heads[0])}" if len(heads) > 1 else ""
    print(f"\nThe model is {folder}. What you can do with it:")
    print(f"  {NAME} predict {model} new_rows.csv -o predictions.csv")
    for command, package, extra in (
        (f'explain {model} "a text"{head}', "captum", "explain"),
        (f"demo {model}", "gradio", "demo"),
    ):
        needs = "" if find_spec(package) else f'    (first: pip install "multihead-hf[{extra}]")'
        print(f"  {NAME} {command}{needs}")
