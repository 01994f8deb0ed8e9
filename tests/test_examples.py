"""Every example runs as its docstring says; the WimBERT recipe from the Hub, unmodified, against a local one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import predict_ray
import pyarrow as pa
import pytest
import tiny
from example_runs import EXAMPLES, run
from hub_server import HubServer
from planted import PLANTED, planted_model
from transformers import pipeline
from wimbert_demo_data import generate_messages

LAUNCHERS = {
    "python": [sys.executable],
    "accelerate": [
        sys.executable,
        "-m",
        "accelerate.commands.accelerate_cli",
        "launch",
        "--cpu",
        "--num_processes",
        "1",
    ],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"],
}
SMALL = ["--max_length", "48", "--logging_steps", "1", "--disable_tqdm", "true", "--use_cpu"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A Hub with a tiny ModernBERT and 64 messages under the names that the recipe uses."""
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(folder / "repos") as server:
        server.add_model("jhu-clsp/mmBERT-base", tiny.save_encoder(folder / "encoder", "modernbert"))
        server.add_dataset("UWV/wim-synthetic-data-rd", {"train": generate_messages(64)})
        yield server


@pytest.mark.slow
def test_wimbert_from_the_hub_through_accelerate_to_the_hub_and_back(hub: HubServer, tmp_path: Path) -> None:
    environment = hub.env(tmp_path / "home", token="hf_test")
    script = [*LAUNCHERS["accelerate"], str(EXAMPLES / "train_wimbert.py")]
    flags = ["--push_to_hub", "--hub_model_id", "tester/wimbert", "--num_train_epochs", "2", "--heads", "channel"]
    out = run([*script, *SMALL, *flags], tmp_path, environment)
    assert "onderwerp (" in out
    assert "channel (" in out

    # 27, 29: every push holds the code and no pickle
    files = hub.files("tester/wimbert")
    code = {path.name for path in (EXAMPLES.parent / "multihead_hf" / "model").glob("*_multihead.py")}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} | code <= set(files)
    assert "\nbase_model: " in files["README.md"].read_text()
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    messages = [message for _, message in hub.commits("tester/wimbert")]
    assert any("Training in progress, epoch 1" in message for message in messages)
    assert "End of training" in messages

    # W1–W4 are the defaults that ran
    config = json.loads(files["config.json"].read_text())
    heads = {head["name"]: head for head in config["heads"]}
    assert list(heads) == ["onderwerp", "beleving", "channel"]
    for name in ("onderwerp", "beleving"):
        expected = {
            "architecture": "mlp",
            "dropout": 0.2,
            "activation": "relu",
            "loss": "soft_f1_bce",
            "loss_kwargs": {"alpha": 0.15, "temperature": 2.0},
            "problem_type": "multi_label_classification",
            "thresholds": None,
        }
        assert {key: heads[name][key] for key in expected} == expected
    assert config["pooling"] == "cls"
    assert heads["channel"]["labels"] == ["phone", "email", "whatsapp", "webform", "unknown"]

    script = """
import sys
sys.modules["multihead_hf"] = None
from transformers import AutoModel, pipeline
AutoModel.from_pretrained("tester/wimbert", trust_remote_code=True)
pipe = pipeline("multi-head-text-classification", "tester/wimbert", trust_remote_code=True)
print(list(pipe("De container is vol", top_k=1)[0]))
"""
    fresh = hub.env(tmp_path / "home-of-a-user")
    assert run([sys.executable, "-c", script], tmp_path, fresh).strip() == "['onderwerp', 'beleving', 'channel']"
    assert hub.strays == []


@pytest.mark.slow
def test_a_checkpoint_push_holds_the_code(hub: HubServer, tmp_path: Path) -> None:
    """What is on the Hub while training still runs: a push from a checkpoint is whole by itself."""
    script = """
import tiny
from multihead_hf import MultiHeadTrainer, MultiHeadTrainingArguments
args = MultiHeadTrainingArguments("out", max_steps=2, save_steps=1, push_to_hub=True, hub_model_id="tester/early",
                                  hub_strategy="checkpoint", hub_always_push=True, use_cpu=True, disable_tqdm=True)
trainer = MultiHeadTrainer(tiny.model(), args, None, tiny.table(16), None, tiny.tokenizer())
trainer.train()
"""
    environment = hub.env(tmp_path / "home", token="hf_test")
    environment["PYTHONPATH"] = str(Path(__file__).parent / "helpers")
    run([sys.executable, "-c", script], tmp_path, environment)
    names = set(hub.files("tester/early"))
    published = {name for name in names if "/" not in name}
    assert {
        "config.json",
        "model.safetensors",
        "modeling_multihead.py",
        "pipeline_multihead.py",
        "tokenizer.json",
    } <= published
    assert not [name for name in published if name.endswith((".bin", ".pt", ".pth"))]
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/modeling_multihead.py"} <= names


@pytest.mark.slow
def test_pushing_without_a_token(hub: HubServer, tmp_path: Path) -> None:
    environment = hub.env(tmp_path / "home")
    command = [
        sys.executable,
        str(EXAMPLES / "train_wimbert.py"),
        *SMALL,
        "--push_to_hub",
        "--hub_model_id",
        "tester/no",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "pushing to the Hub needs a token" in done.stderr
    assert ("model", "tester/no") not in hub.repos
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.distributed
def test_wimbert_on_two_processes(hub: HubServer, tmp_path: Path) -> None:
    flags = ["--max_steps", "2", "--save_strategy", "no", "--load_best_model_at_end", "false", "--eval_strategy", "no"]
    script = [*LAUNCHERS["torchrun"], str(EXAMPLES / "train_wimbert.py"), "--learn_thresholds", "--output_dir", "out"]
    out = run([*script, *SMALL, *flags], tmp_path, hub.env(tmp_path / "home"))
    assert out.count("mean F1 over the heads") == 1
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["heads"][0]["learn_thresholds"] == 0.565
    assert len(config["heads"][0]["thresholds"]) == len(config["heads"][0]["labels"])


@pytest.mark.slow
def test_the_demo_trains_and_its_folder_predicts(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf")}
    flags = ["--demo", "--demo_rows", "300", "--num_train_epochs", "1", "--output_dir", "out", "--disable_tqdm", "true"]
    out = run([sys.executable, str(EXAMPLES / "train_wimbert.py"), *flags], tmp_path, environment)
    table = [line for line in out.splitlines() if re.match(r"(onderwerp \(|beleving \(|  all zeros|mean F1)", line)]
    assert len(table) == 5
    assert out.count("(labelled: ") == 6
    predicted = run([sys.executable, str(EXAMPLES / "predict.py"), "out", "De container is vol"], tmp_path, environment)
    lines = predicted.splitlines()
    assert lines[0] == "onderwerp"
    assert lines[4] == "beleving"
    assert all(re.match(r"  [01]\.\d{3}  \w+", line) for line in lines[1:4] + lines[5:8])


@pytest.mark.slow
@pytest.mark.parametrize(("head", "label"), [("mood", "angry"), pytest.param(None, None, marks=pytest.mark.nightly)])
def test_explain(head: str | None, label: str | None, tmp_path: Path) -> None:
    planted_model().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    flags = [] if head is None else ["--head", head, "--label", label]
    command = [sys.executable, str(EXAMPLES / "explain.py"), "model", f"w1 w2 {PLANTED} w3", *flags]
    out = run([*command, "--num_samples", "200", "--html", "page.html"], tmp_path, dict(os.environ))
    gradients, lime = out.split("\nLIME, ")
    lines = gradients.splitlines()
    assert lines[0].startswith(f"{head or 'topic'}: {label or 'waste'}, probability 0.9")
    assert "additivity error" in lines[1]
    assert lines[3].endswith(f"  {PLANTED}")
    assert re.match(rf"\+0\.\d+  {PLANTED}$", lime.splitlines()[1])
    assert "<mark" in (tmp_path / "page.html").read_text()


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_the_demo_reaches_a_useful_score(tmp_path: Path) -> None:
    """What `make train` shows: far from all zeros on both heads, and no trivial 1.0."""
    flags = ["--demo", "--output_dir", "out", "--disable_tqdm", "true"]
    command = [sys.executable, str(EXAMPLES / "train_wimbert.py"), *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.search(r"mean F1 over the heads +([\d.]+)", done.stdout)
    assert found
    assert 0.75 < float(found[1]) < 0.95


_HELP = """
import os, runpy, sys

for path in sys.argv[1:]:
    sys.argv, sys.path[0] = [path, "--help"], os.path.dirname(path)
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, path
"""


@pytest.mark.slow
def test_help(tmp_path: Path) -> None:
    paths = sorted(str(path) for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text())
    told = run([sys.executable, "-c", _HELP, *paths], tmp_path, dict(os.environ))
    for path in paths:
        assert f"usage: {Path(path).name}" in told


def test_a_worker_of_the_ray_example_predicts_as_the_pipeline(tmp_path: Path) -> None:
    tiny.model(heads=tiny.two_heads(thresholds=0.47)).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    texts = ["w1 w2", "w59", "w3 w4 w5"]
    found = predict_ray.Labeller(str(tmp_path), "text")(pa.table({"id": [1, 2, 3], "text": texts}))
    expected = pipeline("multi-head-text-classification", str(tmp_path), trust_remote_code=True)(texts)
    assert found.column_names[:2] == ["id", "text"]
    for row, own in zip(found.to_pylist(), expected, strict=True):
        assert row["predicted_topic"] == [entry["label"] for entry in own["topic"]]
        assert row["predicted_mood"] == own["mood"][0]["label"]
        assert row["predicted_mood_score"] == pytest.approx(own["mood"][0]["score"], abs=1e-5)


@pytest.mark.nightly
def test_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='not installed: pip install "ray[data]"')
    tiny.model().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    pd.DataFrame({"text": [f"w{i % 60}" for i in range(100)]}).to_parquet(tmp_path / "rows.parquet")
    command = [
        sys.executable,
        str(EXAMPLES / "predict_ray.py"),
        "model",
        "rows.parquet",
        "labels",
        "--block_rows",
        "30",
    ]
    run(command, tmp_path, {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
    assert sorted(pd.read_parquet(tmp_path / "labels")["text"]) == sorted(f"w{i % 60}" for i in range(100))
