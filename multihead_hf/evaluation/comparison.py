"""Comparison of models on the same rows, and confidence intervals of metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.rows_like import RowsLike
from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig, whole_number
from ..model.unwrapping import multi_head_model
from .bootstrap import Difference, Interval, RowCounts, differences, intervals, too_few
from .predictions import ModelOrTrainer, Predictions, is_trainer, predicted

logger = logging.get_logger(__name__)


@dataclass
class IntervalReport:
    """Metrics of each head with their intervals. `print(report)` shows a table, `to_dict()` returns plain values.

    Args:
        heads: head → metric → value and interval.
        rows: head → number of labelled rows.
        confidence_level: share of the bootstrap samples that an interval holds.

    Example:
        >>> from multihead_hf import MultiHeadModel, confidence_intervals
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> report = confidence_intervals(model, "complaints.csv", tokenizer=tokenizer, n_resamples=100)
        >>> interval = report.heads["mood"]["accuracy"]
        >>> interval.low <= interval.value <= interval.high
        True
    """

    heads: dict[str, dict[str, Interval]]
    rows: dict[str, int]
    confidence_level: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values.

        Returns:
            A dict with `heads`, `rows` and `confidence_level`.
        """
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{'head':24}{'rows':>8}  {'metric':18}value ({100 * self.confidence_level:g}% interval)"]
        for name, metrics in self.heads.items():
            lines += [f"{name:23} {self.rows[name]:8,}  {metric:17} {interval}" for metric, interval in metrics.items()]
        return "\n".join(lines)


@dataclass
class ComparisonReport:
    """Result of `compare`. `print(report)` shows a table, `to_dict()` returns plain values.

    Args:
        heads: head → metric → the values of both models and their difference.
        rows: head → number of labelled rows.
        baselines: head → name of the model that it was compared with.
        confidence_level: share of the bootstrap samples that an interval holds.

    Example:
        >>> from multihead_hf import MultiHeadModel, compare
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> report = compare(model, {"earlier": model}, "complaints.csv", tokenizer=tokenizer, n_resamples=100)
        >>> report.baselines["mood"], report.heads["mood"]["accuracy"].verdict
        ('earlier', 'not shown')
    """

    heads: dict[str, dict[str, Difference]]
    rows: dict[str, int]
    baselines: dict[str, str]
    confidence_level: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values.

        Returns:
            A dict with `heads` (each difference also with its `verdict`), `rows`, `baselines` and `confidence_level`.
        """
        values = asdict(self)
        for name, metrics in self.heads.items():
            for metric, difference in metrics.items():
                values["heads"][name][metric]["verdict"] = difference.verdict
        return values

    def __str__(self) -> str:
        lines = [
            f"{'head':20}{'against':16}{'rows':>8}  {'metric':18}{'model':>9}{'baseline':>10}  "
            f"{f'difference ({100 * self.confidence_level:g}% interval)':32}verdict"
        ]
        for name, metrics in self.heads.items():
            for metric, difference in metrics.items():
                interval = difference.difference
                shown = f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
                prefix = f"{name:19} {self.baselines[name]:15} {self.rows[name]:8,}  {metric:18}"
                lines.append(
                    f"{prefix}{difference.model:9.3f}{difference.baseline:10.3f}  {shown:32}{difference.verdict}"
                )
        return "\n".join(lines)


def confidence_intervals(
    model: ModelOrTrainer,
    dataset: RowsLike,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 42,
    **reading: Any,
) -> IntervalReport:
    """Compute the metrics of each head with bootstrap intervals.

    The bounds are percentiles of the metrics of bootstrap samples, whose rows are drawn with replacement.

    Args:
        model: a trainer, or a `MultiHeadModel` (then `tokenizer` is needed).
        dataset: raw or prepared rows; not those that the model was trained or its thresholds tuned on.
        tokenizer: tokenizer of the model; a trainer has one already.
        n_resamples: number of bootstrap samples.
        confidence_level: share of the bootstrap samples that the interval holds.
        seed: seed of the bootstrap samples.
        reading: for a model, how rows are read, as for `write_report`.

    Returns:
        An `IntervalReport` with accuracy, precision, recall and F1 of each head, between 0 and 1; other metrics have no
        interval.

    Raises:
        ValueError: If `n_resamples` or `confidence_level` is invalid, or no row is labelled.

    Example:
        >>> from multihead_hf import MultiHeadModel, confidence_intervals
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> report = confidence_intervals(model, "complaints.csv", tokenizer=tokenizer, n_resamples=100)
        >>> sorted(report.heads), report.confidence_level
        (['mood', 'topics'], 0.95)
    """
    check_resampling(n_resamples, confidence_level, seed)
    predictions = predicted(model, dataset, tokenizer, **reading)
    names = predictions.labelled()
    if not names:
        raise ValueError(f"no row of the dataset is labelled; the heads are {list(predictions.model.config.heads)}")
    counts = {name: row_counts(predictions, name, predictions.heads[name].positive_id) for name in names}
    head_intervals = {
        name: intervals(head_counts, n_resamples, confidence_level, seed) for name, head_counts in counts.items()
    }
    rows = {name: int(head_counts.labelled.sum()) for name, head_counts in counts.items()}
    _warn_of_few_rows(rows, confidence_level)
    return IntervalReport(head_intervals, rows, confidence_level)


def compare(
    model: ModelOrTrainer,
    baselines: "ModelOrTrainer | Sequence[ModelOrTrainer] | Mapping[str, ModelOrTrainer]",
    dataset: RowsLike,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 42,
    **reading: Any,
) -> ComparisonReport:
    """Compare the heads of a model with those of other models on the same rows, with paired bootstrap intervals.

    With a multi-head model and models of its single heads, the report shows which heads gain and which lose from
    sharing the encoder.

    Args:
        model: a trainer, or a `MultiHeadModel` (then `tokenizer` is needed, and is used for all models).
        baselines: another such model, a list of them, or a dict name → model. Each head is compared with the baseline
            that has it.
        dataset: raw or prepared rows that no model was trained on.
        tokenizer: tokenizer of the models; trainers have one already.
        n_resamples: number of bootstrap samples.
        confidence_level: share of the bootstrap samples that the interval of a difference holds.
        seed: seed of the bootstrap samples.
        reading: for a model, how rows are read, as for `write_report`.

    Returns:
        A `ComparisonReport` with the metrics, between 0 and 1, of both models for each common head.

    Raises:
        ValueError: If the models have no head in common, two baselines have the same head, the labels of a head differ,
            the models have different vocabularies and one tokenizer, or no row is labelled.

    Example:
        >>> from multihead_hf import MultiHeadModel, compare
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> report = compare(model, {"earlier": model}, "complaints.csv", tokenizer=tokenizer, n_resamples=100)
        >>> sorted(report.heads), report.heads["topics"]["f1_micro"].difference.value
        (['mood', 'topics'], 0.0)
    """
    check_resampling(n_resamples, confidence_level, seed)
    models = dict(baselines) if isinstance(baselines, Mapping) else _named(baselines)
    _check_one_vocabulary([candidate for candidate in (model, *models.values()) if not is_trainer(candidate)])
    against = _opponents(_config(model).heads, {name: _config(other).heads for name, other in models.items()})
    model_predictions = predicted(model, dataset, tokenizer, **reading)
    names = [name for name in model_predictions.labelled() if name in against]
    if not names:
        raise ValueError(f"nothing to compare: no row of the dataset is labelled for {list(against)}")
    baseline_names = dict.fromkeys(against[name] for name in names)
    baseline_predictions = {}
    for name in baseline_names:
        try:
            baseline_predictions[name] = predicted(models[name], dataset, tokenizer, **reading)
        except ValueError as error:
            raise ValueError(f"baseline {name!r}: {error}") from error
    heads, rows = {}, {}
    for name in names:
        _check_same_references(name, against[name], model_predictions, baseline_predictions[against[name]])
        positive = model_predictions.heads[name].positive_id  # for both models: the same label
        counts, baseline_counts = (
            row_counts(predictions, name, positive)
            for predictions in (model_predictions, baseline_predictions[against[name]])
        )
        heads[name] = differences(counts, baseline_counts, n_resamples, confidence_level, seed)
        rows[name] = int(counts.labelled.sum())
    _warn_of_few_rows(rows, confidence_level)
    return ComparisonReport(heads, rows, {name: against[name] for name in names}, confidence_level)


def _check_same_references(head: str, baseline: str, one: Predictions, other: Predictions) -> None:
    """Check that two models were evaluated with the same labels.

    Raises:
        ValueError: If the models remember different columns, or read cells differently.
    """
    references, others = np.asarray(one.references[head]), np.asarray(other.references[head])
    if references.shape == others.shape and (references == others).all():
        return
    readings = [predictions.heads[head].reading for predictions in (one, other)]
    first, second = ("nothing" if reading is None else str(reading.to_dict()) for reading in readings)
    raise ValueError(
        f"head {head!r}: this model and {baseline!r} read different labels of the same rows; they remember {first} and "
        f"{second}. Say how both read the labels: label_columns={{{head!r}: ...}}, sep=..., empty=... or multi_hot=..."
    )


def _check_one_vocabulary(models: list[Any]) -> None:
    sizes = {_config(model).vocab_size for model in models}
    if len(sizes) > 1:
        raise ValueError(
            f"the models have vocabularies of {sorted(sizes)} tokens, so one tokenizer cannot encode texts for all "
            "of them: pass one trainer with its tokenizer for each model"
        )


def _opponents(heads: Mapping[str, HeadConfig], others: Mapping[str, Mapping[str, HeadConfig]]) -> dict[str, str]:
    """Return head → name of the other model that has it.

    Raises:
        ValueError: If no head is in another model, a head is in two of them, or its labels differ.
    """
    against: dict[str, str] = {}
    for name, head in heads.items():
        matches = [other for other, other_heads in others.items() if name in other_heads]
        if len(matches) > 1:
            raise ValueError(
                f"head {name!r} is in {matches[0]!r} and in {matches[1]!r}: compare it with only one of them"
            )
        if matches:
            check_same_labels(name, head, others[matches[0]][name])
            against[name] = matches[0]
    if not against:
        raise ValueError(f"nothing to compare: none of the heads {list(heads)} is in the other models")
    return against


def _config(model: ModelOrTrainer) -> MultiHeadConfig:
    return multi_head_model(model.model if is_trainer(model) else model).config


def row_counts(predictions: Predictions, name: str, positive: int | None) -> RowCounts:
    """Return the contribution of each row to the counts of a head; binary metrics refer to the label `positive`."""
    return RowCounts(predictions.decisions(name), np.asarray(predictions.references[name]), positive)


def check_resampling(n_resamples: int, confidence_level: float, seed: int = 0) -> None:
    """Check the settings of bootstrap intervals.

    Raises:
        ValueError: If so many bootstrap samples give no interval at this confidence level.
    """
    if not 0 < confidence_level < 1:
        raise ValueError(f"confidence_level {confidence_level}: give a number between 0 and 1, such as 0.95")
    if not isinstance(n_resamples, int) or n_resamples < 2:
        raise ValueError(f"n_resamples {n_resamples!r}: give a whole number of 2 or more, such as 1000")
    whole_number("seed", seed, 0)


def _warn_of_few_rows(rows: Mapping[str, int], confidence_level: float) -> None:
    """Warn of heads with too few rows."""
    few = {name: number for name, number in rows.items() if too_few(number, confidence_level)}
    if few:
        logger.warning(
            f"too few labelled rows for intervals of {100 * confidence_level:g}%: {few} (head: rows). Such intervals "
            "are not reliable"
        )


def check_same_labels(name: str, one: HeadConfig, other: HeadConfig) -> None:
    """Check that two models have the same labels for a head.

    Raises:
        ValueError: If labels, their order or the problem type differ; the message lists the differences.
    """
    if one.problem_type != other.problem_type:
        raise ValueError(f"head {name!r} is {one.problem_type} in one model and {other.problem_type} in the other")
    if one.labels == other.labels:
        return
    first = [label for label in one.labels if label not in other.labels]
    second = [label for label in other.labels if label not in one.labels]
    if not first and not second:
        raise ValueError(f"head {name!r}: the two models have the same labels in another order")
    raise ValueError(f"head {name!r}: labels only in the first model: {first}; only in the second: {second}")


def _named(others: "ModelOrTrainer | Sequence[ModelOrTrainer]") -> dict[str, ModelOrTrainer]:
    if not isinstance(others, (list, tuple)):
        return {"baseline": others}
    return {f"baseline {number}": other for number, other in enumerate(others, start=1)}
