"""Cost of a training step beyond its encoder, as ratios within one run.

    python benchmarks/step_overhead.py                                  # MiniLM's shape on a CPU: some minutes
    python benchmarks/step_overhead.py --shape modernbert-base --bf16   # 1,408 tokens, for a GPU

1. `MultiHeadTrainer` against a hand-written loop in plain PyTorch: one `nn.Linear` and one BCE per head, on the same
   encoder, rows and optimiser. Ratio of samples per second; 1 means no overhead.
2. The same model and loop with 10 and 100 heads against one head: ratio of the step times.
3. Soft-F1 over the step (two passes) against Soft-F1 over each micro-batch, under gradient accumulation.
4. As 1, on texts of mixed length (lognormal, up to four times the median) in batches that transformers groups by
   length, each padded to its longest text; with four times the steps, as it does not group few rows.

Compared runs take turns, and the medians over the rounds are printed. They are ratios, not absolute speeds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    AutoModel,
    BertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.utils import logging

from multihead_hf import (
    HeadConfig,
    MultiHeadConfig,
    MultiHeadDataCollator,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
)

LABELS = 50
SHAPES: dict[str, tuple[PreTrainedConfig, int]] = {
    "minilm": (
        BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
        64,
    ),
    "modernbert-base": (ModernBertConfig(), 1408),
}


def heads(count: int, **settings: Any) -> dict[str, HeadConfig]:
    names = [f"label {index}" for index in range(LABELS)]
    head = {"labels": names, "problem_type": "multi_label_classification", **settings}
    return {f"head {index}": HeadConfig(**head) for index in range(count)}


class ByHand(nn.Module):
    """The model of a hand-written training loop."""

    def __init__(self, config: PreTrainedConfig, count: int) -> None:
        super().__init__()
        self.encoder = AutoModel.from_config(config)
        self.dropout = nn.Dropout(0.1)
        self.heads = nn.ModuleList(nn.Linear(config.hidden_size, LABELS) for _ in range(count))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: list[torch.Tensor]) -> Any:
        pooled = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        losses = [
            F.binary_cross_entropy_with_logits(head(self.dropout(pooled)), y)
            for head, y in zip(self.heads, labels, strict=True)
        ]
        return torch.stack(losses).mean()


class Clock(TrainerCallback):
    """Records the end of each optimiser step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, *other: Any, **kwargs: Any) -> None:
        synchronise(args.device)
        self.ends.append(time.perf_counter())


def seconds_per_step(ends: list[float]) -> float:
    """Return the mean time of all steps but the first."""
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Benchmark:
    """Timed runs on texts of one length, or of mixed lengths in batches that are grouped by them."""

    def __init__(self, options: argparse.Namespace, mixed: bool = False) -> None:
        self.options, self.mixed = options, mixed
        self.total = options.batch * (4 * options.steps if mixed else options.steps + 1)  # rows of a round
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.config, self.length = SHAPES[options.shape]
        backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
        self.folder = tempfile.TemporaryDirectory()

    def lengths(self) -> list[int]:
        """Return the number of tokens of each row."""
        if not self.mixed:
            return [self.length] * self.total
        drawn = self.length / 2 * torch.randn(self.total).mul(0.8).exp()
        return drawn.clamp(4, 2 * self.length).long().tolist()

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Return prepared rows for one round."""
        lengths = self.lengths()
        ids = [torch.randint(5, self.config.vocab_size, (length,)).tolist() for length in lengths]
        cells = (torch.rand(self.total, count, LABELS) < 0.05).float().tolist()
        return [
            {
                "input_ids": ids[i],
                "attention_mask": [1] * lengths[i],
                "length": lengths[i],
                "labels": {f"head {h}": cells[i][h] for h in range(count)},
            }
            for i in range(self.total)
        ]

    def by_hand(self, count: int) -> Callable[[], float]:
        set_seed(0)
        model = ByHand(self.config, count).to(self.device).train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        rows = self.rows(count)
        if self.mixed:
            rows = [rows[i] for i in get_length_grouped_indices([row["length"] for row in rows], self.options.batch)]

        def collate(batch: list[dict]) -> dict[str, Any]:
            labels = [torch.tensor([row["labels"][name] for row in batch]) for name in batch[0]["labels"]]
            longest = max(row["length"] for row in batch)
            ids = {
                key: torch.tensor([row[key] + [0] * (longest - row["length"]) for row in batch])
                for key in ("input_ids", "attention_mask")
            }
            return {**ids, "labels": labels}

        def step(batch: dict[str, Any]) -> None:
            labels = [values.to(self.device) for values in batch.pop("labels")]
            tensors = {key: values.to(self.device) for key, values in batch.items()}
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bf16):
                loss = model(**tensors, labels=labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()

        return lambda: self.time_of(step, DataLoader(rows, self.options.batch, collate_fn=collate))  # type: ignore

    def own_model(self, count: int) -> Callable[[], float]:
        """Return a timed training step of `MultiHeadModel` in a hand-written loop, on one batch."""
        model = self.model(count).to(self.device).train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        batch = MultiHeadDataCollator(self.tokenizer, model)(self.rows(count)[: self.options.batch])
        labels = {name: values.to(self.device) for name, values in batch.pop("labels").items()}
        tensors = {key: values.to(self.device) for key, values in batch.items()}

        def step() -> float:
            begin = time.perf_counter()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bf16):
                loss = model(**tensors, labels=labels).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            synchronise(self.device)
            return time.perf_counter() - begin

        return step

    def time_of(self, step: Callable[[Any], None], batches: Any) -> float:
        """Return seconds per step, without the first one."""
        ends = []
        for batch in batches:
            step(batch)
            synchronise(self.device)
            ends.append(time.perf_counter())
        return seconds_per_step(ends)

    def model(self, count: int, **settings: Any) -> MultiHeadModel:
        set_seed(0)
        return MultiHeadModel(MultiHeadConfig(encoder=self.config, heads=heads(count, **settings)))

    def trainer(self, count: int, accumulation: int = 1, **settings: Any) -> Callable[[], float]:
        model, clock = self.model(count, **settings), Clock()
        args = MultiHeadTrainingArguments(
            self.folder.name,
            num_train_epochs=1,
            per_device_train_batch_size=self.options.batch // accumulation,
            gradient_accumulation_steps=accumulation,
            optim="adamw_torch_fused",
            learning_rate=1e-5,
            head_learning_rate=1e-5,
            head_weighting="fixed",
            warmup_steps=0,
            lr_scheduler_type="constant",
            bf16=self.options.bf16,
            train_sampling_strategy="group_by_length" if self.mixed else "sequential",
            logging_steps=2,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=self.device.type == "cuda",
            use_cpu=self.device.type == "cpu",
        )
        trainer = MultiHeadTrainer(
            model, args, None, self.rows(count), processing_class=self.tokenizer, callbacks=[clock]
        )
        trainer.remove_callback(PrinterCallback)

        def run() -> float:
            clock.ends.clear()
            trainer.train()
            return seconds_per_step(clock.ends)

        return run

    def ratios(self, one: Callable[[], float], other: Callable[[], float], rounds: int = 0) -> list[float]:
        """Return the time of `one` divided by the time of `other`, for each round in which they take turns."""
        return [one() / other() for _ in range((rounds or self.options.rounds) + 1)][1:]


def part_1(benchmark: Benchmark) -> Iterator[tuple[str, list[float]]]:
    for count in benchmark.options.heads:
        ratios = benchmark.ratios(benchmark.by_hand(count), benchmark.trainer(count))
        yield f"1. Trainer / loop by hand, {count} heads: samples per second", ratios


def part_2(benchmark: Benchmark) -> Iterator[tuple[str, list[float]]]:
    one, steps = benchmark.own_model(1), benchmark.options.rounds * benchmark.options.steps
    for count in (10, 100):
        ratios = benchmark.ratios(benchmark.own_model(count), one, steps)
        yield f"2. {count} heads of {LABELS} labels / 1 head: time of a step", ratios


def part_3(benchmark: Benchmark) -> Iterator[tuple[str, list[float]]]:
    scopes = [{"average": "macro"}, {"average": "macro", "scope": "step"}]
    batches, step = (benchmark.trainer(2, 4, loss="soft_f1_bce", loss_kwargs=scope) for scope in scopes)
    yield "3. macro Soft-F1 over the step / over its 4 micro-batches: time of a step", benchmark.ratios(step, batches)


def part_4(benchmark: Benchmark) -> Iterator[tuple[str, list[float]]]:
    benchmark = Benchmark(benchmark.options, mixed=True)
    ratios = benchmark.ratios(benchmark.by_hand(2), benchmark.trainer(2))
    yield "4. Trainer / loop by hand, 2 heads, mixed lengths: samples per second", ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="minilm", help="encoder and length of the texts")
    parser.add_argument("--batch", type=int, default=16, help="rows of an optimiser step")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of which the median is taken")
    parser.add_argument("--parts", type=int, nargs="+", choices=[1, 2, 3, 4], default=[1, 2, 3, 4], help="see above")
    parser.add_argument("--heads", type=int, nargs="+", default=[2, 10, 100], help="numbers of heads in part 1")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()
    logging.set_verbosity_error()
    benchmark = Benchmark(options)
    name = torch.cuda.get_device_name() if benchmark.device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{options.shape}, {benchmark.length} tokens, batch {options.batch}, {name}, torch {torch.__version__}")
    print(f"{'':74} median  min to max")
    for part in options.parts:
        for title, ratios in (part_1, part_2, part_3, part_4)[part - 1](benchmark):
            print(f"{title:74} {statistics.median(ratios):6.3f}  {min(ratios):.3f} to {max(ratios):.3f}", flush=True)


if __name__ == "__main__":
    main()
