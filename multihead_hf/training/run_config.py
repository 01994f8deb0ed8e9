"""Configuration of a whole training run in a YAML file: its keys, and their check before anything is loaded."""

import os
import re
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from ..data.reading import OPTIONS
from ..data.sources import PARTS
from ..model.head_multihead import HeadConfig, near_names
from ..model.reading_multihead import LabelReading
from ..utils.messages import unknown_key
from .arguments import MultiHeadTrainingArguments

OUTPUT_DIR = "trainer_output"  # the default of transformers
Source = str | list[str] | dict[str, str | list[str]]


@dataclass
class ModelSection:
    """Model to train: fresh heads on a pretrained encoder, or a saved multi-head model."""

    encoder: str | None = field(default=None, metadata={"help": "Pretrained encoder: a name on the Hub, or a folder."})
    start_from: str | None = field(
        default=None,
        metadata={"help": "A saved multi-head model to start from instead of an encoder; missing heads are added."},
    )
    pooling: str | None = field(
        default=None, metadata={"help": "cls, mean, max or last. Default: the encoder's, else its architecture's."}
    )
    text_prefix: str | None = field(
        default=None, metadata={"help": "Prefix of every text. Default: the prompt of the encoder, if it has one."}
    )
    dtype: str | None = field(
        default=None, metadata={"help": "Data type of the encoder's weights, such as float16, for frozen encoders."}
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "sdpa, eager, flash_attention_2, … Default: the best available."}
    )
    encoder_settings: dict[str, Any] | None = field(
        default=None, metadata={"help": "Settings of the encoder's configuration to change, by name."}
    )
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the encoder on the Hub."})


@dataclass
class DataSection:
    """The rows: files (CSV, TSV, JSON, JSON Lines, Parquet, Arrow, Excel), globs, a folder, or a Hub dataset."""

    train: Source | None = field(
        default=None,
        metadata={
            "help": "Rows to train on (of a folder or Hub dataset, the split 'train'), or a dict of several datasets."
        },
    )
    validation: Source | None = field(
        default=None, metadata={"help": "Rows for evaluation while training. Default: the split of that name."}
    )
    test: Source | None = field(
        default=None, metadata={"help": "Rows for one evaluation at the end. Default: the split of that name."}
    )
    split: dict[str, float] | None = field(
        default=None, metadata={"help": "Fractions of one table: {train: 0.8, validation: 0.1, test: 0.1}."}
    )
    split_seed: int = field(default=42, metadata={"help": "Seed of the split."})
    groups: str | None = field(
        default=None, metadata={"help": "Column of groups: rows with an equal value stay in one split."}
    )
    config: str | None = field(default=None, metadata={"help": "Configuration of datasets on the Hub."})
    delimiter: str | None = field(
        default=None,
        metadata={"help": "Delimiter between the columns of CSV files. Default: a comma, or a semicolon as Excel."},
    )
    encoding: str | None = field(
        default=None,
        metadata={"help": "Encoding of text files, such as cp1252. Default: UTF-8, or that of the byte order mark."},
    )


@dataclass
class AfterTrainingSection:
    """Steps after training."""

    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after this number of evaluations in a row without a better metric_for_best_model."},
    )
    calibrate: bool = field(default=False, metadata={"help": "Fit a temperature to each head on the validation rows."})
    tune_thresholds: bool = field(
        default=False, metadata={"help": "Choose the thresholds of multi-label heads on the validation rows."}
    )
    report: bool = field(
        default=False, metadata={"help": "Write a report on the test rows (else validation) into _report."}
    )
    baseline: bool = field(
        default=True,
        metadata={"help": "Compare each head with a linear baseline, TF-IDF with logistic regression, in the report."},
    )


@dataclass
class RunConfig:
    """A training run.

    Args:
        model: See `ModelSection`.
        data: See `DataSection`.
        after_training: See `AfterTrainingSection`.
        heads: Name → settings of its `HeadConfig`, and how its labels are read: `column`, `sep`, `empty` and
            `multi_hot` of its `LabelReading`. `labels` and `problem_type` are inferred from the training rows if left
            out.
        training: Arguments of `MultiHeadTrainingArguments`.
    """

    model: ModelSection = field(default_factory=ModelSection)
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: DataSection = field(default_factory=DataSection)
    training: dict[str, Any] = field(default_factory=dict)
    after_training: AfterTrainingSection = field(default_factory=AfterTrainingSection)


def head_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that belong to `HeadConfig`."""
    return {name: value for name, value in settings.items() if name not in _READING}


RunLike = str | os.PathLike | Mapping[str, Any] | RunConfig
SECTIONS = {section.name: section for section in fields(RunConfig)}
_READING = tuple(option.name for option in fields(LabelReading))
HEAD_FIELDS = (*_READING, *(option.name for option in fields(HeadConfig) if option.name != "reading"))


class _Loader(yaml.SafeLoader):
    """Safe YAML loader that reads 1e-4 as a number and `no` as a string, and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in names:
                raise ValueError(f"line {key.start_mark.line + 1}: duplicate key {name!r}")
            names.add(name)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads no, off and yes as booleans, but `eval_strategy: no` is a string
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false|True|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_run_config(source: RunLike, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """Return the configuration of a run from a YAML file or its values.

    Args:
        source: Path of the file, a dict, or a `RunConfig`.
        changes: Dotted key → new value, such as `{"training.learning_rate": 1e-4}`.

    Raises:
        ValueError: The file cannot be read, a key is unknown (the message suggests similar keys), or a value has a
            wrong type.
    """
    if isinstance(source, RunConfig):
        if changes:
            raise ValueError("changes are for a file or a dict; change the RunConfig itself")
        return source
    prefix = "" if isinstance(source, Mapping) else f"{source}: "
    values = source if isinstance(source, Mapping) else read_yaml(source)
    try:
        return _checked(with_changes(values, changes or {}))
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None


def parse_change(text: str) -> tuple[str, Any]:
    """Return key and value of `KEY=VALUE`, the value as in YAML.

    Raises:
        ValueError: It does not have this form.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"{text!r}: give KEY=VALUE, such as training.learning_rate=1e-4")
    return key, yaml.load(value, _Loader)


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """Return the content of a run's file.

    Raises:
        ValueError: The file cannot be read, or has no sections.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: the sections {', '.join(SECTIONS)} are expected, not {content!r}")
    return content


def with_changes(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the values of a run with changes by dotted key."""
    changed = dict(values)
    for key, value in changes.items():
        _put(changed, key.split("."), value)
    return changed


def as_yaml(values: Mapping[str, Any]) -> str:
    """Return the values of a run as YAML text."""
    return yaml.safe_dump(dict(values), allow_unicode=True, sort_keys=False)


def _put(values: dict[str, Any], path: list[str], value: object) -> None:
    for name in path[:-1]:
        inner = values.get(name)
        values[name] = dict(inner) if isinstance(inner, Mapping) else {}
        values = values[name]
    values[path[-1]] = value


def _checked(values: Mapping[str, Any]) -> RunConfig:
    _check_keys(values, list(SECTIONS), "")
    sections: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        content = values.get(name)
        content = {} if content is None else content
        if not isinstance(content, Mapping):
            raise ValueError(f"{name}: keys and values are expected, not {content!r}")
        if isinstance(section.type, type) and is_dataclass(section.type):
            _check_section(content, section.type, name)
            sections[name] = section.type(**content)
        else:
            sections[name] = dict(content)
    _check_section(sections["training"], MultiHeadTrainingArguments, "training")
    run = RunConfig(**sections)
    if not run.heads and run.model.start_from is None:
        raise ValueError("heads: name at least one head, such as heads: {topic: {column: topics}}")
    for head, settings in run.heads.items():
        run.heads[head] = _checked_head(head, settings)
    if (run.model.encoder is None) == (run.model.start_from is None):
        raise ValueError("model: give an encoder, or a saved model as start_from, but not both")
    if run.model.start_from is not None:
        for name in values.get("model") or {}:
            if name != "start_from":
                raise ValueError(
                    f"model.{name}: the saved model already has this setting; leave it out with start_from"
                )
    for key, name in OPTIONS.items():
        if run.training.get(key) is not None and any(name in settings for settings in run.heads.values()):
            raise ValueError(f"training.{key}: set it in one place only, heads.<name>.{name} or here")
    _check_split(run.data.split)
    if run.data.train is None:
        raise ValueError("data.train: name the rows to train on")
    return run


def _checked_head(head: object, settings: object) -> dict[str, Any]:
    """Return the settings of a head after checking their names and how labels are read.

    Raises:
        ValueError: The name is not a string, the settings are not a mapping, or a key or a value is wrong.
    """
    if not isinstance(head, str):
        raise ValueError(f"heads: {head!r}: a head's name is a text; numbers, dates, true and null need quotes in YAML")
    if settings is not None and not isinstance(settings, Mapping):
        raise ValueError(f"heads.{head}: keys and values are expected, such as {{column: {settings}}}")
    _check_keys(values := dict(settings or {}), HEAD_FIELDS, f"heads.{head}.")
    for name, hint in get_type_hints(LabelReading).items():
        if not _is_of(values.get(name), hint):
            raise ValueError(f"heads.{head}.{name}: expected {_shown(hint)}, not {values[name]!r}")
    try:
        LabelReading(**{name: values[name] for name in _READING if name in values})
    except ValueError as error:
        raise ValueError(f"heads.{head}: {error}") from None
    if values.get("sep") is not None or isinstance(values.get("column"), list):
        values.setdefault("problem_type", "multi_label_classification")
    return values


def _check_split(split: Mapping[str, float] | None) -> None:
    for name in split or {}:
        if name not in PARTS:
            raise ValueError(f"data.split.{name}: the splits are {', '.join(PARTS)}.{near_names(name, PARTS, 0.3)}")
    if split is not None and "train" not in split:
        raise ValueError("data.split: give a fraction for train")


def _check_keys(keys: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name in keys:
        if name not in known:
            raise ValueError(
                unknown_key(name, list(known), where, [section for section, key, _ in all_keys() if key == name])
            )


def _check_section(values: Mapping[str, Any], section: type[Any], where: str) -> None:
    """Check the keys and the types of the values of one section.

    Raises:
        ValueError: A key is unknown, or a value has another type than the field.
    """
    known = [option.name for option in fields(section) if option.init]
    _check_keys(values, known, f"{where}.")
    hints = get_type_hints(section)
    for name, value in values.items():
        if not _is_of(value, hints[name]):
            raise ValueError(f"{where}.{name}: expected {_shown(hints[name])}, not {value!r}")


def _is_of(value: object, hint: object) -> bool:
    """Return whether a plain value has a type; values of other types are checked by their class."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_is_of(value, member) for member in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_is_of(item, get_args(hint)[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is_of(item, get_args(hint)[1]) for item in value.values())
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return isinstance(value, str)
    plain = (str, bool, dict, list, types.NoneType)
    return isinstance(value, hint) if isinstance(hint, type) and hint in plain else True


def _shown(hint: object) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_shown(member) for member in get_args(hint) if member is not types.NoneType)
    words: dict[object, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    words |= {list: "a list", dict: "keys and values"}
    return words.get(get_origin(hint) or hint, str(hint))


def all_keys() -> Iterator[tuple[str, str, Field]]:
    """Return section, key and field of all keys except heads."""
    for name, section in SECTIONS.items():
        owner = MultiHeadTrainingArguments if name == "training" else section.type
        if is_dataclass(owner):
            for option in fields(owner):
                if option.init:
                    yield name, option.name, option
