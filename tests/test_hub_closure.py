"""What travels is closed: saved folders work where `multihead_hf` cannot be imported, and the rooms keep their direction."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from transformers import pipeline
from transformers.dynamic_module_utils import get_imports, get_relative_import_files

import multihead_hf
from multihead_hf import MultiHeadModel, MultiHeadTrainer, MultiHeadTrainingArguments

PACKAGE = Path(multihead_hf.__file__).parent
TRAVELLING = sorted((PACKAGE / "model").glob("*_multihead.py"))
MAY_IMPORT = {
    "utils": {"utils"},
    "model": {"model"},
    "data": {"data", "model", "utils"},
    "evaluation": {"evaluation", "data", "model", "utils"},
    "prediction": {"prediction", "data", "model", "utils"},
    "explanation": {"explanation", "prediction", "data", "model"},
    "demo": {"demo", "prediction", "data", "model", "utils"},
    "publishing": {"publishing", "prediction", "evaluation", "data", "model", "utils"},
    "training": {"training", "data", "evaluation", "model", "prediction", "publishing", "utils"},
    # "": the public names of the package itself
    "cli": {
        "",
        "cli",
        "data",
        "demo",
        "evaluation",
        "explanation",
        "model",
        "prediction",
        "publishing",
        "training",
        "utils",
    },
}
TEXTS = ["w1 w2 w3", "", "w59", "w4 w5 w6 w7 w8 w9 w10"]


def rooms_imported(path: Path) -> set[str]:
    """Rooms of the package that a file imports, also inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            rooms.add(path.parent.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 2:
            rooms.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("multihead_hf"):
            rooms.add(node.module.split(".")[1] if "." in node.module else "multihead_hf")
    return rooms


def test_rooms_import_in_one_direction_only() -> None:
    files = [path for path in PACKAGE.glob("*/*.py") if path.name != "__init__.py"]
    assert len(files) > 10
    for path in files:
        assert rooms_imported(path) <= MAY_IMPORT[path.parent.name], path


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.name)
def test_travelling_files_need_torch_and_transformers_only(path: Path) -> None:
    needed = set(get_imports(path)) - set(sys.stdlib_module_names)
    assert needed <= {"torch", "transformers"}
    if path.name in ("configuration_multihead.py", "head_multihead.py", "reading_multihead.py"):
        assert "torch" not in needed
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, "a saved folder is flat"
            assert node.module, "`from . import x` is not followed by transformers"


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.name)
def test_travelling_files_read_and_write_nothing_themselves(path: Path) -> None:
    """Files and the network are transformers' to touch, so that whoever reads the code of a repository is soon done."""
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    harmless = {"collections", "collections.abc", "copy", "dataclasses", "difflib", "inspect", "itertools", "math"}
    harmless |= {"contextlib", "hashlib", "json", "numbers", "re", "types", "typing"}
    others = {name for name in imported if name.split(".")[0] not in ("torch", "transformers")} - harmless
    assert others <= {"os"}
    paths = {"PathLike", "path", "isdir"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr in paths
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "eval", "exec", "compile", "__import__", "input")
        if isinstance(node, ast.Attribute):
            assert (getattr(node.value, "id", None), node.attr) not in {("torch", "load"), ("torch", "save")}


def test_every_travelling_file_is_reached_from_the_model() -> None:
    reached = {Path(file).name for file in get_relative_import_files(PACKAGE / "model" / "modeling_multihead.py")}
    assert reached | {"modeling_multihead.py"} == {path.name for path in TRAVELLING}


@pytest.mark.slow
def test_prediction_imports_no_library_for_training() -> None:
    """Beyond what transformers imports itself for a model and a pipeline."""
    script = """
import sys
from transformers import AutoModel, Pipeline, PreTrainedModel, PreTrainedTokenizerBase
before = set(sys.modules)
import multihead_hf
multihead_hf.MultiHeadModel, multihead_hf.MultiHeadPipeline
added = set(sys.modules) - before
print([name for name in ("accelerate", "datasets", "evaluate", "sklearn", "pandas") if name in added])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Trainer's checkpoint of a model with learned thresholds, awkward head names and a prefix."""
    folder = tmp_path_factory.mktemp("trained")
    heads = tiny.two_heads(loss="soft_f1", learn_thresholds=0.4, architecture="mlp")
    heads["a.b é"] = heads["mood"]
    model = tiny.model("modernbert", heads=heads, text_prefix="w9 ", max_length=8)
    args = MultiHeadTrainingArguments(
        str(folder), max_steps=2, save_steps=2, use_cpu=True, disable_tqdm=True, learning_rate=1e-2
    )
    trainer = MultiHeadTrainer(model, args, None, tiny.table(16), None, tiny.tokenizer())
    trainer.train()
    return folder / "checkpoint-2"


BLOCKED = """
import json, sys
sys.modules["multihead_hf"] = None  # importing it raises
from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline
import torch
folder, texts = sys.argv[1], json.loads(sys.argv[2])
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules"), type(model)
tokenizer = AutoTokenizer.from_pretrained(folder)
pipe = pipeline("multi-head-text-classification", folder, trust_remote_code=True)
inputs = tokenizer(["w9 " + text for text in texts], padding=True, truncation=True, max_length=8, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
saved = {"heads": list(config.heads), "logits": {name: value.tolist() for name, value in logits.items()}}
saved["labels"] = pipe(texts)
saved["single"] = pipe(texts[0], top_k=2)
json.dump(saved, open("found.json", "w"))
model.save_pretrained("model-again"); tokenizer.save_pretrained("model-again")
pipe.save_pretrained("pipe-again")
"""


def run_blocked(folder: Path, where: Path) -> dict:
    environment = {**os.environ, "HF_HOME": str(where / "hf")}
    subprocess.run(
        [sys.executable, "-c", BLOCKED, str(folder), json.dumps(TEXTS)], check=True, cwd=where, env=environment
    )
    return json.loads((where / "found.json").read_text())


@pytest.mark.slow
def test_a_checkpoint_works_and_can_be_saved_where_the_package_is_blocked(checkpoint: Path, tmp_path: Path) -> None:
    first = run_blocked(checkpoint, tmp_path)
    model = MultiHeadModel.from_pretrained(checkpoint)
    tokenizer = tiny.tokenizer()
    inputs = tokenizer(
        ["w9 " + text for text in TEXTS], padding=True, truncation=True, max_length=8, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**inputs).logits
    assert first["heads"] == list(logits) == ["topic", "mood", "a.b é"]
    assert first["logits"] == {name: value.tolist() for name, value in logits.items()}
    ours = pipeline("multi-head-text-classification", model=model, tokenizer=tokenizer)
    assert first["labels"] == ours(TEXTS)
    assert first["single"] == ours(TEXTS[0], top_k=2)
    assert any(row["topic"] for row in first["labels"])

    for name in ("model-again", "pipe-again"):
        elsewhere = tmp_path / f"from-{name}"
        elsewhere.mkdir()
        assert run_blocked(tmp_path / name, elsewhere) == first


@pytest.mark.slow
def test_a_model_from_custom_code_goes_on_training(checkpoint: Path, tmp_path: Path) -> None:
    script = """
import sys
from transformers import AutoModel, AutoTokenizer
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules"), type(model)
import multihead_hf, tiny  # after the model was made from its own code
from multihead_hf import MultiHeadTrainer, MultiHeadTrainingArguments
before = {key: value.clone() for key, value in model.state_dict().items()}
args = MultiHeadTrainingArguments("out", max_steps=2, save_steps=2, use_cpu=True, disable_tqdm=True, learning_rate=1e-2)
table = tiny.table(16)
trainer = MultiHeadTrainer(model, args, None, table, table, AutoTokenizer.from_pretrained(sys.argv[1]))
trainer.train()
assert any(not (before[key] == value).all() for key, value in model.state_dict().items())
assert trainer.evaluate()["eval_f1"] >= 0
again = AutoModel.from_pretrained("out/checkpoint-2")
assert all((value == again.state_dict()[key]).all() for key, value in model.state_dict().items())
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(Path(__file__).parent / "helpers")}
    subprocess.run([sys.executable, "-c", script, str(checkpoint)], check=True, cwd=tmp_path, env=environment)
