"""Train WimBERT: topics (onderwerp) and experience (beleving) of Dutch complaints to a municipality, on one encoder.

    python examples/train_wimbert.py --demo                       # no download, a few minutes on a CPU
    accelerate launch examples/train_wimbert.py --push_to_hub     # the published recipe, from the Hub
    torchrun --nproc_per_node 2 examples/train_wimbert.py --heads channel --learn_thresholds

Every setting is a flag; `--help` lists them with their defaults (those of the published model, or of the demo with
`--demo --help`). The original used 8-bit paged AdamW: `--optim paged_adamw_8bit`, with bitsandbytes.
"""

from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

import torch
from datasets import ClassLabel, Dataset, load_dataset
from demo_data import made_once, train_tokenizer
from recipe_arguments import parse_arguments, report_on
from transformers import (
    AutoTokenizer,
    ModernBertConfig,
    PreTrainedTokenizerBase,
    pipeline,
)

from multihead_hf import (
    HeadConfig,
    MultiHeadConfig,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    infer_heads,
)


@dataclass
class WimbertArguments:
    """Model and data."""

    demo: bool = field(default=False, metadata={"help": "Generated data and a small encoder; nothing is downloaded."})
    model_name: str = field(default="jhu-clsp/mmBERT-base", metadata={"help": "Encoder: Hub id or folder."})
    dataset_name: str = field(default="UWV/wim-synthetic-data-rd", metadata={"help": "Dataset on the Hub."})
    validation_share: float = field(default=0.2, metadata={"help": "Share of the rows, at the end, to validate on."})
    heads: list[str] = field(
        default_factory=list,
        metadata={"help": "Columns to add as single-label heads, such as: channel emotional_tendency."},
    )
    dropout: float = field(default=0.2, metadata={"help": "Dropout in the heads."})
    alpha: float = field(default=0.15, metadata={"help": "Weight of Soft-F1 in the loss; the rest is BCE."})
    temperature: float = field(default=2.0, metadata={"help": "Factor on the logits in Soft-F1."})
    learn_thresholds: bool = field(default=False, metadata={"help": "Learn a threshold for each label."})
    initial_threshold: float = field(default=0.565, metadata={"help": "Where learned thresholds start."})
    demo_rows: int = field(default=4000, metadata={"help": "Messages to generate with --demo."})


WIMBERT_HEADS = ("onderwerp", "beleving")
BOOLEANS = ("true", "false")  # --resume_from_checkpoint True means the last checkpoint in output_dir
# W4: the schedule of the published model, and evaluation after every epoch
PUBLISHED: dict[str, Any] = {
    "output_dir": "runs/wimbert",
    "learning_rate": 8e-5,
    "head_learning_rate": 8e-5,
    "head_weighting": "fixed",
    "train_sampling_strategy": "random",
    "weight_decay": 0.0,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": '{"min_lr": 1e-6}',
    "warmup_steps": 0.1,
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16,
    "num_train_epochs": 15,
    "max_length": 1408,
    "seed": 42,
    "fp16": torch.cuda.is_available(),
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "logging_steps": 50,
    "load_best_model_at_end": True,
    "metric_for_best_model": "f1",
    "model_card": {"language": "nl", "datasets": "UWV/wim-synthetic-data-rd"},
}
DEMO: dict[str, Any] = {
    "output_dir": "runs/wimbert-demo",
    "learning_rate": 1.5e-3,
    "head_learning_rate": None,
    "head_weighting": "prior",
    "num_train_epochs": 10,
    "max_length": 512,
    "train_sampling_strategy": "group_by_length",
    "per_device_eval_batch_size": 64,
    "use_cpu": True,
    "model_card": {
        "language": "nl",
        "widget_texts": "Het grofvuil is niet opgehaald en ik hing een half uur in de wacht",
        "limits": "A demonstration: it was trained on generated messages for some minutes, and is not for use.",
    },
}


def main(argv: list[str] | None = None) -> None:
    wimbert, args = parse_arguments(WimbertArguments, PUBLISHED, DEMO, __doc__, argv)
    rows = load_rows(wimbert)
    heads = make_heads(rows, wimbert)
    cut = round(len(rows) * (1 - wimbert.validation_share))
    train, validation = rows.select(range(cut)), rows.select(range(cut, len(rows)))
    model, tokenizer = make_model(heads, train, wimbert, args)
    trainer = MultiHeadTrainer(
        model=model, args=args, processing_class=tokenizer, train_dataset=train, eval_dataset=validation
    )
    resume = args.resume_from_checkpoint
    trainer.train(resume_from_checkpoint=resume.lower() == "true" if resume and resume.lower() in BOOLEANS else resume)
    metrics = trainer.evaluate()
    said = report_on(trainer, validation)  # its metrics go into the model card
    if args.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.save_model()
    if trainer.is_world_process_zero():
        print_table(metrics, heads, validation)
        print(f"\n{said}\nThe model card is {args.output_dir}/README.md")
        print_examples(args.output_dir, validation)
    trainer.accelerator.end_training()


def load_rows(wimbert: WimbertArguments) -> Dataset:
    """Return the rows (W5), from the Hub or generated."""
    if not wimbert.demo:
        return load_dataset(wimbert.dataset_name, split="train")
    from wimbert_demo_data import generate_messages

    return generate_messages(wimbert.demo_rows)


def make_heads(rows: Dataset, wimbert: WimbertArguments) -> dict[str, HeadConfig]:
    """Return two multi-label MLP heads with Soft-F1 + BCE (W1–W3); further columns become linear single-label heads."""
    found = infer_heads(rows, {name: f"{name}_labels" for name in WIMBERT_HEADS})
    heads = {
        name: HeadConfig(
            labels=head.labels,
            problem_type="multi_label_classification",
            architecture="mlp",
            dropout=wimbert.dropout,
            loss="soft_f1_bce",
            loss_kwargs={"alpha": wimbert.alpha, "temperature": wimbert.temperature},
            learn_thresholds=wimbert.initial_threshold if wimbert.learn_thresholds else None,
        )
        for name, head in found.items()
    }
    added = infer_heads(rows, wimbert.heads)
    for name, head in added.items():
        if head.multi_label:
            raise ValueError(
                f"--heads {name}: the column holds lists; add columns with one label a row, such as channel"
            )
    return heads | added


def make_model(
    heads: dict[str, HeadConfig], train: Dataset, wimbert: WimbertArguments, args: MultiHeadTrainingArguments
) -> tuple[MultiHeadModel, PreTrainedTokenizerBase]:
    """Return the pretrained encoder with fresh heads; for the demo, a small untrained ModernBERT and its tokenizer."""
    if not wimbert.demo:
        model = MultiHeadModel.from_encoder(wimbert.model_name, heads=heads, pooling="cls")
        return model, AutoTokenizer.from_pretrained(wimbert.model_name)
    folder = made_once(args, "_tokenizer", lambda folder: train_tokenizer(train["text"]).save_pretrained(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        initializer_range=0.1,  # with the usual 0.02, so small a model predicts no label for many epochs
    )
    # without pretraining, [CLS] carries no information: mean pooling learns within minutes
    return MultiHeadModel(MultiHeadConfig(encoder=encoder, heads=heads, pooling="mean")), tokenizer


def print_table(metrics: dict[str, float], heads: dict[str, HeadConfig], validation: Dataset) -> None:
    """Print each head's metrics (W6) beside a model that predicts no label (or always the most frequent one)."""
    rows = []
    for name, head in heads.items():
        average = "micro" if head.multi_label else "macro"
        kinds = ("accuracy_cells" if head.multi_label else "accuracy", f"precision_{average}", f"recall_{average}")
        figures = [metrics[f"eval_{name}_{kind}"] for kind in (*kinds, f"f1_{average}")]
        rows.append((f"{name} ({head.num_labels} labels, {average})", figures))
        rows.append(baseline(name, head, validation))
    width = max(len(title) for title, _ in rows)
    print(f"\n{'head':{width}}  accuracy  precision  recall     F1")
    for title, figures in rows:
        print(
            f"{title:{width}}  "
            + "  ".join(f"{figure:>{w}.3f}" for figure, w in zip(figures, (8, 9, 6, 5), strict=True))
        )
    print(f"{'mean F1 over the heads':{width}}  {metrics['eval_f1']:34.3f}")


def baseline(name: str, head: HeadConfig, validation: Dataset) -> tuple[str, list[float]]:
    """Return accuracy, precision, recall and F1 without a model: no label, or the most frequent label."""
    if head.multi_label:
        truth = [len(set(labels)) for labels in validation[f"{name}_labels"]]
        return "  all zeros", [1 - sum(truth) / (len(truth) * head.num_labels), 0.0, 0.0, 0.0]
    truth = list(validation[name])
    share = max(truth.count(value) for value in set(truth)) / len(truth)
    k = head.num_labels
    return "  most frequent label", [share, share / k, 1 / k, 2 * share / (1 + share) / k]


def print_examples(folder: str, validation: Dataset, count: int = 3) -> None:
    """Print predictions of the model loaded from its folder."""
    predict = pipeline("multi-head-text-classification", folder, trust_remote_code=True)
    for row in validation.select(range(count)):
        print(f"\n{shorten(row['text'], 200)}")
        for name, labels in predict(row["text"])[0].items():
            found = ", ".join(f"{entry['label']} {entry['score']:.2f}" for entry in labels) or "–"
            print(f"  {name}: {found}   (labelled: {true_labels(row, name, validation)})")
    print(f'\nThe model is in {folder}: python examples/predict.py {folder} "Het grofvuil is niet opgehaald"')


def true_labels(row: dict[str, Any], name: str, rows: Dataset) -> str:
    if f"{name}_labels" in row:
        return ", ".join(row[f"{name}_labels"]) or "–"
    feature = rows.features[name]
    return feature.int2str(row[name]) if isinstance(feature, ClassLabel) else str(row[name])


if __name__ == "__main__":
    main()
