"""Thresholds and temperatures of a trained model, chosen on validation data and stored in its configuration."""

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.rows_like import RowsLike
from ..model.decoding_multihead import limited
from ..model.head_multihead import HeadConfig, one_of
from ..model.modeling_multihead import MultiHeadModel
from ..model.storage_multihead import heads_with_decisions, warn_of_lost_decisions
from .calibration import HeadCalibration, calibrate_head
from .predictions import Predictions, is_trainer, predicted
from .threshold_choice import HeadThresholds, tune_head
from .thresholds import GRANULARITIES, Target

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.get_logger(__name__)


@dataclass
class ThresholdReport:
    """Result of `tune_thresholds`. `print(report)` shows a table, `to_dict()` returns plain values.

    Args:
        heads: head → its thresholds, the choice between them, and its metrics before and after.

    Example:
        >>> from multihead_hf import MultiHeadModel, tune_thresholds
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> report = tune_thresholds(model, "complaints.csv", tokenizer=tokenizer)
        >>> report.heads["topics"].rows
        40
    """

    heads: dict[str, HeadThresholds]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values.

        Returns:
            A dict head → fields of its result.
        """
        return {name: asdict(head) for name, head in self.heads.items()}

    def __str__(self) -> str:
        lines = [f"{'':24}{'F1 before':>16}{'after*':>16}{'on these rows':>16}   (micro / macro of labels that occur)"]
        for name, head in self.heads.items():
            stages = (head.before, head.after, head.fitted)
            cells = [f"{stage['f1_micro']:.3f} / {stage['f1_macro']:.3f}" for stage in stages]
            lines.append(f"{name:23} " + "".join(f"{cell:>16}" for cell in cells))
        lines.append("* cross-validated: each fold is scored with thresholds that were chosen on the other folds")
        for name, head in self.heads.items():
            lines.append(f"{name}: {head.reason}")
            if head.choice != "unchanged":
                lines.append(f"  {_shown(head)}")
        return "\n".join(lines)


def _shown(tuned: HeadThresholds) -> str:
    values, common = tuned.thresholds, tuned.common
    if tuned.choice == "head":
        return f"threshold {values[0]:.3f}"
    few = f"; {len(tuned.fallback)} of {len(values)} labels share {common:.3f}" if tuned.fallback and common else ""
    return f"thresholds {min(values):.3f} to {max(values):.3f}{few}"


@dataclass
class CalibrationReport:
    """Result of `calibrate`. `print(report)` shows a table, `to_dict()` returns plain values.

    Args:
        heads: head → its temperature, and its calibration error before and after.

    Example:
        >>> from multihead_hf import MultiHeadModel, calibrate
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> report = calibrate(model, "complaints.csv", tokenizer=AutoTokenizer.from_pretrained("complaints"))
        >>> sorted(report.heads["mood"].before)
        ['ece', 'nll']
    """

    heads: dict[str, HeadCalibration]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values.

        Returns:
            A dict head → fields of its result.
        """
        return {name: asdict(head) for name, head in self.heads.items()}

    def __str__(self) -> str:
        lines = [f"{'':24}{'temperature':>16}{'ECE before':>12}{'after*':>10}{'NLL before':>12}{'after*':>10}"]
        for name, head in self.heads.items():
            temperature = head.temperature
            shown = (
                f"{temperature:.3f}"
                if isinstance(temperature, float)
                else f"{min(temperature):.3f} to {max(temperature):.3f}"
            )
            before, after = (
                {key: max(value, 0.0) for key, value in part.items()} for part in (head.before, head.after)
            )
            lines.append(
                f"{name:23} {shown:>16}{before['ece']:12.4f}{after['ece']:10.4f}"
                f"{before['nll']:12.4f}{after['nll']:10.4f}"
            )
        return "\n".join([*lines, "* on held-out rows, not used to fit the temperatures"])


def tune_thresholds(
    model: "MultiHeadModel | Trainer",
    dataset: RowsLike,
    metric: str = "f1",
    granularity: str = "auto",
    min_support: int = 10,
    *,
    heads: str | list[str] | None = None,
    precision: float = 0.9,
    costs: tuple[float, float] = (1.0, 1.0),
    tokenizer: PreTrainedTokenizerBase | None = None,
    folds: int = 5,
    seed: int = 42,
    **reading: Any,
) -> ThresholdReport:
    """Choose the thresholds of multi-label heads and store them in the model's configuration.

    For each head one threshold for all labels and one per label are compared with the previous thresholds, on rows not
    used to choose them: each row is decided by thresholds from the other folds, and the division into folds is
    repeated. New thresholds are kept if their gain exceeds its standard error; else the head keeps its thresholds, and
    an unset 0.5 is stored as such. (Scores on the rows used to choose the previous thresholds are optimistic, so these
    thresholds stay.) New thresholds replace learned ones, which are then no longer learned.

    The common threshold is the exact optimum over all cut points. The optimum of a label is drawn towards it, the more
    the fewer positives the label has: half-way (in logits) with 20.

    Args:
        model: a trainer, or a model (then `tokenizer` is needed). It is changed, not saved.
        dataset: validation rows, raw or prepared. Rows that were trained on give thresholds that are too high.
        metric: criterion of the choice: `"f1"`; `"recall_at_precision"`, the highest recall with at least `precision`;
            or `"cost"`, the lowest sum of `costs`, of a false positive and of a false negative.
        granularity: `"auto"` chooses, by micro F1, by the cost, or by the recall where the precision is reached;
            `"head"` sets one threshold for all labels and `"label"` one per label, better or not.
        min_support: labels with fewer positives share the common threshold of their head, and a head with fewer keeps
            its thresholds.
        heads: name or names of the heads; by default every multi-label head with labelled rows.
        precision: minimum precision, for `"recall_at_precision"`.
        costs: costs of a false positive and of a false negative, for `"cost"`.
        tokenizer: tokenizer of the model; a trainer has one already.
        folds: number of folds, at least 3.
        seed: seed of the division into folds.
        reading: for a model, how rows are read, as for `write_report`.

    Returns:
        A `ThresholdReport` with, for each head, the choice and its reason, the thresholds (probabilities), and the
        metrics of all three candidates on held-out folds.

    Raises:
        ValueError: If a setting or head does not exist, a head has no labelled rows or is single-label, the model has
            no multi-label head, or no label is positive.

    Example:
        >>> from multihead_hf import MultiHeadModel, tune_thresholds
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> report = tune_thresholds(model, "complaints.csv", granularity="head", tokenizer=tokenizer)
        >>> list(report.heads), len(set(model.config.heads["topics"].thresholds or [0.5]))
        (['topics'], 1)
    """
    target = Target(metric, precision, costs).check()
    for name, is_given, of in (
        ("precision", precision != 0.9, "recall_at_precision"),
        ("costs", target.costs != (1.0, 1.0), "cost"),
    ):
        if is_given and metric != of:
            raise ValueError(f"{name} has no effect with metric={metric!r}: add metric={of!r}, or leave out {name}")
    one_of("granularity", granularity, GRANULARITIES)
    predictions = predicted(model, dataset, tokenizer, **reading)
    base, references = predictions.model, predictions.references
    names = _heads_to_tune(predictions, heads, multi_label_only=True)
    if not any((np.asarray(references[name]) >= 0.5).any() for name in names):
        raise ValueError(
            f"no row of the dataset has a positive label of the heads {names}, so thresholds cannot be chosen, and "
            "the model keeps its current thresholds: pass rows to which labels apply"
        )
    head_thresholds: dict[str, HeadThresholds] = {}
    for name in names:
        head = base.config.heads[name]
        decide = functools.partial(_decided, head)
        settings = (head.labels, head.thresholds, target, granularity, min_support, folds, seed, decide)
        try:
            head_thresholds[name] = tune_head(predictions.scores(name), references[name], *settings)
        except ValueError as error:
            if heads is not None or len(names) == 1:
                raise ValueError(f"head {name!r}: {error}") from None
            logger.warning(f"head {name!r} keeps its thresholds: {error}")
    if not head_thresholds:
        raise ValueError(f"the heads {names} have too few labelled rows, and keep their thresholds")
    for name, tuned in head_thresholds.items():
        (logger.warning if tuned.is_doubtful else logger.info)(f"head {name!r}: {tuned.reason}")
        head = base.config.heads[name]
        # 0.5 is stored like any other result of the comparison
        confirmed = head.thresholds is None and head.learn_thresholds is None and not tuned.is_doubtful
        if tuned.choice != "unchanged" or confirmed:
            base.set_thresholds(name, tuned.thresholds)
    _warn_of_adapter(model, base)
    return ThresholdReport(head_thresholds)


def _decided(head: HeadConfig, scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the decisions of the head with other thresholds, within its `min_labels` and `max_labels`."""
    score_tensor, limits = torch.from_numpy(scores), torch.from_numpy(thresholds)
    return limited(head, score_tensor, limits, score_tensor >= limits).numpy()


def calibrate(
    model: "MultiHeadModel | Trainer",
    dataset: RowsLike,
    granularity: str = "head",
    min_support: int = 50,
    *,
    heads: str | list[str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    folds: int = 5,
    seed: int = 42,
    **reading: Any,
) -> CalibrationReport:
    """Fit a temperature to each head and store it in the model's configuration; `decode` divides logits by it.

    Temperature scaling: [Guo et al. 2017](https://arxiv.org/abs/1706.04599). Thresholds are converted, so that
    decisions do not change (except which labels `min_labels` and `max_labels` choose, with a temperature for each
    label).

    Args:
        model: a trainer, or a model (then `tokenizer` is needed). It is changed, not saved.
        dataset: validation rows, raw or prepared; not those that were trained on.
        granularity: `"head"` for one temperature per head, or `"label"` for one per label of multi-label heads with
            enough rows.
        min_support: positives, and as many negatives, that a label needs for a separate temperature.
        heads: name or names of the heads; by default every head with labelled rows.
        tokenizer: tokenizer of the model; a trainer has one already.
        folds: number of folds of the estimate `after`, in which each row is scored with temperatures from the other
            folds.
        seed: seed of the division into folds.
        reading: for a model, how rows are read, as for `write_report`.

    Returns:
        A `CalibrationReport` with the temperature of each head, and its expected calibration error (0 to 1) and mean
        negative log-likelihood before and after.

    Raises:
        ValueError: If a setting or head does not exist, or a head has no labelled rows.

    Example:
        >>> from multihead_hf import MultiHeadModel, calibrate
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> report = calibrate(model, "complaints.csv", tokenizer=AutoTokenizer.from_pretrained("complaints"))
        >>> sorted(report.heads)
        ['mood', 'topics']
    """
    one_of("granularity", granularity, GRANULARITIES[1:])
    predictions = predicted(model, dataset, tokenizer, **reading)
    base, logits, references = predictions.model, predictions.logits, predictions.references
    names = _heads_to_tune(predictions, heads, multi_label_only=False)
    calibrations: dict[str, HeadCalibration] = {}
    for name in names:
        head = base.config.heads[name]
        before = head.calibration_temperature
        try:
            calibrations[name] = calibrate_head(
                logits[name], references[name], head.multi_label, before, granularity, min_support, folds, seed
            )
        except ValueError as error:
            raise ValueError(f"head {name!r}: {error}") from None
    for name, calibration in calibrations.items():
        head = base.config.heads[name]
        if not calibration.is_determined:
            logger.warning(
                f"head {name!r}: these {calibration.rows:,} rows do not determine a temperature (they are all of one "
                "label, or the likelihood rises to the end of the search), and the head keeps its temperature"
            )
        moved = _moved_thresholds(head, calibration.temperature)
        head.calibration_temperature = calibration.temperature
        if moved is not None:
            base.set_thresholds(name, moved)
    _warn_of_adapter(model, base)
    return CalibrationReport(calibrations)


def _warn_of_adapter(model: object, base: MultiHeadModel) -> None:
    """Warn that PEFT saves no thresholds and temperatures; a trainer says it when it saves the adapter."""
    if model is not base and not is_trainer(model):
        warn_of_lost_decisions(heads_with_decisions(base.config))


def _moved_thresholds(head: HeadConfig, temperature: float | list[float]) -> list[float] | None:
    """Return thresholds with the same decisions under another temperature; `None` if 0.5 needs no change."""
    if not head.multi_label or head.thresholds is None:
        return None
    logits = torch.logit(torch.tensor(head.thresholds, dtype=torch.float64))
    old = torch.tensor(1.0 if head.calibration_temperature is None else head.calibration_temperature)
    moved = torch.sigmoid(logits * old.double() / torch.tensor(temperature).double())
    return moved.clamp(1e-7, 1 - 1e-9).tolist()


def _heads_to_tune(predictions: Predictions, heads: str | list[str] | None, multi_label_only: bool) -> list[str]:
    """Return the names of the heads to tune.

    Raises:
        ValueError: If a head does not exist, has no labelled row or is not multi-label; or no head can be tuned.
    """
    base, labelled = predictions.model, predictions.labelled()
    heads = [heads] if isinstance(heads, str) else heads
    if heads is not None and not heads:
        raise ValueError(f"heads {heads!r}: name a head of {list(base.config.heads)}, or leave it out for all of them")
    fitting = [name for name in labelled if base.config.heads[name].multi_label or not multi_label_only]
    for name in heads or []:
        base.check_head(name, "heads")
        if name not in labelled:
            raise ValueError(f"head {name!r}: no row of the dataset has a label for this head")
        if name not in fitting:
            raise ValueError(
                f"head {name!r}: it is a single-label head, which predicts its highest score; thresholds are for "
                "multi-label heads"
            )
    if not fitting:
        kind = "multi-label head" if multi_label_only else "head"
        raise ValueError(f"no row of the dataset is labelled for a {kind}; the heads are {list(base.config.heads)}")
    return heads or fitting
