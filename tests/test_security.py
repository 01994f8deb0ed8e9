"""What SECURITY.md says, tried."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command_line import cli

from multihead_hf import MultiHeadModel, MultiHeadPredictor, predict_files

ROOT = Path(__file__).parents[1]

# trains, saves, loads, predicts, evaluates and explains, and tells what Python was asked to do meanwhile
WATCHED = """
import json, os, sys
events = []
watching = False

def hook(event, arguments):
    if not watching:
        return
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system", "os.exec"):
        events.append([event, repr(arguments)[:200]])
    elif event == "open":
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & (os.O_WRONLY | os.O_RDWR))
        if writes and isinstance(path, (str, bytes)):
            events.append(["write", os.path.abspath(os.fsdecode(path))])
    elif event in ("os.mkdir", "os.rename"):
        events.append(["write", os.path.abspath(os.fsdecode(arguments[1 if event == "os.rename" else 0]))])

sys.addaudithook(hook)
import tiny
from training_runs import trainer_for
from multihead_hf import MultiHeadPredictor, explain, predict_files
watching = True
trainer = trainer_for("asked/run", max_steps=2, save_strategy="steps", save_steps=2)
trainer.train()
trainer.save_model()
predictor = MultiHeadPredictor.from_pretrained("asked/run")
predictor.predict(["w1 w2"])
predict_files(predictor, "rows.jsonl", "asked/out.jsonl")
explain(predictor.model, predictor.tokenizer, "w1 w2 w3", "mood", method="occlusion")
trainer.evaluate()
watching = False
json.dump(events, open("events.json", "w"))
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    place = tmp_path_factory.mktemp("watched")
    for name in ("asked", "tmp", "hf"):
        (place / name).mkdir()
    (place / "rows.jsonl").write_text('{"text": "w1"}\n{"text": "w2"}\n')
    environment = {**os.environ, "HF_HOME": str(place / "hf"), "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1"}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)  # nobody holds it back
    subprocess.run([sys.executable, "-c", WATCHED], cwd=place, env=environment, check=True)
    return place, json.loads((place / "events.json").read_text())


@pytest.mark.slow
def test_no_network_and_no_program(events: tuple[Path, list[list[str]]]) -> None:
    assert [event for event in events[1] if event[0] != "write"] == []


def test_nothing_is_written_but_what_was_asked_for(events: tuple[Path, list[list[str]]]) -> None:
    place, found = events
    written = {path for kind, path in found if kind == "write"}
    assert (place / "asked" / "run" / "config.json").is_file()
    assert any(path.startswith(str(place / "asked")) for path in written)
    allowed = [str(place / name) for name in ("asked", "tmp", "hf")]
    assert sorted(path for path in written if not path.startswith((*allowed, "/dev/"))) == []
    assert sorted(path.name for path in place.iterdir()) == ["asked", "events.json", "hf", "rows.jsonl", "tmp"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny.model().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_no_pickle_is_read_for_prediction(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (saved / name).write_bytes(b"no pickle")

    def refuses(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a pickle is read")

    for owner, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(owner, name, refuses)
    (tmp_path / "rows.jsonl").write_text('{"text": "w1"}\n')
    predictor = MultiHeadPredictor.from_pretrained(str(saved))
    assert predictor.predict(["w1"])["mood"].labels
    assert predict_files(predictor, str(tmp_path / "rows.jsonl"), tmp_path / "out.jsonl").rows == 1
    (saved / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        MultiHeadModel.from_pretrained(saved)


EVIL = """
import pathlib
pathlib.Path({marker!r}).write_text("code of the folder has run")
"""


def test_no_command_runs_code_that_lies_in_a_folder(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what the folder names (`auto_map`) nor its copies of the model's own files, which may have been changed."""
    marker = tmp_path / "marker"
    for path in [*saved.glob("*.py"), saved / "evil.py"]:
        path.write_text(EVIL.format(marker=str(marker)))
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((saved / name).read_text())
        names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Slow", "evil.Fast"]}
        (saved / name).write_text(json.dumps({**settings, "auto_map": names}))
    (tmp_path / "rows.csv").write_text("text,topic,mood\nw1,roads,calm\nw2,waste,angry\n")
    monkeypatch.setattr("builtins.input", lambda *args: "yes")
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115 (for the time of the test)
    rows = tmp_path / "rows.csv"
    done = [
        cli("predict", saved, rows, "-o", tmp_path / "out.jsonl"),
        cli("evaluate", saved, rows, "--sep", "topic=|"),
        cli("explain", saved, "w1 w2", "--head", "mood", "--method", "occlusion"),
    ]
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    assert not marker.exists()


def test_the_document_is_there_and_names_what_it_promises() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for word in ("trust_remote_code=True", "pickle", "safetensors", "network", "revision=", "Report a problem"):
        assert word in text
