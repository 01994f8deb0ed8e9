"""Train two heads one after the other on a frozen encoder: first GGU (greeting, gratitude, other), then sentiment.

    python examples/train_ggu_sentiment.py --demo                             # no download, a minute on a CPU
    accelerate launch examples/train_ggu_sentiment.py --encoder_dtype float16 # bge-m3 and the data from the Hub
    python examples/train_ggu_sentiment.py --momentum 0.9 --auto_find_batch_size --train_rows 5000

The second head is added to the trained model and trained alone on another dataset; a check confirms that the first head
did not change. The encoder reads every text once (`cache_features`). Each head gets a report with confusion matrix and
losses (`pip install "multihead-hf[plots]"`), and the model card has the metrics of both. Every flag: `--help`.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import demo_data
import torch
from datasets import ClassLabel, Dataset, DatasetDict, concatenate_datasets
from recipe_arguments import parse_arguments, report_on
from sklearn.metrics import classification_report
from transformers import AutoTokenizer

from multihead_hf import (
    HeadConfig,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    prepare_dataset,
    read_dataset,
    stratified_split,
)

LABELS = {"GGU": ["Greeting", "Gratitude", "Other"], "sentiment": ["Positive", "Negative", "Neutral"]}
DTYPES = ("float32", "float16", "bfloat16")
TEXT_COLUMNS = {"GGU": "sample", "sentiment": "text"}


@dataclass
class GguArguments:
    """Model and data. Lists have one value for each head and replace the arguments for the whole training."""

    demo: bool = field(default=False, metadata={"help": "Made-up data and a small encoder; nothing is downloaded."})
    model_name: str = field(default="BAAI/bge-m3", metadata={"help": "Encoder: Hub id or folder."})
    encoder_dtype: str = field(default="float32", metadata={"help": "Of the encoder.", "choices": DTYPES})
    pooling: str = field(default="cls", metadata={"help": "cls, mean, max or last."})
    dropout: float = field(default=0.25, metadata={"help": "Dropout in the heads."})
    data: list[str] = field(
        default_factory=lambda: ["philipp-zettl/GGU-xx", "philipp-zettl/sentiment"],
        metadata={"help": "Two datasets: on the Hub, or files."},
    )
    epochs: list[int] = field(default_factory=lambda: [35, 10])
    rates: list[float] = field(default_factory=lambda: [1e-4, 1e-4], metadata={"help": "Learning rates."})
    decays: list[float] = field(default_factory=lambda: [0.25, 0.25], metadata={"help": "Weight decay (L2)."})
    train_rows: int = field(default=1000, metadata={"help": "Rows of a dataset that train a head, at most."})
    momentum: float = field(default=0.0, metadata={"help": "Above 0: SGD with this momentum, instead of AdamW."})


DEFAULTS: dict[str, Any] = {
    "output_dir": "runs/ggu-sentiment",
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16,
    "lr_scheduler_type": "reduce_lr_on_plateau",
    "lr_scheduler_kwargs": '{"factor": 0.2, "patience": 3, "min_lr": 1e-8}',
    "metric_for_best_model": "loss",  # monitored by the schedule
    "eval_strategy": "epoch",
    "logging_strategy": "epoch",
    "save_strategy": "no",
    "freeze_encoder": True,
    "cache_features": True,
    "seed": 42,
    "model_card": {
        "language": "multilingual",
        "license": "mit",
        "datasets": ["philipp-zettl/GGU-xx", "philipp-zettl/sentiment"],
        "widget_texts": ["Hello, how are you?", "Danke dir.", "What is the weather like today?"],
    },
}
DEMO: dict[str, Any] = {
    "output_dir": "runs/ggu-sentiment-demo",
    "pooling": "mean",  # without pretraining, [CLS] carries no information
    "rates": [1e-2, 1e-2],
    "decays": [0.01, 0.01],
    "use_cpu": True,
    "model_card": {"limits": "A demonstration, trained on made-up rows with a small encoder."},
}


def main(argv: list[str] | None = None) -> None:
    options, args = parse_arguments(GguArguments, DEFAULTS, DEMO, __doc__, argv)
    check(options, args)
    heads = {name: HeadConfig(labels=labels, dropout=options.dropout) for name, labels in LABELS.items()}
    data = {name: load_rows(name, place, options, args) for place, name in enumerate(heads)}
    if options.demo:
        texts = [text for name, parts in data.items() for text in parts["train"][TEXT_COLUMNS[name]]]
        options.model_name = demo_data.save_encoder(args, texts)
    dtype = getattr(torch, options.encoder_dtype)
    first = {"GGU": heads["GGU"]}
    model = MultiHeadModel.from_encoder(options.model_name, heads=first, pooling=options.pooling, dtype=dtype)

    train_head(0, model, data["GGU"], options, args)
    before = {key: value.clone() for key, value in model.heads.state_dict().items()}
    model.add_head("sentiment", heads["sentiment"], verify=True)
    trainer = train_head(1, model, data["sentiment"], options, args)
    after = model.heads.state_dict()
    changed = [key for key, value in before.items() if not torch.equal(value, after[key])]
    if changed:
        raise RuntimeError(f"training the second head changed the first one: {changed}")
    tests = [
        prepare_dataset(
            parts["test"],
            trainer.processing_class,
            model,
            text_columns=TEXT_COLUMNS[name],
            label_columns={name: "label"},
        )
        for name, parts in data.items()
    ]
    said = report_on(trainer, concatenate_datasets(tests))  # (each row is labelled for one head)
    if args.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.save_model()
    if trainer.is_world_process_zero():
        print(f"{said}\nThe first head is unchanged.")
        print(f'The model is in {args.output_dir}: python examples/predict.py {args.output_dir} "Vielen Dank!"')
    trainer.accelerator.end_training()


def check(options: GguArguments, args: MultiHeadTrainingArguments) -> None:
    """Check the arguments before training."""
    for name in ("data", "epochs", "rates", "decays"):
        if len(getattr(options, name)) != len(LABELS):
            raise SystemExit(f"--{name}: give {len(LABELS)} values, one for each of the heads {list(LABELS)}")
    for flag, default, own in (
        ("num_train_epochs", None, "epochs"),
        ("learning_rate", None, "rates"),
        ("weight_decay", 0.0, "decays"),
    ):
        if getattr(args, flag) != default:
            raise SystemExit(f"--{flag} differs from head to head here: --{own}")
    if not args.freeze_encoder:
        raise SystemExit("training the encoder for the second head would change the first one: leave it frozen")
    if args.resume_from_checkpoint:
        raise SystemExit("this recipe trains on cached features, begins anew and takes no --resume_from_checkpoint")


def load_rows(name: str, place: int, options: GguArguments, args: MultiHeadTrainingArguments) -> DatasetDict:
    """Return a dataset split 80/20 with named label ids and at most `train_rows` training rows."""
    if options.demo:
        rows = demo_data.ggu_rows() if name == "GGU" else demo_data.sentiment_rows()
    else:
        found = read_dataset(options.data[place])
        rows = found["train"] if isinstance(found, dict) else found
    feature = rows.features["label"]
    if not isinstance(feature, ClassLabel) and "int" in feature.dtype:  # ids; names need no mapping
        rows = rows.cast_column("label", ClassLabel(names=LABELS[name]))
    head = {name: HeadConfig(labels=LABELS[name])}
    shares = {"train": 0.8, "test": 0.2}
    parts = stratified_split(rows, head, shares, seed=args.seed, label_columns={name: "label"})
    # (the split keeps the order of the rows, which may be sorted by label)
    parts["train"] = parts["train"].shuffle(seed=args.seed).take(min(options.train_rows, len(parts["train"])))
    return parts


def train_head(
    place: int, model: MultiHeadModel, data: DatasetDict, options: GguArguments, args: MultiHeadTrainingArguments
) -> MultiHeadTrainer:
    """Train one head on its dataset, and print its metrics."""
    name, rate = list(LABELS)[place], options.rates[place]
    settings: dict[str, Any] = {
        "num_train_epochs": options.epochs[place],
        "learning_rate": rate,
        "weight_decay": options.decays[place],
        "train_heads": [name],
        "text_columns": [TEXT_COLUMNS[name]],
        "label_columns": {name: "label"},
    }
    sgd = (torch.optim.SGD, {"lr": rate, "momentum": options.momentum})
    trainer = MultiHeadTrainer(
        model=model,
        args=dataclasses.replace(args, **settings),
        processing_class=AutoTokenizer.from_pretrained(options.model_name),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        optimizer_cls_and_kwargs=sgd if options.momentum else None,
    )
    trainer.train()
    report(name, trainer, data["test"])
    return trainer


def report(name: str, trainer: MultiHeadTrainer, test: Dataset) -> None:
    """Print the classification report, and write the page with the confusion matrix and the losses."""
    found = trainer.predict(test)
    labelled = found.label_ids[name] != -100
    truth, predicted = found.label_ids[name][labelled], found.predictions[name][labelled].argmax(-1)
    options = {"labels": range(len(LABELS[name])), "target_names": LABELS[name], "zero_division": 0}
    said = report_on(trainer, test, f"_report_{name}")
    if trainer.is_world_process_zero():
        print(f"\n{name}\n{classification_report(truth, predicted, **options)}\n{said}")


if __name__ == "__main__":
    main()
