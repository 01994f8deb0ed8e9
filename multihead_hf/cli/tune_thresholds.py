"""`multihead-hf tune-thresholds`: choose thresholds on validation rows."""

import os
from typing import Annotated, Any, Literal

import typer

from .expansion import library
from .options import (
    DataArgument,
    FileOptions,
    JsonOption,
    LabelOptions,
    as_text,
    check_folder,
    read_part,
    warn_of_training_rows,
)

# setting → the metric that uses it
_READERS = {"precision": "recall_at_precision", "costs": "cost"}


def command(
    model: Annotated[str, typer.Argument(help="Folder of a saved multi-head model; its config.json is changed.")],
    data: DataArgument,
    settings: Annotated[
        dict[str, Any],
        library(
            "tune_thresholds",
            metric={"type": Literal["f1", "recall_at_precision", "cost"]},
            granularity={"type": Literal["auto", "head", "label"]},
            min_support={"min": 1},
            precision={"unset": True},
            costs={"type": tuple[float, float], "flag": "--costs", "unset": True},
        ),
    ],
    labels: LabelOptions,
    files: FileOptions,
    split: Annotated[
        str | None, typer.Option(help="Which split of a folder or Hub dataset. Default: validation.")
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="Name of a head. May be given several times. Default: all heads.")
    ] = None,
    calibrate_too: Annotated[
        bool, typer.Option("--calibrate", help="First fit a temperature to each head, on the same rows.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be chosen, without changing the model.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose the thresholds of a saved model's multi-label heads on validation rows, and store them in its folder."""
    _check_settings(settings)
    from .. import calibrate, tune_thresholds
    from ..evaluation.predictions import predicted
    from ..prediction.loading import load_model, saved_config
    from ..publishing.saved_thresholds import save_decisions

    config = saved_config(model)
    reading = labels.reading(config)
    check_folder(model)
    loaded, tokenizer = load_model(model)
    warn_of_training_rows(model, data, split)
    labelled = read_part(data, files, config.heads, reading, split, ("validation",))
    rows = predicted(loaded, labelled, tokenizer, **reading)
    reports: dict[str, Any] = {}
    if calibrate_too:
        reports["calibration"] = calibrate(loaded, rows, heads=head or None)
    names = [
        name
        for name, head_config in loaded.config.heads.items()
        if head_config.multi_label and (not head or name in head)
    ]
    if names or not calibrate_too:
        reports["thresholds"] = tune_thresholds(
            loaded,
            rows,
            heads=names if head and calibrate_too else head or None,
            **{name: value for name, value in settings.items() if value is not None},
        )
    changed = calibrate_too or any(report.choice != "unchanged" for report in reports["thresholds"].heads.values())
    if changed and not dry_run:
        save_decisions(model, loaded)
    if as_json:
        print(as_text({key: report.to_dict() for key, report in reports.items()}))
    else:
        print("\n\n".join(str(report) for report in reports.values()))
        path = os.path.join(model, "config.json")
        print(f"\nThe thresholds are in {path}" if changed and not dry_run else "\nNothing was changed")


def _check_settings(settings: dict[str, Any]) -> None:
    """Check that the metric uses each setting.

    Raises:
        BadParameter: If the metric does not use a setting.
    """
    for name, reader in _READERS.items():
        if settings[name] is not None and settings["metric"] != reader:
            raise typer.BadParameter(
                f"--metric {settings['metric']} does not use this option, only --metric {reader} does",
                param_hint=f"--{name}",
            )
