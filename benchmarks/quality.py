"""Quality with default settings, compared with other systems.

    pip install "multihead-hf[bench]"                   # all-MiniLM-L6-v2 (English) as files
    python benchmarks/quality.py DATA --rows 500 2000 0 --seeds 0 1 2 --results quality.jsonl

DATA is a folder of datasets, each a folder with `train.parquet`, `validation.parquet` and `test.parquet`: a column
`text`, and one column for each head (strings, or lists of strings). For every dataset and number of training rows (0
means all; the seed selects the rows):

- `defaults`: all heads on one encoder, `infer_heads` → `from_encoder` → `MultiHeadTrainer` with only the output folder
  (and the seed) set;
- `old defaults`: the same with the defaults of transformers: one learning rate of 5e-5 for encoder and heads,
  3 epochs in batches of 8 random rows, unweighted sum of the losses, [CLS] pooling;
- `plain`: a model for each head alone, `AutoModelForSequenceClassification` and the plain `Trainer`, for as many
  epochs as `defaults`, with the best of three learning rates on the validation split; seconds are those of all runs;
- `tf-idf`: words and characters, logistic regression for each label (scikit-learn), with "balanced" weights or without,
  whichever has the higher micro F1 on the validation split.

The last epoch counts, thresholds are 0.5, and nothing is chosen on the test split. The output has micro and macro F1 on
it (macro over the labels that occur; micro F1 of a single-label head is its accuracy) as mean ± standard deviation over
the seeds, and seconds of training. With `--results`, finished runs are saved and not repeated.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from predict import be_quiet, minilm
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from multihead_hf import (
    HeadConfig,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    infer_heads,
    read_dataset,
)
from multihead_hf.training.defaults import run_length

QUIET = {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True}
OLD = {
    "learning_rate": 5e-5,
    "head_learning_rate": 5e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "warmup_steps": 0,
    "train_sampling_strategy": "random",
    "bf16": False,
    "head_weighting": "fixed",
}
BATCH = 16


class Task(NamedTuple):
    """A dataset and its heads."""

    data: DatasetDict
    heads: dict[str, HeadConfig]

    def labelled(self, part: str, name: str) -> Dataset:
        """Return the rows with a label for the head."""
        rows = self.data[part]
        return rows.select([row for row, value in enumerate(rows[name]) if value is not None])

    def targets(self, part: str, name: str) -> Any:
        """Return the targets of labelled rows: label ids (rows,), or 0 and 1 (rows, labels)."""
        head = self.heads[name]
        ids = {label: index for index, label in enumerate(head.labels)}
        values = self.labelled(part, name)[name]
        if not head.multi_label:
            return np.array([ids[value] for value in values])
        cells = np.zeros((len(values), head.num_labels), dtype=int)
        for row, labels in enumerate(values):
            cells[row, [ids[label] for label in labels]] = 1
        return cells


def scores(truth: Any, predicted: Any) -> dict[str, float]:
    """Return the F1 of label ids or cells."""
    present = np.flatnonzero(truth.any(0)) if truth.ndim == 2 else np.unique(truth)
    common = {"labels": present, "zero_division": 0}
    return {
        "micro": float(f1_score(truth, predicted, average="micro", zero_division=0)),
        "macro": float(f1_score(truth, predicted, average="macro", **common)),
    }


def defaults(task: Task, options: argparse.Namespace, seed: int, folder: str) -> tuple[float, dict[str, Any]]:
    return multi_head(task, options, seed, folder, {}, None)


def old_defaults(task: Task, options: argparse.Namespace, seed: int, folder: str) -> tuple[float, dict[str, Any]]:
    return multi_head(task, options, seed, folder, OLD, "cls")


def multi_head(
    task: Task, options: argparse.Namespace, seed: int, folder: str, settings: dict[str, Any], pooling: str | None
) -> tuple[float, dict[str, Any]]:
    set_seed(seed)
    trainer = MultiHeadTrainer(
        model=MultiHeadModel.from_encoder(options.encoder, heads=task.heads, pooling=pooling),
        args=MultiHeadTrainingArguments(folder, seed=seed, **QUIET, **settings),
        processing_class=AutoTokenizer.from_pretrained(options.encoder),
        train_dataset=task.data["train"],
    )
    trainer.remove_callback(PrinterCallback)
    seconds = seconds_of(trainer.train)
    found = {}
    for name, head in task.heads.items():
        logits = trainer.predict(task.labelled("test", name)).predictions[name]
        decided = trainer.model.decode({name: torch.from_numpy(logits)})[name].decisions.numpy()
        found[name] = scores(task.targets("test", name), decided if head.multi_label else decided.argmax(-1))
    return seconds, found


def plain(task: Task, options: argparse.Namespace, seed: int, folder: str) -> tuple[float, dict[str, Any]]:
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    seconds, found = 0.0, {}
    length = run_length(task.heads, encoder_trained=True)
    for name, head in task.heads.items():
        parts = {part: tokenised(task, part, name, tokenizer) for part in ("train", "validation", "test")}
        best = -1.0
        for rate in options.rates:
            set_seed(seed)
            model = AutoModelForSequenceClassification.from_pretrained(
                options.encoder, num_labels=head.num_labels, problem_type=head.problem_type
            )
            args = TrainingArguments(
                folder,
                seed=seed,
                learning_rate=rate,
                num_train_epochs=length.epochs_for(len(parts["train"]), BATCH),
                per_device_train_batch_size=BATCH,
                per_device_eval_batch_size=64,
                warmup_steps=0.1,
                train_sampling_strategy="group_by_length",
                **QUIET,
            )
            trainer = Trainer(
                model, args, DataCollatorWithPadding(tokenizer), parts["train"], processing_class=tokenizer
            )
            trainer.remove_callback(PrinterCallback)
            seconds += seconds_of(trainer.train)
            trainer.args.train_sampling_strategy = "sequential"  # otherwise rows are predicted in another order
            own = {}
            for part in ("validation", "test"):
                logits = trainer.predict(parts[part]).predictions
                own[part] = scores(task.targets(part, name), logits > 0 if head.multi_label else logits.argmax(-1))
            worth = own["validation"]["micro"] + own["validation"]["macro"]
            if worth > best:
                best, found[name] = worth, {**own["test"], "rate": rate}
    return seconds, found


def tokenised(task: Task, part: str, name: str, tokenizer: Any) -> Dataset:
    targets = task.targets(part, name)
    labels = targets.astype(float).tolist() if task.heads[name].multi_label else targets.tolist()
    tokens = tokenizer(list(task.labelled(part, name)["text"]), truncation=True, max_length=256)
    lengths = [len(ids) for ids in tokens["input_ids"]]
    return Dataset.from_dict({**tokens, "labels": labels, "length": lengths})


def tf_idf(task: Task, options: argparse.Namespace, seed: int, folder: str) -> tuple[float, dict[str, Any]]:
    seconds, found = 0.0, {}
    for name in task.heads:
        texts = {part: list(task.labelled(part, name)["text"]) for part in ("train", "validation", "test")}
        start = time.perf_counter()
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        characters = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), min_df=3, max_features=60_000, sublinear_tf=True
        )
        vectors = {"train": hstack([each.fit_transform(texts["train"]) for each in (words, characters)]).tocsr()}
        for part in ("validation", "test"):
            vectors[part] = hstack([each.transform(texts[part]) for each in (words, characters)]).tocsr()
        classifiers = [fit(vectors["train"], task.targets("train", name), weight) for weight in (None, "balanced")]
        seconds += time.perf_counter() - start
        truth = task.targets("validation", name)
        best = max(
            classifiers,
            key=lambda each: f1_score(truth, each.predict(vectors["validation"]), average="micro", zero_division=0),
        )
        found[name] = scores(task.targets("test", name), best.predict(vectors["test"]))
    return seconds, found


def fit(vectors: csr_matrix, targets: Any, weight: str | None) -> Any:
    regression = LogisticRegression(solver="liblinear", C=5, class_weight=weight)
    return OneVsRestClassifier(regression).fit(vectors, targets)


def seconds_of(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def load_task(folder: Path, rows: int, seed: int) -> Task:
    data = read_dataset(folder)
    heads = infer_heads(data, [column for column in data["train"].column_names if column != "text"])
    if 0 < rows < len(data["train"]):
        data["train"] = data["train"].shuffle(seed=seed).take(rows)
    return Task(data, heads)


SYSTEMS = {"defaults": defaults, "old defaults": old_defaults, "plain": plain, "tf-idf": tf_idf}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the datasets")
    parser.add_argument("--sets", nargs="+", help="names of datasets; by default every folder")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--rows", type=int, nargs="+", default=[2000], help="training rows; 0 is all of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[5e-5, 1e-4, 3e-4], help="learning rates that `plain` chooses from"
    )
    parser.add_argument("--encoder", help="by default the MiniLM of the extra `bench`")
    parser.add_argument("--results", type=Path, help="file that keeps finished runs")
    options = parser.parse_args()
    be_quiet()
    if options.encoder is None:
        options.encoder = minilm()
        encoder = "MiniLM"
    else:
        encoder = Path(options.encoder).name
    runs = read_results(options.results)
    sets = options.sets or sorted(path.parent.name for path in options.data.glob("*/train.parquet"))
    wanted = []
    for name in sets:
        for rows in options.rows:
            for seed in options.seeds:
                task = load_task(options.data / name, rows, seed)
                for system in options.systems:
                    reads = "no encoder" if system == "tf-idf" else encoder
                    key = [name, reads, system, len(task.data["train"]), seed]
                    wanted.append(key)
                    if any(run["key"] == key for run in runs):
                        continue
                    with tempfile.TemporaryDirectory() as folder:
                        seconds, found = SYSTEMS[system](task, options, seed, folder)
                    runs.append({"key": key, "seconds": round(seconds, 1), "scores": found})
                    print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
                    if options.results:
                        with options.results.open("a") as file:
                            file.write(json.dumps(runs[-1]) + "\n")
    print_table([run for run in runs if run["key"] in wanted])


def read_results(path: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def print_table(runs: list[dict[str, Any]]) -> None:
    """Print a line for each dataset, number of rows and head, with the systems' micro / macro F1."""
    systems = [system for system in SYSTEMS if any(run["key"][2] == system for run in runs)]
    print(f"| dataset, rows | head | {' | '.join(systems)} |")
    print("|---|---|" + "---|" * len(systems))
    for name, rows in dict.fromkeys((run["key"][0], run["key"][3]) for run in runs):
        own = {
            system: [run for run in runs if run["key"][0:4:3] == [name, rows] and run["key"][2] == system]
            for system in systems
        }
        heads = next(found for found in own.values() if found)[0]["scores"]
        for head in heads:
            cells = []
            for found in own.values():
                figures = [spread([run["scores"][head][kind] for run in found]) for kind in ("micro", "macro") if found]
                cells.append(" / ".join(figures) or "–")
            print(f"| {name}, {rows:,} | {head} | {' | '.join(cells)} |")
        times = [
            f"{statistics.mean(run['seconds'] for run in found):.0f} s" if found else "–" for found in own.values()
        ]
        print(f"| {name}, {rows:,} | seconds | {' | '.join(times)} |")


def spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
