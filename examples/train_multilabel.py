"""Train a multi-label classifier on any checkpoint: evaluated every epoch, best model by micro-F1, tested once.

    python examples/train_multilabel.py --demo                      # no download, a minute on a CPU
    python examples/train_multilabel.py --data data/ --text_columns body --label_column tags --sep "|"
    python examples/train_multilabel.py --model_name google/canine-s --data me/my-dataset --text "Import duties"

The data are a folder of files, a glob, or a dataset on the Hub, with the splits `train`, `validation` and `test`; a
single table is split 80/10/10 over all labels. Labels are lists of names or ids, multi-hot lists, or joined strings.
Every flag with its default: `--help`.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from datasets import DatasetDict
from demo_data import legislation, save_encoder
from recipe_arguments import parse_arguments
from transformers import AutoTokenizer, pipeline

from multihead_hf import (
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    infer_heads,
    read_dataset,
    stratified_split,
)


@dataclass
class MultilabelArguments:
    """Model and data."""

    demo: bool = field(default=False, metadata={"help": "Made-up data and a small encoder; nothing is downloaded."})
    model_name: str = field(default="bert-base-uncased", metadata={"help": "Encoder: Hub id or folder."})
    pooling: str = field(default="cls", metadata={"help": "cls, mean, max or last."})
    data: str | None = field(default=None, metadata={"help": "Files, a folder of them, or a dataset on the Hub."})
    label_column: str = field(default="labels", metadata={"help": "Column of the labels, and name of the head."})
    text: str | None = field(default=None, metadata={"help": "A text to label at the end. Default: one of the test."})
    threshold: float = field(default=0.5, metadata={"help": "Probability from which on it has a label."})


# settings of the original notebook
DEFAULTS: dict[str, Any] = {
    "output_dir": "runs/multilabel",
    "learning_rate": 2e-5,
    "weight_decay": 0.01,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16,
    "num_train_epochs": 10,
    "max_length": 300,
    "logging_steps": 20,
    "seed": 42,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "f1",  # with one head, its micro F1
}
DEMO: dict[str, Any] = {
    "output_dir": "runs/multilabel-demo",
    "pooling": "mean",  # without pretraining, [CLS] carries no information
    "learning_rate": 2e-3,
    "num_train_epochs": 8,
    "use_cpu": True,
}
FIGURES = ("f1_micro", "f1_macro", "precision_micro", "recall_micro", "roc_auc_micro", "accuracy")


def main(argv: list[str] | None = None) -> None:
    options, args = parse_arguments(MultilabelArguments, DEFAULTS, DEMO, __doc__, argv)
    parts = load_parts(options, args)
    if options.demo:
        options.model_name = save_encoder(args, parts["train"]["text"])
    name = options.label_column
    heads = {key: replace(head, loss="bce") for key, head in infer_heads(parts, [name], **args.reading).items()}
    if not heads[name].multi_label:
        raise SystemExit(
            f"column {name!r} has one label a row: see train_imbalanced.py; for joined labels add --sep '|'"
        )
    trainer = MultiHeadTrainer(
        model=MultiHeadModel.from_encoder(options.model_name, heads=heads, pooling=options.pooling),
        args=args,
        processing_class=AutoTokenizer.from_pretrained(options.model_name),
        train_dataset=parts["train"],
        eval_dataset=parts["validation"],
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    metrics = trainer.evaluate(parts["test"], metric_key_prefix="test")
    if args.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.save_model()
    if trainer.is_world_process_zero():
        print(f"\nTest part, {heads[name].num_labels} labels:")
        for figure in FIGURES:
            if f"test_{name}_{figure}" in metrics:  # undefined metrics are left out
                print(f"  {figure:16} {metrics[f'test_{name}_{figure}']:.3f}")
        columns = args.text_columns or ["text"]
        text = options.text or {column: parts["test"][0][column] for column in columns}
        print_labels(args.output_dir, name, text, options.threshold)
    trainer.accelerator.end_training()


def load_parts(options: MultilabelArguments, args: MultiHeadTrainingArguments) -> DatasetDict:
    """Return the splits `train`, `validation` and `test`."""
    if options.demo:
        return legislation()
    if options.data is None:
        raise SystemExit("name your data, --data FILES, or try --demo")
    data = read_dataset(options.data)
    if isinstance(data, DatasetDict) and {"train", "validation", "test"} <= set(data):
        return data
    if isinstance(data, dict):
        raise SystemExit(
            f"{options.data} has the parts {list(data)}: train, validation and test are needed, or one table"
        )
    shares = {"train": 0.8, "validation": 0.1, "test": 0.1}
    heads = infer_heads(data, [options.label_column], **args.reading)
    return stratified_split(data, heads, shares, seed=args.seed)


def print_labels(folder: str, head: str, text: Any, threshold: float) -> None:
    """Print the labels of one text at two thresholds, with the model loaded from its folder."""
    predict = pipeline("multi-head-text-classification", folder, trust_remote_code=True)
    print(f"\n{text if isinstance(text, str) else ' | '.join(text.values())}")
    for cut in (threshold, 0.01):
        found = ", ".join(f"{each['label']} {each['score']:.2f}" for each in predict(text, threshold=cut)[0][head])
        print(f"  from {cut:g}: {found or 'none'}")
    print(f'\nThe model is in {folder}: python examples/predict.py {folder} "..."')


if __name__ == "__main__":
    main()
