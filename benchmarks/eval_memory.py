"""Memory of `evaluate` over few and many rows of cached features.

    python benchmarks/eval_memory.py         # 10,000 against 500,000 rows, 122 labels; some minutes on 2 cores

Each evaluation runs in a separate process, with a small frozen encoder, features cached by an earlier process and rows
on disk. Memory is the highest anonymous memory (pages of mapped files do not count) while batches are evaluated:

1. with many rows / with few: the metrics keep no predictions;
2. with few rows and a `compute_metrics`, for which the Trainer keeps all predictions / without.

The differences in MB are printed below the ratios.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset, load_from_disk
from predict import anonymous_memory
from tokenizers import Tokenizer, models
from transformers import BertConfig, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel, MultiHeadTrainer, MultiHeadTrainingArguments

LABELS = {"onderwerp": 96, "beleving": 26}
TEXTS = 500  # distinct texts: the cache encodes each once, so that evaluation dominates


class Memory(TrainerCallback):
    """The highest anonymous memory, in MB, at the ends of evaluation steps."""

    def __init__(self) -> None:
        self.highest, self.steps = 0.0, 0

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        self.steps += 1
        if self.steps % 10 == 1:
            self.highest = max(self.highest, anonymous_memory())


def write_rows(path: Path, count: int) -> None:
    """Write prepared rows of random tokens and labels in pieces."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(2, 1000, rng.integers(4, 12)).tolist() for _ in range(TEXTS)]
    writer = None
    for begin in range(0, count, 10_000):
        rows = min(10_000, count - begin)
        tokens = [texts[i] for i in rng.integers(0, TEXTS, rows)]
        labels = {}
        for name, size in LABELS.items():
            cells = (rng.random(rows * size, dtype=np.float32) < 0.03).astype(np.float32)
            labels[name] = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * size, pa.array(cells))
        table = pa.table(
            {
                "input_ids": pa.array(tokens),
                "attention_mask": pa.array([[1] * len(ids) for ids in tokens]),
                "length": pa.array([len(ids) for ids in tokens]),
                "labels": pa.StructArray.from_arrays(list(labels.values()), names=list(labels)),
            }
        )
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def evaluate(options: argparse.Namespace) -> dict[str, float]:
    """Run one evaluation; return the highest memory in MB and a metric."""
    transformers_logging.set_verbosity_error()
    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    heads = {
        name: HeadConfig(labels=[f"{name} {i}" for i in range(size)], problem_type="multi_label_classification")
        for name, size in LABELS.items()
    }
    encoder = BertConfig(
        vocab_size=1000, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    memory = Memory()
    trainer = MultiHeadTrainer(
        model=MultiHeadModel(MultiHeadConfig(encoder=encoder, heads=heads, pooling="mean")),
        args=MultiHeadTrainingArguments(
            options.folder,
            freeze_encoder=True,
            cache_features=True,
            per_device_eval_batch_size=64,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        processing_class=tokenizer,
        eval_dataset=load_from_disk(options.rows),
        compute_metrics=(lambda prediction: {}) if options.keep else None,
        callbacks=[memory],
    )
    trainer.remove_callback(PrinterCallback)
    metrics = trainer.evaluate()
    return {"memory": memory.highest, "f1": metrics["eval_f1"]}


def run(rows: Path, folder: str, keep: bool = False) -> float:
    flags = ["--rows", str(rows), "--folder", folder, *(["--keep"] if keep else [])]
    done = subprocess.run([sys.executable, __file__, *flags], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["memory"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=10_000, help="rows of the first evaluation")
    parser.add_argument("--many", type=int, default=500_000, help="rows of the second")
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        logging.disable()
        print(json.dumps(evaluate(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few", Path(folder) / "many"
        for path, count in ((few, options.few), (many, options.many)):
            write_rows(path.with_suffix(".parquet"), count)
            Dataset.from_parquet(str(path.with_suffix(".parquet")), cache_dir=folder).save_to_disk(path)
        run(few, folder)  # caches the features of all texts
        first, second, kept = run(few, folder), run(many, folder), run(few, folder, keep=True)
    print(f"{sum(LABELS.values())} labels; {options.few:,} and {options.many:,} rows")
    print(f"1. memory with many rows / with few {'':28} {second / first:6.3f}  {first:.0f} to {second:.0f}")
    print(f"2. few rows: memory with kept predictions / without {'':12} {kept / first:6.3f}  {first:.0f} to {kept:.0f}")
    print(f"   many rows take {second - first:+.1f} MB, kept predictions of few rows {kept - first:+.1f} MB")


if __name__ == "__main__":
    main()
