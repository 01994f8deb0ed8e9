"""What is logged reaches TensorBoard files and offline runs of Weights & Biases."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# (a process of its own: both libraries keep threads and global state)
RUN = """
import sys
sys.path.insert(0, {tests!r})
import tiny
from training_runs import trainer_for
from multihead_hf import GradientCosineCallback
heads = tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.5)
trainer = trainer_for("out", model=tiny.model(heads=heads), max_steps=4, report_to={to!r}, eval_strategy="steps", eval_steps=2)
trainer.add_callback(GradientCosineCallback(trainer, every=2, rows=16))
trainer.train()
trainer.evaluate()
import json
json.dump(trainer.state.log_history, open("history.json", "w"))
"""
WHILE_TRAINING = {
    *("loss", "topic_loss", "mood_loss", "topic_soft_f1", "topic_bce", "grad_norm", "grad_norm_encoder"),
    *("topic_grad_norm", "mood_grad_norm", "learning_rate_encoder", "learning_rate_heads", "learning_rate_thresholds"),
    *("topic_threshold_mean", "topic_threshold_min", "topic_threshold_max", "gradient_cosine_topic_mood"),
}
EVALUATED = {"loss", "f1", "topic_loss", "topic_f1_micro", "topic_roc_auc_macro", "mood_loss", "mood_f1_macro"}
WANTED = {f"train/{key}" for key in WHILE_TRAINING} | {f"eval/{key}" for key in EVALUATED}


def run(folder: Path, to: str) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        **{"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "WANDB_SILENT": "true", "HOME": str(folder)},
        **{"TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"), "OMP_NUM_THREADS": "1"},
    }
    code = RUN.format(tests=str(Path(tiny.__file__).parent), to=to)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "history.json").read_text())


def logged(history: list[dict[str, Any]], key: str) -> list[float]:
    kind, name = key.split("/")
    name = name if kind == "train" else f"eval_{name}"
    return [entry[name] for entry in history if name in entry]


@pytest.mark.slow
def test_tensorboard(tmp_path: Path) -> None:
    history = run(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= WANTED
    for key in WANTED:
        values = [event.value for event in events.Scalars(key)]
        assert values == pytest.approx(logged(history, key)[: len(values)], rel=1e-5), key
    assert len(events.Scalars("train/topic_loss")) == 4


def records(path: Path) -> Iterator[bytes]:
    """The records of an offline run: a header of 7 bytes, then blocks as in LevelDB's log format."""
    data, place, found = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place < len(data):
        if 32768 - place % 32768 < 7:  # padding
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        found += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield found
            found = b""


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path: Path) -> None:
    from wandb.proto import wandb_internal_pb2

    history = run(tmp_path, "wandb")
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found: dict[str, list[float]] = {}
    for data in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            value = json.loads(item.value_json)
            if isinstance(value, (int, float)):
                found.setdefault(item.key or "/".join(item.nested_key), []).append(value)
    assert set(found) >= WANTED
    for key in WANTED:
        assert found[key] == pytest.approx(logged(history, key)[: len(found[key])], rel=1e-5), key
