"""Several datasets, each labelled for some heads, in one training run."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict
from training_runs import arguments, still, weights

from multihead_hf import MultiHeadTrainer, mix_datasets, prepare_dataset


def named(name: str, rows: int) -> Dataset:
    return Dataset.from_dict({"name": [name] * rows, "row": list(range(rows))})


PARTS = {"large": named("large", 900), "small": named("small", 100)}


def shares(mix: Any, rows: int | None = None) -> dict[str, float]:
    names = [row["name"] for row in mix][:rows]
    return {name: count / len(names) for name, count in Counter(names).items()}


def test_every_row_once_by_default() -> None:
    mix = mix_datasets(PARTS)
    assert len(mix) == 1000
    assert shares(mix) == {"large": 0.9, "small": 0.1}
    assert mix_datasets({"one": PARTS["large"]})["row"] == PARTS["large"]["row"]


def test_by_probabilities_and_by_temperature() -> None:
    even = mix_datasets(PARTS, {"large": 0.5, "small": 0.5}, seed=1)
    assert shares(even)["small"] == pytest.approx(0.5, abs=0.05)
    assert {row["row"] for row in even if row["name"] == "large"} == set(range(900))  # until all have occurred
    # 900^(1/2) : 100^(1/2) = 3 : 1
    warm = mix_datasets(PARTS, temperature=2.0, seed=1)
    assert shares(warm)["small"] == pytest.approx(0.25, abs=0.05)
    short = mix_datasets(PARTS, temperature=2.0, stop="first_exhausted", seed=1)
    assert len(short) < 500


def test_the_same_seed_gives_the_same_rows() -> None:
    one, same, other = (mix_datasets(PARTS, temperature=2.0, seed=seed).to_dict() for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_streams_by_probabilities() -> None:
    streams = {name: rows.to_iterable_dataset() for name, rows in PARTS.items()}
    mix = mix_datasets(streams, {"large": 0.5, "small": 0.5}, seed=1)
    assert shares(mix, 500)["small"] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match=r"the lengths of the streams \['large', 'small'\] are unknown"):
        mix_datasets(streams)
    with pytest.raises(ValueError, match=r"\['large'\] are streams and the other datasets are not"):
        mix_datasets({**PARTS, "large": streams["large"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probabilities": {"large": 0.5, "smal": 0.5}}, r"there is no dataset 'smal'. Did you mean 'small'"),
        ({"probabilities": {"large": 0.5}}, r"the datasets \['small'\] have no probability"),
        ({"probabilities": {"large": 0.5, "small": 0.6}}, r"add up to 1.1, not 1"),
        ({"probabilities": {"large": 1.0, "small": 0.0}}, r"each must be above 0 and below 1"),
        (
            {"probabilities": {"large": "0.5", "small": 0.5}},
            r"probabilities: the values of \['large'\] are not numbers",
        ),
        ({"probabilities": [0.5, 0.5]}, r"probabilities \[0.5, 0.5\]: give a dict"),
        ({"temperature": 0.0}, r"temperature 0.0"),
        ({"temperature": "2"}, r"temperature '2': give a number above 0"),
        (
            {"temperature": 0.0001},
            r"temperature 0.0001: no row of \['small'\] would be sampled; give a higher temperature",
        ),
        ({"stop": "never"}, r"unknown stop 'never'"),
    ],
)
def test_wrong_settings(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mix_datasets(PARTS, **options)


def test_wrong_datasets() -> None:
    with pytest.raises(ValueError, match=r"datasets is a list: give them names, \{'a': rows, 'b': more_rows\}"):
        mix_datasets(list(PARTS.values()))  # type: ignore[arg-type]
    for options in ({}, {"temperature": 2.0}, {"probabilities": {"large": 0.5, "none": 0.5}}):
        with pytest.raises(ValueError, match=r"the datasets \['none'\] are empty: leave them out"):
            mix_datasets({"large": PARTS["large"], "none": named("none", 0)}, **options)  # type: ignore[arg-type]


def two_sources() -> dict[str, Any]:
    """Moods without topics, and topics under another text column, prepared already."""
    table = tiny.table(40)
    topics = table.select(range(24, 40)).remove_columns("mood").rename_column("text", "complaint")
    return {
        "moods": table.select(range(24)).remove_columns("topic_labels"),
        "topics": prepare_dataset(topics, tiny.tokenizer(), tiny.two_heads(), text_columns="complaint"),
    }


def test_a_run_over_two_sources_each_labelled_for_one_head(tmp_path: Path) -> None:
    sources = two_sources()
    args = arguments(
        tmp_path,
        max_steps=6,
        learning_rate=1e-2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        mixing_temperature=2.0,
        save_strategy="steps",
        save_steps=3,
    )

    def trainer() -> MultiHeadTrainer:
        return MultiHeadTrainer(still(**tiny.two_heads()), args, None, sources, sources, tiny.tokenizer())

    whole = trainer()
    passes: list[int] = []
    whole.model.encoder.register_forward_hook(lambda *_: passes.append(1))
    whole.train()
    assert len(passes) == 12  # one for each batch, whatever is in it
    assert all(log["mood_loss"] > 0 and log["topic_loss"] > 0 for log in whole.state.log_history if "loss" in log)
    metrics = whole.evaluate()
    assert {"eval_moods_mood_f1_macro", "eval_topics_topic_f1_micro", "eval_f1"} <= set(metrics)
    assert not {"eval_moods_topic_f1_micro", "eval_topics_mood_f1_macro"} & set(metrics)
    again = trainer()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    expected = weights(whole.model)
    assert all(torch.equal(value, expected[key]) for key, value in weights(again.model).items())


def test_errors_name_the_source(tmp_path: Path) -> None:
    sources = two_sources()

    def refused(message: str, **settings: Any) -> None:
        given = {"train": sources, **settings}
        train = given.pop("train")
        with pytest.raises(ValueError, match=message):
            MultiHeadTrainer(still(), arguments(tmp_path, **given), None, train, None, tiny.tokenizer())

    refused(
        r"train_dataset: probabilities: the datasets \['topics'\] have no probability",
        mixing_probabilities={"moods": 1.0},
    )
    for setting in ({"mixing_probabilities": {"x": 1.0}}, {"mixing_temperature": 2.0}):
        refused(r"train_dataset is one dataset, but mixing_prob.* are for several", train=sources["topics"], **setting)
    refused(r"train_dataset 'moods': there is no text column", train={"moods": sources["moods"].remove_columns("text")})
    refused(r"train_dataset 'x': only datasets can be mixed, but this is a list", train={"x": list(sources["topics"])})
    refused(r"train_dataset must be one dataset, but it is a dict of \['a'\]", train=DatasetDict(a=sources["topics"]))


def test_a_named_column_may_lack_in_some_sets_but_not_in_all(tmp_path: Path) -> None:
    table = tiny.table(16)
    one = table.rename_column("topic_labels", "topics")
    other = table.remove_columns("topic_labels")

    def trainer(column: str) -> MultiHeadTrainer:
        return MultiHeadTrainer(
            model=still(),
            args=arguments(tmp_path, label_columns={"topic": column}),
            processing_class=tiny.tokenizer(),
            train_dataset={"one": one, "other": other},
        )

    labels = trainer("topics").train_dataset["labels"]
    assert sum(row["topic"] is not None for row in labels) > 5
    with pytest.raises(
        ValueError, match=r"head 'topic': none of the datasets \['one', 'other'\] has the column 'topic_x'"
    ):
        trainer("topic_x")
