"""Memory of a training on few and many rows of a Parquet file.

    python benchmarks/train_memory.py         # 10,000 against 1,000,000 rows; some minutes on 2 cores

Each training runs in a separate process, from the path of the file to 200 steps of a small encoder with a single-label
and a multi-label head. Memory is the highest anonymous memory of the process (pages of mapped files do not count):

1. with many rows / with few, while heads are inferred, rows are prepared and the model is trained.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from predict import be_quiet, highest_memory
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, PreTrainedTokenizerFast, PrinterCallback

from multihead_hf import (
    MultiHeadConfig,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    infer_heads,
)

WORDS = [f"word{i}" for i in range(800)]


def write_rows(path: Path, count: int) -> None:
    """Write different short texts, each with a topic and some tags."""
    draw, piece = random.Random(0), 10_000
    schema = pa.schema({"text": pa.string(), "topic": pa.string(), "tags": pa.list_(pa.string())})
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for begin in range(0, count, piece):
            rows = range(begin, min(begin + piece, count))
            texts = [f"{row} {' '.join(draw.choices(WORDS, k=draw.randint(3, 8)))}" for row in rows]
            topics = [f"topic {draw.randrange(20)}" for _ in rows]
            tags = [[f"tag {i}" for i in draw.sample(range(20), draw.randint(0, 3))] for _ in rows]
            writer.write_table(pa.table([texts, topics, tags], schema=schema))


def train(rows: str, folder: str) -> None:
    """Train on the rows of a file."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = BertConfig(
        vocab_size=1000, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    heads = infer_heads(rows, ["topic", "tags"])
    trainer = MultiHeadTrainer(
        model=MultiHeadModel(MultiHeadConfig(encoder=encoder, heads=heads, pooling="mean")),
        args=MultiHeadTrainingArguments(
            folder, max_steps=200, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True
        ),
        train_dataset=rows,
        processing_class=PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=10_000, help="rows of the first training")
    parser.add_argument("--many", type=int, default=1_000_000, help="rows of the second")
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rows:
        be_quiet()
        print(highest_memory(lambda: train(options.rows, f"{options.rows}.out")))
        return
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (options.few, options.many):
            path = Path(folder) / f"{count}.parquet"
            write_rows(path, count)
            command = [sys.executable, __file__, "--rows", str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(float(done.stdout.splitlines()[-1]))
    title = f"1. memory with {options.many:,} rows / with {options.few:,}"
    print(f"{title:62} {found[1] / found[0]:6.3f}  {found[0]:.0f} to {found[1]:.0f}")


if __name__ == "__main__":
    main()
