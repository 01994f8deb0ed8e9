"""Search for a small set of rows with every label, the minimum that a training split needs."""

from collections.abc import Hashable, Sequence, Set

_STEPS = 100_000  # limit of the exact search, about a second


def find_cover(
    units: Sequence[Set[Hashable]], sizes: Sequence[int], most_rows: int, most_units: int
) -> list[int] | None:
    """Return units that together contain every label, with at most `most_rows` rows and `most_units` units.

    A greedy choice is tried first, then all choices (for about a second): finding a cover of few rows exactly can take
    exponential time.

    Args:
        units: the labels of each unit.
        sizes: number of rows of each unit.
        most_rows: maximum number of rows of the chosen units.
        most_units: maximum number of chosen units.

    Returns:
        Indices of the units; `None` where no cover was found.
    """
    units_by_label: dict[Hashable, list[int]] = {}
    for index, labels in enumerate(units):
        for label in labels:
            units_by_label.setdefault(label, []).append(index)
    cover = _greedy(units, sizes, units_by_label)
    if len(cover) <= most_units and sum(sizes[index] for index in cover) <= most_rows:
        return cover
    return _Search(units, sizes, units_by_label).within(most_rows, most_units)


def _greedy(
    units: Sequence[Set[Hashable]], sizes: Sequence[int], units_by_label: dict[Hashable, list[int]]
) -> list[int]:
    """Cover the rarest label first, each time with the unit that has the most missing labels per row."""
    missing, chosen = set(units_by_label), []
    while missing:
        rarest = min(missing, key=lambda label: (len(units_by_label[label]), str(label)))
        best = max(units_by_label[rarest], key=lambda index: len(units[index] & missing) / sizes[index])
        chosen.append(best)
        missing -= units[best]
    return chosen


class _Search:
    """Depth-first search over the units of the label that occurs in the fewest units."""

    def __init__(
        self, units: Sequence[Set[Hashable]], sizes: Sequence[int], units_by_label: dict[Hashable, list[int]]
    ) -> None:
        self._units, self._sizes, self._units_by_label = units, sizes, units_by_label
        self._steps = 0

    def within(self, most_rows: int, most_units: int) -> list[int] | None:
        """Return units with all labels within these limits, `None` where no cover was found."""
        return self._rest(set(self._units_by_label), most_rows, most_units)

    def _rest(self, missing: set[Hashable], room: int, more: int) -> list[int] | None:
        """Return units for the missing labels within the remaining rows."""
        if not missing:
            return []
        self._steps += 1
        if self._steps > _STEPS or more == 0:
            return None
        rarest = min(missing, key=lambda label: (len(self._units_by_label[label]), str(label)))
        indices = [index for index in self._units_by_label[rarest] if self._sizes[index] <= room]
        for index in sorted(indices, key=lambda index: -len(self._units[index] & missing)):
            rest = self._rest(missing - self._units[index], room - self._sizes[index], more - 1)
            if rest is not None:
                return [index, *rest]
        return None
