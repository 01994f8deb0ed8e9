"""Metrics of all heads as a Hugging Face `evaluate` metric, for loops outside the Trainer."""

from collections.abc import Mapping
from typing import Any

import evaluate
import numpy as np
import numpy.typing as npt
import torch
from datasets import Features, List, Value

from ..model.configuration_multihead import HeadsLike, MultiHeadConfig
from ..model.decoding_multihead import decide
from ..model.modeling_multihead import MultiHeadModel, heads_of
from ..model.unwrapping import multi_head_model
from .metric_names import MULTI_LABEL, MetricHead, metric_keys
from .metrics import check_cell_references, check_id_references, check_known_heads, check_scores, compute_metrics

_DESCRIPTION = """
F1, precision, recall, accuracy, ROC AUC and average precision of several classification heads at once, each head
multi-label or single-label, with labels that are missing for whole rows or for single cells.
"""

_INPUTS = """
Inputs:
    predictions: dict head -> probabilities, float (rows, labels).
    references: dict head -> true labels: 0/1 (rows, labels) of a multi-label head, label ids (rows,) of a
        single-label head; -100 where the label is not known. Heads without labels may be absent.
Returns:
    dict: `<head>_<metric>` of every head, and `f1`, the mean over the heads of their main scores.
"""


class MultiHeadMetric(evaluate.Metric):
    """Metrics of all heads, from scores and references that are added batch by batch. Never uses the network.

    Args:
        heads: the model, its configuration, or its heads by name; their thresholds decide which labels are predicted.
        keep_in_memory: keep the batches in memory instead of a file in `cache_dir`. With several processes pass False.
        cache_dir: folder of the batches, as in `evaluate.Metric`.
        num_process: number of processes, as in `evaluate.Metric`; each adds its batches, and `compute` returns the
            metrics in process 0 and `None` in the other processes.
        process_id: number of this process, from 0.
        experiment_id: name of the evaluation, the same in all processes.
        timeout: seconds to wait for the files of other processes.

    Raises:
        ValueError: If `heads` is empty, or two metrics would have one key.

    Example:
        >>> from multihead_hf import HeadConfig, MultiHeadMetric
        >>> metric = MultiHeadMetric({"mood": HeadConfig(labels=["calm", "angry"])})
        >>> metric.add_batch(predictions={"mood": [[0.9, 0.1], [0.2, 0.8]]}, references={"mood": [0, 1]})
        >>> metric.compute()["mood_accuracy"]
        1.0
    """

    def __init__(
        self,
        heads: MultiHeadModel | MultiHeadConfig | HeadsLike,
        *,
        keep_in_memory: bool = True,
        cache_dir: str | None = None,
        num_process: int = 1,
        process_id: int = 0,
        experiment_id: str | None = None,
        timeout: float = 100,
    ) -> None:
        self._model = multi_head_model(heads) if isinstance(heads, torch.nn.Module) else None
        by_name = heads_of(heads if self._model is None else self._model)
        metric_keys(by_name)  # report metrics with the same key before a pass over the data
        self.heads = by_name  # `_info`, called by the base class, reads it
        super().__init__(
            keep_in_memory=keep_in_memory,
            cache_dir=cache_dir,
            num_process=num_process,
            process_id=process_id,
            experiment_id=experiment_id,
            timeout=timeout,
        )

    def add_batch(
        self,
        *,
        predictions: Mapping[str, npt.ArrayLike] | None = None,
        references: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        """Add the rows of one batch.

        Args:
            predictions: head → probabilities, float (rows, labels); required for every head in `references`. The scores
                of other heads are ignored.
            references: head → true labels, 0/1 (rows, labels) or label ids (rows,), −100 where unlabelled; heads
                without labels may be absent.

        Raises:
            ValueError: If a head is unknown or has no predictions, or arrays do not fit; the message contains the head
                and the row in this batch.
        """
        if not predictions or not references:
            raise ValueError("add_batch needs both predictions and references, each a dict from heads to arrays")
        check_known_heads(self.heads, predictions, "predictions")
        check_known_heads(self.heads, references, "references")
        score_cells: dict[str, list[Any]] = {}
        reference_cells: dict[str, list[Any]] = {}
        for name, targets in references.items():
            if name not in predictions:
                raise ValueError(f"head {name!r}: has references but no predictions")
            labels = len(self.heads[name].labels)
            scores = check_scores(predictions[name], ("rows", labels), name)
            values: np.ndarray
            if self.heads[name].problem_type == MULTI_LABEL:
                values = check_cell_references(targets, scores.shape, name).astype(np.float64)
            else:
                values = check_id_references(targets, scores.shape[:1], labels, name)
            score_cells[name], reference_cells[name] = scores.tolist(), values.tolist()
        rows = _row_count(score_cells)
        score_rows, reference_rows = (_by_row(cells, self.heads, rows) for cells in (score_cells, reference_cells))
        super().add_batch(predictions=score_rows, references=reference_rows)

    def add(
        self,
        *,
        prediction: Mapping[str, npt.ArrayLike] | None = None,
        reference: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        """Add one row.

        Args:
            prediction: head → probabilities (labels,).
            reference: head → true labels, 0/1 (labels,) or one label id, −100 where unlabelled.

        Raises:
            ValueError: If the values do not fit, as for `add_batch`.
        """
        if not prediction or not reference:
            raise ValueError("add needs both prediction and reference, each a dict from heads to the values of a row")
        self.add_batch(
            predictions={name: np.asarray(scores)[None] for name, scores in prediction.items()},
            references={name: np.asarray(labels)[None] for name, labels in reference.items()},
        )

    def compute(
        self,
        *,
        predictions: Mapping[str, npt.ArrayLike] | None = None,
        references: Mapping[str, npt.ArrayLike] | None = None,
    ) -> dict[str, float] | None:
        """Compute the metrics over all rows added so far, and remove the rows.

        Args:
            predictions: probabilities of further rows, as for `add_batch`.
            references: true labels of these rows, as for `add_batch`.

        Returns:
            `<head>_<metric>` for the heads in their order and `f1`, the mean of their main scores; `None` in processes
            other than process 0.

        Raises:
            ValueError: If no row was added, or the arrays do not fit, as for `add_batch`.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if self.writer is None:
            raise ValueError("there are no rows: call add_batch first, or pass predictions and references")
        result: dict[str, float] | None = super().compute()
        return result

    def _info(self) -> evaluate.MetricInfo:
        scores = {name: List(Value("float64")) for name in self.heads}
        references = {
            name: List(Value("float64")) if head.problem_type == MULTI_LABEL else Value("int64")
            for name, head in self.heads.items()
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=Features({"predictions": scores, "references": references}),
        )

    def _compute(self, *, predictions: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, float]:
        if self._model is not None:
            self._model.sync_thresholds()  # learned thresholds, as they are now
        scores, decisions, targets = {}, {}, {}
        for name, head in self.heads.items():
            rows = [row for row, cells in enumerate(references) if cells[name] is not None]
            if rows:
                scores[name] = np.array([predictions[row][name] for row in rows])
                # in float32, as in the model, so that a score widened to float64 still equals its threshold
                decided = decide(head, torch.from_numpy(scores[name].astype(np.float32))).numpy()  # (rows, labels)
                decisions[name] = decided if head.problem_type == MULTI_LABEL else decided.argmax(axis=1)
                targets[name] = np.array([references[row][name] for row in rows])
        return compute_metrics(self.heads, scores, decisions, targets)


def _row_count(cells: Mapping[str, list[Any]]) -> int:
    """Return the number of rows, which all heads share."""
    first, *others = cells
    for name in others:
        if len(cells[name]) != len(cells[first]):
            raise ValueError(
                f"head {name!r}: has {len(cells[name])} rows, expected {len(cells[first])} as head {first!r}"
            )
    return len(cells[first])


def _by_row(cells: Mapping[str, list[Any]], heads: Mapping[str, MetricHead], rows: int) -> list[dict[str, Any]]:
    """Return one dict per row with every head, `None` where the batch does not have the head."""
    absent = [None] * rows
    columns = [cells.get(name, absent) for name in heads]
    return [dict(zip(heads, row, strict=True)) for row in zip(*columns, strict=True)]
