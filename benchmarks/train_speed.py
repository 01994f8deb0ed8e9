"""Training with default settings: rows per second of `MultiHeadTrainer` against `Trainer`, each with its defaults.

    pip install "multihead-hf[bench]"
    python benchmarks/train_speed.py          # some minutes on 2 cores

The texts are those of `predict.py`: random words of mixed length. Both train one single-label head of 20 labels on
all-MiniLM-L6-v2 for one pass over the rows: `Trainer` an `AutoModelForSequenceClassification` with
`DataCollatorWithPadding` and `TrainingArguments("out")` (batches of 8 in random order, float32), and `MultiHeadTrainer`
a `MultiHeadModel` with `MultiHeadTrainingArguments("out")` (batches of 16 texts of like lengths, bf16 where the
processor supports it). The two take turns, and the time from the first step to the last is compared.

1. rows per second of `MultiHeadTrainer` / of `Trainer`;
2. the same with the batch size and order of `Trainer` (8 rows, random), so that only trainer and model differ;
3. three heads in one `MultiHeadTrainer` / three models, one after the other, in `Trainer`.
"""

import argparse
import statistics
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from predict import LABELS, Words, be_quiet, minilm
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from multihead_hf import HeadConfig, MultiHeadModel, MultiHeadTrainer, MultiHeadTrainingArguments

QUIET = {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True}
QUIET |= {"num_train_epochs": 1}


class Clock(TrainerCallback):
    """Seconds from the beginning of the first step to the end of the last."""

    begun = seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds = time.perf_counter() - self.begun


def timed(trainer: Trainer) -> float:
    """Return the seconds of a training."""
    clock = Clock()
    trainer.add_callback(clock)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.seconds


def stock(encoder: str, tokenizer: Any, rows: Dataset, folder: str) -> float:
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(LABELS))
    tokens = rows.map(lambda row: tokenizer(row["text"], truncation=True), remove_columns=["text"])
    tokens = tokens.map(lambda row: {"label": LABELS.index(row["topic"])}, remove_columns=rows.column_names[1:])
    args = TrainingArguments(folder, **QUIET)
    return timed(Trainer(model, args, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=tokens))


def ours(encoder: str, tokenizer: Any, rows: Dataset, folder: str, **settings: Any) -> float:
    set_seed(0)
    heads = {name: HeadConfig(labels=LABELS) for name in rows.column_names if name != "text"}
    model = MultiHeadModel.from_encoder(encoder, heads=heads)
    args = MultiHeadTrainingArguments(folder, **QUIET, **settings)
    return timed(MultiHeadTrainer(model, args, train_dataset=rows, processing_class=tokenizer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512, help="texts of a training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoder", help="by default the MiniLM of the extra `bench`")
    options = parser.parse_args()
    be_quiet()
    if options.encoder is None:
        options.encoder = minilm()
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    words = Words(options.encoder, tokenizer)
    texts = words.draw(options.rows)
    one = Dataset.from_dict({"text": texts, "topic": [words.label_of(text) for text in texts]})
    three = Dataset.from_dict({**one.to_dict(), "second": one["topic"], "third": one["topic"]})
    like_stock = {"per_device_train_batch_size": 8, "train_sampling_strategy": "random", "bf16": False}
    print(f"{options.rows} texts, {torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    seconds: dict[str, list[float]] = {"Trainer": [], "defaults": [], "like Trainer": [], "three heads": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            seconds["Trainer"].append(stock(options.encoder, tokenizer, one, folder))
            seconds["defaults"].append(ours(options.encoder, tokenizer, one, folder))
            seconds["like Trainer"].append(ours(options.encoder, tokenizer, one, folder, **like_stock))
            seconds["three heads"].append(ours(options.encoder, tokenizer, three, folder))
    for name, own in seconds.items():
        speeds = [options.rows / each for each in own]
        print(f"   {name:62} {statistics.median(speeds):6.1f} rows/s  {min(speeds):.1f} to {max(speeds):.1f}")
    for number, (name, times) in enumerate({"defaults": 1, "like Trainer": 1, "three heads": 3}.items(), start=1):
        ratios = [times * first / own for first, own in zip(seconds["Trainer"], seconds[name], strict=True)]
        title = f"{number}. rows/s of MultiHeadTrainer, {name} / of Trainer"
        print(f"{title:62} {statistics.median(ratios):6.3f}  {min(ratios):.3f} to {max(ratios):.3f}", flush=True)


if __name__ == "__main__":
    main()
