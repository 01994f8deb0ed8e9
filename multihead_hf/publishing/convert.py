"""Conversion of older checkpoints to multi-head models, with a comparison of old and new logits."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
)
from transformers.utils import CONFIG_NAME, logging

from ..model.head_multihead import HeadConfig
from ..model.modeling_multihead import MultiHeadModel
from ..model.weights_multihead import tensors_only
from ..prediction.loading import load_tokenizer
from ..utils.files import check_free, write_files_whole
from .convert_parity import (
    TEXTS,
    Converted,
    check_files,
    check_shape,
    checked,
    encoder_weights,
    labels_of,
    load_into,
    load_state,
    number_in,
    plain_keys,
    pool_tokens,
    tokenizer_folder,
)

logger = logging.get_logger(__name__)


WIMBERT_STATE, WIMBERT_LABELS = "dual_head_state.pt", "label_names.json"

# model type → names of the classifier's two linear layers, and the activation between them
_MLP_HEADS = {
    "bert": ("bert.pooler.dense", "tanh", "classifier"),
    "roberta": ("classifier.dense", "tanh", "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", "tanh", "classifier.out_proj"),
    "camembert": ("classifier.dense", "tanh", "classifier.out_proj"),
    "electra": ("classifier.dense", "gelu", "classifier.out_proj"),
    "deberta": ("pooler.dense", "gelu", "classifier"),
    "deberta-v2": ("pooler.dense", "gelu", "classifier"),
    "distilbert": ("pre_classifier", "relu", "classifier"),
}


def convert_wimbert(folder: str | os.PathLike) -> Converted:
    """Convert WimBERT v0.

    Its folder has the encoder and tokenizer as Hugging Face saves them, `label_names.json`, and `dual_head_state.pt`
    with a state dict for each head (`Linear → Dropout → ReLU → Linear`) and, if they were learned, thresholds.

    Raises:
        ValueError: A file or entry is missing or does not fit (also a head's labels, or its learned thresholds), the
            state cannot be read without running code, or the logits of the new model differ from the old ones.
    """
    checkpoint = Path(folder)
    check_files(checkpoint, (CONFIG_NAME, WIMBERT_LABELS, WIMBERT_STATE))
    labels = labels_of(checkpoint / WIMBERT_LABELS)
    state = load_state(checkpoint / WIMBERT_STATE)
    for name in (str(key).removesuffix("_head_state") for key in state if str(key).endswith("_head_state")):
        if name not in labels:
            raise ValueError(
                f"head {name!r}: {checkpoint / WIMBERT_STATE} has its weights ({name}_head_state), but "
                f"{checkpoint / WIMBERT_LABELS} has no {name!r} with its labels"
            )
    heads, weights = {}, {}
    for name, names in labels.items():
        head_state = state.get(f"{name}_head_state")
        if not isinstance(head_state, Mapping):
            keys = [key for key in state if str(key).endswith("_head_state")]
            raise ValueError(
                f"{checkpoint / WIMBERT_STATE} has no {name}_head_state for the labels of {name!r}; it has {keys}"
            )
        head_state = {key.removeprefix("module."): value for key, value in head_state.items()}
        check_shape(checkpoint / WIMBERT_STATE, name, head_state, "3.weight", names)
        check_shape(checkpoint / WIMBERT_STATE, name, head_state, "0.weight")
        tau = state.get(f"{name}_tau_logit") if state.get("use_thresholds") else None
        if state.get("use_thresholds") and (not isinstance(tau, Tensor) or tau.shape != (len(names),)):
            raise ValueError(
                f"head {name!r} of {checkpoint / WIMBERT_STATE}: use_thresholds is set, but {name}_tau_logit is not a "
                f"tensor of {len(names)} thresholds"
            )
        heads[name] = HeadConfig(
            labels=names,
            problem_type="multi_label_classification",
            architecture="mlp",
            hidden_size=len(head_state["0.weight"]),
            dropout=number_in(state, "dropout", 0.2),
            loss="soft_f1_bce",
            loss_kwargs={"alpha": number_in(state, "alpha", 0.15), "temperature": number_in(state, "temperature", 2.0)},
            thresholds=None if tau is None else torch.sigmoid(tau.double()).clamp(1e-7, 1 - 1e-9).tolist(),
        )
        weights[name] = {f"layers.{key}": value.float() for key, value in head_state.items()}
    length = state.get("max_length")
    model = MultiHeadModel.from_encoder(
        checkpoint, heads, pooling="cls", max_length=length if isinstance(length, int) else None
    )
    for name, head_state in weights.items():
        load_into(checkpoint / WIMBERT_STATE, name, model.heads[name], head_state)
    tokenizer = load_tokenizer(checkpoint)
    encoder = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, trust_remote_code=False).eval()

    def old(tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first = encoder(**tokens).last_hidden_state[:, 0]
        logits = {}
        for name, layers in weights.items():
            hidden = torch.relu(nn.functional.linear(first, layers["layers.0.weight"], layers["layers.0.bias"]))
            logits[name] = nn.functional.linear(hidden, layers["layers.3.weight"], layers["layers.3.bias"])
        return logits

    return checked(model, tokenizer, old)


def convert_ggu(
    folder: str | os.PathLike,
    labels: Mapping[str, Sequence[str]],
    pooling: str = "cls",
    state_file: str | None = None,
) -> Converted:
    """Convert GGU and models of the same layout.

    The folder has `pretrained/backbone` as Hugging Face saves it (or the backbone itself), and `*.pth` or
    `pretrained/*.pth` with the state dict of the whole model: `heads.<name>.weight` and `.bias` of one linear layer for
    each head (all single-label) and, if present, the encoder's weights.

    Args:
        folder: Folder with both.
        labels: Head → names of its labels, in the order of its logits; the state dict has none.
        pooling: Pooling of the old model, as in `MultiHeadConfig`.
        state_file: Path of the `*.pth` file in the folder, if there are several.

    Raises:
        ValueError: As for `convert_wimbert`, or labels that do not fit the heads.
    """
    checkpoint = Path(folder)
    backbone = next(
        (
            candidate
            for candidate in (checkpoint / "pretrained" / "backbone", checkpoint / "backbone", checkpoint)
            if (candidate / CONFIG_NAME).is_file()
        ),
        None,
    )
    if backbone is None:
        raise ValueError(
            f"{checkpoint} has no encoder: neither pretrained/backbone nor the folder itself has {CONFIG_NAME}"
        )
    files = sorted(checkpoint.glob("*.pth")) or sorted(checkpoint.glob("pretrained/*.pth"))
    if state_file is None and len(files) != 1:
        contents = [str(path.relative_to(checkpoint)) for path in files] or "no *.pth and no pretrained/*.pth"
        raise ValueError(
            f"{checkpoint} holds {contents}: name the file with the state dict, state_file= (--state-file)"
        )
    path = files[0] if state_file is None else checkpoint / state_file
    state = plain_keys(load_state(path))
    head_states: dict[str, dict[str, Tensor]] = {}
    encoder_state: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.fullmatch(r"heads?\.(.+?)(?:\.\d+)?\.(weight|bias)", key)
        if match is None:
            encoder_state[key] = value.float()
            continue
        head_state = head_states.setdefault(match[1], {})
        if f"layers.1.{match[2]}" in head_state:
            raise ValueError(f"head {match[1]!r} of {path} has several layers, but this layout has one linear layer")
        head_state[f"layers.1.{match[2]}"] = value.float()
    if not head_states:
        raise ValueError(f"{path} has no heads (heads.<name>.weight); it begins with {list(state)[:5]}")
    for name, head_state in head_states.items():
        if name not in labels:
            hint = f" (labels were given for {list(labels)})" if labels else ""
            example = ",".join(f"LABEL{number}" for number in range(1, len(head_state["layers.1.weight"]) + 1))
            raise ValueError(
                f"head {name!r} of {path} has {len(head_state['layers.1.weight'])} labels, whose names are unknown"
                f"{hint}: --labels {name}={example}"
            )
        check_shape(path, name, head_state, "layers.1.weight", list(labels[name]))
        check_shape(path, name, head_state, "layers.1.bias", list(labels[name]))
    unknown = [name for name in labels if name not in head_states]
    if unknown:
        raise ValueError(f"labels were given for {unknown}, but {path} has the heads {list(head_states)}")
    heads = {name: HeadConfig(labels=list(labels[name]), dropout=0.25) for name in head_states}
    # as the old model read its texts, regardless of the backbone's files
    model = MultiHeadModel.from_encoder(backbone, heads, pooling=pooling, max_length=None, text_prefix=None)
    encoder = AutoModel.from_pretrained(backbone, dtype=torch.float32, trust_remote_code=False).eval()
    if encoder_state:
        weights = encoder_weights(path, encoder_state, encoder)
        model.encoder.load_state_dict(weights, strict=False)  # the model has no pooler
        encoder.load_state_dict(weights, strict=False)
    for name, head_state in head_states.items():
        load_into(path, name, model.heads[name], head_state)

    def old(tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pooled = pool_tokens(encoder(**tokens).last_hidden_state, tokens["attention_mask"].bool(), pooling)
        return {
            name: nn.functional.linear(pooled, layers["layers.1.weight"], layers["layers.1.bias"])
            for name, layers in head_states.items()
        }

    return checked(model, load_tokenizer(tokenizer_folder(backbone, checkpoint)), old)


def convert_sequence_classification(
    name_or_path: str | os.PathLike, head: str, problem_type: str | None = None
) -> Converted:
    """Convert a checkpoint of `AutoModelForSequenceClassification` to a model with one head.

    Args:
        name_or_path: Folder or name on the Hub.
        head: Name for the head.
        problem_type: Problem type, where the checkpoint's configuration has none.

    Raises:
        ValueError: No head has the layers of its classifier, it is a regression, or the new logits differ from the old
            logits.
    """
    config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    kind = config.problem_type or problem_type or "single_label_classification"
    if problem_type not in (None, kind):
        logger.warning(f"{name_or_path}: its configuration has problem_type {kind!r}, which is kept")
    elif problem_type is None and config.problem_type is None:
        logger.warning(
            f"{name_or_path}: its configuration has no problem_type, and one label per text is assumed (softmax). If "
            "it was trained with several labels per text: problem_type='multi_label_classification' (on the command "
            "line --problem-type multi_label_classification)"
        )
    if config.num_labels < 2 or kind == "regression":
        raise ValueError(
            f"{name_or_path} has {config.num_labels} label and problem_type {kind!r}: it is not a classifier"
        )
    if config.model_type not in _MLP_HEADS:
        supported = ", ".join(_MLP_HEADS)
        raise ValueError(
            f"the classifier of a {config.model_type!r} cannot be converted to a head; supported are {supported}"
        )
    first, activation, last = _MLP_HEADS[config.model_type]
    with tensors_only(name_or_path):
        source, info = AutoModelForSequenceClassification.from_pretrained(
            name_or_path, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    source.eval()
    if info["missing_keys"]:
        raise ValueError(f"{name_or_path} is not a trained classifier: it lacks {sorted(info['missing_keys'])[:3]}")
    layers = [source.get_submodule(path) for path in (first, last)]
    labels = _labels(config, name_or_path)
    head_config = HeadConfig(
        labels=labels,
        problem_type=kind,
        architecture="mlp",
        hidden_size=layers[0].out_features,
        activation=activation,
    )
    model = MultiHeadModel.from_encoder(name_or_path, {head: head_config}, pooling="cls")
    # labels are removed from the encoder's configuration, so that encoders of several checkpoints are equal
    encoder = model.config.encoder
    defaults = type(encoder)()
    encoder.id2label, encoder.label2id, encoder.problem_type = defaults.id2label, defaults.label2id, None
    state = {
        f"layers.{index}.{key}": value
        for index, layer in zip((0, 3), layers, strict=True)
        for key, value in layer.state_dict().items()
    }
    load_into(Path(name_or_path), head, model.heads[head], state)
    tokenizer = load_tokenizer(name_or_path)
    return checked(model, tokenizer, lambda tokens: {head: source(**tokens).logits})


def _labels(config: PreTrainedConfig, name_or_path: str | os.PathLike) -> list[str]:
    """Return the labels of a classifier in the order of its logits.

    Raises:
        ValueError: `id2label` lacks a label, or `label2id` contradicts it.
    """
    names, ids = config.id2label or {}, config.label2id or {}
    missing = [index for index in range(config.num_labels) if index not in names]
    if missing:
        raise ValueError(
            f"{name_or_path}: id2label in config.json is {dict(names)}, without a label for {missing[:10]}"
        )
    labels = [str(names[index]) for index in range(config.num_labels)]
    other = [label for index, label in enumerate(labels) if label in ids and str(ids[label]) != str(index)]
    if other:
        raise ValueError(
            f"{name_or_path}: id2label and label2id in config.json contradict each other about {other[:10]}: correct "
            "one of them"
        )
    return labels


def join(models: Sequence[Converted]) -> Converted:
    """Put the heads of several converted models on one encoder, which must be the same in all of them.

    The first model gets the heads of the other models.

    Raises:
        ValueError: Encoders or tokenizers differ, or two heads have the same name.
    """
    model, tokenizer = models[0].model, models[0].tokenizer
    differences = dict(models[0].differences)
    for other in models[1:]:
        if tokenizer(list(TEXTS))["input_ids"] != other.tokenizer(list(TEXTS))["input_ids"]:
            raise ValueError(f"the tokenizer of {list(other.differences)} differs from that of {list(differences)}")
        model.load_heads(other.model, verify=True)
        differences |= other.differences
    return Converted(model, tokenizer, differences)


def check_output(output: str | os.PathLike, sources: Sequence[str | os.PathLike], overwrite: bool) -> None:
    """Check that a folder can be written to.

    Raises:
        ValueError: The folder is not empty, or is one of the sources, or is in or above one.
    """
    output_path = Path(output).resolve()
    for source in sources:
        old = Path(source).resolve()
        if os.path.isdir(source) and (output_path == old or output_path in old.parents or old in output_path.parents):
            raise ValueError(f"{output} is {source} itself, or inside or above it: use another folder")
    check_free(output, overwrite)


def save_converted(converted: Converted, output: str | os.PathLike) -> None:
    """Save model and tokenizer; files are moved into the folder after all of them are written."""
    directory = Path(output)
    converted.model.check_no_adapter(directory)
    directory.mkdir(parents=True, exist_ok=True)

    def save(folder: str) -> None:
        converted.model.save_pretrained(folder)
        converted.tokenizer.save_pretrained(folder)

    write_files_whole(directory, save)
