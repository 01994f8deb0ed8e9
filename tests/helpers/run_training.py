"""A training run in a process of its own, for the tests that start several or kill one. Arguments: a JSON object."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import tiny
import torch
from training_runs import PLAIN
from transformers import TrainerCallback, set_seed

from multihead_hf import (
    HeadConfig,
    MultiHeadConfig,
    MultiHeadDataCollator,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
)


class Stall(TrainerCallback):
    """Holds on amid a step until somebody kills the process."""

    def __init__(self, at_step: int | None) -> None:
        self.at_step = at_step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.at_step:
            wait()


class StallAmidSave(MultiHeadTrainer):
    """Holds on when a checkpoint's weights and optimizer are written, and its random state is not."""

    stall_at: int | None = None

    def _save_rng_state(self, output_dir: str) -> None:
        if self.state.global_step == self.stall_at:
            wait()
        super()._save_rng_state(output_dir)


def wait() -> None:
    print("stalled", flush=True)
    sys.stdin.read()


def build(dropout: float, **topic: Any) -> MultiHeadModel:
    """A model that learns thresholds; `topic` holds further settings of that head."""
    heads = {
        "topic": HeadConfig(
            labels=tiny.TOPICS,
            problem_type="multi_label_classification",
            loss="soft_f1_bce",
            learn_thresholds=0.565,
            dropout=dropout,
            **topic,
        ),
        "mood": HeadConfig(labels=tiny.MOODS, dropout=dropout, label_weights=[1.0, 3.0]),
    }
    set_seed(0)
    return MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(dropout), heads=heads))


def main() -> None:
    options = json.loads(sys.argv[1])
    stall, StallAmidSave.stall_at = Stall(options.pop("stall_at_step", None)), options.pop("stall_amid_save", None)
    dropout, resume = options.pop("dropout", 0.0), options.pop("resume", None)
    frozen, stream = options.pop("frozen", False), options.pop("stream", False)
    model = build(dropout, **options.pop("topic", {}))
    model.encoder.requires_grad_(not frozen)
    out = Path(options["output_dir"])
    given = {**PLAIN, **options}
    args = MultiHeadTrainingArguments(
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=1,
        seed=0,
        **{"head_learning_rate": given["learning_rate"], **given},
    )
    table = tiny.table(61)
    tokenizer = tiny.tokenizer()
    trainer = StallAmidSave(
        model,
        args,
        # of one length, so that one process may read a stream for all
        None if args.cache_features else MultiHeadDataCollator(tokenizer, model, pad_to_multiple_of=16),
        table.select(range(48)),
        table.select(range(48, 61)),
        tokenizer,
        callbacks=[stall],
    )
    trainer.train(resume_from_checkpoint=resume)
    metrics = trainer.evaluate()
    args.prediction_loss_only = True
    losses = trainer.evaluate()
    if stream:
        losses = trainer.evaluate(trainer.eval_dataset.to_iterable_dataset())
    found = {
        "world_size": args.world_size,
        "wrapper": type(trainer.model_wrapped).__name__,
        "metrics": {key: value for key, value in metrics.items() if "per_second" not in key and "time" not in key},
        "losses": {key: value for key, value in losses.items() if key.endswith("loss")},
        "logs": [entry for entry in trainer.state.log_history if "mood_loss" in entry],
    }
    if int(os.environ.get("RANK", "0")) == 0:
        out.mkdir(exist_ok=True)
        learned = {} if trainer.head_weights is None else {"log_variances": trainer.head_weights.log_variances}
        torch.save({**trainer.model.state_dict(), **learned}, out / "final.pt")
        (out / "found.json").write_text(json.dumps(found))
    # see evaluation_loop: on a busy machine gloo's threads may still wait for the interpreter when this process ends
    time.sleep(1)
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
