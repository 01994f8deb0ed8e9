"""confidence_intervals and compare, on models and trainers."""

import json
from typing import Any

import pytest
import tiny
from sklearn.metrics import accuracy_score, f1_score
from training_runs import trainer_for

from multihead_hf import HeadConfig, LabelReading, MultiHeadModel, MultiHeadTrainer, compare, confidence_intervals

MOODS = tiny.two_heads()["mood"].labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> MultiHeadTrainer:
    folder = tmp_path_factory.mktemp("trained")
    trainer = trainer_for(folder, model=tiny.model(pooling="mean"), rows=64, num_train_epochs=15, learning_rate=1e-2)
    trainer.train()
    return trainer


def one_head_model(name: str, **changes: object) -> MultiHeadModel:
    heads = {name: tiny.two_heads()[name]}
    for field, value in changes.items():
        setattr(heads[name], field, value)
    return tiny.model(heads=heads, pooling="mean")


def test_intervals_hold_the_figures_of_evaluate(trained: MultiHeadTrainer) -> None:
    rows = tiny.table(96)
    report = confidence_intervals(trained, rows, n_resamples=200)
    metrics = trained.evaluate(rows)
    for name, found in report.heads.items():
        for metric, interval in found.items():
            assert interval.value == pytest.approx(metrics[f"eval_{name}_{metric}"]), (name, metric)
            assert interval.low <= interval.value <= interval.high
    assert list(report.heads) == list(trained.config.heads)
    assert report.rows["mood"] == sum(value is not None for value in rows["mood"])
    assert "mood" in str(report)
    assert "95%" in str(report)
    json.dumps(report.to_dict())


def test_a_multi_head_run_against_runs_of_its_single_heads(trained: MultiHeadTrainer) -> None:
    rows = tiny.table(96)
    untrained = {"topic alone": one_head_model("topic"), "mood alone": one_head_model("mood")}
    found = compare(trained, untrained, rows, tokenizer=tiny.tokenizer(), n_resamples=300)
    assert found.baselines == {"topic": "topic alone", "mood": "mood alone"}
    predictions = trained.predict(rows)
    labelled = predictions.label_ids["mood"] != -100
    true, guess = predictions.label_ids["mood"][labelled], predictions.predictions["mood"].argmax(-1)[labelled]
    accuracy = found.heads["mood"]["accuracy"]
    assert accuracy.model == pytest.approx(accuracy_score(true, guess))
    assert found.heads["mood"]["f1_macro"].model == pytest.approx(
        f1_score(true, guess, average="macro", labels=range(len(MOODS)), zero_division=0)
    )
    assert accuracy.difference.value == pytest.approx(accuracy.model - accuracy.baseline)
    assert found.heads["topic"]["f1_micro"].verdict == "better"
    assert found.to_dict()["heads"]["topic"]["f1_micro"]["verdict"] == "better"
    assert "topic alone" in str(found)
    # the other way round, and against itself
    back = compare(untrained["topic alone"], trained, rows, tokenizer=tiny.tokenizer(), n_resamples=300)
    assert list(back.heads) == ["topic"]
    assert back.heads["topic"]["f1_micro"].verdict == "worse"
    same = compare(trained, [trained], rows, n_resamples=50)
    assert {each.verdict for own in same.heads.values() for each in own.values()} == {"not shown"}


def test_binary_figures_are_of_one_label(trained: MultiHeadTrainer) -> None:
    models = [tiny.model(heads={"mood": HeadConfig(labels=MOODS, positive_label=label)}) for label in MOODS]
    models[1].load_state_dict(models[0].state_dict())
    found = compare(models[0], models[1], tiny.table(40), tokenizer=tiny.tokenizer(), n_resamples=20).heads["mood"][
        "f1"
    ]
    assert found.model == found.baseline


def test_one_tokenizer_cannot_read_for_different_vocabularies(trained: MultiHeadTrainer) -> None:
    other = one_head_model("mood")
    other.resize_token_embeddings(99)
    with pytest.raises(ValueError, match=r"vocabularies of \[64, 99\] tokens"):
        compare(one_head_model("mood"), other, tiny.table(8), tokenizer=tiny.tokenizer())


def test_the_same_seed_gives_the_same_report(trained: MultiHeadTrainer) -> None:
    rows = tiny.table(40)
    first, second = (confidence_intervals(trained, rows, n_resamples=50, seed=seed) for seed in (1, 1))
    assert first == second
    assert confidence_intervals(trained, rows, n_resamples=50, seed=2) != first


def test_bad_input(trained: MultiHeadTrainer) -> None:
    rows, tokenizer = tiny.table(20), tiny.tokenizer()
    with pytest.raises(
        ValueError, match=r"head 'mood': labels only in the first model: \[.*\]; only in the second: \['x"
    ):
        compare(trained, one_head_model("mood", labels=["x", "y", *MOODS[2:]]), rows, tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"head 'mood': .*in another order"):
        compare(trained, one_head_model("mood", labels=MOODS[::-1]), rows, tokenizer=tokenizer)
    kind = "multi_label_classification"
    with pytest.raises(ValueError, match=f"head 'mood' is single_label_classification in one model and {kind}"):
        compare(trained, one_head_model("mood", problem_type=kind, loss=None), rows, tokenizer=tokenizer)
    twice = [one_head_model("mood"), one_head_model("mood")]
    with pytest.raises(ValueError, match="head 'mood' is in 'baseline 1' and in 'baseline 2'"):
        compare(trained, twice, rows, tokenizer=tokenizer)
    strange = tiny.model(heads={"colour": HeadConfig(labels=["red", "blue"])})
    with pytest.raises(ValueError, match="nothing to compare: none of"):
        compare(trained, strange, rows, tokenizer=tokenizer)
    unlabelled = rows.remove_columns("mood")
    with pytest.raises(ValueError, match=r"nothing to compare: no row of the dataset is labelled for \['mood'\]"):
        compare(trained, one_head_model("mood"), unlabelled, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="no row of the dataset is labelled"):
        confidence_intervals(trained, rows.select_columns(["text"]))
    with pytest.raises(ValueError, match="confidence_level 95: give a number between 0 and 1"):
        confidence_intervals(trained, rows, confidence_level=95)
    with pytest.raises(ValueError, match="n_resamples 1: give a whole number of 2 or more"):
        compare(trained, trained, rows, n_resamples=1)
    with pytest.raises(ValueError, match="pass its tokenizer="):
        confidence_intervals(one_head_model("mood"), rows)


def test_intervals_shrink_with_the_root_of_the_number_of_rows(trained: MultiHeadTrainer) -> None:
    widths = []
    for times in (1, 16):
        rows = tiny.table(200).select(list(range(100, 200)) * times)
        interval = confidence_intervals(trained, rows, n_resamples=500).heads["topic"]["f1_micro"]
        widths.append(interval.high - interval.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.2)


def test_a_few_rows_show_nothing(trained: MultiHeadTrainer, caplog: pytest.LogCaptureFixture) -> None:
    rows = tiny.table(5)
    confidence_intervals(trained, rows, n_resamples=20)
    assert "too few labelled rows for intervals of 95%: {'topic': " in caplog.text
    caplog.clear()
    compare(trained, tiny.model(pooling="mean"), rows, tokenizer=tiny.tokenizer(), n_resamples=20)
    assert "too few labelled rows for intervals of 95%" in caplog.text
    caplog.clear()
    confidence_intervals(trained, tiny.table(40), n_resamples=20)
    assert not caplog.records


@pytest.mark.parametrize("seed", [-1, 1.5, float("nan"), True])
def test_seeds_that_are_none(trained: MultiHeadTrainer, seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed .*: give a whole number of 0 or more"):
        compare(trained, trained, tiny.table(8), seed=seed)


def test_models_that_read_other_labels_are_not_compared() -> None:
    rows = tiny.table(30)
    rows = rows.add_column("mood2", [None if mood is None else tiny.MOODS[1 - mood] for mood in rows["mood"]])
    other = one_head_model("mood", reading=LabelReading(column="mood2"))
    with pytest.raises(
        ValueError, match=r"head 'mood': this model and 'baseline' read different labels .* nothing and .*'mood2'"
    ):
        compare(one_head_model("mood"), other, rows, tokenizer=tiny.tokenizer(), n_resamples=20)
    label_columns = {"mood": "mood"}
    compare(
        one_head_model("mood"), other, rows, tokenizer=tiny.tokenizer(), n_resamples=20, label_columns=label_columns
    )
