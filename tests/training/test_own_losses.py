"""Losses of one's own, passed to the Trainer."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from training_runs import arguments, still, trainer_for

from multihead_hf import AdditiveTerm, HeadConfig, MultiHeadModel, MultiHeadTrainer, RatioTerm
from multihead_hf.model import losses_multihead


def brier(head: HeadConfig, threshold_logits: Tensor | None = None) -> list:
    """The squared error of each class's probability."""

    def numerator(logits: Tensor, targets: Tensor) -> Tensor:
        hot = torch.nn.functional.one_hot(targets.clamp(min=0), logits.shape[1])
        return (torch.softmax(logits, -1) - hot).square().sum(-1) * (targets != -100)

    return [AdditiveTerm("brier", 1.0, numerator, lambda targets: (targets != -100).float())]


def soft_jaccard(head: HeadConfig, threshold_logits: Tensor | None = None, *, scope: str = "step") -> list:
    """1 − Σ p·y / Σ (p + y − p·y) over all cells of the step."""

    def statistics(logits: Tensor, targets: Tensor) -> Tensor:
        known = (targets != -100).to(logits)
        p, y = torch.sigmoid(logits) * known, targets * known
        return torch.stack([(p * y).sum(-1), (p + y - p * y).sum(-1)], dim=1)  # (batch, 2)

    def labelled(targets: Tensor) -> Tensor:
        return (targets != -100).any(-1).float()

    return [RatioTerm("jaccard", 1.0, statistics, lambda sums: 1 - sums[0] / sums[1], labelled, scope)]


def test_they_train_are_saved_by_name_and_load_without_the_function(tmp_path: Path) -> None:
    runs = []
    for batch, accumulation in ((16, 1), (4, 4)):
        table = tiny.table(64)
        args = arguments(
            tmp_path / "out",
            max_steps=4,
            learning_rate=1e-2,
            train_sampling_strategy="sequential",
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
        )
        losses = {"mood": brier, "topic": soft_jaccard}
        model = still(**tiny.two_heads(dropout=0.0))
        model.heads["mood"].layers[0].p = 0.0
        trainer = MultiHeadTrainer(model, args, None, table, table, tiny.tokenizer(), losses=losses)
        trainer.train()
        runs.append([entry for entry in trainer.state.log_history if "mood_loss" in entry])
        assert trainer.evaluate()["eval_topic_loss"] < runs[-1][0]["topic_loss"]
    for one, other in zip(*runs, strict=True):
        assert one["topic_loss"] == pytest.approx(other["topic_loss"], rel=1e-4)
        assert one["mood_loss"] == pytest.approx(other["mood_loss"], rel=1e-4)
    trainer.save_model()
    loaded = MultiHeadModel.from_pretrained(tmp_path / "out")
    assert (loaded.config.heads["mood"].loss, loaded.config.heads["topic"].loss) == ("brier", "soft_jaccard")
    assert loaded(**tiny.batch()).logits["mood"].shape == (3, 2)
    with pytest.raises(
        ValueError, match=r"head 'topic': its loss 'soft_jaccard' is unknown.*can predict but not train"
    ):
        trainer_for(tmp_path, loaded, max_steps=1).train()


def test_wrong_ones_are_refused(tmp_path: Path) -> None:
    def refused(losses: Any, message: str, **head: Any) -> None:
        with pytest.raises(ValueError, match=message):
            MultiHeadTrainer(
                still(**tiny.two_heads(**head)), arguments(tmp_path), None, None, None, tiny.tokenizer(), losses=losses
            )

    refused({"mod": brier}, r"losses: the model has no head 'mod'. Did you mean 'mood'")
    refused({"mood": lambda head, threshold_logits=None: []}, r"head 'mood': the name of its loss .* cannot be saved")
    refused({"topic": losses_multihead.bce}, r"head 'topic': the name of its loss .* is that of a built-in loss")
    settings = {"loss": "soft_f1_bce", "loss_kwargs": {"alpha": 0.5}}
    refused({"topic": soft_jaccard}, r"head 'topic': its loss 'soft_jaccard' has no setting 'alpha'", **settings)

    def twice(head: HeadConfig, threshold_logits: Tensor | None = None) -> list:
        return brier(head) * 2

    with pytest.raises(ValueError, match=r"head 'mood': two terms of its loss 'twice' have the same name"):
        trainer_for(tmp_path, still(**tiny.two_heads()), losses={"mood": twice}, max_steps=1).train()


def test_losses_of_one_name_stay_apart(tmp_path: Path) -> None:
    def make(scale: float) -> Any:
        def scaled(head: HeadConfig, threshold_logits: Tensor | None = None) -> list:
            return [dataclasses.replace(term, weight=scale) for term in brier(head)]

        return scaled

    one, hundred = (trainer_for(tmp_path, losses={"mood": make(scale)}) for scale in (1.0, 100.0))
    assert one.evaluate()["eval_mood_loss"] * 100 == pytest.approx(hundred.evaluate()["eval_mood_loss"])


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_ratio_without_labels_is_an_exact_zero(tmp_path: Path, accumulation: int) -> None:
    """0/0 there: neither the value nor the gradient may reach the model."""
    rows = tiny.table(32).remove_columns("topic_labels")
    args = arguments(tmp_path, max_steps=2, gradient_accumulation_steps=accumulation)
    losses = {"topic": soft_jaccard}
    trainer = MultiHeadTrainer(still(**tiny.two_heads()), args, None, rows, None, tiny.tokenizer(), losses=losses)
    trainer.train()
    assert trainer.state.log_history[0]["topic_loss"] == 0
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
