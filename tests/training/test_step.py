"""Whole steps in the Trainer: the two passes of ratio terms, and the settings with which a split must work too."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from training_runs import still, trainer_for, weights

from multihead_hf import MultiHeadModel

MACRO = {"loss": "soft_f1_bce", "loss_kwargs": {"average": "macro", "scope": "step", "alpha": 0.5}}


def count_passes(model: MultiHeadModel) -> list[bool]:
    """Fills up with whether each pass through the encoder has a gradient."""
    passes: list[bool] = []
    model.encoder.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    return passes


@pytest.mark.parametrize(
    ("loss", "accumulation", "expected"),
    [
        (MACRO, 2, [False, False, True, True]),
        (MACRO, 1, [True]),  # one batch is the whole step
        ({"loss": "soft_f1_bce", "loss_kwargs": {"average": "macro"}}, 2, [True, True]),
        ({"loss": "soft_f1_bce", "loss_kwargs": {"scope": "step"}}, 2, [True, True]),  # a mean over rows needs no sums
    ],
)
def test_the_first_pass_runs_only_where_it_is_needed(
    tmp_path: Path, loss: dict, accumulation: int, expected: list[bool]
) -> None:
    model = tiny.model(heads=tiny.two_heads(**loss))
    passes = count_passes(model)
    trainer_for(tmp_path, model, max_steps=1, gradient_accumulation_steps=accumulation).train()
    assert passes == expected


def test_both_passes_draw_the_same_dropout(tmp_path: Path) -> None:
    """Also in the first step after an evaluation, which leaves the model in evaluation mode."""
    model = tiny.model(heads=tiny.two_heads(**MACRO))
    seen: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        if module.training:
            seen.append(output.last_hidden_state.detach().clone())

    model.encoder.register_forward_hook(keep)
    trainer = trainer_for(
        tmp_path, model, max_steps=3, gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=1
    )
    trainer.train()
    assert len(seen) == 3 * 4
    for first_a, first_b, second_a, second_b in zip(*[iter(seen)] * 4, strict=True):
        assert torch.equal(first_a, second_a)
        assert torch.equal(first_b, second_b)
        assert not torch.equal(first_a, first_b)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "group_by_length": {"train_sampling_strategy": "group_by_length", "_rows": 24},
    "drop_last": {"dataloader_drop_last": True, "_rows": 18, "_split": (4, 2)},  # 2 rows are dropped either way
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "torch_compile": {"torch_compile": True, "torch_compile_backend": "eager"},
    "bf16": {"bf16": True},
    "stream": {"_stream": True, "_rows": 24},
    "peft": {"_peft": True},
}


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.gradient_checkpointing. is deprecated:FutureWarning"
)  # in 5.20 it has no other name
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.nightly] * (name == "torch_compile")) for name in SETTINGS]
)
def test_a_split_step_is_the_same_with(name: str, tmp_path: Path) -> None:
    """20 rows in steps of 8: the third step of the epoch is a shorter one. One step from 8 rows, one from 4 × 2."""
    settings = dict(SETTINGS[name])
    runs = []
    for batch, accumulation in ((8, 1), settings.pop("_split", (2, 4))):
        options = dict(settings)
        rows, stream, peft = options.pop("_rows", 20), options.pop("_stream", False), options.pop("_peft", False)
        model: Any = still(**tiny.two_heads(**MACRO, dropout=0.0))
        if peft:
            from peft import LoraConfig, get_peft_model

            lora = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["heads"], lora_dropout=0.0)
            model = get_peft_model(model, lora)
        trainer = trainer_for(
            tmp_path,
            model,
            rows=rows,
            max_steps=4,
            optim="sgd",  # Adam blows up the rounding of tiny gradients
            learning_rate=0.2,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            **{"train_sampling_strategy": "sequential", **options},
        )
        if stream:
            trainer.train_dataset = trainer.train_dataset.to_iterable_dataset()
        before = weights(trainer.model)
        trainer.train()
        after = weights(trainer.model)
        assert any(not torch.equal(before[key], after[key]) for key in before)
        runs.append((after, [entry for entry in trainer.state.log_history if "mood_loss" in entry]))
    tolerance = {"atol": 5e-3, "rtol": 5e-2} if name == "bf16" else {"atol": 2e-5, "rtol": 1e-3}
    (one, logs_one), (other, logs_other) = runs
    assert len(logs_one) == len(logs_other) == 4
    for log_one, log_other in zip(logs_one, logs_other, strict=True):
        for key in ("loss", "topic_loss", "mood_loss"):
            assert log_one[key] == pytest.approx(log_other[key], rel=tolerance["rtol"], abs=tolerance["atol"]), key
    for key in one:
        torch.testing.assert_close(one[key], other[key], **tolerance, msg=lambda m, k=key: f"{k}: {m}")
