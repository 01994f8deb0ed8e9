"""A training run in a process of its own, for the tests that start several or kill one. Arguments: a JSON object."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import tiny
import torch
from transformers import TrainerCallback, set_seed

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel, MultiHeadTrainer, MultiHeadTrainingArguments


class Stall(TrainerCallback):
    """Says when a checkpoint is whole, and holds on at one until somebody kills the process."""

    def __init__(self, at: int | None) -> None:
        self.at = at

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        print(f"saved {state.global_step}", flush=True)
        if state.global_step == self.at:
            sys.stdin.read()


def build(dropout: float) -> MultiHeadModel:
    heads = {
        "topic": HeadConfig(
            labels=tiny.TOPICS,
            problem_type="multi_label_classification",
            loss="soft_f1_bce",
            learn_thresholds=0.565,
            dropout=dropout,
        ),
        "mood": HeadConfig(labels=tiny.MOODS, dropout=dropout, label_weights=[1.0, 3.0]),
    }
    set_seed(0)
    return MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(dropout), heads=heads))


def main() -> None:
    options = json.loads(sys.argv[1])
    stall = Stall(options.pop("stall_at", None))
    dropout, resume = options.pop("dropout", 0.0), options.pop("resume", None)
    out = Path(options["output_dir"])
    args = MultiHeadTrainingArguments(use_cpu=True, disable_tqdm=True, logging_steps=1, seed=0, **options)
    table = tiny.table(61)
    trainer = MultiHeadTrainer(
        build(dropout),
        args,
        None,
        table.select(range(48)),
        table.select(range(48, 61)),
        tiny.tokenizer(),
        callbacks=[stall],
    )
    trainer.train(resume_from_checkpoint=resume)
    metrics = trainer.evaluate()
    found = {
        "world_size": args.world_size,
        "wrapper": type(trainer.model_wrapped).__name__,
        "metrics": {key: value for key, value in metrics.items() if "per_second" not in key and "time" not in key},
        "logs": [entry for entry in trainer.state.log_history if "mood_loss" in entry],
    }
    if int(os.environ.get("RANK", "0")) == 0:
        out.mkdir(exist_ok=True)
        torch.save(trainer.model.state_dict(), out / "final.pt")
        (out / "found.json").write_text(json.dumps(found))
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
