"""The demo data: the same rows everywhere, label counts as promised, and texts from which a model can learn."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, List, Value
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer
from wimbert_demo_data import BELEVING_LABELS, ONDERWERP_LABELS, generate_messages

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LABELS = {"onderwerp_labels": ONDERWERP_LABELS, "beleving_labels": BELEVING_LABELS}
COLUMNS = {
    "signal_id": Value("string"),
    "text": Value("string"),
    "onderwerp_labels": List(Value("string")),
    "beleving_labels": List(Value("string")),
    "gpt41_onderwerp_labels": List(Value("string")),
    "gpt41_beleving_labels": List(Value("string")),
    "gpt41_reasoning": Value("string"),
    "channel": ClassLabel(names=["phone", "email", "whatsapp", "webform", "unknown"]),
    "timestamp": Value("string"),
    "age": Value("int32"),
    "gender": ClassLabel(names=["male", "female"]),
    "neighborhood": Value("string"),
    "communication_style": ClassLabel(names=["formal", "informal", "direct", "verbose"]),
    "emotional_tendency": ClassLabel(names=["neutral", "frustrated", "angry", "anxious", "confused", "friendly"]),
    "place_name": Value("string"),
    "place_neighborhood": Value("string"),
    "event_type": Value("string"),
    "is_calamity": Value("bool"),
    "message_length": Value("int32"),
}


@pytest.fixture(scope="module")
def messages() -> Dataset:
    return generate_messages()


@pytest.fixture(scope="module")
def half() -> Dataset:
    return generate_messages(2000, seed=3)


def fingerprint(dataset: Dataset) -> str:
    return hashlib.sha256(json.dumps(dataset.to_dict()).encode()).hexdigest()


def test_columns_and_features(messages: Dataset) -> None:
    assert messages.num_rows == 4000
    assert messages.column_names == list(COLUMNS)
    assert dict(messages.features) == COLUMNS


def test_no_rows_keep_the_features() -> None:
    assert generate_messages(0).num_rows == 0
    assert dict(generate_messages(0).features) == COLUMNS


def test_same_arguments_same_rows() -> None:
    assert generate_messages(100, 7).to_dict() == generate_messages(100, 7).to_dict()
    assert generate_messages(100, 7)["text"] != generate_messages(100, 8)["text"]


def test_same_rows_in_another_process() -> None:
    program = (
        "import hashlib, json; from wimbert_demo_data import generate_messages as g;"
        "print(hashlib.sha256(json.dumps(g(300, 7).to_dict()).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(EXAMPLES)}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == fingerprint(generate_messages(300, 7))


@pytest.mark.parametrize(
    ("column", "count", "mean", "top", "rarest"),
    [("onderwerp_labels", 96, 1.75, (0.08, 0.12), (4, 12)), ("beleving_labels", 26, 1.89, (0.18, 0.28), (40, 100))],
)
def test_label_frequencies(
    messages: Dataset, column: str, count: int, mean: float, top: tuple[float, float], rarest: tuple[int, int]
) -> None:
    counts = Counter(label for labels in messages[column] for label in labels)
    assert len(LABELS[column]) == len(set(LABELS[column])) == count
    assert set(counts) == set(LABELS[column])
    assert sum(counts.values()) / messages.num_rows == pytest.approx(mean, abs=0.05)
    assert top[0] <= max(counts.values()) / messages.num_rows <= top[1]
    assert rarest[0] <= min(counts.values()) <= rarest[1]


@pytest.mark.parametrize("column", list(LABELS))
def test_labels_and_second_labelling(messages: Dataset, column: str) -> None:
    first, second = messages[column], messages[f"gpt41_{column}"]
    for labels in [*first, *second]:
        assert labels
        assert len(labels) == len(set(labels))
        assert set(labels) <= set(LABELS[column])
    same = np.mean([set(a) == set(b) for a, b in zip(first, second, strict=True)])
    assert 0.5 < same < 0.9


def test_texts(messages: Dataset) -> None:
    texts = messages["text"]
    words = np.array([len(text.split()) for text in texts])
    assert 50 <= words.mean() <= 80
    assert words.min() <= 15
    assert words.max() >= 200
    assert len(set(texts)) >= 0.99 * len(texts)
    assert not [text for text in texts if "{" in text or "}" in text or "  " in text or "\n" in text]
    assert messages["message_length"] == [len(text) for text in texts]


def test_first_and_last_rows_are_alike(messages: Dataset) -> None:
    first, last = messages.select(range(2000)), messages.select(range(2000, 4000))
    for column in LABELS:
        shares = [Counter(label for labels in part[column] for label in labels) for part in (first, last)]
        for label in LABELS[column][:5]:
            assert shares[0][label] == pytest.approx(shares[1][label], rel=0.3)


def test_metadata(messages: Dataset) -> None:
    assert len(set(messages["signal_id"])) == messages.num_rows
    assert min(messages["age"]) >= 18
    assert 0.02 < np.mean(messages["is_calamity"]) < 0.2
    assert all(reason.endswith(".") and "'" in reason for reason in messages["gpt41_reasoning"])
    assert set(messages["place_neighborhood"]) == set(messages["neighborhood"])


@pytest.fixture(scope="module")
def vectors(half: Dataset) -> tuple[csr_matrix, csr_matrix]:
    """TF-IDF vectors of the first 80 % and of the last 20 % of the rows."""
    vectorizer = TfidfVectorizer(min_df=2, sublinear_tf=True)
    return vectorizer.fit_transform(half["text"][:1600]), vectorizer.transform(half["text"][1600:])


@pytest.mark.parametrize(("column", "low", "high"), [("onderwerp_labels", 0.6, 0.92), ("beleving_labels", 0.65, 0.9)])
def test_labels_can_be_learned(
    half: Dataset, vectors: tuple[csr_matrix, csr_matrix], column: str, low: float, high: float
) -> None:
    targets = MultiLabelBinarizer(classes=list(LABELS[column])).fit_transform(half[column])
    model = OneVsRestClassifier(LogisticRegression(C=30, solver="liblinear")).fit(vectors[0], targets[:1600])
    decisions = model.predict_proba(vectors[1]) > 0.3
    micro = f1_score(targets[1600:], decisions, average="micro")
    macro = f1_score(targets[1600:], decisions, average="macro", zero_division=0)
    assert low < micro < high
    assert macro < micro


@pytest.mark.parametrize("column", ["emotional_tendency", "channel", "communication_style"])
def test_tone_can_be_learned(half: Dataset, vectors: tuple[csr_matrix, csr_matrix], column: str) -> None:
    targets = np.array(half[column])
    model = LogisticRegression(C=30, max_iter=300).fit(vectors[0], targets[:1600])
    accuracy = model.score(vectors[1], targets[1600:])
    majority = np.bincount(targets).max() / len(targets)
    assert majority + 0.25 < accuracy < 0.95
