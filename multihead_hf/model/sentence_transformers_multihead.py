"""Text settings in an encoder's sentence-transformers files: pooling, maximum length and prompt.

This file travels with every saved model. The files are found and read by transformers.
"""

import os
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from transformers import PreTrainedConfig
from transformers.utils import cached_file, logging

from .configuration_multihead import POOLINGS, default_pooling
from .encoder_multihead import max_positions

logger = logging.get_logger(__name__)

_Kind = TypeVar("_Kind")

SETTINGS = ("pooling", "max_length", "text_prefix")
_POOLING_NAMES = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}
# files before sentence-transformers 5.3 have one key for each mode
_OLD_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Normalize only changes the norm of a vector, and a head is trained on vectors as they are
_NOT_MISSED = ("Transformer", "Pooling", "Normalize", "Dropout")


def sentence_transformers_settings(
    name_or_path: str | os.PathLike, encoder: PreTrainedConfig, hub: Mapping[str, Any], arguments: Collection[str]
) -> dict[str, Any]:
    """Return settings of `MultiHeadConfig` from the sentence-transformers files of an encoder.

    Args:
        name_or_path: Hub id or folder of the encoder.
        encoder: Its config.
        hub: `revision` and `token`.
        arguments: Names of settings that the caller gave, which are not read.

    Returns:
        Those of `pooling`, `max_length` and `text_prefix` that are in the files and not in `arguments`; empty for an
        encoder without such files. A damaged file is ignored with a warning.
    """
    names = [name for name in SETTINGS if name not in arguments]
    if not names:
        return {}
    entries = _read(name_or_path, "modules.json", list, hub)
    modules = _modules(name_or_path, entries or [])
    if "Transformer" not in modules:
        logger.info(f"{name_or_path}: no modules.json of sentence-transformers with a Transformer was found")
        return {}
    missed = [f"{kind} ({path})" for kind, path in modules.items() if kind not in _NOT_MISSED]
    if missed:
        logger.warning(
            f"{name_or_path}: these modules of its modules.json are ignored, and the heads use the vectors without "
            f"them: {', '.join(missed)}"
        )
    settings: dict[str, Any] = {}
    pooling: dict[str, Any] | None = None
    if "Pooling" in modules and {"pooling", "text_prefix"} & set(names):
        filename = _within(modules["Pooling"], "config.json")
        pooling = _read(name_or_path, filename, dict, hub)
        if pooling is None and "pooling" in names:
            logger.warning(
                f"{name_or_path}: its modules.json names a Pooling, but {filename} was not read: "
                f"pooling={default_pooling(encoder)!r} is used. Choose one with pooling=…, of {', '.join(POOLINGS)}"
            )
        elif pooling is not None and "pooling" in names:
            settings["pooling"] = _pooling(name_or_path, pooling, encoder)
    if "max_length" in names:
        settings["max_length"] = _max_length(name_or_path, modules["Transformer"], encoder, hub)
    if "text_prefix" in names:
        prompts = _read(name_or_path, "config_sentence_transformers.json", dict, hub)
        settings["text_prefix"] = _prompt(name_or_path, prompts or {})
        if settings["text_prefix"] is not None and not (pooling or {}).get("include_prompt", True):
            logger.warning(
                f"{name_or_path}: its prompt is left out of the pooling (include_prompt), which is not supported here: "
                f"the text has no prompt. To pool the prompt, too: text_prefix={settings['text_prefix']!r}"
            )
            settings["text_prefix"] = None
    settings = {name: value for name, value in settings.items() if value is not None}
    taken = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    logger.info(f"{name_or_path}: {taken or 'no setting'} taken from its sentence-transformers files")
    return settings


def _read(name_or_path: str | os.PathLike, filename: str, kind: type[_Kind], hub: Mapping[str, Any]) -> _Kind | None:
    """Return a JSON file of the encoder; `None` if it is missing, damaged or not available offline."""
    path = cached_file(
        name_or_path,
        filename,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **hub,
    )
    if path is None:
        return None
    try:
        content = PreTrainedConfig._dict_from_json_file(path)
    except ValueError as error:  # not JSON, or not UTF-8
        problem = str(error)
    else:
        if isinstance(content, kind):
            return content
        problem = f"it holds a {type(content).__name__}, but a {kind.__name__} was expected"
    logger.warning(f"{name_or_path}: {filename} cannot be read and is ignored: {problem}")
    return None


def _within(folder: str, filename: str) -> str:
    return f"{folder}/{filename}" if folder else filename


def _modules(name_or_path: str | os.PathLike, entries: list[Any]) -> dict[str, str]:
    """Return kind → path of the modules in their order, such as `Pooling` → `1_Pooling`."""
    modules: dict[str, str] = {}
    for module in entries:
        if not isinstance(module, dict) or {type(module.get("type")), type(module.get("path"))} != {str}:
            logger.warning(f"{name_or_path}: modules.json is ignored: no 'type' and 'path' in {module!r}")
            return {}
        modules.setdefault(module["type"].rsplit(".", 1)[-1], module["path"])
    return modules


def _pooling(name_or_path: str | os.PathLike, settings: dict[str, Any], encoder: PreTrainedConfig) -> str | None:
    old = [mode for key, mode in _OLD_POOLING_KEYS.items() if settings.get(key)]
    modes = settings.get("pooling_mode", old or "mean")
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) == 1 and str(modes[0]) in _POOLING_NAMES:
        return _POOLING_NAMES[str(modes[0])]
    logger.warning(
        f"{name_or_path}: its vectors were pooled with {' + '.join(map(str, modes))}, which is not supported here: "
        f"pooling={default_pooling(encoder)!r} is used. Choose one with pooling=…, of {', '.join(POOLINGS)}"
    )
    return None


def _max_length(
    name_or_path: str | os.PathLike, folder: str, encoder: PreTrainedConfig, hub: Mapping[str, Any]
) -> int | None:
    # older files have the encoder's kind in their name; newer versions take the length from the tokenizer, as here
    for kind in dict.fromkeys(("bert", encoder.model_type)):
        settings = _read(name_or_path, _within(folder, f"sentence_{kind}_config.json"), dict, hub)
        if settings is not None:
            if settings.get("do_lower_case"):
                logger.warning(
                    f"{name_or_path}: it was trained on texts in lower case (do_lower_case), which is not done here: "
                    "give texts in lower case"
                )
            length = settings.get("max_seq_length")
            if length is not None and type(length) is not int:
                logger.warning(f"{name_or_path}: max_seq_length {length!r} is no whole number, and is ignored")
            return int(min(length, max_positions(encoder))) if type(length) is int and length > 0 else None
    return None


def _prompt(name_or_path: str | os.PathLike, settings: dict[str, Any]) -> str | None:
    """Return the prompt for classification, else the default one; other prompts may be unsuitable."""
    prompts = settings.get("prompts")
    prompts = {name: text for name, text in prompts.items() if text} if isinstance(prompts, dict) else {}
    names = [name for name in prompts if name.lower() == "classification"]
    default = settings.get("default_prompt_name")
    for name in [*names, default]:
        if name in prompts and isinstance(prompts[name], str):
            return prompts[name]
    if default is not None or names:
        logger.warning(
            f"{name_or_path}: its prompt {(names or [default])[0]!r} is no text among {prompts}: none is used"
        )
    if prompts:
        logger.info(f"{name_or_path}: none of its prompts is used; set text_prefix to use one: {prompts}")
    return None
