"""Few rows that hold every label: what a training part needs at least."""

from collections.abc import Hashable, Sequence, Set

_STEPS = 100_000  # of the exact search, which takes a second or so


def find_cover(
    units: Sequence[Set[Hashable]], sizes: Sequence[int], most_rows: int, most_units: int
) -> list[int] | None:
    """Units that together hold each label of all units, in at most so many rows and units.

    A greedy choice is tried first, then all choices (for so many steps as take about a second): a set of covers of
    few rows has no quick exact answer.

    Args:
        units: the labels of each unit.
        sizes: the rows of each unit.
        most_rows: rows that the chosen units may have.
        most_units: how many units may be chosen.

    Returns:
        places of the units; `None` where none were found.
    """
    having: dict[Hashable, list[int]] = {}
    for place, labels in enumerate(units):
        for label in labels:
            having.setdefault(label, []).append(place)
    found = _greedy(units, sizes, having)
    if len(found) <= most_units and sum(sizes[place] for place in found) <= most_rows:
        return found
    return _Search(units, sizes, having).within(most_rows, most_units)


def _greedy(units: Sequence[Set[Hashable]], sizes: Sequence[int], having: dict[Hashable, list[int]]) -> list[int]:
    """The rarest label first, with the unit that holds most of what is missing for its rows."""
    missing, chosen = set(having), []
    while missing:
        rarest = min(missing, key=lambda label: (len(having[label]), str(label)))
        best = max(having[rarest], key=lambda place: len(units[place] & missing) / sizes[place])
        chosen.append(best)
        missing -= units[best]
    return chosen


class _Search:
    """Depth first, over the units of the label that fewest have."""

    def __init__(self, units: Sequence[Set[Hashable]], sizes: Sequence[int], having: dict[Hashable, list[int]]) -> None:
        self._units, self._sizes, self._having = units, sizes, having
        self._steps = 0

    def within(self, most_rows: int, most_units: int) -> list[int] | None:
        return self._rest(set(self._having), most_rows, most_units)

    def _rest(self, missing: set[Hashable], room: int, more: int) -> list[int] | None:
        """Units for the missing labels in so many rows."""
        if not missing:
            return []
        self._steps += 1
        if self._steps > _STEPS or more == 0:
            return None
        rarest = min(missing, key=lambda label: (len(self._having[label]), str(label)))
        places = [place for place in self._having[rarest] if self._sizes[place] <= room]
        for place in sorted(places, key=lambda place: -len(self._units[place] & missing)):
            rest = self._rest(missing - self._units[place], room - self._sizes[place], more - 1)
            if rest is not None:
                return [place, *rest]
        return None
