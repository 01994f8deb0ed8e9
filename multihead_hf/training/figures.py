"""Metrics and exact losses of the heads over a whole evaluation set."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..evaluation.metrics import compute_metrics
from ..model.decoding_multihead import decide, probabilities
from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import MISSING, head_loss, loss_terms


def head_figures(
    heads: Mapping[str, HeadConfig],
    logits: Mapping[str, npt.ArrayLike],
    references: Mapping[str, npt.ArrayLike],
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Figures of every head over all rows.

    Args:
        heads: the model's heads.
        logits: head → (rows, labels).
        references: head → (rows,) or (rows, labels), −100 where not known.
        sample_weight: (rows,), for the losses; metrics count every row once.

    Returns:
        `<head>_<metric>`, `f1` and `<head>_loss` (without heads that have no label), and head → loss, an exact 0 for
        heads without a label.
    """
    weights = None if sample_weight is None else torch.from_numpy(np.asarray(sample_weight))
    scores, decisions, losses = {}, {}, {}
    for name, targets in references.items():
        head = heads[name]
        head_logits = torch.from_numpy(np.asarray(logits[name]))
        probs = probabilities(head, head_logits)
        decided = decide(head, probs)
        scores[name] = probs.numpy()
        decisions[name] = (decided if head.multi_label else decided.int().argmax(-1)).numpy()
        learned = torch.logit(torch.tensor(head.thresholds)) if head.learn_thresholds is not None else None
        terms = loss_terms(name, head, learned)
        losses[name], _ = head_loss(terms, head_logits, torch.from_numpy(np.asarray(targets)), sample_weight=weights)
    figures = compute_metrics(heads, scores, decisions, references)
    labelled = labelled_heads(references)
    figures.update({f"{name}_loss": float(loss) for name, loss in losses.items() if name in labelled})
    return figures, losses


def labelled_heads(references: Mapping[str, npt.ArrayLike]) -> set[str]:
    """Heads with a known target."""
    return {name for name, targets in references.items() if (np.asarray(targets) != MISSING).any()}
