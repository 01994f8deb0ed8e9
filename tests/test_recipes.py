"""The recipes of the systems that the library replaces: each demo, and each with data of a user's own."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import tiny
from demo_data import ggu_rows, sentiment_rows
from example_runs import EXAMPLES, run
from hub_server import HubServer
from safetensors.torch import load_file

from multihead_hf import MultiHeadModel

QUICK = ["--disable_tqdm", "true", "--use_cpu"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(folder / "repos") as server:
        server.add_model("BAAI/bge-m3", tiny.save_encoder(folder / "encoder", "xlm-roberta"))
        server.add_dataset("philipp-zettl/GGU-xx", {"train": ggu_rows(60)})
        server.add_dataset("philipp-zettl/sentiment", {"train": sentiment_rows(60)})
        yield server


def recipe(name: str, where: Path, *flags: str, environment: dict[str, str] | None = None) -> str:
    environment = environment or {**os.environ, "HF_HOME": str(where / "hf")}
    return run([sys.executable, str(EXAMPLES / name), *QUICK, *flags], where, environment)


def score(out: str, figure: str) -> float:
    found = re.search(rf"^  {figure} +(\d\.\d+)$", out, flags=re.M)
    assert found, out
    return float(found[1])


@pytest.mark.slow
def test_ggu_then_sentiment(tmp_path: Path) -> None:
    out = recipe("train_ggu_sentiment.py", tmp_path, "--demo", "--epochs", "20", "10", "--output_dir", "out")
    reports = re.findall(r"^    accuracy +(\d\.\d+) +120$", out, flags=re.M)
    assert len(reports) == 2
    assert all(float(accuracy) > 0.7 for accuracy in reports)
    assert "The first head is unchanged." in out
    for head in ("GGU", "sentiment"):
        folder = tmp_path / "out" / f"_report_{head}"
        for picture in (f"{head.lower()}_confusion", "training_loss", "training_rates"):
            assert (folder / f"{picture}.png").stat().st_size > 5000
        assert (folder / "report.html").is_file()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| GGU | `accuracy` |" in card
    assert "| sentiment | `accuracy` |" in card
    assert "assets/ggu_confusion.png" in card
    model = MultiHeadModel.from_pretrained(tmp_path / "out")
    assert {name: head.labels for name, head in model.config.heads.items()} == {
        "GGU": ["Greeting", "Gratitude", "Other"],
        "sentiment": ["Positive", "Negative", "Neutral"],
    }


@pytest.mark.slow
def test_ggu_from_the_hub_in_half_precision(hub: HubServer, tmp_path: Path) -> None:
    """The documented command: the schedule on a plateau, SGD with momentum, a cap on rows, batch size found."""
    flags = ["--encoder_dtype", "float16", "--momentum", "0.9", "--auto_find_batch_size", "--train_rows", "24"]
    flags += ["--epochs", "6", "2", "--output_dir", "out", "--push_to_hub", "--hub_model_id", "tester/ggu"]
    flags += ["--lr_scheduler_kwargs", '{"factor": 0.2, "patience": 0, "min_lr": 1e-8, "threshold": 0.5}']
    out = recipe("train_ggu_sentiment.py", tmp_path, *flags, environment=hub.env(tmp_path / "home", token="hf_test"))
    assert "The first head is unchanged." in out
    rates = [float(rate) for rate in re.findall(r"^step .*  lr (\S+)$", out, flags=re.M)]
    assert len(rates) == 8
    assert rates[5] < rates[0] == 1e-4
    weights = load_file(hub.files("tester/ggu")["model.safetensors"])
    assert {str(value.dtype) for key, value in weights.items() if key.startswith("encoder.")} == {"torch.float16"}
    assert {str(value.dtype) for key, value in weights.items() if key.startswith("heads.")} == {"torch.float32"}
    # neither features nor the demo's encoder are published
    assert not [name for name in hub.files("tester/ggu") if name.startswith("_")]
    assert (tmp_path / "out" / "_features").is_dir()


@pytest.mark.slow
def test_multilabel(tmp_path: Path) -> None:
    out = recipe("train_multilabel.py", tmp_path, "--demo", "--num_train_epochs", "4", "--output_dir", "out")
    assert score(out, "f1_micro") > 0.6
    assert score(out, "roc_auc_micro") > 0.9
    assert score(out, "accuracy") > 0.2
    few, many = (re.search(rf"^  from {cut}: (.*)$", out, flags=re.M) for cut in ("0.5", "0.01"))
    assert few
    assert many
    assert len(few[1].split(", ")) <= len(many[1].split(", "))


@pytest.mark.slow
def test_multilabel_of_ones_own_table(tmp_path: Path) -> None:
    rows = [{"body": f"w{i % 7} w{i % 3}", "tags": "|".join(f"tag {i % n}" for n in (2, 3))} for i in range(60)]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    tiny.save_encoder(tmp_path / "encoder", "canine")
    flags = ["--data", "rows.csv", "--text_columns", "body", "--label_column", "tags", "--sep", "|"]
    flags += ["--model_name", "encoder", "--num_train_epochs", "1", "--output_dir", "out", "--text", "w1 w2"]
    out = recipe("train_multilabel.py", tmp_path, *flags)
    assert score(out, "f1_micro") >= 0
    assert "\nw1 w2\n" in out


@pytest.mark.slow
def test_imbalanced(tmp_path: Path) -> None:
    out = recipe("train_imbalanced.py", tmp_path, "--demo", "--output_dir", "out")
    assert 0.6 < score(out, "f1") < 1
    assert score(out, "recall") > 0.5
    folder = tmp_path / "out"
    parts = {part: pd.read_csv(folder / "_splits" / f"{part}.csv") for part in ("train", "validation", "test")}
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 420, "validation": 140, "test": 140}
    shares = [rows["Majority Decision"].mean() for rows in parts.values()]
    assert max(shares) - min(shares) < 0.01
    mistakes = pd.read_csv(folder / "_mistakes.csv")
    assert list(mistakes.columns) == ["Text", "true", "predicted"]
    assert (mistakes["true"] != mistakes["predicted"]).all()
    assert f"{len(mistakes)} of 140 predictions are wrong" in out
    truth = parts["test"].set_index("Text")["Majority Decision"]
    assert (truth[mistakes["Text"]].to_numpy() == mistakes["true"].to_numpy()).all()
    head = json.loads((folder / "config.json").read_text())["heads"][0]
    assert head["positive_label"] == "True"
    n, positives = 420, int(parts["train"]["Majority Decision"].sum())
    assert head["label_weights"] == pytest.approx([n / (2 * (n - positives)), n / (2 * positives)])
    probabilities = re.search(r"^  False ([\d.]+), True ([\d.]+)$", out, flags=re.M) or re.search(
        r"^  True ([\d.]+), False ([\d.]+)$", out, flags=re.M
    )
    assert probabilities
    assert float(probabilities[1]) + float(probabilities[2]) == pytest.approx(1, abs=0.002)


@pytest.mark.slow
def test_search(tmp_path: Path) -> None:
    flags = ["--demo", "--trials", "3", "--epochs", "1", "2", "--output_dir", "out", "--study", "sqlite:///search.db"]
    out = recipe("search.py", tmp_path, *flags)
    found = re.search(r"^Best trial: \d, F1 ([\d.]+) with \{(.*)\}$", out, flags=re.M)
    assert found
    assert "'batch_size'" in found[2]
    assert 0 <= score(out, "f1") <= 1  # (trials are drawn at random, and after one epoch the best may find nothing)
    again = re.search(r"^Best epoch on the validation part: f1 ([\d.]+)$", out, flags=re.M)
    assert again
    assert again[1] == found[1]  # the best trial, trained again
    assert (tmp_path / "out" / "config.json").exists()
    assert (tmp_path / "search.db").exists()
