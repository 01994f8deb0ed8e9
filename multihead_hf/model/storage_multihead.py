"""Loading and saving of a multi-head model.

This file travels with every saved model.
"""

import copy
import os
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, overload

import torch
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from .configuration_multihead import MultiHeadConfig
from .decoding_multihead import check_num_labels
from .encoder_multihead import freeze_unused_pooler
from .layers_multihead import ClassificationHead, head_of_key, module_key
from .weights_multihead import tensors_only, without_bars

logger = logging.get_logger(__name__)

_Model = TypeVar("_Model", bound="HeadStorage")

_SHOWN = 3  # keys

TASK = "multi-head-text-classification"
_GRAPHS = ("model.onnx", "openvino_model.xml")
# settings of quantisers that list modules to skip
_SKIPPED = ("llm_int8_skip_modules", "modules_to_not_convert", "skip_modules")


# keyword arguments that say where and how files are found
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class HeadStorage:
    """Methods of `MultiHeadModel` that load and save."""

    config: Any
    encoder: Any
    heads: Any
    sync_thresholds: Any
    _loaded_decisions: dict[str, Any] | None = None
    _told: tuple[str, ...] = ()

    @overload
    @classmethod
    def from_pretrained(
        cls: type[_Model],
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,
        output_loading_info: Literal[True],
        **kwargs: Any,
    ) -> tuple[_Model, dict[str, Any]]: ...

    @overload
    @classmethod
    def from_pretrained(
        cls: type[_Model], pretrained_model_name_or_path: str | os.PathLike | None, *args: Any, **kwargs: Any
    ) -> _Model: ...

    @classmethod
    def from_pretrained(
        cls: type[_Model], pretrained_model_name_or_path: str | os.PathLike | None, *args: Any, **kwargs: Any
    ) -> _Model | tuple[_Model, dict[str, Any]]:
        """Load a saved model, as `PreTrainedModel.from_pretrained`.

        Weights that the checkpoint lacks are initialised, and weights that the configuration has no place for are left
        out, with a warning (`MultiHeadPredictor` refuses such a model). Weights are read from safetensors only,
        unless `use_safetensors=False` asks for a pickle. A `quantization_config` quantises the encoder only.

        Args:
            pretrained_model_name_or_path: Folder, or name on the Hub.
            *args: As for the base class.
            **kwargs: As for the base class.

        Returns:
            The model; with `output_loading_info=True`, also a dict about the weights.

        Raises:
            ValueError: The checkpoint's heads do not match those of the configuration (another name, or another number
                or order of labels), or a file of weights is damaged.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        if kwargs.get("quantization_config") is not None:
            kwargs["quantization_config"] = without_heads(kwargs["quantization_config"])
        kwargs.setdefault("use_safetensors", True)
        ignore_sizes = kwargs.get("ignore_mismatched_sizes", False)
        kwargs["ignore_mismatched_sizes"] = True  # reported below for each head
        kwargs["output_loading_info"] = True
        load = super().from_pretrained  # type: ignore[misc]
        with tensors_only(pretrained_model_name_or_path):
            model, info = without_bars(load, pretrained_model_name_or_path, *args, **kwargs)
        model._check_loaded(info, pretrained_model_name_or_path, ignore_sizes)
        if kwargs.get("heads") is not None and pretrained_model_name_or_path is not None:
            hub = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
            saved, _ = type(model.config).get_config_dict(pretrained_model_name_or_path, **hub)
            model._check_order({head["name"]: head["labels"] for head in saved.get("heads", [])})
        model.sync_thresholds()  # (a later change of the configuration is seen)
        model._loaded_decisions = _decisions(model.config)
        freeze_unused_pooler(model.encoder)
        for parameter in model.heads.parameters():
            # memory-mapped weights can be unaligned, which changes the summation order of narrow matrix products:
            # the loaded model's logits would differ from those of the saved model in the last bit
            parameter.data = parameter.data.clone()
        return (model, info) if wants_info else model

    def _check_order(self, saved: Mapping[str, list[str]]) -> None:
        """Check that the labels of heads that were given are in the order of the saved logits.

        Raises:
            ValueError: They are the same labels in another order, so that the logits would mean other labels.
        """
        for name, head in self.config.heads.items():
            labels = saved.get(name, head.labels)
            if labels != head.labels and sorted(labels) == sorted(head.labels):
                raise ValueError(
                    f"head {name!r}: the saved labels are {labels}, and heads= has another order, {head.labels}: "
                    "the logits would mean other labels. Leave heads= out, or give the saved order"
                )

    def _check_loaded(self, info: Mapping[str, Any], source: str | os.PathLike | None, ignore_sizes: bool) -> None:
        known = {module_key(name) for name in self.config.heads}
        # (learned thresholds that were later replaced in the configuration)
        keys = [key.split(".") for key in info["unexpected_keys"] if key.startswith("heads.")]
        unknown_heads = sorted(key[1] for key in keys if key[-1] != "threshold_logits" or key[1] not in known)
        if unknown_heads:
            raise ValueError(
                f"{source}: the checkpoint has heads that are not in its configuration "
                f"({', '.join(dict.fromkeys(unknown_heads))}); the configuration has {list(self.config.heads)}"
            )
        for problem in encoder_problems(info):
            logger.warning(f"{source}: {problem}")
        for key, saved, expected in sorted(info["mismatched_keys"]):
            if not ignore_sizes:
                name = head_of_key(key, self.config.heads)
                where = f"head {name!r}" if name is not None else "encoder"
                raise ValueError(
                    f"{source}: {where}: {key} has shape {tuple(saved)} in the checkpoint, but shape "
                    f"{tuple(expected)} by the configuration"
                )
        fresh = dict.fromkeys(head_of_key(key, self.config.heads) for key in sorted(info["missing_keys"]))
        fresh.pop(None, None)
        fresh_keys = {module_key(name) for name in fresh if name is not None}
        for key, module in self.heads.named_modules():
            if isinstance(module, ClassificationHead):
                module.is_fresh = key.split(".")[-1] in fresh_keys
        if fresh:
            logger.warning(f"{source}: no weights for the heads {list(fresh)}; they were initialised and need training")

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the model, as `PreTrainedModel.save_pretrained`; the folder also loads without `multihead_hf`.

        Args:
            save_directory: Folder to save into.
            *args: As for the base class.
            **kwargs: As for the base class.

        Raises:
            ValueError: A head's `"balanced"` weights are not computed yet, or the folder holds an adapter, which would
                be applied to the weights when they are loaded; nothing is written.
            NotADirectoryError: `save_directory` is a file, for which the base class would only log an error, or a
                link to nothing.
        """
        # this import makes transformers copy the pipeline's file beside the model's, on the first save and on re-saves
        from .pipeline_multihead import MultiHeadPipeline

        if os.path.lexists(save_directory) and not os.path.isdir(save_directory):
            is_file = os.path.exists(save_directory)
            what = "is a file" if is_file else "is a symbolic link to something that does not exist"
            raise NotADirectoryError(f"{save_directory} {what}: give a folder to save the model into")
        self._check_saveable()
        self.check_no_adapter(save_directory)
        self.sync_thresholds()
        if has_adapter(self):
            self._warn_of_base()
        self._warn_of_broken()
        _warn_of_older_files(save_directory)
        half = self.encoder.dtype in (torch.float16, torch.bfloat16)
        weights = (p for name, p in self.heads.named_parameters() if not name.endswith("threshold_logits"))
        heads_dtype = next(weights).dtype
        self.config.heads_dtype = "float32" if half and heads_dtype == torch.float32 else None
        implementation = f"{MultiHeadPipeline.__module__.rsplit('.', 1)[-1]}.{MultiHeadPipeline.__name__}"
        self.config.custom_pipelines = {TASK: {"impl": implementation, "pt": ["AutoModel"], "type": "text"}}
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    def _warn_of_broken(self) -> None:
        names = [name for name, weight in self.named_parameters() if _is_broken(weight)]  # type: ignore[attr-defined]
        if names:
            logger.warning(
                f"{len(names)} tensors of the model to be saved hold weights that are not finite (NaN or infinite), "
                f"such as {names[0]}, so it may not predict. Train again, with a lower learning_rate or "
                "head_learning_rate"
            )

    def check_no_adapter(self, folder: str | os.PathLike) -> None:
        """Check that a folder to save into does not hold an adapter.

        Args:
            folder: Path of the folder.

        Raises:
            ValueError: The folder holds an adapter, and this model has none.
        """
        adapter = os.path.join(folder, "adapter_config.json")
        if os.path.isfile(adapter) and not has_adapter(self):
            raise ValueError(
                f"{folder} holds an adapter ({os.path.basename(adapter)}), which transformers would apply to "
                "these weights when it loads them: save into another folder"
            )

    def push_to_hub(self, *args: Any, **kwargs: Any) -> str:
        """Upload the model, as `PreTrainedModel.push_to_hub`.

        Args:
            *args: As for the base class.
            **kwargs: As for the base class.

        Returns:
            The result of the base class.

        Raises:
            ValueError: As for `save_pretrained`; nothing is uploaded then.
        """
        self._check_saveable()
        return super().push_to_hub(*args, **kwargs)  # type: ignore[misc]

    def _check_saveable(self) -> None:
        self.config.check_saveable()
        if getattr(self, "saved_graph", None) is not None:
            raise ValueError("this model has no weights that could be saved: it was loaded with an exported graph")
        names = (name for part in (self.encoder, self.heads) for name, _ in part.named_parameters())
        if any(".base_layer." in name for name in names) and not has_adapter(self):
            raise ValueError(
                "an adapter is wrapped around parts of this model (PEFT), and the saved model could not be loaded "
                "again: save the PEFT model, or peft_model.merge_and_unload().save_pretrained(...)"
            )
        keys = {key for key, _ in self.heads.named_children() if key.startswith("head_")}
        expected = {module_key(name) for name in self.config.heads}
        if keys and keys != expected:
            raise ValueError(
                f"config.heads are {list(self.config.heads)}, but the model was made with the heads {sorted(keys)}: "
                "the saved model could not be loaded again"
            )
        self.check_labels()

    def _warn_of_base(self) -> None:
        """Warn, once of each, about what is not saved with an adapter that was added with `add_adapter`."""
        before = self._loaded_decisions or {}
        changed = [name for name, found in _decisions(self.config).items() if found != before.get(name, (None, None))]
        if changed and "decisions" not in self._told:
            self._told += ("decisions",)
            warn_of_lost_decisions(changed)
        if not self.config.name_or_path and "base" not in self._told:
            self._told += ("base",)
            logger.warning(
                "only the adapter is saved, and it does not record its base model, which was not loaded from a folder: "
                "save the base model before add_adapter, and load the adapter with load_adapter onto that"
            )

    def check_labels(self) -> None:
        """Check that every head has as many labels in the configuration as it has logits.

        Raises:
            ValueError: The labels of a head were changed in the configuration to another number.
        """
        heads = {module_key(name): (name, head) for name, head in self.config.heads.items()}
        for key, module in self.heads.named_modules():
            name, head = heads.get(key.split(".")[-1], ("", None))
            if head is not None and isinstance(module, ClassificationHead):
                check_num_labels(head, module.num_labels, f"head {name!r}: ")


def has_adapter(model: object) -> bool:
    """Return whether an adapter was added to the model with `add_adapter` of transformers."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def _warn_of_older_files(folder: str | os.PathLike) -> None:
    """Warn of a card and of graphs in a folder that describe and compute the model that was saved there before."""
    if os.path.isfile(os.path.join(folder, "model_card.json")):
        logger.warning(
            f"{folder} holds the model card of an earlier save, whose scores are not those of this model if its "
            "weights have changed: delete README.md and model_card.json, or write a report and the card with it "
            f"(multihead-hf report {folder} ROWS -o REPORT; multihead-hf card {folder} --report REPORT)"
        )
    graphs = [name for name in _GRAPHS if os.path.isfile(os.path.join(folder, name))]
    if graphs:
        logger.warning(
            f"{folder} holds the graph of an earlier model ({', '.join(graphs)}), which other programs would use: "
            "export this model again, or delete it"
        )


def _is_broken(weight: torch.Tensor) -> bool:
    """Return whether a weight holds NaN or infinity, as far as it can be looked at."""
    kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    return weight.dtype in kinds and not weight.is_meta and not bool(weight.isfinite().all())


def _decisions(config: MultiHeadConfig) -> dict[str, Any]:
    """Return head → thresholds and temperature."""
    return {name: copy.deepcopy((head.thresholds, head.calibration_temperature)) for name, head in config.heads.items()}


def heads_with_decisions(config: MultiHeadConfig) -> list[str]:
    """Return the names of heads with thresholds or a temperature."""
    return [name for name, found in _decisions(config).items() if found != (None, None)]


def warn_of_lost_decisions(names: list[str]) -> None:
    """Warn that thresholds and temperatures of heads are not saved with an adapter.

    Args:
        names: Names of the heads that have some.
    """
    if names:
        logger.warning(
            f"an adapter does not store thresholds and temperatures, but the heads {names} have some: loaded with its "
            "base model, the heads use the thresholds and temperatures of that model. To keep the trained ones, set "
            "them in the base model and save it, or save a whole model (PEFT: merge_and_unload().save_pretrained(...))"
        )


def encoder_problems(info: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the encoder's weights, from transformers' loading report of a checkpoint."""
    problems = []
    for kind, problem in (
        ("missing_keys", "the checkpoint lacks weights of the encoder, which are random"),
        ("unexpected_keys", "the checkpoint has weights of the encoder that its configuration has no place for"),
    ):
        keys = sorted(key for key in info[kind] if key.startswith("encoder."))
        if keys:
            more = ", …" if len(keys) > _SHOWN else ""
            problems.append(f"{problem}: {len(keys):,} parameters ({', '.join(keys[:_SHOWN])}{more})")
    return problems


def without_heads(quantization: QuantizationConfigMixin | Mapping[str, Any]) -> QuantizationConfigMixin:
    """Return a copy of a `quantization_config`, or of its dict, that leaves the heads unquantised.

    The attribute `_keep_in_fp32_modules` of transformers would also change the precision of saved heads.
    """
    if isinstance(quantization, Mapping):
        quantization = AutoQuantizationConfig.from_dict(dict(quantization))
    quantization = copy.copy(quantization)
    for name in _SKIPPED:
        if hasattr(quantization, name):
            setattr(quantization, name, [*(getattr(quantization, name) or ()), "heads"])
    return quantization
