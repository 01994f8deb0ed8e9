"""Training of heads on a frozen encoder, with and without `cache_features`.

    python benchmarks/frozen_features.py       # an encoder of MiniLM's shape; a quarter of an hour on 2 cores
    python benchmarks/frozen_features.py --shape modernbert-base --rows 4096 --bf16      # on a GPU

Each run is a separate process, in which `MultiHeadTrainer` trains two heads of three labels for 35 epochs on texts of
mixed length (mean 57 tokens, 95 % under 165), including the encoding of the texts. Ratios are between consecutive runs:

1. seconds of training without the cache / with it,
2. seconds of training without the cache / with the file of an earlier run,
3. peak memory of the process (resident set) with the cache / without it,
4. relative difference of the final training loss.
"""

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, List, Value
from tokenizers import Tokenizer, models
from transformers import BertConfig, ModernBertConfig, PreTrainedTokenizerFast, PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel, MultiHeadTrainer, MultiHeadTrainingArguments

SHAPES: dict[str, Any] = {
    "minilm": (BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536), 512),
    "modernbert-base": (ModernBertConfig(), 1408),
}
HEADS = ("ggu", "sentiment")


def make_rows(count: int, longest: int, vocabulary: int) -> Dataset:
    """Return prepared rows of random tokens."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(3.7, 0.84, count)), 4, longest).astype(int)
    data = [
        {
            "input_ids": rng.integers(5, vocabulary, length).tolist(),
            "attention_mask": [1] * int(length),
            "length": int(length),
            "labels": {name: int(rng.integers(3)) for name in HEADS},
        }
        for length in lengths
    ]
    tokens = List(Value("int64"))
    features = {"input_ids": tokens, "attention_mask": tokens, "length": Value("int64")}
    return Dataset.from_list(data, features=Features({**features, "labels": {name: Value("int64") for name in HEADS}}))


def train(options: argparse.Namespace) -> dict[str, float]:
    """Run one training; return seconds, final loss and peak memory."""
    transformers_logging.set_verbosity_error()
    config, longest = SHAPES[options.shape]
    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", model_max_length=longest
    )
    set_seed(0)
    heads = {name: HeadConfig(labels=["a", "b", "c"]) for name in HEADS}
    args = MultiHeadTrainingArguments(
        options.folder,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        learning_rate=1e-3,
        warmup_steps=0,
        lr_scheduler_type="constant",
        freeze_encoder=True,
        cache_features=options.cached,
        bf16=options.bf16,
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = MultiHeadTrainer(
        model=MultiHeadModel(MultiHeadConfig(encoder=config, heads=heads, pooling="mean")),
        args=args,
        processing_class=tokenizer,
        train_dataset=make_rows(options.rows, longest, config.vocab_size),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    logs = trainer.state.log_history
    return {
        "seconds": logs[-1]["train_runtime"],
        "loss": [entry["loss"] for entry in logs if "loss" in entry][-1],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def run(options: argparse.Namespace, folder: str, cached: bool) -> dict[str, float]:
    flags = ["--shape", options.shape, "--rows", str(options.rows), "--epochs", str(options.epochs)]
    flags += ["--bf16"] * options.bf16 + ["--cached"] * cached + ["--folder", folder]
    done = subprocess.run([sys.executable, __file__, *flags], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="minilm", help="encoder and length of the texts")
    parser.add_argument("--rows", type=int, default=256, help="texts")
    parser.add_argument("--epochs", type=int, default=35)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median is taken")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--cached", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        logging.disable()
        print(json.dumps(train(options)))
        return
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    print(f"{options.shape}, {options.rows} texts, {options.epochs} epochs, {name}, torch {torch.__version__}")
    ratios: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            without, cached, again = (run(options, folder, which) for which in (False, True, True))
        found = {
            "1. without the cache / with it: seconds": without["seconds"] / cached["seconds"],
            "2. without the cache / with the file of an earlier run: seconds": without["seconds"] / again["seconds"],
            "3. with the cache / without it: highest memory": cached["memory"] / without["memory"],
            "4. difference of the final loss, in parts of it": abs(cached["loss"] / without["loss"] - 1),
        }
        for title, ratio in found.items():
            ratios.setdefault(title, []).append(ratio)
        print(f"   seconds: {without['seconds']:.1f}, {cached['seconds']:.2f} and {again['seconds']:.2f}", flush=True)
    print(f"{'':66} median  min to max")
    for title, values in ratios.items():
        print(f"{title:66} {statistics.median(values):6.3f}  {min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main()
