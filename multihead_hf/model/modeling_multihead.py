"""One encoder with any number of named classification heads.

This file and the modules that it imports travel with every saved model.
"""

import inspect
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, logging

from .configuration_multihead import HeadsLike, MultiHeadConfig, read_heads
from .encoder_multihead import (
    RightPadding,
    build_encoder,
    lengthen,
    pretrained_config,
    pretrained_encoder,
    try_encoder,
)
from .head_multihead import HeadConfig, is_a, near_names
from .inputs_multihead import check_tokens
from .interface_multihead import HeadInterface
from .layers_multihead import ClassificationHead, MultiHeads, Windows, pool
from .objective_multihead import StepTotals, combined_loss, head_losses
from .sentence_transformers_multihead import sentence_transformers_settings
from .storage_multihead import HeadStorage
from .surgery_multihead import HeadSurgery

logger = logging.get_logger(__name__)


@dataclass
class MultiHeadOutput(ModelOutput):
    """Output of `MultiHeadModel`.

    Args:
        loss: Combined loss `Σ λ·L / Σ λ` over the heads, if labels are given.
        logits: Head → tensor of shape (batch, labels).
        losses: Head → its loss, if labels are given; an exact 0 for a head without labels in the batch.
        loss_terms: Head → term → value, if labels are given.
        loss_statistics: Head → term → sums over the batch's rows (…), of loss terms over a step of several batches.
        hidden_states: Hidden states of the encoder, (batch, length, hidden) each, if requested.
        attentions: Attentions of the encoder, (batch, attention heads, length, length) each, if requested.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from multihead_hf import MultiHeadModel
        >>> model, tokenizer = MultiHeadModel.from_pretrained("complaints"), AutoTokenizer.from_pretrained("complaints")
        >>> output = model(**tokenizer(["Late again!"], return_tensors="pt"))
        >>> {name: len(logits) for name, logits in output.logits.items()}
        {'topics': 1, 'mood': 1}
    """

    loss: Tensor | None = None
    logits: dict[str, Tensor] | None = None
    losses: dict[str, Tensor] | None = None
    loss_terms: dict[str, dict[str, Tensor]] | None = None
    loss_statistics: dict[str, dict[str, Tensor]] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class MultiHeadModel(HeadSurgery, HeadInterface, HeadStorage, PreTrainedModel):
    """One encoder (`model.encoder`) with any number of named classification heads (`model.heads`).

    Args:
        config: The whole configuration.
        encoder: An encoder with its weights, used as it is; `None` builds a fresh one from `config.encoder`.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from multihead_hf import HeadConfig, MultiHeadModel
        >>> heads = {"topics": HeadConfig(labels=["roads", "noise"], problem_type="multi_label_classification")}
        >>> model = MultiHeadModel.from_encoder("sentence-transformers/all-MiniLM-L6-v2", heads)
        >>> tokenizer = AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
        >>> model(**tokenizer(["Late again!"], return_tensors="pt")).logits["topics"].shape
        torch.Size([1, 2])
    """

    config_class = MultiHeadConfig
    # empty: with "encoder", the weight renamings of some encoders would also apply to the heads' weights
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    # always true here: the encoder's class checks what it really supports
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _no_split_modules = ["MultiHeads"]
    # the Trainer must not take `**kwargs` for a loss that is already normalised over accumulation steps
    accepts_loss_kwargs = False

    def __init__(self, config: MultiHeadConfig, encoder: PreTrainedModel | None = None) -> None:
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
        encoder_settings: Mapping[str, Any] | None = None,
        revision: str = "main",
        token: str | bool | None = None,
        trust_remote_code: bool | None = None,
        **settings: Any,
    ) -> "MultiHeadModel":
        """Put fresh heads on a pretrained encoder.

        An encoder with sentence-transformers files (`modules.json`) is read as these files describe, unless an argument
        differs: `pooling` from the file of its Pooling module, `max_length` from `max_seq_length` (but at most the
        encoder's positions), and `text_prefix` from the prompt named "classification" or else the default prompt. These
        settings are logged at info level and stored in the model's config. A Normalize module is left out: it changes
        the length of a vector and not its direction, and the heads are trained on the vectors as they are. Dense and
        other modules are left out with a warning.

        Args:
            name_or_path: Name on the Hub or folder of the encoder.
            heads: Dict name → `HeadConfig`, as in `MultiHeadConfig`.
            pooling: As in `MultiHeadConfig`; `None` means the pooling of the encoder's sentence-transformers files,
                else the default for its architecture.
            dtype: Precision of the encoder's weights; half precision is for frozen encoders, the heads stay float32.
            attn_implementation: `"sdpa"`, `"eager"`, `"flash_attention_2"`, …; `None` means the encoder's best.
            encoder_settings: Settings of the encoder's config to change, such as `{"hidden_dropout_prob": 0.2}`. Its
                dropout in the attention, where it has a setting of its own, is 0 unless it is set here.
            revision: Branch, tag or commit on the Hub.
            token: Hub token for a private encoder.
            trust_remote_code: Whether to run code of the encoder's repository; such an encoder is refused (see Raises).
            **settings: Further fields of `MultiHeadConfig`, such as `max_length`. `max_length=None` means the encoder's
                limit and `text_prefix=None` no prefix, whatever its files have.

        Returns:
            The model in evaluation mode; its heads are reproducible under `transformers.set_seed`.

        Raises:
            ValueError: Heads or settings are wrong, or the encoder runs code of its repository, which could not be
                loaded again from a saved multi-head model.
        """
        hub = {"revision": revision, "token": token}
        # before anything is downloaded
        read_heads(heads)
        known = [name for name in MultiHeadConfig.__annotations__ if name not in ("encoder", "heads", "format_version")]
        for name in settings:
            if name not in known:
                raise ValueError(f"unknown setting {name!r}.{near_names(name, known)} Known: {', '.join(known)}")
        encoder_config = pretrained_config(name_or_path, encoder_settings, trust_remote_code, hub)
        options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        encoder = pretrained_encoder(encoder_config, name_or_path, dtype=dtype, **hub, **options)
        if os.path.isdir(name_or_path):
            encoder.config.name_or_path = ""  # a local path must not be published
        arguments = settings if pooling is None else {"pooling": pooling, **settings}
        taken = sentence_transformers_settings(name_or_path, encoder.config, hub, arguments)
        half = encoder.dtype in (torch.float16, torch.bfloat16)
        config = MultiHeadConfig(
            encoder=encoder.config, heads=heads, heads_dtype="float32" if half else None, **taken, **arguments
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
        """Compute the logits of all heads in one pass of the encoder.

        Args:
            input_ids: (batch, length), or (batch, windows, length) for texts read in windows, as the other token
                inputs; hidden states and attentions are then those of the windows in turn.
            attention_mask: (batch, length), 1 for tokens and 0 for padding on either side; `None` means no padding.
            token_type_ids: (batch, length); passed on if the encoder takes it.
            position_ids: (batch, length).
            inputs_embeds: (batch, length, hidden) instead of `input_ids`.
            labels: Head → targets, for some or all heads. Single-label: int64 (batch,), −100 for a missing label.
                Multi-label: float32 (batch, labels), −100 in unknown cells.
            heads: Names of the heads to compute; `None` means all of them.
            sample_weight: (batch,), multiplies a row's units in numerator and denominator of every head's loss.
            window_mask: (batch, windows), 1 for windows and 0 for padding; by default the windows with a token.
            features: (batch, hidden) or (batch, windows, hidden), as returned by `encode`, instead of tokens; the
                encoder is not run.
            **kwargs: `return_dict`, `output_hidden_states`, `output_attentions` and further arguments of the encoder;
                and `num_items_in_batch`, the `StepTotals` of the optimizer step that this batch is a part of: the
                losses are then this batch's shares of the step's.

        Returns:
            A `MultiHeadOutput`, or its values as a tuple with `return_dict=False`.

        Raises:
            ValueError: Labels are not a dict or have a wrong shape, or a head does not exist.
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
            check_tokens(self.config.encoder, tokens, inputs_embeds)
            if input_ids is not None and input_ids.dim() == 3:
                windows = Windows.of_tokens(input_ids, attention_mask, window_mask)
                tokens = {name: windows.flat(values) for name, values in tokens.items()}
            features, encoded = self._encode(tokens, inputs_embeds, kwargs)
        elif features.dim() == 3:
            windows = Windows(features.new_ones(features.shape[:2]) if window_mask is None else window_mask)
            features = windows.flat(features)
        logits, thresholds = self.heads(features, names)

        if windows is not None:
            logits = {name: windows.pool(values, self.config.window_pooling) for name, values in logits.items()}
        losses: dict[str, Any] = {}
        if labels is not None:
            rows = next(iter(logits.values())).shape[0]
            shape = tuple(getattr(sample_weight, "shape", ()))
            if sample_weight is not None and shape != (rows,):
                raise ValueError(f"sample_weight must be a tensor ({rows},), not {shape or sample_weight!r}")
            results = head_losses(self.config.heads, logits, labels, thresholds, step, sample_weight)
            self._keep_in_graph(results.losses, thresholds)
            losses = {"loss": self.combine(results.losses), "losses": results.losses, "loss_terms": results.terms}
            losses["loss_statistics"] = results.statistics or None
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
        """Return pooled vectors (batch, hidden) and the encoder's output; used settings leave `options`."""
        attention_mask, padding = tokens["attention_mask"], None
        if attention_mask is not None and attention_mask.dim() == 2 and tokens["position_ids"] is None:
            padding = RightPadding(attention_mask)
            tokens = {name: None if tensor is None else padding.moved(tensor) for name, tensor in tokens.items()}
            inputs_embeds = None if inputs_embeds is None else padding.moved(inputs_embeds)
            attention_mask = tokens["attention_mask"]
        if "token_type_ids" not in self._encoder_arguments:
            tokens["token_type_ids"] = None
        inputs: dict[str, Any] = {name: value for name, value in tokens.items() if value is not None}
        if tokens["input_ids"] is not None:
            mask = torch.ones_like(tokens["input_ids"])
            inputs = lengthen(self.config.encoder, {"attention_mask": mask, **inputs})
            attention_mask = inputs["attention_mask"]
        if "global_attention_mask" in self._encoder_arguments:
            # (Longformer, LED: otherwise a token attends to its window only; their own classifiers do the same)
            shape = next(tensor.shape[:2] for tensor in (*inputs.values(), inputs_embeds) if tensor is not None)
            inputs["global_attention_mask"] = torch.zeros(shape, dtype=torch.long, device=self.device)
            inputs["global_attention_mask"][:, 0] = 1
        arguments: dict[str, Any] = {
            **inputs,
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
        """Return the pooled vectors that the heads read; `forward(features=...)` takes them in the place of tokens.

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), 1 for tokens and 0 for padding; `None` means no padding.
            token_type_ids: (batch, length); passed on if the encoder takes it.

        Returns:
            Tensor of shape (batch, hidden).
        """
        tokens = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "position_ids": None}
        features, _ = self._encode({"input_ids": input_ids, **tokens}, None, {})
        return features

    def _keep_in_graph(self, losses: dict[str, Tensor], thresholds: Mapping[str, Tensor | None]) -> None:
        """Keep learned thresholds in the graph even if no loss uses them: DDP needs a gradient for every parameter."""
        for name, learned in thresholds.items():
            if learned is not None:
                losses[name] = losses[name] + learned.sum() * 0.0

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine losses as `Σ λ·L / Σ λ`; heads without labels in this batch count too.

        Args:
            losses: Head → scalar loss.

        Returns:
            A scalar.
        """
        return combined_loss(self.config.heads, losses)

    def _asked(self, setting: str, kwargs: dict[str, Any]) -> bool | None:
        value = kwargs.pop(setting, None)
        return getattr(self.config, setting) if value is None else value

    def train(self, mode: bool = True) -> "MultiHeadModel":
        """Set training mode and return the model; an encoder that is frozen as a whole stays in evaluation mode.

        Args:
            mode: `True` for training mode, `False` for evaluation mode.

        Returns:
            The model itself.
        """
        super().train(mode)
        if mode and not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def freeze_encoder(self) -> None:
        """Train the heads only; the encoder stays in evaluation mode (no dropout), also during training."""
        self.encoder.requires_grad_(False)
        self.encoder.eval()

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embeddings of the encoder."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings of the encoder by another module."""
        self.encoder.set_input_embeddings(value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ClassificationHead) and module.threshold_logits is not None:
            init.constant_(module.threshold_logits, math.log(module.initial_threshold / (1 - module.initial_threshold)))

    def initialize_weights(self) -> None:
        """Initialise the weights that the checkpoint lacks: first the encoder's by its rules, then the heads'."""
        # transformers initialises the sub-models of custom code by module and so skips an encoder's rules for whole
        # blocks (ModernBERT): the encoder initialises itself first
        self.encoder.initialize_weights()
        super().initialize_weights()


def _as_given(encoded: Mapping[str, Any], padding: RightPadding | None) -> dict[str, Any]:
    """Return the encoder's hidden states and attentions, with the padding on its original side."""
    outputs: dict[str, Any] = {name: encoded.get(name) for name in ("hidden_states", "attentions")}
    if padding is not None:
        for name, dims in (("hidden_states", (1,)), ("attentions", (2, 3))):
            if outputs[name] is not None:
                outputs[name] = tuple(padding.back(tensor, dims) for tensor in outputs[name])
    return outputs


def config_of(source: object) -> MultiHeadConfig | None:
    """Return the configuration of a model, in PEFT's wrapper too, or a configuration; `None` for anything else."""
    parts = source.modules() if isinstance(source, nn.Module) else [source]
    match: Any = next((part for part in parts if is_a(part, MultiHeadModel) or is_a(part, MultiHeadConfig)), None)
    return getattr(match, "config", match)


def heads_of(source: MultiHeadModel | MultiHeadConfig | HeadsLike) -> dict[str, HeadConfig]:
    """Return the heads by name, from a model, a configuration or heads as `MultiHeadConfig` takes them."""
    config = config_of(source)
    return read_heads(source) if config is None else config.heads
