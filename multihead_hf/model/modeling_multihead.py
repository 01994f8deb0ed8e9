"""One encoder with any number of named classification heads.

This file travels with every saved model, and so do the siblings that it imports.
"""

import copy
import inspect
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils import ModelOutput, TransformersKwargs, logging

from .configuration_multihead import HeadsLike, MultiHeadConfig, read_heads
from .decoding_multihead import HeadPrediction, check_finite, predict
from .encoder_multihead import (
    RightPadding,
    build_encoder,
    freeze_unused_pooler,
    lengthen,
    pretrained_encoder,
    refuse_remote_code,
    try_encoder,
    without_bars,
)
from .head_multihead import HeadConfig, is_a, near_names
from .layers_multihead import ClassificationHead, MultiHeads, Windows, head_of_key, module_key, pool
from .losses_multihead import MISSING
from .objective_multihead import StepTotals, combined_loss, head_losses
from .sentence_transformers_multihead import sentence_transformers_settings
from .surgery_multihead import HeadSurgery

logger = logging.get_logger(__name__)

TASK = "multi-head-text-classification"


@dataclass
class MultiHeadOutput(ModelOutput):
    """Output of `MultiHeadModel`.

    Args:
        loss: combined loss `Σ λ·L / Σ λ` over the heads, when labels are given.
        logits: head → (batch, labels).
        losses: head → its loss, when labels are given; an exact 0 for a head without labels in the batch.
        loss_terms: head → term → value, when labels are given.
        loss_statistics: head → term → sums over the batch's rows (…), of loss terms over a step of several batches.
        hidden_states: the encoder's, (batch, length, hidden) each, when asked for.
        attentions: the encoder's, (batch, attention heads, length, length) each, when asked for.
    """

    loss: Tensor | None = None
    logits: dict[str, Tensor] | None = None
    losses: dict[str, Tensor] | None = None
    loss_terms: dict[str, dict[str, Tensor]] | None = None
    loss_statistics: dict[str, dict[str, Tensor]] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class MultiHeadModel(HeadSurgery, PreTrainedModel):
    """One encoder (`model.encoder`) with any number of named classification heads (`model.heads`).

    Example:
        ```python
        heads = {"topic": HeadConfig(labels=["roads", "waste"], problem_type="multi_label_classification")}
        model = MultiHeadModel.from_encoder("jhu-clsp/mmBERT-base", heads=heads)
        model(**tokenizer(["Er ligt afval op straat"], return_tensors="pt")).logits["topic"]  # (1, 2)
        ```
    """

    config_class = MultiHeadConfig
    # no prefix: with "encoder" the weight renamings of some encoders would apply to the heads' weights as well
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    # what the outer class could run; the encoder's own class checks what it really supports
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _no_split_modules = ["MultiHeads"]
    # the Trainer must not take `**kwargs` for a loss that is already normalised over accumulation steps
    accepts_loss_kwargs = False

    def __init__(self, config: MultiHeadConfig, encoder: PreTrainedModel | None = None) -> None:
        """A model with fresh weights.

        Args:
            config: the whole configuration.
            encoder: an encoder with its weights, used as it is; `None` builds a fresh one from `config.encoder`.
        """
        super().__init__(config)
        self.encoder = encoder if encoder is not None else build_encoder(config.encoder)
        self.config.encoder = self.encoder.config
        self.heads = MultiHeads(config)
        self.supports_gradient_checkpointing = self.encoder.supports_gradient_checkpointing
        self._encoder_arguments = frozenset(inspect.signature(type(self.encoder).forward).parameters)
        self.post_init()
        try_encoder(self)

    @classmethod
    def from_encoder(
        cls,
        name_or_path: str | os.PathLike,
        heads: HeadsLike,
        pooling: str | None = None,
        *,
        dtype: torch.dtype | str | None = torch.float32,
        attn_implementation: str | None = None,
        revision: str = "main",
        token: str | bool | None = None,
        trust_remote_code: bool | None = None,
        **settings: Any,
    ) -> "MultiHeadModel":
        """Put fresh heads on a pretrained encoder.

        An encoder with sentence-transformers files (`modules.json`) is read as these files have it, unless an argument
        differs: `pooling` from the file of its Pooling module, `max_length` from `max_seq_length` (but at most the
        encoder's positions), and `text_prefix` from the prompt named "classification" or else the default prompt. What
        was taken is logged at info level and stored in the model's config. A Normalize module is left out: it changes
        the length of a vector and not its direction, and the heads are trained on the vectors as they are. Dense and
        other modules are left out with a warning.

        Args:
            name_or_path: Hub id or folder of the encoder.
            heads: dict name → `HeadConfig`, as in `MultiHeadConfig`.
            pooling: as in `MultiHeadConfig`; `None` takes the encoder's own, from its sentence-transformers files, else
                the default for its architecture.
            dtype: precision of the encoder's weights; half precision is for frozen encoders, the heads stay float32.
            attn_implementation: `"sdpa"`, `"eager"`, `"flash_attention_2"`, …; `None` takes the encoder's best.
            revision: branch, tag or commit on the Hub.
            token: Hub token for a private encoder.
            trust_remote_code: whether to use code of the encoder's repository in place of transformers' own. Such an
                encoder is refused (see Raises), with or without it.
            settings: further fields of `MultiHeadConfig`, such as `max_length`. `max_length=None` is the encoder's
                limit and `text_prefix=None` no prefix, whatever its files have.

        Returns:
            the model in evaluation mode; its heads are reproducible under `transformers.set_seed`.

        Raises:
            ValueError: wrong heads or settings; an encoder that runs code of its own repository, which could not be
                loaded again from a saved multi-head model.
        """
        hub = {"revision": revision, "token": token}
        # before anything is downloaded
        read_heads(heads)
        ours = [name for name in MultiHeadConfig.__annotations__ if name not in ("encoder", "heads", "format_version")]
        for name in settings:
            if name not in ours:
                raise ValueError(f"unknown setting {name!r}.{near_names(name, ours)} Known: {', '.join(ours)}")
        refuse_remote_code(name_or_path, trust_remote_code, hub)
        encoder_config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code, **hub)
        if encoder_config.model_type == MultiHeadConfig.model_type:
            raise ValueError(f"{name_or_path} is a multi-head model already: MultiHeadModel.from_pretrained(...)")
        options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        encoder = pretrained_encoder(encoder_config, name_or_path, dtype=dtype, **hub, **options)
        if os.path.isdir(name_or_path):
            encoder.config.name_or_path = ""  # a path of this machine is nothing to publish
        given = settings if pooling is None else {"pooling": pooling, **settings}
        taken = sentence_transformers_settings(name_or_path, encoder.config, hub, given)
        half = encoder.dtype in (torch.float16, torch.bfloat16)
        config = MultiHeadConfig(
            encoder=encoder.config, heads=heads, heads_dtype="float32" if half else None, **taken, **given
        )
        return cls(config, encoder=encoder).eval()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: dict[str, Tensor] | None = None,
        heads: list[str] | None = None,
        sample_weight: Tensor | None = None,
        window_mask: Tensor | None = None,
        features: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MultiHeadOutput | tuple:
        """Logits of all heads in one pass of the encoder.

        Args:
            input_ids: (batch, length), or (batch, windows, length) for texts read in windows, and so the other inputs
                of tokens; hidden states and attentions are then those of the windows in turn.
            attention_mask: (batch, length), 1 for tokens and 0 for padding on either side; `None` means no padding.
            token_type_ids: (batch, length); passed on where the encoder takes it.
            position_ids: (batch, length).
            inputs_embeds: (batch, length, hidden) instead of `input_ids`.
            labels: head → targets, for some or all heads. Single-label: int64 (batch,), −100 for a missing label.
                Multi-label: float32 (batch, labels), −100 in unknown cells.
            heads: names of the heads to compute; `None` is all of them.
            sample_weight: (batch,), multiplies a row's units in numerator and denominator of every head's loss.
            window_mask: (batch, windows), 1 for windows and 0 for padding; by default the windows with a token.
            features: (batch, hidden) or (batch, windows, hidden) as `encode` gives them, instead of tokens: the encoder
                is left out.
            num_items_in_batch: `StepTotals` of the whole optimiser step, of which this batch is a part; the losses are
                then this batch's shares of the step's.

        Raises:
            ValueError: labels that are not a dict or of a wrong shape, or the name of a head that does not exist.
        """
        return_dict = kwargs.pop("return_dict", None)
        step: StepTotals | None = kwargs.pop("num_items_in_batch", None)
        names = self._head_names(heads)
        self._check_labels(labels)
        windows: Windows | None = None
        encoded: Mapping[str, Any] = {}
        if features is None:
            tokens = {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
                "position_ids": position_ids,
            }
            if input_ids is not None and input_ids.dim() == 3:
                windows = Windows.of_tokens(input_ids, attention_mask, window_mask)
                tokens = {name: windows.flat(values) for name, values in tokens.items()}
            features, encoded = self._encode(tokens, inputs_embeds, kwargs)
        elif features.dim() == 3:
            windows = Windows(features.new_ones(features.shape[:2]) if window_mask is None else window_mask)
            features = windows.flat(features)
        logits, thresholds = self.heads(features, names)

        if windows is not None:
            logits = {name: windows.pool(own, self.config.window_pooling) for name, own in logits.items()}
        losses: dict[str, Any] = {}
        if labels is not None:
            found = head_losses(self.config.heads, logits, labels, thresholds, step, sample_weight)
            self._keep_in_graph(found.losses, thresholds)
            losses = {"loss": self.combine(found.losses), "losses": found.losses, "loss_terms": found.terms}
            losses["loss_statistics"] = found.statistics or None
        output = MultiHeadOutput(
            logits=logits,
            hidden_states=encoded.get("hidden_states"),
            attentions=encoded.get("attentions"),
            **losses,
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def _encode(
        self, tokens: dict[str, Tensor | None], inputs_embeds: Tensor | None, options: dict[str, Any]
    ) -> tuple[Tensor, Mapping[str, Any]]:
        """Pooled vectors (batch, hidden), and the encoder's output; takes what it knows out of `options`."""
        attention_mask, padding = tokens["attention_mask"], None
        if attention_mask is not None and attention_mask.dim() == 2 and tokens["position_ids"] is None:
            padding = RightPadding(attention_mask)
            tokens = {name: None if own is None else padding.moved(own) for name, own in tokens.items()}
            inputs_embeds = None if inputs_embeds is None else padding.moved(inputs_embeds)
            attention_mask = tokens["attention_mask"]
        if "token_type_ids" not in self._encoder_arguments:
            tokens["token_type_ids"] = None
        given: dict[str, Any] = {name: value for name, value in tokens.items() if value is not None}
        if tokens["input_ids"] is not None:
            mask = torch.ones_like(tokens["input_ids"])
            given = lengthen(self.config.encoder, {"attention_mask": mask, **given})
            attention_mask = given["attention_mask"]
        if "global_attention_mask" in self._encoder_arguments:
            # (Longformer, LED: without it a token sees its window only; their own classifiers do the same)
            shape = next(own.shape[:2] for own in (*given.values(), inputs_embeds) if own is not None)
            given["global_attention_mask"] = torch.zeros(shape, dtype=torch.long, device=self.device)
            given["global_attention_mask"][:, 0] = 1
        arguments: dict[str, Any] = {
            **given,
            "inputs_embeds": inputs_embeds,
            "use_cache": False if "use_cache" in self._encoder_arguments else None,
            "output_hidden_states": self._asked("output_hidden_states", options),
            "output_attentions": self._asked("output_attentions", options),
            **options,
        }
        encoded = self.encoder(
            return_dict=True, **{key: value for key, value in arguments.items() if value is not None}
        )
        hidden = encoded.last_hidden_state  # (batch, length, hidden)
        mask = attention_mask if attention_mask is not None else torch.ones(hidden.shape[:2], device=hidden.device)
        return pool(hidden, mask, self.config.pooling), _as_given(encoded, padding)

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The pooled vectors (batch, hidden) that the heads see, of tokens (batch, length).

        `forward(features=...)` takes them in the place of tokens.
        """
        tokens = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "position_ids": None}
        features, _ = self._encode({"input_ids": input_ids, **tokens}, None, {})
        return features

    def _keep_in_graph(self, losses: dict[str, Tensor], thresholds: Mapping[str, Tensor | None]) -> None:
        """Learned thresholds stay in the graph, used by the batch's losses or not: DDP needs a gradient for each."""
        for name, learned in thresholds.items():
            if learned is not None:
                losses[name] = losses[name] + learned.sum() * 0.0

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        """`Σ λ·L / Σ λ` over the given heads, labelled in this batch or not."""
        return combined_loss(self.config.heads, losses)

    def _asked(self, setting: str, kwargs: dict[str, Any]) -> bool | None:
        value = kwargs.pop(setting, None)
        return getattr(self.config, setting) if value is None else value

    def _head_names(self, heads: Iterable[str] | None) -> list[str]:
        if heads is None:
            return list(self.config.heads)
        names = [heads] if isinstance(heads, str) else list(heads)
        if not names:
            raise ValueError(f"heads is empty: name some of {list(self.config.heads)}, or leave it out for all")
        for name in names:
            self.check_head(name, "heads")
        return names

    def check_head(self, name: str, argument: str) -> None:
        """
        Raises:
            ValueError: the model has no such head; names `argument` and near names.
        """
        if name not in self.config.heads:
            known = list(self.config.heads)
            raise ValueError(f"{argument}: the model has no head {name!r}.{near_names(name, known)} Its heads: {known}")

    def _check_labels(self, labels: Any) -> None:
        if labels is None:
            return
        if not isinstance(labels, Mapping):
            raise ValueError(
                f"labels is a dict head → tensor with some of the heads {list(self.config.heads)}, "
                f"not a {type(labels).__name__}"
            )
        for name, targets in labels.items():
            self.check_head(name, "labels")
            head = self.config.heads[name]
            dims = 2 if head.multi_label else 1
            if targets is None:
                continue
            if not isinstance(targets, Tensor):
                raise ValueError(f"head {name!r}: labels are a tensor, not a {type(targets).__name__}")
            if targets.dim() != dims or (dims == 2 and targets.shape[1] != head.num_labels):
                expected = f"(batch, {head.num_labels})" if dims == 2 else "(batch,)"
                raise ValueError(
                    f"head {name!r}: labels have shape {tuple(targets.shape)}, and this {head.problem_type} head "
                    f"expects {expected}"
                )
            if dims == 2 and targets.device.type == "cpu":
                wrong = ~((targets >= 0) & (targets <= 1)) & (targets != MISSING)
                if wrong.any():
                    row, label = wrong.nonzero()[0].tolist()
                    raise ValueError(
                        f"head {name!r}, row {row} of the batch: cell {head.labels[label]!r} is "
                        f"{targets[row, label]:g}, not between 0 and 1, or {MISSING} for an unknown one"
                    )
            if dims == 1 and targets.dtype != torch.int64:
                raise ValueError(f"head {name!r}: label ids are int64, not {targets.dtype}")
            # on an accelerator this would wait for the device; prepare_dataset and the collator have checked there
            if dims == 1 and targets.device.type == "cpu":
                wrong = ((targets < 0) & (targets != MISSING)) | (targets >= head.num_labels)
                if wrong.any():
                    row = int(wrong.nonzero()[0])
                    raise ValueError(
                        f"head {name!r}, row {row} of the batch: label id {targets[row]} is not 0 to "
                        f"{head.num_labels - 1}, or {MISSING} for a missing label"
                    )

    def decode(
        self, logits: Mapping[str, Tensor], top_k: int | None = None, threshold: Any = None
    ) -> dict[str, HeadPrediction]:
        """What the heads say: probabilities, decisions, and label names with scores.

        Args:
            logits: head → (batch, labels), as `model(...).logits`.
            top_k: name the `top_k` best labels of each head instead of the predicted ones.
            threshold: probability from which on a label is predicted, instead of the saved thresholds: a number for
                all multi-label heads, or a dict head → number, list in label order or dict by label name.

        Returns:
            head → `HeadPrediction`.

        Raises:
            ValueError: a head or label that does not exist, a threshold outside (0, 1), `top_k` below 1, logits that
                are not finite.
        """
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k {top_k}: give a whole number of 1 or more")
        if isinstance(threshold, Mapping):
            for name in threshold:
                self.check_head(name, "threshold")
        self.sync_thresholds()
        predictions = {}
        for name, head_logits in logits.items():
            self.check_head(name, "logits")
            check_finite(name, head_logits)
            head = self.config.heads[name]
            own = threshold.get(name) if isinstance(threshold, Mapping) else threshold if head.multi_label else None
            try:
                predictions[name] = predict(head, head_logits.detach(), top_k, own)
            except ValueError as error:
                raise ValueError(f"head {name!r}: {error}") from None
        return predictions

    def train(self, mode: bool = True) -> "MultiHeadModel":
        """As `nn.Module.train`; an encoder that is frozen as a whole stays in evaluation mode."""
        super().train(mode)
        if mode and not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def freeze_encoder(self) -> None:
        """Train the heads only. The encoder then is in evaluation mode (no dropout), while training too."""
        self.encoder.requires_grad_(False)
        self.encoder.eval()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ClassificationHead) and module.threshold_logits is not None:
            init.constant_(module.threshold_logits, math.log(module.initial_threshold / (1 - module.initial_threshold)))

    def initialize_weights(self) -> None:
        # transformers initialises the sub-models of custom code by module and so skips an encoder's rules for whole
        # blocks (ModernBERT): the encoder initialises itself first
        self.encoder.initialize_weights()
        super().initialize_weights()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.from_pretrained`. A head that the checkpoint lacks is initialised and named in a warning.
        Weights are read from safetensors only, unless `use_safetensors=False` asks for a pickle. A
        `quantization_config` quantises the encoder only.

        Raises:
            ValueError: the checkpoint's heads are not those of the configuration (another name or number of labels).
        """
        wants_info = kwargs.pop("output_loading_info", False)
        if kwargs.get("quantization_config") is not None:
            kwargs["quantization_config"] = without_heads(kwargs["quantization_config"])
        kwargs.setdefault("use_safetensors", True)
        ignore_sizes = kwargs.get("ignore_mismatched_sizes", False)
        kwargs["ignore_mismatched_sizes"] = True  # told below, head by head
        kwargs["output_loading_info"] = True
        model, info = without_bars(super().from_pretrained, pretrained_model_name_or_path, *args, **kwargs)
        model._check_loaded(info, pretrained_model_name_or_path, ignore_sizes)
        freeze_unused_pooler(model.encoder)
        return (model, info) if wants_info else model

    def _check_loaded(self, info: Mapping[str, Any], source: Any, ignore_sizes: bool) -> None:
        known = {module_key(name) for name in self.config.heads}
        # (thresholds that were learned, and then replaced in the configuration)
        keys = [key.split(".") for key in info["unexpected_keys"] if key.startswith("heads.")]
        strange = sorted(key[1] for key in keys if key[-1] != "threshold_logits" or key[1] not in known)
        if strange:
            raise ValueError(
                f"{source}: the checkpoint holds heads that its configuration does not name "
                f"({', '.join(dict.fromkeys(strange))}); the configuration has {list(self.config.heads)}"
            )
        for key, saved, expected in sorted(info["mismatched_keys"]):
            if not ignore_sizes:
                name = head_of_key(key, self.config.heads)
                where = f"head {name!r}" if name is not None else "encoder"
                raise ValueError(
                    f"{source}: {where}: {key} has shape {tuple(saved)} in the checkpoint, and the configuration "
                    f"makes it {tuple(expected)}"
                )
        fresh = dict.fromkeys(head_of_key(key, self.config.heads) for key in sorted(info["missing_keys"]))
        fresh.pop(None, None)
        made = {module_key(name) for name in fresh if name is not None}
        for key, module in self.heads.named_modules():
            if isinstance(module, ClassificationHead):
                module.is_fresh = key.split(".")[-1] in made
        if fresh:
            logger.warning(f"{source}: no weights for the heads {list(fresh)}; they were initialised and need training")

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.save_pretrained`, with everything the folder needs where `multihead_hf` is not installed.

        Raises:
            ValueError: a head's `"balanced"` weights are not computed yet, or the folder holds an adapter, which would
                be applied to the weights when they are loaded; nothing is written.
        """
        # this import makes transformers copy the pipeline's file beside the model's, on the first save and on re-saves
        from .pipeline_multihead import MultiHeadPipeline

        self._check_saveable()
        adapter = os.path.join(save_directory, "adapter_config.json")
        if os.path.isfile(adapter) and not getattr(self, "_hf_peft_config_loaded", False):
            raise ValueError(
                f"{save_directory} holds an adapter ({os.path.basename(adapter)}), which transformers would apply to "
                "these weights when it loads them: save into another folder"
            )
        self.sync_thresholds()
        half = self.encoder.dtype in (torch.float16, torch.bfloat16)
        weights = (p for name, p in self.heads.named_parameters() if not name.endswith("threshold_logits"))
        heads_dtype = next(weights).dtype
        self.config.heads_dtype = "float32" if half and heads_dtype == torch.float32 else None
        implementation = f"{MultiHeadPipeline.__module__.rsplit('.', 1)[-1]}.{MultiHeadPipeline.__name__}"
        self.config.custom_pipelines = {TASK: {"impl": implementation, "pt": ["AutoModel"], "type": "text"}}
        return super().save_pretrained(save_directory, *args, **kwargs)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.push_to_hub`; raises like `save_pretrained` before anything reaches the Hub."""
        self._check_saveable()
        return super().push_to_hub(*args, **kwargs)

    def _check_saveable(self) -> None:
        self.config.check_saveable()
        made = {key for key, _ in self.heads.named_children() if key.startswith("head_")}
        expected = {module_key(name) for name in self.config.heads}
        if made and made != expected:
            raise ValueError(
                f"config.heads are {list(self.config.heads)}, and the model was made with others ({sorted(made)}): "
                "what is saved could not be loaded again"
            )

    @torch.no_grad()
    def sync_thresholds(self) -> None:
        """Write learned thresholds into `config.heads[…].thresholds`, the only thing that decisions read."""
        by_key = {
            f"{module_key(name)}.threshold_logits": head
            for name, head in self.config.heads.items()
            if head.learn_thresholds is not None
        }
        if not by_key:
            return
        for key, threshold_logits in self.heads.named_parameters():
            head = by_key.get(".".join(key.split(".")[-2:]))
            # PEFT keeps a frozen original beside the copy that trains
            if head is not None and "original_module" not in key:
                values = torch.sigmoid(threshold_logits.double().cpu()).clamp(1e-6, 1 - 1e-6)
                head.thresholds = values.tolist()

    def set_thresholds(self, name: str, thresholds: Any) -> None:
        """Set a head's thresholds: a number, a list in label order or a dict by label name. Learned ones end with it.

        Raises:
            ValueError: the head does not exist or is no multi-label one, or a value outside (0, 1).
        """
        self.check_head(name, "set_thresholds")
        head = self.config.heads[name]
        try:
            head.thresholds = head.per_label_thresholds(thresholds)
        except ValueError as error:
            raise ValueError(f"head {name!r}: {error}") from None
        head.learn_thresholds = None
        for key, module in self.heads.named_modules():
            if key.split(".")[-1] == module_key(name) and isinstance(module, ClassificationHead):
                module.threshold_logits = None


def _as_given(encoded: Mapping[str, Any], padding: RightPadding | None) -> dict[str, Any]:
    """Hidden states and attentions of an encoder's output, with the padding where it was in the batch."""
    found: dict[str, Any] = {name: encoded.get(name) for name in ("hidden_states", "attentions")}
    if padding is not None:
        for name, dims in (("hidden_states", (1,)), ("attentions", (2, 3))):
            if found[name] is not None:
                found[name] = tuple(padding.back(own, dims) for own in found[name])
    return found


# the settings of quantisers that name modules to be left alone
_SKIPPED = ("llm_int8_skip_modules", "modules_to_not_convert", "skip_modules")


def without_heads(quantization: Any) -> Any:
    """Return a copy of a `quantization_config`, or of its dict, that leaves the heads alone. (Transformers has
    `_keep_in_fp32_modules` for this, which would also change the precision that heads were saved in.)"""
    if isinstance(quantization, Mapping):
        quantization = AutoQuantizationConfig.from_dict(dict(quantization))
    quantization = copy.copy(quantization)
    for name in _SKIPPED:
        if hasattr(quantization, name):
            setattr(quantization, name, [*(getattr(quantization, name) or ()), "heads"])
    return quantization


def config_of(source: object) -> MultiHeadConfig | None:
    """The configuration, from a model or a configuration; `None` from anything else."""
    if is_a(source, MultiHeadModel):
        return source.config
    return source if is_a(source, MultiHeadConfig) else None


def heads_of(source: Any) -> dict[str, HeadConfig]:
    """The heads by name, from a model, a configuration or the heads themselves (as `MultiHeadConfig` takes them)."""
    config = config_of(source)
    return read_heads(source) if config is None else config.heads
