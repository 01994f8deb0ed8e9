"""Parts of error messages for code that runs before torch is loaded."""

import difflib
from collections.abc import Iterable, Sequence

_MANY = 30  # with more keys than this, a message does not list them all


def near_names(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ` Did you mean 'x'?` for a misspelt name, or an empty string without a similar name."""
    names = {str(each).casefold(): each for each in reversed(list(known))}
    matches = [names[near] for near in difflib.get_close_matches(str(name).casefold(), names, n=2, cutoff=cutoff)]
    return f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def counted(number: int, what: str) -> str:
    """Return `1 row` or `2 rows`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def unknown_key(name: str, known: Sequence[str], where: str, sections_with: Iterable[str]) -> str:
    """Return the message for a key of a run's file that does not exist.

    Args:
        name: the key.
        known: the keys that exist in its section.
        where: its section with a dot at the end, or an empty string.
        sections_with: sections that have such a key.
    """
    hint = near_names(name, known) or "".join(f" {name!r} is a key of {section}." for section in sections_with)
    advice = f" Known: {', '.join(known)}" if len(known) < _MANY else " multihead-hf train --keys lists all keys"
    return f"Unknown key {f'{where}{name}'!r}.{hint}{advice}"
