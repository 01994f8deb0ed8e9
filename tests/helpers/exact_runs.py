"""Training steps in float64 without dropout, and everything about them that must not depend on how the batch is split.

As a program (`exact_runs.py runs.json found.pt`, for torchrun) it runs a list of runs and leaves what it found.
"""

import gc
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import tiny
import torch
from training_runs import arguments
from transformers import TrainerCallback, set_seed

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadDataCollator, MultiHeadModel, MultiHeadTrainer


class KeepGradients(TrainerCallback):
    """Keeps the gradients with which the optimiser is about to step."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        self.gradients.append({name.removeprefix("module."): gradient for name, gradient in found.items()})


def prepared_rows(heads: dict[str, HeadConfig], rows: int, seed: int, missing: float, weighted: bool) -> list[dict]:
    """Rows with texts of 3 to 12 tokens, and targets of which a share is missing: rows, cells and whole heads."""
    rng = random.Random(seed)

    def target(head: HeadConfig) -> Any:
        if rng.random() < missing:
            return None
        if not head.multi_label:
            return rng.randrange(head.num_labels)
        cells = [rng.choice([0, 0, 1, rng.random()]) for _ in head.labels]
        return [None if rng.random() < missing / 3 else cell for cell in cells]

    made = []
    for _ in range(rows):
        ids = [2, *(rng.randrange(4, len(tiny.VOCAB)) for _ in range(rng.randint(1, 10))), 3]
        labels = {name: target(head) for name, head in heads.items()}
        made.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
        if weighted:
            made[-1]["sample_weight"] = rng.choice([0.0, 0.5, 1.0, 2.0])
    return made


def run(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train as a case says: `heads` (settings by name), `rows`, `seed`, `missing`, `weighted`, `seed_padding`, perhaps
    `labelled_from` (head → first row with a label), and further keys that are training arguments."""
    case = dict(case)
    heads = {name: HeadConfig(**{"dropout": 0.0, **settings}) for name, settings in case.pop("heads").items()}
    rows = prepared_rows(heads, case.pop("rows"), case.pop("seed"), case.pop("missing"), case.pop("weighted"))
    for name, first in case.pop("labelled_from", {}).items():
        for row in rows[:first]:
            row["labels"][name] = None
    set_seed(0)
    config = MultiHeadConfig(encoder=tiny.bert_config(dropout=0.0), heads=heads)
    model = MultiHeadModel(config).double()
    model.encoder.embeddings.word_embeddings.weight.data *= 20  # else texts hardly differ, and gradients are tiny
    tokenizer = tiny.tokenizer(padding_side="left" if case["seed_padding"] % 2 else "right")
    multiple = (None, 16, 24)[case.pop("seed_padding") % 3]
    keep = KeepGradients()
    settings = {"train_sampling_strategy": "sequential", "max_grad_norm": 0.0, "lr_scheduler_type": "constant", **case}
    trainer = MultiHeadTrainer(
        model,
        arguments(folder, **settings),
        MultiHeadDataCollator(tokenizer, config, pad_to_multiple_of=multiple),
        rows,
        processing_class=tokenizer,
        callbacks=[keep],
    )
    reductions = []
    reduce = trainer.accelerator.reduce
    trainer.accelerator.reduce = lambda *args, **kwargs: (reductions.append(1), reduce(*args, **kwargs))[1]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "world_size": trainer.args.world_size,
        "reductions": len(reductions),
        "wrapper": type(trainer.model_wrapped).__name__,
        "logs": [{key: value for key, value in entry.items() if "loss" in key or "f1" in key} for entry in logs],
        "gradients": keep.gradients,
        "moved": {name: (value.detach() - before[name]) for name, value in model.named_parameters()},
        "final": {name: value.detach().clone() for name, value in model.named_parameters()},
    }


def main() -> None:
    gc.freeze()  # (every training begins with a collection: tests/conftest.py)
    runs, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        found = [run(case, Path(folder)) for case in runs]
    if torch.distributed.get_rank() == 0:
        torch.save(found, out)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
