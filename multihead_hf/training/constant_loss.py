"""Loss of a head that predicts the same for every text: the unit of `head_weighting="prior"`."""

import math
import random
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from torch import Tensor

from ..data.counting import target_chunks
from ..data.rows_like import PreparedRows, has_length
from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import MISSING, AdditiveTerm, Term, is_known, loss_terms

# enough rows for a mean to about 1 %, and at most as many cells as take a few seconds
_MOST_ROWS, _MOST_CELLS = 20_000, 2_000_000
# a head with almost nothing to learn must not dominate the other heads
_NOTHING, _FLOOR = 1e-3, 1e-2


class Constant(NamedTuple):
    """The best constant prediction of a head.

    Args:
        loss: The head's loss with this prediction, over the labelled rows; at least 0.01 in `best_constants`.
        logits: (labels,), the prediction.
    """

    loss: float
    logits: Tensor


def best_constants(rows: PreparedRows, heads: Mapping[str, HeadConfig], seed: int = 0) -> dict[str, Constant]:
    """Return the best constant prediction of each head on prepared training rows.

    Unlabelled rows and cells are left out; class weights, positive weights, label smoothing and `sample_weight` count
    as they do in training. Of more than 20,000 rows (fewer for more than 100 labels), a random sample of that size is
    used; of a stream, the first rows are read.

    Args:
        rows: Prepared rows.
        heads: The heads, by name. A head is left out if its loss is not registered, it has no labelled row, or its
            loss with the best constant prediction cannot be divided by: it is (nearly) 0, below 0 or not finite.
        seed: Seed of the sample.
    """
    known = {name: head for name, head in heads.items() if is_known(head) and head.unresolved is None}
    targets = _distinct_targets(rows, known, seed)
    constants = {name: best_constant(name, known[name], *targets[name]) for name in known if name in targets}
    return {
        name: constant._replace(loss=max(constant.loss, _FLOOR))
        for name, constant in constants.items()
        if _NOTHING < constant.loss < math.inf
    }


def best_constant(name: str, head: HeadConfig, targets: Tensor, weights: Tensor) -> Constant:
    """Return the logits (labels,), the same for all rows, with the lowest loss.

    Args:
        name: Name of the head.
        head: Configuration with its loss and weights.
        targets: Distinct targets, label ids (rows,) or cells (rows, labels); −100 where unknown.
        weights: (rows,), how often each target occurs.
    """
    learned = None
    if head.learn_thresholds is not None:
        learned = torch.full((head.num_labels,), head.learn_thresholds, dtype=torch.float64).logit()
    terms = loss_terms(name, head, learned)
    if head.loss == "cross_entropy" and head.loss_function is None:
        return _of_cross_entropy(head, terms[0], targets, weights)
    start = log_odds(head, targets, weights)
    return min(
        (_minimise(terms, initial, targets, weights) for initial in (start, torch.zeros_like(start))), key=_loss_of
    )


def _of_cross_entropy(head: HeadConfig, term: Term, targets: Tensor, weights: Tensor) -> Constant:
    """Return the best constant prediction of a weighted, smoothed cross-entropy: the shares of the labels' weights."""
    counts = torch.zeros(head.num_labels, dtype=torch.float64).index_add_(0, targets, weights.double())
    smoothing = head.loss_kwargs.get("label_smoothing", 0.0)
    label_weights = term.denominator(torch.arange(head.num_labels)).double()
    smoothed = (1 - smoothing) * counts + smoothing / head.num_labels * counts.sum()
    masses = label_weights * smoothed  # (labels,)
    logits = masses.clamp(min=1e-12 * float(counts.sum())).log()
    loss = -(masses * logits.log_softmax(0)).sum() / (label_weights * counts).sum()
    return Constant(float(loss), logits)


def log_odds(head: HeadConfig, targets: Tensor, weights: Tensor) -> Tensor:
    """Return logits (labels,) of the labels' shares of the rows; a label counts at least half a row."""
    if head.multi_label:
        counts = (targets != MISSING) * weights[:, None]  # (rows, labels)
        known = counts.sum(0).clamp(min=1.0)
        share = (targets.clamp(min=0.0) * counts).sum(0) / known
        return share.clamp(0.5 / known, 1 - 0.5 / known).logit()
    counts = torch.zeros(head.num_labels, dtype=weights.dtype).index_add_(0, targets, weights)
    return (counts.clamp(min=0.5) / counts.sum().clamp(min=1.0)).log()


def _loss_of(constant: Constant) -> float:
    return constant.loss


def _minimise(terms: list[Term], start: Tensor, targets: Tensor, weights: Tensor) -> Constant:
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=40, line_search_fn="strong_wolfe")
    best = Constant(float("inf"), start)

    def closure() -> float:
        nonlocal best
        optimizer.zero_grad()
        loss = _loss(terms, logits, targets, weights)
        loss.backward()
        value = loss.item()
        if value < best.loss:
            best = Constant(value, logits.detach().clone())
        return value

    optimizer.step(closure)
    return best


def _loss(terms: list[Term], logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    rows = logits.expand(len(targets), -1)  # (rows, labels)
    total = logits.sum() * 0.0
    for term in terms:
        units = (term.denominator(targets) * weights).sum()
        if isinstance(term, AdditiveTerm):
            total = total + term.weight * (term.numerator(rows, targets) * weights).sum() / units
        else:
            sums = torch.einsum("r...,r->...", term.statistics(rows, targets), weights)
            total = total + term.weight * term.value(sums)
    return total


def _distinct_targets(
    rows: PreparedRows, heads: Mapping[str, HeadConfig], seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return head → its distinct targets and the weights of their rows, for the heads with a labelled row."""
    labels = max((head.num_labels for head in heads.values()), default=1)
    sample = _some_of(rows, min(_MOST_ROWS, max(_MOST_CELLS // labels, 2_000)), seed)
    parts: dict[str, list[tuple[npt.NDArray[Any], npt.NDArray[np.float64]]]] = {name: [] for name in heads}
    for chunk in target_chunks(sample, heads):
        for name, targets in chunk.heads.items():
            labelled = chunk.labelled(name) & (chunk.weights > 0)
            parts[name].append((targets[labelled], chunk.weights[labelled]))
    distinct = {}
    for name, pairs in parts.items():
        targets, weights = (
            (np.concatenate(arrays) for arrays in zip(*pairs, strict=True)) if pairs else (np.empty(0),) * 2
        )
        if len(targets):
            different, index = np.unique(targets, axis=0, return_inverse=True)
            totals = np.bincount(index.reshape(-1), weights, len(different))
            kind = torch.float64 if heads[name].multi_label else torch.int64
            distinct[name] = torch.from_numpy(different).to(kind), torch.from_numpy(totals)
    return distinct


def _some_of(rows: PreparedRows, max_rows: int, seed: int) -> PreparedRows:
    if not has_length(rows):
        return islice(iter(rows), max_rows)
    if len(rows) <= max_rows:
        return rows
    indices = sorted(random.Random(seed).sample(range(len(rows)), max_rows))
    return rows.select(indices) if isinstance(rows, Dataset) else [rows[index] for index in indices]
