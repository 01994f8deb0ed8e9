"""The linear baseline against scikit-learn itself, and on rows of every kind."""

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from multihead_hf import BaselineReport, HeadConfig, linear_baseline
from multihead_hf.evaluation import baseline as module

WORDS = [f"{stem}{ending}" for stem in ("lan", "vor", "mik", "tes", "dru", "pal") for ending in ("en", "ing", "ster")]
TOPICS = ["roads", "waste", "noise"]
HEADS = {
    "topic": HeadConfig(labels=TOPICS, problem_type="multi_label_classification"),
    "mood": HeadConfig(labels=["calm", "angry"], positive_label="angry"),
    "place": HeadConfig(labels=["north", "south", "east", "west"]),
}


def rows(number: int, seed: int) -> tuple[list[str], dict[str, np.ndarray]]:
    """Texts whose labels follow from their words, with some noise, and some missing targets."""
    rng = np.random.default_rng(seed)
    chosen = rng.random((number, len(WORDS))) < 0.25
    chosen[:, 0] |= ~chosen.any(1)
    texts = [" ".join(word for word, on in zip(WORDS, own, strict=True) if on) for own in chosen]
    noisy = chosen ^ (rng.random(chosen.shape) < 0.05)
    topic = (noisy[:, :3] & ~noisy[:, 3:6]).astype(np.float32)
    topic[:4] = -100
    topic[5, 1] = -100
    mood = noisy[:, 6].astype(np.int64)
    mood[2:9] = -100
    place = 2 * noisy[:, 7].astype(np.int64) + noisy[:, 8]
    return texts, {"topic": topic, "mood": mood, "place": place}


def classifier(weight: str | None) -> LogisticRegression:
    return LogisticRegression(solver="liblinear", C=5, class_weight=weight, tol=1e-6)


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    train_texts, train_targets = rows(400, 0)
    texts, references = rows(200, 1)
    return {"train_texts": train_texts, "train_targets": train_targets, "texts": texts, "references": references}


@pytest.fixture(scope="module")
def report(data: dict[str, Any]) -> BaselineReport:
    return linear_baseline(HEADS, **data)


def test_figures_are_those_of_scikit_learn(data: dict[str, Any], report: BaselineReport) -> None:
    parts = [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    ]
    train = hstack([each.fit_transform(data["train_texts"]) for each in parts]).tocsr()
    vectors = hstack([each.transform(data["texts"]) for each in parts]).tocsr()
    for name, head in HEADS.items():
        own, targets, references = report.heads[name], data["train_targets"][name], data["references"][name]
        if head.multi_label:
            chosen = np.zeros(references.shape, dtype=bool)
            for label in range(3):
                known = targets[:, label] != -100
                fitted = classifier(own.class_weight).fit(train[known], targets[known, label])
                chosen[:, label] = fitted.predict_proba(vectors)[:, 1] >= 0.5
            known = references != -100
            truth, chosen = (references == 1) & known, chosen & known
            expected = {kind: f1_score(truth, chosen, average=kind) for kind in ("micro", "macro")}
            figures = {kind: own.figures[f"f1_{kind}"] for kind in expected}
        else:
            known = targets != -100
            scores = [
                classifier(own.class_weight).fit(train[known], targets[known] == label).decision_function(vectors)
                for label in range(head.num_labels)
            ]
            known = references != -100
            truth, chosen = references[known], np.argmax(scores, axis=0)[known]
            expected = {"accuracy": accuracy_score(truth, chosen), "f1_macro": f1_score(truth, chosen, average="macro")}
            figures = {kind: own.figures[kind] for kind in expected}
        # the solver stops earlier: a row or two near the boundary may differ
        assert figures == pytest.approx(expected, abs=0.012), name
        assert min(expected.values()) > 0.7
        assert own.rows == own.labelled_rows == (np.atleast_2d(targets.T).T != -100).any(1).sum()
    assert report.heads["mood"].figures["f1"] == pytest.approx(
        f1_score(
            data["references"]["mood"][data["references"]["mood"] != -100],
            report.heads["mood"].decisions.argmax(1)[data["references"]["mood"] != -100],
        )
    )


def test_the_same_seed_gives_the_same_report(data: dict[str, Any], report: BaselineReport) -> None:
    again = linear_baseline(HEADS, **data)
    assert again.to_dict() == report.to_dict()
    for name, own in report.heads.items():
        assert np.array_equal(again.heads[name].decisions, own.decisions)
    one, other = (linear_baseline(HEADS, **data, max_rows=60, seed=seed) for seed in (1, 2))
    assert one.to_dict() != other.to_dict()


def test_no_more_rows_are_read_than_are_used(data: dict[str, Any]) -> None:
    class Texts(list):
        read: set[int] = set()

        def __getitem__(self, row: Any) -> Any:
            self.read.add(row)
            return super().__getitem__(row)

    texts = Texts(data["train_texts"])
    found = linear_baseline({"place": HEADS["place"]}, **{**data, "train_texts": texts}, max_rows=50)
    assert len(texts.read) == 50
    assert found.heads["place"].rows == 50
    assert found.heads["place"].trained_on == "a sample of 50 of 400 rows"
    assert "a sample of 50 of 400 rows" in str(found)
    # the heads share the rows that are labelled for both
    texts.read.clear()
    linear_baseline(HEADS, **{**data, "train_texts": texts}, max_rows=50)
    assert 50 <= len(texts.read) < 70


def test_class_weights_are_chosen_on_training_rows(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two weightings that which is better on the held-out fifth, whatever it is on the evaluation rows."""
    seen: list[tuple[int, int, str | None]] = []
    original = module._scores

    def noting(head: Any, train: Any, targets: Any, vectors: Any, weight: Any, seed: int) -> Any:
        seen.append((train.shape[0], vectors.shape[0], weight))
        scores = original(head, train, targets, vectors, weight, seed)
        return -scores if weight is None else scores  # which makes no weights worse

    monkeypatch.setattr(module, "_scores", noting)
    found = linear_baseline({"place": HEADS["place"]}, **data)
    assert found.heads["place"].class_weight == "balanced"
    assert seen == [(320, 80, None), (320, 80, "balanced"), (400, 200, "balanced")]


def test_large_sets_leave_out_frequent_and_rare_n_grams() -> None:
    train_texts, targets = rows(module._FEW_ROWS + 100, 3)
    train_texts[0] += " unica"
    vectors = module._vectors(train_texts, ["unica"])
    assert vectors is not None
    assert vectors[1].nnz == 0
    few = module._vectors(train_texts[:50], ["unica"])
    assert few is not None
    assert few[1].nnz > 0
    found = linear_baseline(HEADS, train_texts, targets, *rows(100, 4))
    assert found.heads["topic"].figures["f1_micro"] > 0.7


def test_min_labels_and_soft_targets() -> None:
    texts, targets = rows(300, 5)
    soft = np.where(targets["topic"] == -100, -100, np.where(targets["topic"] == 1, 0.7, 0.3))
    hard = {"topic": HEADS["topic"]}
    one = linear_baseline(hard, texts, {"topic": targets["topic"]}, texts, {"topic": targets["topic"]})
    other = linear_baseline(hard, texts, {"topic": soft}, texts, {"topic": soft})
    assert one.to_dict() == other.to_dict()
    head = HeadConfig(labels=TOPICS, problem_type="multi_label_classification", min_labels=1, thresholds=[0.99] * 3)
    limited = linear_baseline({"topic": head}, texts, {"topic": soft}, texts, {"topic": soft}).heads["topic"]
    assert limited.decisions.any(1).all()
    assert not one.heads["topic"].decisions.any(1).all()
    assert (limited.decisions >= one.heads["topic"].decisions).all()  # thresholds of the model are not those of this


def test_heads_without_anything_to_learn_are_left_out() -> None:
    heads = {
        "one class": HeadConfig(labels=["a", "b"]),
        "no row": HeadConfig(labels=["a", "b"]),
        "not given": HeadConfig(labels=["a", "b"]),
        "all equal": HeadConfig(labels=["a", "b"], problem_type="multi_label_classification"),
        "not evaluated": HeadConfig(labels=["a", "b"]),
        "rare": HeadConfig(labels=["a", "b", "c"], problem_type="multi_label_classification"),
    }
    targets = {
        "one class": [0] * 6,
        "no row": [-100] * 6,
        "all equal": [[1, -100]] * 6,
        "not evaluated": [0, 1] * 3,
        "rare": [[1, 0, 1], [0, 0, 1]] * 3,  # b never, c always
    }
    references = {name: [0, 1] for name in ("one class", "no row", "not given")}
    references |= {"all equal": [[1, 0], [0, 1]], "not evaluated": [-100, -100], "rare": [[1, 0, 1], [0, 1, 1]]}
    texts = ["red wine", "green tea"]
    found = linear_baseline(heads, texts * 3, targets, texts, references)
    assert found.left_out == {
        "one class": "all training rows have the same labels",
        "no row": "no training row has a label for this head",
        "not given": "no training row has a label for this head",
        "all equal": "all training rows have the same labels",
    }
    assert list(found.heads) == ["rare"]
    assert found.heads["rare"].decisions.tolist() == [[True, False, True], [False, False, True]]
    assert "one class               no baseline: all training rows have the same labels" in str(found)


@pytest.mark.parametrize("text", ["", "   \n"])
def test_texts_without_anything_to_count(text: str) -> None:
    head = {"mood": HEADS["mood"]}
    found = linear_baseline(head, [text] * 8, {"mood": [0, 1] * 4}, ["a"], {"mood": [1]})
    assert found.left_out == {"mood": "the training texts have no words or characters that can be counted"}


@pytest.mark.parametrize(
    ("calm", "angry"),
    [
        ("这里很安静", "噪音太大了"),
        ("静かな町です", "うるさい道路"),
        ("هادئ جدا", "غاضب كثيرا"),
        ("👍👍", "👎👎"),
        ("a", "b"),
    ],
)
def test_any_script(calm: str, angry: str) -> None:
    head = {"mood": HEADS["mood"]}
    found = linear_baseline(head, [calm, angry] * 10, {"mood": [0, 1] * 10}, [angry, calm], {"mood": [1, 0]})
    assert found.heads["mood"].figures["f1"] == 1.0


def test_a_single_row_and_contradictions() -> None:
    head = {"mood": HEADS["mood"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = linear_baseline(head, ["a b", "c d"], {"mood": [0, 1]}, ["c d"], {"mood": [1]})
        assert found.heads["mood"].figures["accuracy"] == 1.0
        same = linear_baseline(head, ["a b"] * 40, {"mood": [0, 1] * 20}, ["a b"], {"mood": [1]})
    assert np.isfinite(list(same.heads["mood"].figures.values())).all()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="head 'mood': train_targets have 3 rows, but there are 2 texts"):
        linear_baseline(HEADS, ["a", "b"], {"mood": [0, 1, 1]}, ["a"], {"mood": [1]})
    with pytest.raises(ValueError, match="head 'mood': references have 2 rows, but there are 1 texts"):
        linear_baseline(HEADS, ["a", "b"], {"mood": [0, 1]}, ["a"], {"mood": [1, 0]})
    with pytest.raises(ValueError, match="max_rows 0: give a whole number of 1 or more"):
        linear_baseline(HEADS, ["a"], {"mood": [0]}, ["a"], {"mood": [1]}, max_rows=0)


def test_a_report_without_baselines_says_why() -> None:
    assert str(BaselineReport(reason="the rows are gone")) == "There is no linear baseline: the rows are gone."
