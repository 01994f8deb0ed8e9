"""The Hugging Face Space that `multihead-hf demo --space` writes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gradio
import pytest
import yaml
from command_line import cli
from demo_models import knowing_model, save
from hub_server import HubServer

from multihead_hf import MultiHeadModel
from multihead_hf.demo import space

ROOT = Path(__file__).parents[2]

# builds the page of app.py and asks what it would show, with everything but torch, transformers, gradio out of reach
BLOCKED = """
import json, runpy, sys
for name in ("multihead_hf", "datasets", "sklearn", "evaluate", "captum", "lime"):
    sys.modules[name] = None  # importing it raises
app = runpy.run_path("app.py")
demo = app["demo"]
reading = demo.read("w1 w2")
labels = [component.get("props", {}).get("label") for component in app["page"].get_config_file()["components"]]
print(json.dumps({"page": demo.results(reading), "labels": labels, "settings": vars(demo.settings)}))
"""


def run_blocked(folder: Path, environment: dict[str, str]) -> dict:
    environment = {**environment, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=folder, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def metadata(folder: Path) -> dict:
    _, block, _ = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(block)


@pytest.mark.slow
def test_a_space_with_a_model_of_a_folder(tmp_path: Path) -> None:
    model = save(knowing_model(), tmp_path / "model")
    title, example = 'A \'title\': """ {x} \\', 'w1 "w2" \\n {model}'
    options = ["--title", title, "--example", example, "--max-rows", "7"]
    done = cli("demo", model, "--space", tmp_path / "space", *options)
    assert done.returncode == 0, done.stderr
    assert "app.py" in done.stdout
    folder = tmp_path / "space"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "app.py",
        "model",
        "multihead_demo",
        "requirements.txt",
    ]
    assert metadata(folder) == {
        "title": title,
        "sdk": "gradio",
        "sdk_version": gradio.__version__,
        "app_file": "app.py",
    }
    found = run_blocked(folder, {**os.environ, "HF_HOME": str(tmp_path / "hf")})
    assert "roads" in found["page"]
    assert "waste" in found["page"]
    assert "calm" in found["page"]
    assert "angry" not in found["page"]
    assert found["settings"]["title"] == title
    assert found["settings"]["examples"] == [example]
    assert found["settings"]["max_rows"] == 7
    assert {"Text", "Table", "Threshold to use instead"} <= set(found["labels"])
    assert "Method" not in found["labels"]  # words need multihead_hf
    weights = MultiHeadModel.from_pretrained(folder / "model").state_dict()
    assert all((value == weights[key]).all() for key, value in knowing_model().state_dict().items())


@pytest.mark.slow
def test_a_space_with_a_model_on_the_hub(tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub") as hub:
        hub.add_model("me/complaints", save(knowing_model(), tmp_path / "model"))
        environment = hub.env(tmp_path / "home")
        command = [sys.executable, "-m", "multihead_hf.cli", "demo", "me/complaints", "--space", "space"]
        own = {**environment, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "space"
        assert not (folder / "model").exists()
        assert metadata(folder)["models"] == ["me/complaints"]
        assert metadata(folder)["title"] == "complaints"
        assert "roads" in run_blocked(folder, environment)["page"]
        assert hub.strays == []


def test_a_folder_that_holds_something(tmp_path: Path) -> None:
    model = save(knowing_model(), tmp_path / "model")
    folder = tmp_path / "space"
    save(knowing_model(), folder / "model")  # of an earlier Space
    (folder / "model" / "old.safetensors").write_text("")
    (folder / "mine.txt").write_text("mine")
    done = cli("demo", model, "--space", folder)
    assert done.returncode == 1
    assert "exists and is not empty: use another folder, or overwrite it (--overwrite)" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt", "model"]
    assert cli("demo", model, "--space", folder, "--overwrite").returncode == 0
    assert (folder / "mine.txt").read_text() == "mine"
    assert (folder / "app.py").is_file()
    assert not (folder / "model" / "old.safetensors").exists()


def test_a_second_space_leaves_no_model_of_the_first(tmp_path: Path) -> None:
    model, folder = save(knowing_model(), tmp_path / "model"), tmp_path / "space"
    settings = space.DemoSettings()
    space.write_space(folder, str(model), settings)
    assert (folder / "model" / "model.safetensors").is_file()
    space.write_space(folder, "me/hub", settings, overwrite=True)
    assert not (folder / "model").exists()
    (folder / "model").mkdir()
    (folder / "model" / "notes.txt").write_text("mine")
    for source in ("me/hub", str(model)):
        with pytest.raises(ValueError, match="was not written by this command"):
            space.write_space(folder, source, settings, overwrite=True)
    assert (folder / "model" / "notes.txt").read_text() == "mine"
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()
    with pytest.raises((ValueError, OSError)):
        space.write_space(tmp_path / "other", str(model), settings)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("inside", ["", "space"])
def test_never_into_the_model(tmp_path: Path, inside: str) -> None:
    model = save(knowing_model(), tmp_path / "model")
    done = cli("demo", model, "--space", model / inside, "--overwrite")
    assert done.returncode == 1
    assert "is the model's folder, or inside it" in done.stderr
    assert not (model / "app.py").exists()


def test_requirements_are_those_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for line in space.REQUIREMENTS:
        assert re.search(rf'"{re.escape(line)}"', project), line


def test_the_page_is_copied_as_a_whole() -> None:
    """Its files import their siblings and the readers only, and all of those are copied."""
    room = Path(space.__file__).parent
    assert sorted(space.COPIED) == sorted(path.name for path in room.glob("demo*.py"))
    for name in space.COPIED:
        for module in re.findall(r"^\s*from (\.\S*) import", (room / name).read_text(), flags=re.M):
            own = module.removeprefix("..data.")
            copied = space.READERS if own != module else space.COPIED
            assert f"{own.removeprefix('.')}.py" in copied, (name, module)
    for name in space.READERS:
        for module in re.findall(r"^\s*from (\.\S*) import", (room.parent / "data" / name).read_text(), flags=re.M):
            assert f"{module.removeprefix('.')}.py" in space.READERS, (name, module)
