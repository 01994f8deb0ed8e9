"""Short training runs on tiny models, for the tests of the Trainer."""

from pathlib import Path
from typing import Any

import tiny
import torch
from transformers import set_seed

from multihead_hf import (
    HeadConfig,
    MultiHeadConfig,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
)

# those of transformers: short runs, in which what a test changes is all that differs
PLAIN = {
    "learning_rate": 5e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "warmup_steps": 0,
    "train_sampling_strategy": "random",
    "bf16": False,
    "head_weighting": "fixed",
}


def arguments(folder: Path, **settings: Any) -> MultiHeadTrainingArguments:
    quiet = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1, "seed": 0}
    given = {**PLAIN, **quiet, **settings}
    return MultiHeadTrainingArguments(str(folder), **{"head_learning_rate": given["learning_rate"], **given})


def still(**heads: Any) -> MultiHeadModel:
    """A model without dropout."""
    made = heads or {
        "topic": HeadConfig(
            labels=tiny.TOPICS, problem_type="multi_label_classification", loss="soft_f1_bce", dropout=0.0
        ),
        "mood": HeadConfig(labels=tiny.MOODS, dropout=0.0, label_weights=[1.0, 3.0]),
    }
    set_seed(0)
    return MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(dropout=0.0), heads=made))


def trainer_for(folder: Path, model: Any = None, rows: int = 48, **settings: Any) -> MultiHeadTrainer:
    table = tiny.table(rows + 16)
    extra = {
        key: settings.pop(key)
        for key in ("compute_metrics", "callbacks", "data_collator", "losses", "optimizers")
        if key in settings
    }
    return MultiHeadTrainer(
        model=model if model is not None else still(),
        args=arguments(folder, **settings),
        processing_class=tiny.tokenizer(),
        train_dataset=table.select(range(rows)),
        eval_dataset=table.select(range(rows, rows + 16)),
        **extra,
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}
