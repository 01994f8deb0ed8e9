"""Decision rule of the library: logits → probabilities → predicted labels.

This file travels with every saved model.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .head_multihead import HeadConfig
from .values_multihead import Thresholds

_SHOWN = 3  # rows, and labels per row


def probabilities(head: HeadConfig, logits: Tensor) -> Tensor:
    """Return calibrated probabilities (rows, labels), float32 or better: sigmoid for multi-label, else softmax."""
    logits = calibrated(head, logits)
    return torch.sigmoid(logits) if head.multi_label else torch.softmax(logits, dim=-1)


def calibrated(head: HeadConfig, logits: Tensor) -> Tensor:
    """Return logits (rows, labels) divided by the head's `calibration_temperature`, float32 or better.

    Raises:
        ValueError: The head's configuration has another number of labels, or an invalid temperature.
    """
    check_num_labels(head, logits.shape[-1])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    temperature = head.temperatures(head.calibration_temperature)
    if temperature is None:
        return logits
    return logits / torch.tensor(temperature, dtype=logits.dtype, device=logits.device)


def check_num_labels(head: HeadConfig, logits: int, where: str = "") -> None:
    """Check that a head's configuration has as many labels as the model computes logits.

    Args:
        head: The configuration.
        logits: Number of logits.
        where: Beginning of the message.

    Raises:
        ValueError: The labels were changed in the configuration to another number.
    """
    if logits != head.num_labels:
        raise ValueError(
            f"{where}{logits} logits, but {head.num_labels} labels in the configuration: labels cannot be added to a "
            "head or removed from it (model.add_head makes a new one)"
        )


def check_finite(name: str, logits: Tensor) -> None:
    """Check that a head's logits are finite.

    Args:
        name: Name of the head.
        logits: Tensor of shape (rows, labels).

    Raises:
        ValueError: Some rows hold NaN or infinity; the message gives their number and the first one.
    """
    rows = rows_not_finite(logits)
    if len(rows):
        raise ValueError(not_finite(name, len(rows), len(logits), rows[0]))


def rows_not_finite(logits: Tensor) -> list[int]:
    """Return the rows of logits (rows, labels) that hold NaN or infinity."""
    # a finite sum proves that all values are finite: one pass is enough for nearly all batches
    if torch.isfinite(logits.sum(dtype=torch.float64)):
        return []
    return (~torch.isfinite(logits).all(-1)).nonzero().flatten().tolist()


def not_finite(name: str, wrong: int, rows: int, first: int | None = None) -> str:
    """Return the error message for a head whose logits are not finite."""
    where = "" if first is None else f" (the first is row {first})"
    return (
        f"head {name!r}: its logits are not finite (NaN or infinity) in {wrong:,} of {rows:,} rows{where}, so there is "
        "no prediction. The weights may be damaged, the training may have diverged (lower the learning rate), or half "
        "precision may overflow (predict in float32)"
    )


def decide(
    head: HeadConfig,
    scores: Tensor,
    threshold: Thresholds | None = None,
    logits: Tensor | None = None,
) -> Tensor:
    """Return the predicted labels by the library's decision rule: bool (rows, labels).

    A multi-label head predicts the labels with `score >= threshold` (`threshold`, else the head's `thresholds`, else
    0.5), but at least `min_labels` and at most `max_labels` per row. A single-label head predicts the label with the
    highest score, the first one on a tie.

    Args:
        head: Configuration of the head.
        scores: Probabilities (rows, labels).
        threshold: A number, a list in label order or a dict by label name, instead of the head's thresholds.
        logits: Calibrated logits (rows, labels) of the scores. They break ties between probabilities that are equal
            in float32 (all are 1.0 above a logit of 17).
    """
    thresholds = head.thresholds if threshold is None else threshold
    values = None if thresholds is None else head.per_label_thresholds(thresholds)
    if not head.multi_label:
        return nn.functional.one_hot((scores if logits is None else logits).argmax(-1), head.num_labels).bool()
    limits = torch.tensor(values if values is not None else 0.5, dtype=scores.dtype, device=scores.device)
    return limited(head, scores, limits, scores >= limits, logits)


def limited(
    head: HeadConfig, scores: Tensor, thresholds: Tensor, decisions: Tensor, logits: Tensor | None = None
) -> Tensor:
    """Return decisions (rows, labels) with at least `min_labels` and at most `max_labels` in each row.

    Labels are ranked by the distance of their score from its threshold in logit space; on a tie the first label wins.
    """
    if head.min_labels is None and head.max_labels is None:
        return decisions
    head.check_limits()
    precise = torch.logit(scores.double(), eps=1e-15) if logits is None else logits.double()
    margins = precise - torch.logit(thresholds.double(), eps=1e-15)
    ranks = margins.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    max_labels = head.num_labels if head.max_labels is None else head.max_labels
    return (decisions | (ranks < (head.min_labels or 0))) & (ranks < max_labels)


@dataclass
class HeadPrediction:
    """Predictions of one head for several rows.

    Args:
        probabilities: Tensor of shape (rows, labels), calibrated.
        decisions: Bool tensor of shape (rows, labels), the predicted labels.
        labels: Names per row (of the predicted labels, or of the `top_k` best), best first.
        scores: Probabilities of these labels per row.

    Example:
        >>> from multihead_hf import MultiHeadPredictor
        >>> predictor = MultiHeadPredictor.from_pretrained("complaints")
        >>> prediction = predictor.predict(["Late again!", "Thanks!"], top_k=1)["mood"]
        >>> [len(labels) for labels in prediction.labels]
        [1, 1]
        >>> list(prediction.entries(0)[0])
        ['label', 'score']
    """

    probabilities: Tensor
    decisions: Tensor
    labels: list[list[str]]
    scores: list[list[float]]

    def __repr__(self) -> str:
        """Return how many rows and labels there are, and the labels of the first rows."""
        rows = [
            f"[{', '.join([*map(repr, labels[:_SHOWN]), *['...'][: len(labels) > _SHOWN]])}]"
            for labels in self.labels[:_SHOWN]
        ]
        more = ["..."] if len(self.labels) > _SHOWN else []
        size = f"{len(self.labels):,} rows, {self.probabilities.shape[-1]:,} labels"
        return f"{type(self).__name__}({size}: {', '.join([*rows, *more])})"

    def entries(self, row: int) -> list[dict[str, Any]]:
        """Return the labels of one row with their scores, as the pipeline returns them.

        Args:
            row: Index of the row.

        Returns:
            A dict with `label` and `score` for each label, best first.
        """
        return [
            {"label": label, "score": score} for label, score in zip(self.labels[row], self.scores[row], strict=True)
        ]


def predict(head: HeadConfig, logits: Tensor, top_k: int | None, threshold: Thresholds | None) -> HeadPrediction:
    """Return probabilities, decisions, and label names with scores of the predicted or the `top_k` best labels."""
    scores, logits = probabilities(head, logits), calibrated(head, logits)
    decisions = decide(head, scores, threshold, logits)
    order = logits.argsort(dim=-1, descending=True, stable=True)
    ranked = scores.gather(-1, order)
    mask = decisions.gather(-1, order) if top_k is None else torch.arange(head.num_labels) < top_k
    mask = mask.to(order.device).expand_as(order)
    rows = list(zip(order.tolist(), ranked.tolist(), mask.tolist(), strict=True))
    labels = [[head.labels[i] for i, keep in zip(ids, row_mask, strict=True) if keep] for ids, _, row_mask in rows]
    values = [[value for value, keep in zip(best, row_mask, strict=True) if keep] for _, best, row_mask in rows]
    return HeadPrediction(scores, decisions, labels, values)
