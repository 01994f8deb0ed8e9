"""LIME and occlusion: change of a label's probability when words are left out."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..model.decoding_multihead import probabilities
from ..model.head_multihead import one_of
from .probabilities import label_logits, predict_proba
from .question import EXTRA, Attribution, Question

QUANTITIES = ("probability", "logit")


def lime(question: Question, *, num_samples: int = 1000, seed: int = 0, batch_size: int = 32) -> Attribution:
    """LIME (Ribeiro, Singh and Guestrin 2016): scores from a linear model over texts with words left out at random.

    The linear model predicts the label's calibrated probability from the words that are kept; texts similar to the
    original have a higher weight. Its coefficients are the scores.

    Args:
        question: prediction to explain.
        num_samples: number of texts with words left out, the whole one included; duplicates are computed once.
        seed: seed of the choice of words that are left out.
        batch_size: number of texts computed at a time.

    Raises:
        ValueError: If `num_samples` is below 2.
        ImportError: If lime is not installed.
    """
    try:
        from lime.lime_text import LimeTextExplainer
    except ImportError as error:
        raise ImportError(f"LIME needs lime: {EXTRA}") from error
    if num_samples < 2:
        raise ValueError(f"num_samples {num_samples}: give a whole number above 1")
    model, head = question.model, question.head
    settings = model.config.heads[head]
    column = 1 if settings.multi_label else question.label_number
    probability = predict_proba(model, question.tokenizer, head, question.label, batch_size)
    pieces = question.pieces()
    read = [index for index, piece in enumerate(pieces) if piece is not None]

    def classify(samples: Sequence[str]) -> npt.NDArray[np.float64]:
        subsets = [set(map(int, sample.split())) for sample in samples]
        return probability([question.without(pieces, set(read) - subset) for subset in subsets])

    # LIME gets the words' numbers instead of the text, so that words are split here and repeated words are separate
    explainer = LimeTextExplainer(
        split_expression=r"\s+", bow=False, mask_string="", feature_selection="none", random_state=seed
    )
    names = " ".join(map(str, read))
    explanation = explainer.explain_instance(
        names, classify, labels=(column,), num_features=len(read), num_samples=num_samples
    )
    scores = [0.0] * len(pieces)
    for feature, weight in explanation.local_exp[column]:
        scores[read[feature]] = float(weight)
    details = {"num_samples": num_samples, "seed": seed, "r2": float(explanation.score)}
    return Attribution(scores, "probability", None, details)


def occlusion(
    question: Question, *, window: int = 1, quantity: str = "probability", batch_size: int = 32
) -> Attribution:
    """Occlusion: the score of a word is the fall of the label's calibrated probability without it.

    Args:
        question: prediction to explain.
        window: number of consecutive words left out together; a word's score is the mean over the windows that contain
            it.
        quantity: `"probability"`, or `"logit"` (before calibration), which does not flatten out near 0 and 1.
        batch_size: number of texts computed at a time.

    Raises:
        ValueError: If `window` is below 1, or `quantity` is unknown.
    """
    one_of("quantity", quantity, QUANTITIES)
    if window < 1:
        raise ValueError(f"window {window}: give a whole number above 0")
    pieces = question.pieces()
    groups = _windows([index for index, piece in enumerate(pieces) if piece is not None], question, window)
    texts = [question.without(pieces, group) for group in [set[int](), *groups]]
    logits = label_logits(question.model, question.tokenizer, question.head, texts, batch_size)
    if quantity == "probability":
        logits = probabilities(question.model.config.heads[question.head], logits)
    values = logits[:, question.label_number].tolist()
    drops: list[list[float]] = [[] for _ in pieces]
    for group, value in zip(groups, values[1:], strict=True):
        for index in group:
            drops[index].append(values[0] - value)
    scores = [math.fsum(word_drops) / len(word_drops) if word_drops else 0.0 for word_drops in drops]
    return Attribution(scores, quantity, None, {"window": window})


def _windows(read: list[int], question: Question, size: int) -> list[set[int]]:
    """Return all runs of `size` words of one text; for a shorter text one run of all words."""
    groups = []
    for part in range(len(question.texts)):
        indices = [index for index in read if question.reading.words[index].part == part]
        groups += (
            [set(indices[begin : begin + size]) for begin in range(max(len(indices) - size, 0) + 1)] if indices else []
        )
    return groups
