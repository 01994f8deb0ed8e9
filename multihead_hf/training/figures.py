"""Metrics of the heads over a whole evaluation set."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from ..evaluation.metrics import compute_metrics
from ..model.decoding_multihead import decide, probabilities
from ..model.head_multihead import HeadConfig


def head_figures(
    heads: Mapping[str, HeadConfig], logits: Mapping[str, npt.ArrayLike], references: Mapping[str, npt.ArrayLike]
) -> dict[str, float]:
    """`<head>_<metric>` and `f1` over all rows, without heads that have no label.

    Args:
        heads: the model's heads.
        logits: head → (rows, labels).
        references: head → (rows,) or (rows, labels), −100 where not known.
    """
    scores, decisions = {}, {}
    for name in references:
        head = heads[name]
        probs = probabilities(head, torch.from_numpy(np.asarray(logits[name])))
        decided = decide(head, probs)
        scores[name] = probs.numpy()
        decisions[name] = (decided if head.multi_label else decided.int().argmax(-1)).numpy()
    return compute_metrics(heads, scores, decisions, references)
