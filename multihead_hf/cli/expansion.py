"""Commands whose options come from the signatures and docstrings of the functions they call."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import typer

from .signatures import Parameter, parameters

_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}


class Library(NamedTuple):
    """Options for parameters of a function of the library; a command receives their values as one dict.

    Args:
        target: the function or class, as for `signatures.parameters`.
        options: parameter → settings of `typer.Option` that differ from what follows from the signature; also `type`,
            `default`, `flag` (the name to type), `unset` (the value is `None` unless given, and the default is only
            shown), and `of` (the method that reads it; stands before the help text).
    """

    target: str
    options: Mapping[str, Mapping[str, Any]]


def library(target: str, *names: str, **special: Mapping[str, Any]) -> Library:
    """Return options for some parameters of `target`; those of `names` follow from the signature alone."""
    return Library(target, {**{name: {} for name in names}, **special})


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with one option for each field of its dataclasses and each parameter of its `Library`s."""
    options: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    for parameter in inspect.signature(command).parameters.values():
        marker = get_args(parameter.annotation)[-1] if get_origin(parameter.annotation) is Annotated else None
        if isinstance(marker, Library):
            inner = [_option(name, settings, marker.target) for name, settings in marker.options.items()]
            groups[parameter.name] = dict, [option.name for option in inner]
        elif is_dataclass(parameter.annotation) and isinstance(parameter.annotation, type):
            inner = list(inspect.signature(parameter.annotation).parameters.values())
            groups[parameter.name] = (
                parameter.annotation,
                [attribute.name for attribute in fields(parameter.annotation)],
            )
        else:
            inner = [parameter]
        options += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in inner]

    def run(**values: Any) -> None:
        grouped = {
            name: make(**{inner: values.pop(inner) for inner in names}) for name, (make, names) in groups.items()
        }
        command(**values, **grouped)

    run.__doc__ = command.__doc__
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _option(name: str, settings: Mapping[str, Any], target: str) -> inspect.Parameter:
    parameter = parameters(target)[name]
    settings = dict(settings)
    kind, default = settings.pop("type", None) or _type(parameter), settings.pop("default", parameter.default)
    flag = settings.pop("flag", f"--{name.replace('_', '-')}")
    text = parameter.help
    if get_origin(kind) is list or list[str] in get_args(kind):  # the option is repeated for each value
        flag, default, text = flag.removesuffix("s"), None, f"{text} May be given several times."
    if settings.pop("unset", False):
        text, kind, default = f"{text} Default: {_shown(default)}.", kind | None, None
    if "of" in settings:
        text = f"{settings.pop('of')}: {text}"
    flags = (flag,) if default is not True else ()  # flags that are on by default also need --no-X
    option = typer.Option(*flags, **{"help": text, **settings})
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _shown(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _type(parameter: Parameter) -> type | UnionType:
    """Return the type of an option: several texts, or the first plain type of the annotation."""
    kinds = [kind.strip() for kind in parameter.annotation.split("|")]
    if any(kind in ("list[str]", "Sequence[str]") for kind in kinds):
        return list[str] | None
    plain = next(_TYPES[kind] for kind in kinds if kind in _TYPES)
    return plain | None if parameter.default is None else plain
