"""Configuration of a run on a table with default settings, and the tables that a model was trained on.

`train_from_config` takes the configuration.
"""

import importlib.util
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model.head_multihead import HeadConfig
from .run_config import read_run_config
from .run_folder import RUN_FILE

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}
ENOUGH_TO_CHOOSE = 200  # validation rows


def table_run(
    source: str | Sequence[str],
    heads: Mapping[str, HeadConfig],
    output_dir: str,
    *,
    parts: Collection[str] = (),
    validation_rows: int | None = None,
    encoder: str = ENCODER,
    label_columns: Mapping[str, str | list[str]] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return the configuration of a run on a table with default settings.

    The run splits the table, trains, tunes thresholds on the validation rows, and reports on the test rows. It keeps
    the epoch with the best F1 on the validation rows where there are at least 200 of them, and else the last one: on
    fewer rows, the epoch that looks best is often one that has learned less.

    Args:
        source: The table: files, a glob, a folder, or a dataset on the Hub.
        heads: Name → head, as `infer_heads` returns them.
        output_dir: Folder of the model.
        parts: Names of existing splits; then the rows are not split, and steps that need validation rows are left out
            if there are none.
        validation_rows: Number of validation rows; `None` if it is not known.
        encoder: Pretrained encoder, a name on the Hub or a folder.
        label_columns: Name of a head → its column or columns, if they differ from the name.
        settings: `delimiter` and `encoding` of the files; `text_columns`, `sep`, `empty` and `multi_hot` as for
            `MultiHeadTrainingArguments`. `None` leaves a setting out.

    Returns:
        The sections `model`, `heads`, `data`, `training` and `after_training`, of plain values.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    files: dict[str, Any] = {name: settings.pop(name) for name in ("delimiter", "encoding") if name in settings}
    columns = {name: column for name, column in (label_columns or {}).items() if column != name}
    data: dict[str, Any] = {"train": source if isinstance(source, str) else list(source), **files}
    training: dict[str, Any] = {"output_dir": output_dir, **settings}
    validated = not parts or "validation" in parts
    after: dict[str, Any] = {}
    if not parts:
        data["split"] = SPLIT
    if validated:
        training |= {"eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 1}
        if validation_rows is None or validation_rows >= ENOUGH_TO_CHOOSE:
            training |= {"load_best_model_at_end": True, "metric_for_best_model": "f1"}
        after["tune_thresholds"] = any(head.multi_label for head in heads.values())
    if validated or "test" in parts:
        after["report"] = importlib.util.find_spec("matplotlib") is not None
    return {
        "model": {"encoder": encoder},
        "heads": {name: {"column": columns[name]} if name in columns else {} for name in heads},
        "data": data,
        "training": training,
        "after_training": after,
    }


def trained_on(model: str, split: str | None) -> set[str]:
    """Return the paths of the tables that a model was trained on, where its folder has the file of such a run.

    Args:
        model: folder of the model.
        split: the split that is asked about; a run that splits its table itself uses rows of all of it.
    """
    path = Path(model) / RUN_FILE
    if not path.is_file():
        return set()
    try:
        data = read_run_config(str(path)).data
    except ValueError:  # a file of that name by another program or version
        return set()
    if (data.split is None and split != "train") or isinstance(data.train, dict) or data.train is None:
        return set()
    return {os.path.realpath(name) for name in ([data.train] if isinstance(data.train, str) else data.train)}
