"""Configuration of one classification head, and its validation.

This file travels with every saved model. It needs the standard library and transformers only.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from transformers.activations import ACT2FN

from .reading_multihead import LabelReading
from .values_multihead import (
    OpenSettings,
    Thresholds,
    is_a,
    label_names,
    near_names,
    number,
    of_kind,
    one_of,
    plain_number,
    relative_weight,
    whole_number,
)

_TEMPERATURES = (1e-6, 1e6)
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")
ARCHITECTURES = ("linear", "mlp")
# loss → the problem type it is for and the settings of its `loss_kwargs`; the functions are in losses_multihead.py
LOSS_SETTINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cross_entropy": ("single_label_classification", ("label_smoothing",)),
    "bce": ("multi_label_classification", ()),
    "focal": ("multi_label_classification", ("gamma", "alpha")),
    "asymmetric": ("multi_label_classification", ("gamma_positive", "gamma_negative", "margin")),
    "soft_f1": ("multi_label_classification", ("average", "scope", "temperature", "absent_labels", "epsilon")),
    "soft_f1_bce": (
        "multi_label_classification",
        ("alpha", "average", "scope", "temperature", "absent_labels", "epsilon"),
    ),
}
BUILT_IN_LOSSES = tuple(LOSS_SETTINGS)
# settings of the built-in losses that are strings, and those that are numbers between 0 and 1
_LOSS_WORDS = {
    "average": ("samples", "macro", "micro"),
    "scope": ("micro_batch", "step"),
    "absent_labels": ("skip", "count"),
}
_LOSS_SHARES = ("alpha", "label_smoothing", "margin")


@dataclass(init=False)
class HeadConfig:
    """Configuration of one classification head.

    Args:
        labels: Names of the labels, unique, in the order of the logits.
        problem_type: `"single_label_classification"` (softmax, one label a row) or
            `"multi_label_classification"` (sigmoid, any number of labels a row).
        loss: Name of the loss; `None` means `"cross_entropy"` for single-label and `"bce"` for multi-label heads.
        loss_kwargs: Settings of the loss, such as `{"alpha": 0.15, "temperature": 2.0}` for `"soft_f1_bce"`.
        loss_weight: Weight λ ≥ 0 of this head in the combined loss `Σ λ·L / Σ λ`.
        label_weights: Weight of each label in the loss: a list in label order, a dict by label name, or
            `"balanced"` (n / (k·n_c), computed from the training data before the first step).
        pos_weight: Weight of the positives in `bce`, a list or a dict by label name. Multi-label heads only.
        architecture: `"linear"` (dropout → linear) or `"mlp"` (linear → dropout → activation → linear).
        hidden_size: Width of the `"mlp"` hidden layer; `None` means the encoder's hidden size.
        activation: Name of the activation of `"mlp"`, as in `transformers.activations.ACT2FN`.
        dropout: Dropout probability in [0, 1).
        thresholds: Minimum probability of a predicted label (`score >= threshold`), after calibration; a number, a list
            in label order or a dict by label name; `None` means 0.5. Multi-label heads only.
        learn_thresholds: Initial probability of learned thresholds (one per label, in logit space), for `soft_f1*`.
        calibration_temperature: Number or list that logits are divided by before the sigmoid or softmax.
        positive_label: Positive class of binary precision, recall and F1, for single-label heads with two labels.
        min_labels: Minimum number of labels of a row; the labels nearest to their thresholds fill it up. Multi-label
            heads only; `None` means no limit.
        max_labels: Maximum number of labels of a row; the labels farthest above their thresholds stay. Multi-label
            heads only; `None` means no limit.
        reading: How the labels were read from the training rows, a `LabelReading` or a dict of its settings; other rows
            are read in the same way by default. `infer_heads` and the Trainer fill it in.

    Raises:
        ValueError: A setting is unknown or has a wrong value; the message gives what was expected.

    Example:
        >>> from multihead_hf import HeadConfig
        >>> head = HeadConfig(labels=["roads", "noise"], problem_type="multi_label_classification", thresholds=0.4)
        >>> head.loss, head.thresholds
        ('bce', [0.4, 0.4])
    """

    labels: list[str]
    problem_type: str
    loss: str
    loss_kwargs: dict[str, Any]
    loss_weight: float
    label_weights: list[float] | str | None
    pos_weight: list[float] | str | None
    architecture: str
    hidden_size: int | None
    activation: str
    dropout: float
    thresholds: list[float] | None
    learn_thresholds: float | None
    calibration_temperature: float | list[float] | None
    positive_label: str | None
    min_labels: int | None
    max_labels: int | None
    reading: LabelReading | None

    # custom loss for this run, which replaces `loss`; never saved
    loss_function = None

    def __init__(
        self,
        labels: Iterable[str] = (),
        problem_type: str = "single_label_classification",
        loss: str | None = None,
        loss_kwargs: Mapping[str, Any] | None = None,
        loss_weight: float = 1.0,
        label_weights: Iterable[float] | Mapping[str, float] | str | None = None,
        pos_weight: Iterable[float] | Mapping[str, float] | str | None = None,
        architecture: str = "linear",
        hidden_size: int | None = None,
        activation: str = "relu",
        dropout: float = 0.1,
        thresholds: Thresholds | None = None,
        learn_thresholds: float | None = None,
        calibration_temperature: float | Iterable[float] | None = None,
        positive_label: str | None = None,
        min_labels: int | None = None,
        max_labels: int | None = None,
        reading: LabelReading | Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            known = [field.name for field in fields(self)]
            raise ValueError(f"unknown setting {name!r}.{near_names(name, known)} Known: {', '.join(known)}")
        self.labels = label_names(labels)
        self.problem_type = one_of("problem_type", problem_type, PROBLEM_TYPES)
        for setting, value in (("loss", loss), ("activation", activation), ("positive_label", positive_label)):
            of_kind(setting, value, str)
        if is_a(loss_kwargs, OpenSettings) and (loss != "asymmetric" or pos_weight is not None):
            loss, loss_kwargs = None if loss == "asymmetric" else loss, loss_kwargs.of_the_user()
        self.loss = loss if loss is not None else ("bce" if self.multi_label else "cross_entropy")
        of_kind("loss_kwargs", loss_kwargs, Mapping)
        self.loss_kwargs = copy.copy(loss_kwargs) if is_a(loss_kwargs, OpenSettings) else dict(loss_kwargs or {})
        self.loss_weight = relative_weight("loss_weight", loss_weight)
        self.label_weights = self._per_label_weights("label_weights", label_weights)
        self.pos_weight = self._per_label_weights("pos_weight", pos_weight)
        self.architecture = one_of("architecture", architecture, ARCHITECTURES)
        self.hidden_size = None if hidden_size is None else whole_number("hidden_size", hidden_size, 1)
        self.activation = activation
        self.dropout = number("dropout", dropout, low=0.0, below=1.0)
        self.thresholds = None
        self.thresholds = None if thresholds is None else self.per_label_thresholds(thresholds)
        self.learn_thresholds = learn_thresholds
        self.calibration_temperature = self.temperatures(calibration_temperature)
        self.positive_label = positive_label
        self.min_labels, self.max_labels = min_labels, max_labels
        label_reading = None if reading is None else LabelReading.of(reading)
        self.reading = label_reading if label_reading is not None and label_reading.to_dict() else None
        self._check_loss()
        self._check_rest()

    @property
    def multi_label(self) -> bool:
        """Whether a row can have several labels."""
        return self.problem_type == "multi_label_classification"

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.labels)

    @property
    def positive_id(self) -> int | None:
        """Id of the `positive_label`."""
        return None if self.positive_label is None else self.labels.index(self.positive_label)

    @property
    def unresolved(self) -> str | None:
        """Name of the setting that is `"balanced"` and not computed yet, or `None`."""
        return next((name for name in ("label_weights", "pos_weight") if getattr(self, name) == "balanced"), None)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as JSON values.

        Returns:
            A dict setting → value, an independent copy.
        """
        settings = {field.name: copy.deepcopy(getattr(self, field.name)) for field in fields(self)}
        return {**settings, "reading": None if self.reading is None else self.reading.to_dict()}

    @classmethod
    def from_saved(cls, settings: Mapping[str, Any]) -> "HeadConfig":
        """Return a head from its entry in a `config.json`; a loss that is not registered is kept, for inference.

        Args:
            settings: The entry, without the name of the head.

        Returns:
            The head.

        Raises:
            ValueError: A setting has an impossible value.
        """
        loss = of_kind("loss", settings.get("loss"), str)
        if loss is None or loss in LOSS_SETTINGS:
            return cls(**settings)
        head = cls(**{**settings, "loss": None, "loss_kwargs": None, "learn_thresholds": None})
        head.loss, head.loss_kwargs = loss, dict(of_kind("loss_kwargs", settings.get("loss_kwargs"), Mapping) or {})
        head.learn_thresholds = settings.get("learn_thresholds")
        return head

    def per_label_thresholds(self, thresholds: Thresholds) -> list[float]:
        """Return thresholds in label order.

        Args:
            thresholds: A number, a list in label order, or a dict by label name (other labels keep their thresholds).

        Returns:
            A probability for each label.

        Raises:
            ValueError: A threshold is outside (0, 1), the list has a wrong length, or a label is unknown.
        """
        if not self.multi_label:
            raise ValueError("thresholds are for multi-label heads; a single-label head predicts its highest score")
        if isinstance(thresholds, Mapping):
            values = self._by_name("thresholds", thresholds, self.thresholds or [0.5] * self.num_labels)
        elif isinstance(thresholds, str):
            raise ValueError(f"thresholds {thresholds!r}: give a number, a list in label order or a dict by label name")
        elif isinstance(single := plain_number(thresholds), Real):
            values = [number("thresholds", single)] * self.num_labels
        else:
            values = self._floats("thresholds", thresholds)
        self._check_length("thresholds", values)
        for label, value in zip(self.labels, values, strict=True):
            if not 0.0 < value < 1.0:
                raise ValueError(f"threshold {value} of label {label!r}: a threshold is a probability between 0 and 1")
        return values

    def _per_label_weights(
        self, name: str, weights: Iterable[float] | Mapping[str, float] | str | None
    ) -> list[float] | str | None:
        if weights is None or (isinstance(weights, str) and weights == "balanced"):
            return weights
        if isinstance(weights, str):
            raise ValueError(f"{name} {weights!r}: give a list in label order, a dict by label name or 'balanced'")
        default = [1.0] * self.num_labels
        values = self._by_name(name, weights, default) if isinstance(weights, Mapping) else self._floats(name, weights)
        self._check_length(name, values)
        for label, value in zip(self.labels, values, strict=True):
            relative_weight(f"{name} of label {label!r}", value)
        if not any(values):
            raise ValueError(f"{name}: all are 0, so nothing would be learned")
        return values

    def _by_name(self, setting: str, values: Mapping[str, float], default: list[float]) -> list[float]:
        for label in values:
            if label not in self.labels:
                raise ValueError(f"{setting}: {label!r} is not a label of this head.{near_names(label, self.labels)}")
        return [number(setting, values.get(label, other)) for label, other in zip(self.labels, default, strict=True)]

    def _floats(self, setting: str, values: object) -> list[float]:
        if not isinstance(values, Iterable):
            raise ValueError(f"{setting} {values!r}: give a list in label order or a dict by label name")
        return [number(setting, value) for value in values]

    def _check_length(self, setting: str, values: list[float]) -> None:
        if len(values) != self.num_labels:
            raise ValueError(f"{setting}: {len(values)} values for {self.num_labels} labels; give one for each label")

    def temperatures(self, temperature: float | Iterable[float] | None) -> float | list[float] | None:
        """Check temperatures.

        Args:
            temperature: As in `calibration_temperature`.

        Returns:
            A temperature, or one for each label, as plain numbers.

        Raises:
            ValueError: A temperature is not from 1e-6 to 1e6, or the list has a wrong length.
        """
        if (single := plain_number(temperature)) is None or isinstance(single, Real):
            return None if single is None else number("calibration_temperature", single, *_TEMPERATURES)
        values = self._floats("calibration_temperature", temperature)
        self._check_length("calibration_temperature", values)
        return [number("calibration_temperature", value, *_TEMPERATURES) for value in values]

    def _check_loss(self) -> None:
        if self.loss not in LOSS_SETTINGS:
            known = [name for name, (kind, _) in LOSS_SETTINGS.items() if kind == self.problem_type]
            raise ValueError(f"unknown loss {self.loss!r}.{near_names(self.loss, known)} Known: {', '.join(known)}")
        problem_type, settings = LOSS_SETTINGS[self.loss]
        if problem_type != self.problem_type:
            raise ValueError(f"loss {self.loss!r} is for {problem_type}, but problem_type is {self.problem_type!r}")
        for name, value in self.loss_kwargs.items():
            if name not in settings:
                hint = f"{near_names(name, settings)} Known: {', '.join(settings) or 'none'}"
                raise ValueError(f"loss {self.loss!r} has no setting {name!r}.{hint}")
            if self.loss not in BUILT_IN_LOSSES:
                continue  # a custom loss checks its own settings
            if name in _LOSS_WORDS:
                one_of(f"loss_kwargs {name!r}", value, _LOSS_WORDS[name])
            elif name == "epsilon":
                self.loss_kwargs[name] = number(f"loss_kwargs {name!r}", value, above=0.0)
            else:
                high = 1.0 if name in _LOSS_SHARES else math.inf
                self.loss_kwargs[name] = number(f"loss_kwargs {name!r}", value, low=0.0, high=high)
        if self.learn_thresholds is not None:
            self.learn_thresholds = number("learn_thresholds", self.learn_thresholds, above=0.0, below=1.0)
            if self.loss in BUILT_IN_LOSSES and "temperature" not in settings:
                raise ValueError(
                    f"learn_thresholds needs a loss with thresholds in it, soft_f1 or soft_f1_bce, not {self.loss!r}"
                )

    def check_limits(self) -> None:
        """Check `min_labels` and `max_labels`, which may have been changed since.

        Raises:
            ValueError: One of them is impossible.
        """
        for name, value, least in (("min_labels", self.min_labels, 0), ("max_labels", self.max_labels, 1)):
            if value is not None and not self.multi_label:
                raise ValueError(f"{name} is for multi-label heads; a single-label head has one label a row")
            if value is not None:
                setattr(self, name, whole_number(name, value, least, self.num_labels))
        if self.max_labels is not None and (self.min_labels or 0) > self.max_labels:
            raise ValueError(f"min_labels {self.min_labels} is above max_labels {self.max_labels}")

    def _check_rest(self) -> None:
        self.check_limits()
        if self.activation not in ACT2FN:
            near = near_names(self.activation, ACT2FN)
            raise ValueError(f"unknown activation {self.activation!r}.{near} Known: {', '.join(ACT2FN)}")
        if self.pos_weight is not None and not self.multi_label:
            raise ValueError("pos_weight is for multi-label heads; a single-label head takes label_weights")
        if self.pos_weight is not None and self.loss in ("focal", "asymmetric", "soft_f1"):
            raise ValueError(f"pos_weight has no effect on the loss {self.loss!r}: set loss='bce', or leave it out")
        if self.label_weights == "balanced" and self.multi_label:
            raise ValueError("label_weights 'balanced' is for single-label heads; a multi-label head takes pos_weight")
        if self.positive_label is not None:
            if self.multi_label or self.num_labels != 2:
                raise ValueError("positive_label is for single-label heads with two labels")
            if self.positive_label not in self.labels:
                near = near_names(self.positive_label, self.labels)
                raise ValueError(
                    f"positive_label {self.positive_label!r} is not one of the labels {self.labels}.{near}"
                )
