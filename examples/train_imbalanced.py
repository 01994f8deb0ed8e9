"""Train a classifier on an imbalanced CSV file, from the split to a table of mistakes.

    python examples/train_imbalanced.py --demo                                   # no download, a minute on a CPU
    python examples/train_imbalanced.py --data posts.csv --text_columns Text --label_column "Majority Decision" \\
        --positive_label True --model_name google-bert/bert-base-german-cased

Rows are split 60/20/20, stratified by label, and the splits are saved as CSV. The loss has "balanced" class weights,
the best epoch has the highest F1 of the positive label, and training stops early. The test split is used once, at the
end. `search.py` finds better settings. Every flag with its default: `--help`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import DatasetDict
from demo_data import call_to_action_csv, save_encoder
from recipe_arguments import parse_arguments
from transformers import AutoTokenizer, EarlyStoppingCallback, pipeline

from multihead_hf import (
    HeadConfig,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    infer_heads,
    read_dataset,
    stratified_split,
)


@dataclass
class ImbalancedArguments:
    """Model and data."""

    demo: bool = field(default=False, metadata={"help": "Made-up data and a small encoder; nothing is downloaded."})
    model_name: str = field(default="google-bert/bert-base-german-cased", metadata={"help": "Hub id or folder."})
    pooling: str = field(default="cls", metadata={"help": "cls, mean, max or last."})
    data: str | None = field(default=None, metadata={"help": "CSV file (or TSV, JSON Lines, Parquet)."})
    label_column: str = field(default="labels", metadata={"help": "Column of the labels, and name of the head."})
    positive_label: str | None = field(default=None, metadata={"help": "The label that F1 speaks of. Default: all."})
    patience: int = field(default=3, metadata={"help": "Epochs without a better F1 after which training stops."})
    split_seed: int = field(default=5460, metadata={"help": "Seed of the split."})
    text: str | None = field(default=None, metadata={"help": "A text to classify. Default: the first of the test."})


DEFAULTS: dict[str, Any] = {
    "output_dir": "runs/imbalanced",
    "learning_rate": 4e-5,
    "weight_decay": 0.01,
    "warmup_steps": 0.05,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    "num_train_epochs": 6,
    "logging_steps": 20,
    "seed": 42,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "f1",  # of the positive label; without a positive label, the mean over the labels
}
DEMO: dict[str, Any] = {
    "output_dir": "runs/imbalanced-demo",
    "pooling": "mean",  # without pretraining, [CLS] carries no information
    "text_columns": ["Text"],
    "label_column": "Majority Decision",
    "positive_label": "True",
    "learning_rate": 1e-3,
    "use_cpu": True,
}


def main(argv: list[str] | None = None) -> None:
    options, args = parse_arguments(ImbalancedArguments, DEFAULTS, DEMO, __doc__, argv)
    parts, heads = load_parts(options, args)
    trainer = make_trainer(options, args, parts, heads)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    finish(trainer, options, parts)


def load_parts(
    options: ImbalancedArguments, args: MultiHeadTrainingArguments
) -> tuple[DatasetDict, dict[str, HeadConfig]]:
    """Return the three splits, also saved in `_splits` (names with a leading `_` are never pushed), and the head."""
    folder = Path(args.output_dir)
    if options.demo:
        options.data = str(folder / "_posts.csv")
        with args.main_process_first():
            if args.process_index == 0:
                call_to_action_csv(Path(options.data))
    if options.data is None:
        raise SystemExit("name your table, --data FILE.csv, or try --demo")
    rows = read_dataset(options.data)
    name = options.label_column
    found = infer_heads(rows, [name])[name]
    head = HeadConfig(labels=found.labels, label_weights="balanced", positive_label=options.positive_label)
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    parts = stratified_split(rows, {name: head}, shares, seed=options.split_seed)
    if args.process_index == 0:
        (folder / "_splits").mkdir(parents=True, exist_ok=True)
        for part, table in parts.items():
            table.to_pandas().to_csv(folder / "_splits" / f"{part}.csv", index=False)
    if options.demo:
        options.model_name = save_encoder(args, parts["train"]["Text"])
    return parts, {name: head}


def make_trainer(
    options: ImbalancedArguments,
    args: MultiHeadTrainingArguments,
    parts: DatasetDict,
    heads: dict[str, HeadConfig],
    **settings: Any,
) -> MultiHeadTrainer:
    """Return a trainer that stops early; `settings` are passed on."""
    if "model_init" not in settings:
        settings["model"] = MultiHeadModel.from_encoder(options.model_name, heads=heads, pooling=options.pooling)
    return MultiHeadTrainer(
        args=args,
        processing_class=AutoTokenizer.from_pretrained(options.model_name),
        train_dataset=parts["train"],
        eval_dataset=parts["validation"],
        callbacks=[EarlyStoppingCallback(early_stopping_patience=options.patience)],
        **settings,
    )


def finish(trainer: MultiHeadTrainer, options: ImbalancedArguments, parts: DatasetDict) -> None:
    """Save the model, evaluate on the test split once, list the mistakes and classify one text."""
    args, name = trainer.args, options.label_column
    found = trainer.predict(parts["test"])
    trainer.save_model()
    if trainer.is_world_process_zero():
        head = trainer.config.heads[name]
        if args.load_best_model_at_end and trainer.state.best_metric is not None:
            print(f"\nBest epoch on the validation part: {args.metric_for_best_model} {trainer.state.best_metric:.3f}")
        print("\nTest part:")
        for figure in ("precision", "recall", "f1", "accuracy", "f1_macro"):
            if f"test_{name}_{figure}" in found.metrics:
                print(f"  {figure:9} {found.metrics[f'test_{name}_{figure}']:.3f}")
        columns = args.text_columns or ["text"]
        predicted, truth = found.predictions[name].argmax(-1), found.label_ids[name]
        wrong = [row for row in range(len(truth)) if truth[row] not in (-100, predicted[row])]
        table = pd.DataFrame(
            {
                **{column: [parts["test"][row][column] for row in wrong] for column in columns},
                "true": [head.labels[truth[row]] for row in wrong],
                "predicted": [head.labels[predicted[row]] for row in wrong],
            }
        )
        path = Path(args.output_dir) / "_mistakes.csv"
        table.to_csv(path, index=False)
        print(f"\n{len(wrong)} of {(truth != -100).sum()} predictions are wrong, see {path}")
        if wrong:
            print(table.head(10).to_string())
        text = options.text or {column: parts["test"][0][column] for column in columns}
        predict = pipeline("multi-head-text-classification", args.output_dir, trust_remote_code=True)
        scores = predict(text, return_all_scores=True)[0][name]
        shown = text if isinstance(text, str) else " | ".join(text.values())
        print(f"\n{shown}\n  " + ", ".join(f"{each['label']} {each['score']:.3f}" for each in scores))
    if args.push_to_hub:
        trainer.push_to_hub()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
