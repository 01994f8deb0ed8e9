"""Combination of several datasets, each labelled for some heads, into one."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

from datasets import Dataset, IterableDataset, concatenate_datasets, interleave_datasets

from ..model.head_multihead import near_names, one_of

STOPS = ("all_exhausted", "first_exhausted")


def mix_datasets(
    datasets: Mapping[str, Dataset | IterableDataset],
    probabilities: Mapping[str, float] | None = None,
    temperature: float = 1.0,
    stop: str = "all_exhausted",
    seed: int = 42,
) -> Dataset | IterableDataset:
    """Combine several prepared datasets into one, whose batches hold rows of any of them.

    Without probabilities and at temperature 1 every row occurs once: the mix is proportional to the sizes. Otherwise
    rows are drawn by `datasets.interleave_datasets`, with the probabilities given or `n^(1/T) / Σ n^(1/T)`: a
    temperature above 1 favours the small datasets.

    Args:
        datasets: name → prepared rows (`prepare_dataset` returns the columns of every head for all of them).
        probabilities: name → probability that the next row comes from this dataset, adding up to 1.
        temperature: the temperature T, above 0.
        stop: `"all_exhausted"` continues until every row has occurred and repeats the rows of small datasets;
            `"first_exhausted"` stops when the first dataset ends.
        seed: seed of the sampling; the same seed gives the same rows in the same order.

    Returns:
        One dataset with the rows of all, a stream where `datasets` are streams.

    Raises:
        ValueError: If there is no dataset or an empty one, the probabilities or the temperature are invalid, some
            datasets are streams and others are not, or streams (whose sizes are unknown) come without probabilities.

    Example:
        >>> from multihead_hf import MultiHeadModel, mix_datasets, prepare_dataset
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> rows = prepare_dataset("complaints.csv", AutoTokenizer.from_pretrained("complaints"), model)
        >>> len(mix_datasets({"first": rows.select(range(10)), "second": rows}))
        50
    """
    if not isinstance(datasets, Mapping):
        raise ValueError(f"datasets is a {type(datasets).__name__}: give them names, {{'a': rows, 'b': more_rows}}")
    if not datasets:
        raise ValueError("there is no dataset to mix")
    one_of("stop", stop, STOPS)
    if not _is_number(temperature) or not temperature > 0:
        raise ValueError(f"temperature {temperature!r}: give a number above 0")
    rows: Any = list(datasets.values())
    streams = [name for name, dataset in datasets.items() if isinstance(dataset, IterableDataset)]
    if streams and len(streams) < len(rows):
        raise ValueError(
            f"{streams} are streams and the other datasets are not: make all of them the same kind "
            "(to_iterable_dataset)"
        )
    empty = [name for name, dataset in datasets.items() if isinstance(dataset, Dataset) and not len(dataset)]
    if empty:
        raise ValueError(f"the datasets {empty} are empty: leave them out")
    if probabilities is None and temperature == 1.0 and not streams:
        return concatenate_datasets(rows)
    if probabilities is None:
        if streams:
            raise ValueError(f"the lengths of the streams {streams} are unknown: give probabilities")
        largest = max(len(dataset) for dataset in datasets.values())  # shares of it, whose powers cannot overflow
        sizes = {name: (len(dataset) / largest) ** (1 / temperature) for name, dataset in datasets.items()}
        probabilities = {name: size / sum(sizes.values()) for name, size in sizes.items()}
        never = [name for name, probability in probabilities.items() if not probability]
        if never:
            raise ValueError(
                f"temperature {temperature}: no row of {never} would be sampled; give a higher temperature"
            )
    return interleave_datasets(rows, probabilities=_checked(probabilities, datasets), seed=seed, stopping_strategy=stop)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _checked(probabilities: Mapping[str, float], datasets: Mapping[str, Any]) -> list[float]:
    if not isinstance(probabilities, Mapping):
        raise ValueError(f"probabilities {probabilities!r}: give a dict, name → probability")
    for name in probabilities:
        if name not in datasets:
            known = list(datasets)
            raise ValueError(f"probabilities: there is no dataset {name!r}.{near_names(name, known)} Datasets: {known}")
    missing = [name for name in datasets if name not in probabilities]
    if missing:
        raise ValueError(f"probabilities: the datasets {missing} have no probability, and every dataset needs one")
    wrong = [name for name, value in probabilities.items() if not _is_number(value)]
    if wrong:
        raise ValueError(f"probabilities: the values of {wrong} are not numbers: {dict(probabilities)}")
    if any(not 0 < value < 1 for value in probabilities.values()) and len(datasets) > 1:
        raise ValueError(f"probabilities {dict(probabilities)}: each must be above 0 and below 1")
    if abs(sum(probabilities.values()) - 1) > 1e-6:
        raise ValueError(f"probabilities {dict(probabilities)} add up to {sum(probabilities.values()):g}, not 1")
    return [probabilities[name] for name in datasets]
