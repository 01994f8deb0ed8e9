"""Gradient norms of the parts, and cosines between the heads' gradients on the encoder."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from training_runs import still, trainer_for, weights

from multihead_hf import GradientCosineCallback, HeadConfig


def logged(trainer: Any, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize("limit", [0.0, 0.05, 100.0])
def test_norms_of_the_parts_make_up_the_norm_before_clipping(tmp_path: Path, limit: float) -> None:
    trainer = trainer_for(tmp_path, max_steps=2, max_grad_norm=limit)
    trainer.train()
    parts = [logged(trainer, f"{part}") for part in ("grad_norm_encoder", "topic_grad_norm", "mood_grad_norm")]
    for step, total in enumerate(logged(trainer, "grad_norm")):
        assert sum(part[step] ** 2 for part in parts) ** 0.5 == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"logging_steps": 2}, [2, 4]),
        ({"logging_steps": 3, "logging_first_step": True}, [1, 3]),
        ({"logging_strategy": "epoch", "per_device_train_batch_size": 24, "num_train_epochs": 2}, [2, 4]),
    ],
)
def test_every_log_has_the_norms_of_its_own_step(tmp_path: Path, settings: dict[str, Any], steps: list[int]) -> None:
    trainer = trainer_for(tmp_path, **{"max_steps": 4, "max_grad_norm": 0.1, **settings})
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == steps
    for entry in logs:
        parts = [entry[f"{part}"] for part in ("grad_norm_encoder", "topic_grad_norm", "mood_grad_norm")]
        assert sum(part**2 for part in parts) ** 0.5 == pytest.approx(entry["grad_norm"], rel=1e-4)


def test_frozen_parts_have_no_norm(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=1, freeze_encoder=True, train_heads=["mood"])
    trainer.train()
    keys = {key for entry in trainer.state.log_history for key in entry}
    assert "mood_grad_norm" in keys
    assert not keys & {"grad_norm_encoder", "topic_grad_norm"}


def test_cosines_are_logged_and_change_nothing(tmp_path: Path) -> None:
    plain = trainer_for(tmp_path / "plain", max_steps=4)
    plain.train()
    watched = trainer_for(tmp_path / "watched", max_steps=4)
    watched.add_callback(GradientCosineCallback(watched, every=2, rows=16))
    watched.train()
    assert [entry["step"] for entry in watched.state.log_history if "gradient_cosine_topic_mood" in entry] == [2, 4]
    assert all(-1 <= cosine <= 1 for cosine in logged(watched, "gradient_cosine_topic_mood"))
    assert all(torch.equal(own, weights(watched.model)[key]) for key, own in weights(plain.model).items())
    assert logged(plain, "loss") == logged(watched, "loss")


def test_cosine_is_that_of_two_backward_passes(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, rows=24)
    model = trainer.model.eval()
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(24)])
    gradients = []
    for name in ("topic", "mood"):
        model.zero_grad()
        model(**batch).losses[name].backward()
        gradients.append(torch.cat([own.grad.flatten() for own in model.encoder.parameters() if own.grad is not None]))
    model.zero_grad()
    expected = torch.cosine_similarity(*gradients, dim=0).item()
    found = GradientCosineCallback(trainer, rows=24).cosines(1)  # all rows, in another order
    assert found == {"gradient_cosine_topic_mood": pytest.approx(expected, abs=1e-4)}


def test_rows_of_one_head_have_no_cosine(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, rows=24)
    callback = GradientCosineCallback(trainer, rows=24)
    trainer.train_dataset = trainer.train_dataset.map(lambda row: {"labels": {**row["labels"], "mood": None}})
    assert callback.cosines(1) == {}


def test_two_heads_with_one_task_agree_and_an_opposite_one_does_not(tmp_path: Path) -> None:
    labels = tiny.MOODS
    model = still(mood=HeadConfig(labels=labels), same=HeadConfig(labels=labels), opposite=HeadConfig(labels=labels))
    with torch.no_grad():
        for own in (model.heads["same"], model.heads["opposite"]):
            own.load_state_dict(model.heads["mood"].state_dict())
        model.heads["opposite"].layers[-1].weight.mul_(-1)
        model.heads["opposite"].layers[-1].bias.mul_(-1)
    rows = tiny.table(40).remove_columns("topic_labels")
    values = [None if value is None else labels[value] for value in rows["mood"]]
    rows = rows.add_column("same", values).add_column("opposite", values)
    trainer = trainer_for(tmp_path, model=model)
    trainer = type(trainer)(
        model=model, args=trainer.args, processing_class=trainer.processing_class, train_dataset=rows
    )
    found = GradientCosineCallback(trainer, rows=40).cosines(0)
    assert found["gradient_cosine_mood_same"] == pytest.approx(1, abs=1e-6)
    assert found["gradient_cosine_mood_opposite"] < 0


def test_bad_input(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path / "a", max_steps=1)
    with pytest.raises(ValueError, match="every is 0"):
        GradientCosineCallback(trainer, every=0)
    for settings, problem in (
        ({"freeze_encoder": True}, "the encoder is frozen"),
        ({"train_heads": ["mood"]}, r"compare two or more heads, but only \['mood'\] is in training"),
    ):
        trainer = trainer_for(tmp_path / "b", max_steps=1, **settings)
        trainer.add_callback(GradientCosineCallback(trainer))
        with pytest.raises(ValueError, match=problem):
            trainer.train()
    trainer = trainer_for(tmp_path / "c", max_steps=1, freeze_encoder=True, cache_features=True)
    with pytest.raises(ValueError, match="cache_features freezes the encoder"):
        GradientCosineCallback(trainer)
    trainer.train_dataset = trainer.train_dataset.to_iterable_dataset()
    trainer.args.cache_features = False
    with pytest.raises(ValueError, match="pass a dataset with a length, not a stream"):
        GradientCosineCallback(trainer)
