"""The code of the migration page runs."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
from hub_server import HubServer

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "migrate.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
ENCODERS = set(re.findall(r'(?:from_encoder|from_pretrained)\("([^"]+)"', "\n".join(CODE)))


@pytest.mark.slow
def test_its_code_runs_in_order(tmp_path: Path) -> None:
    assert len(CODE) == 7
    words = [f"w{i} w{i % 7}" for i in range(40)]
    pd.DataFrame({"text": words, "call": [i % 5 == 0 for i in range(40)]}).to_csv(tmp_path / "posts.csv", index=False)
    pd.DataFrame({"sample": words, "label": [i % 3 for i in range(40)]}).to_csv(tmp_path / "ggu.csv", index=False)
    pd.DataFrame({"text": words, "label": ["good", "bad"] * 20}).to_csv(tmp_path / "reviews.csv", index=False)
    (tmp_path / "data").mkdir()
    table = pd.DataFrame({"text": words, "sentiment": ["good", "bad"] * 20, "severity": [i % 4 for i in range(40)]})
    for part in ("train", "dev", "test"):
        table.to_csv(tmp_path / "data" / f"{part}.tsv", sep="\t", index=False)
    with HubServer(tmp_path / "hub") as hub:
        for name in ENCODERS:
            hub.add_model(name, tiny.save_encoder(tmp_path / "encoder"))
        environment = {**hub.env(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        script = "\n".join(CODE)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250
        )
    assert done.returncode == 0, done.stderr[-4000:]
    assert re.search(r"^[01]\.\d+$", done.stdout, flags=re.M)  # the printed F1
    for folder in ("both", "out"):
        assert (tmp_path / folder / "pipeline_multihead.py").is_file()


def test_its_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.+)$", PAGE, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) == anchors
