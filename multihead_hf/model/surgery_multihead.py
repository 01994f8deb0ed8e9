"""Adding, removing, renaming and extending heads of a trained model; logits of other heads stay bit-equal.

This file travels with every saved model.
"""

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from .configuration_multihead import read_heads
from .head_multihead import HeadConfig, is_a, near_names
from .layers_multihead import ClassificationHead, MultiHeads, module_key
from .modes_multihead import evaluating
from .reading_multihead import LabelReading

logger = logging.get_logger(__name__)


class HeadSurgery:
    """Methods of `MultiHeadModel` that add, remove, rename or extend heads.

    They change model and configuration in place. With `verify=True` they compute a batch before and after: a
    `RuntimeError` is raised if a head changed that should not have. After an error the model is as it was before.
    """

    config: Any
    heads: MultiHeads
    encoder: Any
    check_head: Callable[[str, str], None]
    _init_weights: Callable[[nn.Module], None]

    def add_head(self, name: str, head: HeadConfig | Mapping[str, Any], *, verify: bool = False) -> None:
        """Add a fresh head after the existing heads; it is reproducible under `transformers.set_seed`.

        Args:
            name: Name of the head.
            head: A `HeadConfig` or a dict of its settings.
            verify: Whether to check that the logits of the existing heads stay the same.

        Raises:
            ValueError: The model has a head of this name, or the settings are wrong.
        """
        self._check_unwrapped()
        if name in self.config.heads:
            raise ValueError(
                f"head {name!r}: the model has a head of this name already; see extend_head and rename_head"
            )
        (config,) = read_heads({name: head}).values()
        self._change(
            {**self.config.heads, name: config}, {name: self._fresh_head(config)}, list(self.config.heads), verify
        )

    def remove_head(self, name: str, *, verify: bool = False) -> None:
        """Remove a head.

        Args:
            name: Name of the head.
            verify: Whether to check that the logits of the remaining heads stay the same.

        Raises:
            ValueError: The model has no such head, or it is the last one.
        """
        self._check_unwrapped()
        self.check_head(name, "remove_head")
        heads = {other: head for other, head in self.config.heads.items() if other != name}
        if not heads:
            raise ValueError(f"head {name!r} is the only head; a multi-head model needs at least one")
        self._change(heads, {}, list(heads), verify)

    def rename_head(self, name: str, new_name: str, *, verify: bool = False) -> None:
        """Rename a head without changing its position.

        Its labels are still read from the same column (`HeadConfig.reading`).

        Args:
            name: Name of the head.
            new_name: New name of the head.
            verify: Whether to check that the logits of all heads stay the same.

        Raises:
            ValueError: The model has no such head, or has one of the new name.
        """
        self._check_unwrapped()
        self.check_head(name, "rename_head")
        if new_name in self.config.heads:
            raise ValueError(f"head {new_name!r}: the model has a head of this name already")
        head = copy.copy(self.config.heads[name])
        head.reading = LabelReading(**{"column": name, **(head.reading.to_dict() if head.reading is not None else {})})
        renamed = {(new_name if other == name else other): config for other, config in self.config.heads.items()}
        renamed[new_name] = head
        read_heads(renamed)
        self._change(
            renamed, {new_name: self.heads[name]}, [o for o in renamed if o != new_name], verify, {new_name: name}
        )

    def extend_head(self, name: str, labels: Iterable[str], *, verify: bool = False) -> None:
        """Add labels to a head after its existing ones.

        The logits of the old labels stay as they are (a single-label head's probabilities are shared with the new
        labels). New labels have fresh weights, label weight 1 and threshold 0.5 (or the first value of learned ones),
        and the head counts as new: if `head_learning_rate` is not set, the Trainer chooses its rate anew. A
        `positive_label` is removed: it is for two labels.

        Args:
            name: Name of the head.
            labels: New labels.
            verify: Whether to check that the logits of the other heads stay the same.

        Raises:
            ValueError: The model has no such head, or the head has one of the labels already.
        """
        self._check_unwrapped()
        self.check_head(name, "extend_head")
        old, new = self.config.heads[name], [labels] if isinstance(labels, str) else list(labels)
        if not new:
            raise ValueError(f"head {name!r}: extend_head needs labels")
        if (setting := old.unresolved) is not None:
            raise ValueError(f"head {name!r}: {setting}='balanced' is not computed yet; train first, or give numbers")
        settings = old.to_dict()
        fill = {
            "thresholds": old.learn_thresholds or 0.5,
            "label_weights": 1.0,
            "pos_weight": 1.0,
            "calibration_temperature": 1.0,
        }
        for setting, value in fill.items():
            if isinstance(settings[setting], list):
                settings[setting] = [*settings[setting], *[value] * len(new)]
        if settings["reading"] and isinstance(settings["reading"].get("column"), list):
            settings["reading"]["column"] += new  # one column for each label
        (head,) = read_heads({name: {**settings, "labels": [*old.labels, *new], "positive_label": None}}, True).values()
        head.loss_function = old.loss_function
        wider, module = self._fresh_head(head), self.heads[name]
        with torch.no_grad():
            state = wider.state_dict()
            for key, value in module.state_dict().items():
                # the first rows of the last layer and of the thresholds, and all weights of the other layers
                state[key][: len(value)] = value
        wider.load_state_dict(state)
        for parameter, before in zip(wider.parameters(), module.parameters(), strict=True):
            parameter.requires_grad_(before.requires_grad)
        # (its own old logits are equal up to rounding: a wider product may sum in another order)
        others = [other for other in self.config.heads if other != name]
        self._change({**self.config.heads, name: head}, {name: wider}, others, verify)

    def load_heads(
        self, source: "str | os.PathLike | HeadSurgery", names: Iterable[str] | None = None, *, verify: bool = False
    ) -> None:
        """Add heads of another model that was trained on the same encoder; their logits stay as they were.

        Args:
            source: A multi-head model, or its folder or name on the Hub.
            names: Names of the heads to add; `None` means all of them.
            verify: Whether to check that the logits of the existing heads stay the same, and those of the new heads are
                the same as in `source`.

        Raises:
            ValueError: A head does not exist in `source` or exists here already, `source` is not a multi-head model,
                or its encoder differs (in its configuration but for dropout, its weights, or the pooling).
        """
        self._check_unwrapped()
        loaded = self._loaded(source)
        what = str(source) if isinstance(source, (str, os.PathLike)) else "the other model"
        names = list(loaded.config.heads) if names is None else [names] if isinstance(names, str) else list(names)
        if not names:
            raise ValueError(f"names is empty: name some of {list(loaded.config.heads)}, or leave it out for all")
        for name in names:
            if name not in loaded.config.heads:
                known = list(loaded.config.heads)
                raise ValueError(f"{what} has no head {name!r}.{near_names(name, known)} Its heads: {known}")
            if name in self.config.heads:
                raise ValueError(f"head {name!r}: the model has a head of this name already: rename_head, or remove it")
        self._check_same_encoder(loaded, what)
        heads = {name: loaded.config.heads[name] for name in names}
        copies = read_heads(heads, saved=True)
        modules = {}
        for name, head in copies.items():
            head.loss_function = heads[name].loss_function
            modules[name] = self._fresh_head(head)
            modules[name].load_state_dict(loaded.heads[name].state_dict())
            modules[name].is_fresh = loaded.heads[name].is_fresh
        alike = _where(loaded) == _where(self)  # elsewhere the same weights give other rounding errors
        expected = _logits(loaded, names) if verify and alike else {}
        self._change({**self.config.heads, **copies}, modules, list(self.config.heads), verify, expected=expected)

    def _loaded(self, source: "str | os.PathLike | HeadSurgery") -> "HeadSurgery":
        """Return a multi-head model, loaded from its folder or the Hub if necessary.

        Raises:
            ValueError: It is not a multi-head model, or does not exist.
        """
        if is_a(source, HeadSurgery):
            return source
        if not isinstance(source, (str, os.PathLike)):
            raise ValueError(f"source is a {type(source).__name__}: give a multi-head model, its folder or Hub name")
        model_class: Any = type(self)
        try:
            return model_class.from_pretrained(source)
        except OSError as error:
            # (the first line of these errors is the cause, the other lines are advice about the Hub)
            reason = str(error).strip().partition("\n")[0]
            if os.path.isdir(source):
                raise ValueError(f"{source} cannot be loaded: {reason}") from error
            raise ValueError(f"{source} is not a local folder, and cannot be loaded from the Hub: {reason}") from error

    def _check_unwrapped(self) -> None:
        if not is_a(self.heads, MultiHeads):
            raise ValueError("the heads are wrapped (PEFT): merge_and_unload() the adapter before changing heads")

    def _check_same_encoder(self, other: "HeadSurgery", what: str) -> None:
        for setting in ("pooling", "text_prefix"):
            theirs, mine = getattr(other.config, setting), getattr(self.config, setting)
            if theirs != mine:
                raise ValueError(
                    f"{what} has {setting}={theirs!r}, but this model has {mine!r}: its heads expect different vectors"
                )
        for setting in ("max_length", "truncation", "max_windows", "stride", "window_pooling"):
            theirs, mine = getattr(other.config, setting), getattr(self.config, setting)
            if theirs != mine:
                logger.warning(
                    f"{what} was trained with {setting}={theirs!r}, but this model has {mine!r}: its heads read long "
                    "texts otherwise than before"
                )
        columns, others = self.config.text_columns, other.config.text_columns
        if columns and others and len(columns) != len(others):
            raise ValueError(
                f"{what} reads text_columns={others}, but this model {columns}: its heads were trained on "
                f"{'text pairs' if len(others) > 1 else 'single texts'}"
            )
        mine, theirs = self.encoder.state_dict(), other.encoder.state_dict()
        if mine.keys() != theirs.keys():
            raise ValueError(
                f"{what} has another encoder: a {other.config.encoder.model_type!r} with other weights than this "
                f"{self.config.encoder.model_type!r}"
            )
        rounded = None
        for key, value in mine.items():
            other_value = theirs[key].to(value.device)
            if value.shape == other_value.shape and torch.equal(value, other_value.to(value.dtype)):
                continue
            coarser = _coarser(value.dtype, other_value.dtype)
            if value.shape != other_value.shape or not torch.equal(value.to(coarser), other_value.to(coarser)):
                raise ValueError(
                    f"{what} has another encoder: {key} differs. A head works with the encoder it was trained on; was "
                    "one of the two fine-tuned?"
                )
            rounded = str(coarser).removeprefix("torch.")
        if rounded is not None:
            raise ValueError(
                f"{what} has the same encoder except for rounding, as one of the two is in {rounded}: load both in "
                f"one dtype, MultiHeadModel.from_pretrained(…, dtype={rounded!r})"
            )

        settings, others = (config.encoder.to_dict() for config in (self.config, other.config))
        for setting in sorted(settings.keys() | others.keys()):
            if _of_vectors(setting) and settings.get(setting) != others.get(setting):
                their_setting, our_setting = others.get(setting), settings.get(setting)
                raise ValueError(
                    f"{what} has another encoder: {setting} is {their_setting!r} there and {our_setting!r} in this "
                    "model"
                )

    def _fresh_head(self, head: HeadConfig) -> ClassificationHead:
        weight: Any = self.heads[next(iter(self.config.heads))].layers[-1].weight
        module = ClassificationHead(head, self.config.hidden_size, weight.dtype)
        module.apply(self._init_weights)
        return module.to(weight.device).train(self.heads.training)

    def _change(
        self,
        heads: dict[str, HeadConfig],
        modules: Mapping[str, ClassificationHead],
        unchanged: list[str],
        verify: bool,
        renamed: Mapping[str, str] | None = None,
        expected: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Give the model these heads, with these modules for the new and changed ones."""
        before, old_modules = dict(self.config.heads), {name: self.heads[name] for name in self.config.heads}
        if verify:
            now = _logits(self, list(before))
            expected = {**{name: now[name] for name in unchanged}, **(expected or {})}
            expected.update({new: now[old] for new, old in (renamed or {}).items()})
        done = False
        try:
            self._set_heads(heads, {**{name: m for name, m in old_modules.items() if name in heads}, **modules})
            if verify:
                self._check_logits(expected or {})
            done = True
        finally:
            if not done:
                self._set_heads(before, old_modules)

    def _check_logits(self, expected: Mapping[str, Tensor]) -> None:
        head_logits = _logits(self, list(expected)) if expected else {}
        for name, logits in expected.items():
            if not torch.equal(head_logits[name], logits.to(head_logits[name].device)):
                raise RuntimeError(f"head {name!r}: its logits would have changed; the model is as it was")

    def _set_heads(self, heads: dict[str, HeadConfig], modules: Mapping[str, ClassificationHead]) -> None:
        for key in [key for key, _ in self.heads.named_children() if key.startswith("head_")]:
            delattr(self.heads, key)
        for name in heads:
            self.heads.add_module(module_key(name), modules[name])
        self.heads.names = list(heads)
        # in place, because collators and Trainers refer to this dict
        self.config.heads.clear()
        self.config.heads.update(heads)


# settings of a configuration that do not affect the model: its source and the version that wrote it
ABOUT_FILES = ("_name_or_path", "architectures", "dtype", "transformers_version")


def _coarser(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """Return the dtype with the lower precision; the first if one is not a floating-point type."""
    if not one.is_floating_point or not other.is_floating_point:
        return one
    return max(one, other, key=lambda dtype: torch.finfo(dtype).eps)


def _of_vectors(setting: str) -> bool:
    # dropout is for training only; ESM's token_dropout also scales the embeddings in evaluation
    return setting not in ABOUT_FILES and ("drop" not in setting or setting == "token_dropout")


def _where(model: PreTrainedModel) -> tuple[Any, ...]:
    weight = next(model.encoder.parameters())
    return weight.device, weight.dtype, model.encoder.config._attn_implementation


@torch.no_grad()
def _logits(model: PreTrainedModel, names: list[str]) -> dict[str, Tensor]:
    """Return the logits of a batch of made-up texts, with padding, in evaluation mode."""
    device = next(model.heads.parameters()).device
    generator = torch.Generator().manual_seed(0)
    # CANINE reads characters and has no vocabulary
    size = getattr(model.config.encoder, "vocab_size", None) or 100
    ids = torch.randint(0, size, (3, 8), generator=generator).to(device)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with evaluating(model):
        return model(input_ids=ids, attention_mask=mask, heads=names, return_dict=True).logits
