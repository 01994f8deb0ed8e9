"""Keys of a run's YAML file, checked before torch is loaded.

`read_run_config` checks values, types and combinations of keys later.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from ..utils.messages import unknown_key
from .signatures import parameters, training_argument_names

_MODULE = "training.run_config"


def check_run_keys(path: str, changes: Sequence[str]) -> None:
    """Check the names of sections and keys, in a file and in changes of the form `KEY=VALUE`.

    Raises:
        ValueError: If the file cannot be opened, or has an unknown key; the message suggests similar names, or the
            section that has the key.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
        yaml.safe_load(content)
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError):
        return  # `read_run_config` reports the error
    known = _known_keys()
    for key in [*_paths(root, 3), *(tuple(change.partition("=")[0].split(".")) for change in changes)]:
        try:
            _check(key, known)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _known_keys() -> dict[str, list[str]]:
    """Return section → its keys; for `heads` the keys of each head."""
    known: dict[str, list[str]] = {}
    for section, field in parameters(f"{_MODULE}.RunConfig").items():
        if section == "training":
            known[section] = training_argument_names()
        elif section == "heads":
            known[section] = [
                *parameters("LabelReading"),
                *(key for key in parameters("HeadConfig") if key != "reading"),
            ]
        else:
            known[section] = list(parameters(f"{_MODULE}.{field.annotation}"))
    return known


def _paths(node: yaml.Node | None, depth: int) -> Iterator[tuple[str, ...]]:
    """Return the keys of nested mappings, outermost first, down to some depth."""
    if not depth or not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = str(key.value)
        yield (name,)
        yield from ((name, *inner) for inner in _paths(value, depth - 1))


def _check(key: tuple[str, ...], sections: Mapping[str, Sequence[str]]) -> None:
    section = key[0]
    if section not in sections:
        _refuse(section, list(sections), "", sections)
    index = 2 if section == "heads" else 1  # (heads may have any name)
    if len(key) > index and key[index] not in sections[section]:
        _refuse(key[index], sections[section], "".join(f"{name}." for name in key[:index]), sections)


def _refuse(name: str, known: Sequence[str], where: str, sections: Mapping[str, Sequence[str]]) -> None:
    elsewhere = [section for section, keys in sections.items() if section != "heads" and name in keys]
    raise ValueError(unknown_key(name, known, where, elsewhere))
