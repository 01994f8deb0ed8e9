"""Splits that keep the shares of all heads' labels, whatever is missing, and groups together."""

import itertools
import math
import random
from typing import Any

import pytest
import tiny
from datasets import Dataset, DatasetDict

from multihead_hf import HeadConfig, infer_heads, prepare_dataset, split_report, stratified_split
from multihead_hf.data.covers import find_cover
from multihead_hf.data.splits import split_units

FRACTIONS = {"train": 0.7, "validation": 0.2, "test": 0.1}
TOPICS = [f"topic {index}" for index in range(20)]


def table(rows: int = 600, seed: int = 0) -> Dataset:
    """Topics of very different frequency, moods of which a third is missing, and groups of up to 12 rows."""
    rng = random.Random(seed)
    weights = [1 / (index + 1) for index in range(len(TOPICS))]
    return Dataset.from_list(
        [
            {
                "text": f"w{row % 60}",
                "topic": None if rng.random() < 0.2 else sorted(set(rng.choices(TOPICS, weights, k=rng.randint(0, 3)))),
                "mood": rng.choice(["calm", "angry", None]),
                "person": rng.randrange(rows // 6),
                "row": row,
            }
            for row in range(rows)
        ]
    )


HEADS = {
    "topic": HeadConfig(labels=TOPICS, problem_type="multi_label_classification"),
    "mood": HeadConfig(labels=["angry", "calm"]),
}


def test_shares_are_those_of_the_whole_for_every_label_of_every_head() -> None:
    rows = table()
    parts = stratified_split(rows, HEADS, FRACTIONS, seed=1)
    assert isinstance(parts, DatasetDict)
    assert sorted(row for part in parts.values() for row in part["row"]) == list(range(600))
    assert {name: len(part) for name, part in parts.items()} == {"train": 420, "validation": 120, "test": 60}
    whole = split_report({"all": rows}, HEADS)
    report = split_report(parts, HEADS)
    for head, labels in report.counts.items():
        for part, fraction in FRACTIONS.items():
            assert abs(report.labelled[head][part] - fraction * whole.labelled[head]["all"]) <= 2
            for label, counts in labels.items():
                assert abs(counts[part] - fraction * whole.counts[head][label]["all"]) <= 2, (head, label, part)


def test_the_same_seed_gives_the_same_parts() -> None:
    one, same, other = (stratified_split(table(), HEADS, FRACTIONS, seed=seed) for seed in (1, 1, 2))
    assert one["train"]["row"] == same["train"]["row"]
    assert one["train"]["row"] != other["train"]["row"]
    assert one["train"]["row"] == sorted(one["train"]["row"])  # in the order of the dataset


def test_groups_stay_together() -> None:
    parts = stratified_split(table(), HEADS, FRACTIONS, groups="person")
    people = {name: set(part["person"]) for name, part in parts.items()}
    assert not people["train"] & people["validation"]
    assert not people["train"] & people["test"]
    assert not people["validation"] & people["test"]
    report = split_report(parts, HEADS)
    assert 380 <= report.rows["train"] <= 460
    for label in ("calm", "angry"):
        assert abs(report.share("mood", label, "train") - report.share("mood", label, "validation")) < 0.08


def test_rows_without_a_group_stay_by_themselves() -> None:
    rows = table(100).add_column("team", ["", None] * 25 + ["a"] * 50)
    parts = stratified_split(rows, {"mood": HEADS["mood"]}, (0.5, 0.5), groups="team")
    assert {len(part) for part in parts.values()} == {50}
    assert len({name for name, part in parts.items() if "a" in part["team"]}) == 1
    with pytest.raises(ValueError, match=r"groups: column 'topic' holds lists"):
        stratified_split(rows, HEADS, (0.5, 0.5), groups="topic")


def test_the_training_part_is_guarded_wherever_it_stands() -> None:
    rows = Dataset.from_dict({"text": ["w1"] * 10, "mood": ["calm"] * 9 + ["angry"]})
    parts = stratified_split(rows, {"mood": HEADS["mood"]}, {"test": 0.1, "train": 0.9})
    assert "angry" in parts["train"]["mood"]


def test_prepared_rows_files_and_other_columns_are_split_alike(tmp_path: Any) -> None:
    rows = table(200)
    expected = stratified_split(rows, HEADS, (0.8, 0.2))
    assert list(expected) == ["train", "validation"]
    prepared = prepare_dataset(rows, tiny.tokenizer(), HEADS)
    assert stratified_split(prepared, HEADS, (0.8, 0.2))["train"]["labels"] == [
        row["labels"] for row in prepare_dataset(expected["train"], tiny.tokenizer(), HEADS)
    ]
    frame = rows.to_pandas()
    frame["topic"] = [None if topics is None else "|".join(topics) or " " for topics in frame["topic"]]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    heads = infer_heads(tmp_path / "rows.csv", ["topic", "mood"], sep={"topic": "|"}, empty="missing")
    parts = stratified_split(tmp_path / "rows.csv", heads, (0.8, 0.1, 0.1))
    assert list(parts) == ["train", "validation", "test"]
    assert len(parts["train"]) == 160


def test_the_report_is_a_table_and_a_dict() -> None:
    rows = Dataset.from_dict({"text": ["w1"] * 4, "mood": ["calm", "calm", "angry", None]})
    report = split_report({"train": rows, "test": rows.select([0])}, {"mood": HEADS["mood"]})
    assert report.to_dict()["counts"] == {"mood": {"angry": {"train": 1, "test": 0}, "calm": {"train": 2, "test": 1}}}
    lines = [line.split() for line in str(report).splitlines()]
    assert lines == [
        ["train", "test"],
        ["rows", "4", "1"],
        ["mood", "3", "1"],
        ["angry", "1", "33.33%", "0", "0.00%"],
        ["calm", "2", "66.67%", "1", "100.00%"],
    ]


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.8, "test": 0.3}, r"add up to 1.1, not 1"),
        ({"train": 1.2, "test": -0.2}, r"fraction 1.2 of split 'train'"),
        ([0.25] * 4, r"name the splits"),
        (0.8, r"fractions 0.8: give \{'train': 0.8"),
        (["0.8", "0.2"], r"fraction 0.8 of split 'train': give a number above 0"),
    ],
)
def test_wrong_fractions(fractions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stratified_split(table(20), HEADS, fractions)


def test_a_training_part_without_a_label_is_refused() -> None:
    rows = Dataset.from_dict({"text": ["w1"] * 10, "mood": ["calm"] * 7 + ["angry"] * 3, "person": [0] * 7 + [1] * 3})
    with pytest.raises(
        ValueError, match=r"split 'train' would get no example of some labels \(mood: 'angry', mood: 'calm'\)"
    ):
        stratified_split(rows, {"mood": HEADS["mood"]}, (0.3, 0.7), groups="person")
    with pytest.raises(ValueError, match=r"split 'validation' would get no row of 10"):
        stratified_split(rows, {"mood": HEADS["mood"]}, (0.7, 0.3), groups="person")
    with pytest.raises(ValueError, match=r"groups: there is no column 'persn'.*'person'"):
        stratified_split(rows, {"mood": HEADS["mood"]}, (0.7, 0.3), groups="persn")
    with pytest.raises(ValueError, match=r"needs all rows at once: .* not a IterableDataset"):
        stratified_split(rows.to_iterable_dataset(), {"mood": HEADS["mood"]}, (0.7, 0.3))
    with pytest.raises(ValueError, match=r"head 'mood', column 'mood', row 0: 'calm' is not one of"):
        stratified_split(rows, {"mood": HeadConfig(labels=["angry", "happy"])}, (0.7, 0.3))


def test_of_equal_parts_the_training_part_has_what_there_is_once() -> None:
    rows = Dataset.from_dict({"text": ["w1"] * 4, "mood": ["calm", "calm", "calm", "angry"]})
    parts = stratified_split(rows, {"mood": HEADS["mood"]}, {"test": 0.5, "train": 0.5})
    assert "angry" in parts["train"]["mood"]


def small_table(rng: random.Random, grouped: bool) -> tuple[list[list[int]], list[list[Any]], list[float]]:
    """Units of rows, the labels of each row, and shares."""
    rows = rng.randint(3, 9)
    kinds = rng.randint(1, 7)
    labels = [
        [("head", label) for label in sorted(rng.sample(range(kinds), rng.randint(0, min(3, kinds))))] + [("head", -1)]
        for _ in range(rows)
    ]
    groups: dict[int, list[int]] = {}
    for row in range(rows):
        groups.setdefault(rng.randrange(rows) if grouped and rng.random() < 0.5 else row + 100, []).append(row)
    return list(groups.values()), labels, rng.choice([[0.5, 0.5], [0.7, 0.3], [0.8, 0.1, 0.1], [0.34, 0.33, 0.33]])


def held(labels: list[list[Any]], rows: Any) -> set[Any]:
    return {label for row in rows for label in labels[row] if label[1] >= 0}


def there_is_a_split(units: list[list[int]], labels: list[list[Any]], limit: int, parts: int) -> bool:
    """Whether some units of at most so many rows hold every label, and one is left for each other part."""
    everything = held(labels, range(len(labels)))
    return any(
        sum(map(len, chosen)) <= limit and held(labels, itertools.chain(*chosen)) == everything
        for count in range(1, len(units) - parts + 2)
        for chosen in itertools.combinations(units, count)
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_a_split_is_found_wherever_there_is_one(grouped: bool) -> None:
    """On 500 small tables, where all can be tried: whole rows or groups, each part with a row, the training part with
    every label, and (of single rows) no larger than its fraction, rounded up."""
    rng = random.Random(7)
    outcomes = {True: 0, False: 0}
    for _ in range(500):
        units, labels, shares = small_table(rng, grouped)
        limit = math.ceil(shares[0] * len(labels) - 1e-9)
        in_groups = max(map(len, units)) > 1
        expected = there_is_a_split(units, labels, len(labels) if in_groups else limit, len(shares))
        parts = split_units(units, labels, shares, rng.randrange(5), 0)
        assert sorted(itertools.chain(*parts)) == list(range(len(labels)))
        found = held(labels, parts[0]) == held(labels, range(len(labels))) and min(map(len, parts)) > 0
        assert found == expected, (units, labels, shares)
        outcomes[found] += 1
        for unit in units:
            assert sum(bool(set(unit) & set(part)) for part in parts) == 1
        if found and not in_groups:
            assert len(parts[0]) <= limit
    assert min(outcomes.values()) > 20, outcomes


@pytest.mark.parametrize("seed", range(8))
def test_a_small_table_that_can_be_split_is_split(seed: int) -> None:
    topics = ["p", "q|s", "p|q", "p", "p|q", "p", "p", "p", "p", "q", "q", "q|r"]
    rows = Dataset.from_dict({"text": ["w1"] * 12, "a": list("wxyzvzxwuzzw"), "t": topics})
    heads = infer_heads(rows, columns=["a", "t"], sep={"t": "|"})
    parts = stratified_split(rows, heads, {"train": 0.5, "validation": 0.5}, seed=seed)
    assert [len(part) for part in parts.values()] == [6, 6]
    assert set(parts["train"]["a"]) == set("uvwxyz")
    assert set("".join(parts["train"]["t"])) == set("pqrs|")


def test_a_cover_is_found_wherever_there_is_one() -> None:
    rng = random.Random(3)
    found_any = 0
    for _ in range(300):
        units = [frozenset(rng.sample(range(7), rng.randint(0, 4))) for _ in range(rng.randint(2, 8))]
        sizes = [rng.randint(1, 3) for _ in units]
        most_rows, most_units = rng.randint(1, 9), rng.randint(1, 5)
        everything = frozenset().union(*units)
        expected = any(
            sum(sizes[place] for place in chosen) <= most_rows
            and frozenset().union(*(units[place] for place in chosen)) == everything
            for count in range(most_units + 1)
            for chosen in itertools.combinations(range(len(units)), count)
        )
        found = find_cover(units, sizes, most_rows, most_units)
        assert (found is not None) == expected, (units, sizes, most_rows, most_units)
        if found is not None:
            found_any += 1
            assert sum(sizes[place] for place in found) <= most_rows
            assert len(found) <= most_units
            assert frozenset().union(*(units[place] for place in found)) == everything
    assert 60 < found_any < 240
