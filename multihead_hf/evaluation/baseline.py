"""A linear baseline: TF-IDF with logistic regression, evaluated with the metrics of the heads."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from ..model.decoding_multihead import decide
from ..model.head_multihead import HeadConfig
from .metric_names import main_score_of
from .metrics import MISSING, Bools, Floats, compute_metrics, known_and_true

NAME = "TF-IDF + logistic regression"
MAX_ROWS = 10_000
_CHOICE_ROWS = 2_000  # rows used to choose the class weights; four fifths of them are for training
_FEW_ROWS = 500  # with fewer rows, n-grams that occur only once count too
_MAX_FEATURES = 60_000  # maximum number of word n-grams, and of character n-grams
_WORDS_OF, _CHARACTERS_OF = 5_000, 300  # leading characters used for words and character n-grams
_CERTAIN = 30.0  # absolute score of a label that all training rows have, or none


@dataclass
class HeadBaseline:
    """Linear baseline of one head.

    Args:
        main_score: name of the head's main score.
        rows: number of training rows that were used.
        labelled_rows: number of training rows labelled for the head; `None` if only a sample was read.
        class_weight: `"balanced"` or `None`, whichever had the higher main score on held-out training rows.
        figures: metric → value, the metrics that the library reports for the head.
        decisions: bool (rows, labels), the predicted labels of the evaluation rows.
    """

    main_score: str
    rows: int
    labelled_rows: int | None
    class_weight: str | None
    figures: dict[str, float]
    decisions: Bools = field(repr=False)

    @property
    def trained_on(self) -> str:
        """Return the number of training rows in words."""
        if self.rows == self.labelled_rows:
            return f"{self.rows:,} rows"
        return f"a sample of {self.rows:,}{'' if self.labelled_rows is None else f' of {self.labelled_rows:,}'} rows"

    def to_dict(self) -> dict[str, Any]:
        """Return the baseline as JSON values, without its decisions."""
        return {
            "rows": self.rows,
            "labelled_rows": self.labelled_rows,
            "class_weight": self.class_weight,
            "figures": self.figures,
        }


@dataclass
class BaselineReport:
    """Linear baselines of a model's heads. `print(report)` shows a table, `to_dict()` returns plain values.

    Args:
        heads: head → its baseline.
        left_out: head with labelled evaluation rows → the reason why it has no baseline.
        reason: the reason why no head has one.

    Example:
        >>> from multihead_hf import BaselineReport
        >>> print(BaselineReport(reason="the dataset has no split 'train'"))
        There is no linear baseline: the dataset has no split 'train'.
    """

    name: ClassVar[str] = NAME
    heads: dict[str, HeadBaseline] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values.

        Returns:
            A dict with `name`, `heads`, `left_out` and `reason`.
        """
        heads = {name: baseline.to_dict() for name, baseline in self.heads.items()}
        return {"name": self.name, "heads": heads, "left_out": self.left_out, "reason": self.reason}

    def __str__(self) -> str:
        lines = [f"Linear baseline ({self.name})", f"{'head':24}{'main score':12}{'value':>7}  trained on"]
        for name, baseline in self.heads.items():
            lines.append(
                f"{name:24}{baseline.main_score:12}{baseline.figures[baseline.main_score]:7.3f}  {baseline.trained_on}"
            )
        lines += [f"{name:24}no baseline: {reason}" for name, reason in self.left_out.items()]
        return "\n".join(lines if self.reason is None else [f"There is no linear baseline: {self.reason}."])


def linear_baseline(
    heads: Mapping[str, HeadConfig],
    train_texts: Sequence[str],
    train_targets: Mapping[str, npt.ArrayLike],
    texts: Sequence[str],
    references: Mapping[str, npt.ArrayLike],
    *,
    max_rows: int = MAX_ROWS,
    seed: int = 42,
) -> BaselineReport:
    """Train a linear model for each head, and evaluate it on the rows that the heads are evaluated on.

    The features are TF-IDF of words (1- and 2-grams) and of characters inside words (2- to 5-grams), the models are
    logistic regressions, one for each label. A label is predicted from a probability of 0.5, within the limits
    `min_labels` and `max_labels` of a head; a single-label head predicts the label with the highest score. Sample
    weights are ignored.

    Args:
        heads: the heads by name.
        train_texts: texts to train on; only those of the rows that are used are read.
        train_targets: head → label ids (rows,), or cells (rows, labels) that are positive from 0.5; −100 where
            unlabelled.
        texts: texts to evaluate on.
        references: the targets of these texts, as `train_targets`.
        max_rows: maximum number of training rows per head; of more rows a random sample is used.
        seed: seed of the sample and of the solver.

    Returns:
        A `BaselineReport` with the baselines of the heads with labelled evaluation rows; a head that cannot have one is
        in `left_out`.

    Raises:
        ValueError: If `max_rows` is below 1, or a head has fewer or more targets than there are texts.

    Example:
        >>> from multihead_hf import HeadConfig, linear_baseline
        >>> heads = {"mood": HeadConfig(labels=["calm", "angry"])}
        >>> texts, moods = ["all is fine", "this is bad"] * 9, {"mood": [0, 1] * 9}
        >>> report = linear_baseline(heads, texts, moods, ["bad"], {"mood": [1]})
        >>> report.heads["mood"].figures["accuracy"]
        1.0
    """
    if max_rows < 1:
        raise ValueError(f"max_rows {max_rows}: give a whole number of 1 or more")
    targets = {name: np.asarray(target) for name, target in train_targets.items()}
    for argument, arrays, rows in (("train_targets", targets, train_texts), ("references", references, texts)):
        for name, array in arrays.items():
            if len(np.asarray(array)) != len(rows):
                raise ValueError(
                    f"head {name!r}: {argument} have {len(np.asarray(array))} rows, but there are {len(rows)} texts"
                )
    report = BaselineReport()
    order = np.random.default_rng(seed).permutation(len(train_texts))
    labelled_rows: dict[str, Any] = {}
    for name in heads:
        if name in references and np.not_equal(references[name], MISSING).any():
            reason = _nothing_to_learn(heads[name], targets.get(name))
            if reason is None:
                labelled_rows[name] = order[_labelled(targets[name])[order]]
            else:
                report.left_out[name] = reason
    if not labelled_rows:
        return report
    used = np.unique(np.concatenate([indices[:max_rows] for indices in labelled_rows.values()]))
    vectors = _vectors([train_texts[int(row)] for row in used], texts)
    for name, labelled in labelled_rows.items():
        if vectors is None:
            report.left_out[name] = "the training texts have no words or characters that can be counted"
            continue
        rows = labelled[:max_rows]
        train = vectors[0][np.searchsorted(used, rows)]
        head = _baseline(heads[name], train, targets[name][rows], vectors[1], np.asarray(references[name]), seed)
        head.labelled_rows = len(labelled)
        report.heads[name] = head
    return report


def _labelled(targets: npt.NDArray[Any]) -> Bools:
    known: Bools = np.not_equal(targets, MISSING).reshape(len(targets), -1).any(1)
    return known


def _nothing_to_learn(head: HeadConfig, targets: npt.NDArray[Any] | None) -> str | None:
    """Return the reason why nothing can be learned from these targets, else `None`."""
    if targets is None or not _labelled(targets).any():
        return "no training row has a label for this head"
    known, true = known_and_true(targets, head.num_labels)
    if not (true.any(0) & (known & ~true).any(0)).any():
        return "all training rows have the same labels"
    return None


def _vectors(train_texts: Sequence[str], texts: Sequence[str]) -> tuple[csr_matrix, csr_matrix] | None:
    """Return sparse features (rows, features) of both sets of texts; `None` if there are no n-grams."""
    few = len(train_texts) < _FEW_ROWS
    common: dict[str, Any] = {"sublinear_tf": True, "max_features": _MAX_FEATURES}
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=1 if few else 2, **common)
    # without the most frequent n-grams, fitting on long texts takes less than half the time at the same F1
    limits = {"min_df": 1, "max_df": 1.0} if few else {"min_df": 3, "max_df": 0.1}
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **limits, **common)
    train, others = [], []
    for vectorizer, length in ((words, _WORDS_OF), (characters, _CHARACTERS_OF)):
        try:
            train.append(vectorizer.fit_transform([text[:length] for text in train_texts]))
        except ValueError:  # no n-grams are left: there are no words, or none is frequent enough
            continue
        others.append(vectorizer.transform([text[:length] for text in texts]))
    return (hstack(train).tocsr(), hstack(others).tocsr()) if train else None


def _baseline(
    head: HeadConfig,
    train: csr_matrix,
    targets: npt.NDArray[Any],
    vectors: csr_matrix,
    references: npt.NDArray[Any],
    seed: int,
) -> HeadBaseline:
    """Train on rows in random order and evaluate."""
    main = main_score_of(head)
    held_out = min(len(targets), _CHOICE_ROWS) // 5
    fitted = slice(held_out, min(len(targets), _CHOICE_ROWS))
    weights = dict.fromkeys((None, "balanced"), 0.0)
    for weight in weights if held_out else ():
        scores = _scores(head, train[fitted], targets[fitted], train[:held_out], weight, seed)
        weights[weight] = _evaluated(head, scores, targets[:held_out])[1][main]
    best = max(weights, key=lambda weight: weights[weight])  # on a tie the first, without weights
    decisions, figures = _evaluated(head, _scores(head, train, targets, vectors, best, seed), references)
    return HeadBaseline(main, len(targets), len(targets), best, figures, decisions)


def _evaluated(head: HeadConfig, scores: Floats, references: npt.NDArray[Any]) -> tuple[Bools, dict[str, float]]:
    """Return the decisions (rows, labels) by the library's rule with thresholds of 0.5, and their metrics."""
    plain = HeadConfig(
        head.labels,
        head.problem_type,
        positive_label=head.positive_label,
        min_labels=head.min_labels,
        max_labels=head.max_labels,
    )
    logits = torch.from_numpy(scores)
    head_scores = logits.sigmoid() if head.multi_label else logits
    decisions: Bools = decide(plain, head_scores).numpy()
    predictions = decisions if head.multi_label else decisions.argmax(1)
    figures = compute_metrics({"": plain}, {"": head_scores.numpy()}, {"": predictions}, {"": references})
    return decisions, {key.removeprefix("_"): value for key, value in figures.items() if key.startswith("_")}


def _scores(
    head: HeadConfig,
    train: csr_matrix,
    targets: npt.NDArray[Any],
    vectors: csr_matrix,
    weight: str | None,
    seed: int,
) -> Floats:
    """Return the scores (rows, labels) of a logistic regression for each label, on the scale of logits."""
    known, true = known_and_true(targets, head.num_labels)
    is_binary = not head.multi_label and head.num_labels == 2  # one regression for both labels
    labels = [1] if is_binary else range(head.num_labels)
    scores = np.stack(
        [_label_scores(train, known[:, label], true[:, label], vectors, weight, seed) for label in labels], 1
    )
    return np.concatenate([-scores, scores], 1) if is_binary else scores


def _label_scores(
    train: csr_matrix, known: Bools, true: Bools, vectors: csr_matrix, weight: str | None, seed: int
) -> Floats:
    targets = true[known]
    if not targets.any() or targets.all():
        return np.full(vectors.shape[0], _CERTAIN if targets.any() else -_CERTAIN)
    # The dual solver with a wide tolerance takes a third of the time, and its F1 differs by 0.001.
    model = LogisticRegression(
        C=5, solver="liblinear", dual=True, tol=0.3, max_iter=1000, class_weight=weight, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline need not converge
        model.fit(train if known.all() else train[known], targets)
    scores: Floats = model.decision_function(vectors)
    return scores
