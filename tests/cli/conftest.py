"""A table of labelled rows, and a saved model."""

from pathlib import Path

import pandas as pd
import pytest
import tiny

ROWS = [
    {"text": "w1 w2 w3", "topics": "roads|noise", "mood": "calm"},
    {"text": "w1 w2 w3", "topics": "roads", "mood": "calm"},
    {"text": "", "topics": "", "mood": "angry"},
    {"text": "w4 w5", "topics": "waste", "mood": "calm"},
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder
