"""Description of a training run as a table: heads and labels, rows, trained parameters, and settings."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerState

from ..data.counting import HeadCounts
from ..data.label_warnings import EMPTY_ADVICE, ONLY_POSITIVE, near_equal_labels
from ..data.rows_like import has_length
from ..evaluation.tables import NO_NUMBER, aligned, short_name
from ..model.head_multihead import HeadConfig
from ..model.unwrapping import multi_head_model
from ..utils.messages import counted
from .arguments import MultiHeadTrainingArguments

if TYPE_CHECKING:
    from .trainer import MultiHeadTrainer

WIDTH = 100
RARE = 10  # training rows; a label with fewer is rare
_GROUPS = 3
_AFTER_HEADS = ("thresholds", "head_weighting", "parameters")
_MOST_LOSSES = 20


@dataclass
class ParameterGroup:
    """Trained parameters with their learning rates.

    Args:
        name: `"encoder"`, `"heads"` (`"heads_<architecture>"` where they have several rates), `"thresholds"`,
            `"head_weighting"`, or `"parameters"` for an optimizer that was passed to the trainer.
        parameters: Number of parameters.
        rates: The distinct peak learning rates.
    """

    name: str
    parameters: int
    rates: list[float]


@dataclass
class RunFacts:
    """Facts of a run for `describe_run`.

    Args:
        heads: the model's heads, by name.
        trained_heads: names of the heads that are trained.
        counts: head → counts of its training labels; `None` if they were not counted.
        rows: split → number of rows; `None` for a stream.
        steps: optimizer steps of the whole run.
        epochs: epochs of the whole run; `None` if the number of steps was given.
        first_step: number of steps that a resumed run has already done.
        batch_rows: rows of one optimizer step.
        precision: precision of the computation, in words.
        groups: the trained parameters.
        frozen: part of the model → number of parameters that are not trained.
        head_weighting: how the heads' losses are combined.
        constant_losses: head → its loss at the best constant prediction, if the losses are divided by it.
        notes: further lines.
    """

    heads: Mapping[str, HeadConfig]
    trained_heads: Sequence[str]
    counts: Mapping[str, HeadCounts] | None
    rows: Mapping[str, int | None]
    steps: int
    epochs: float | None
    first_step: int
    batch_rows: int
    precision: str
    groups: Sequence[ParameterGroup]
    frozen: Mapping[str, int]
    head_weighting: str
    constant_losses: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def describe_run(facts: RunFacts) -> str:
    """Return the table that is shown at the start of every training, in lines of at most 100 characters."""
    lines = [
        _first_line(facts),
        *_head_lines(facts),
        _rows_line(facts.rows),
        _trained_line(facts.groups),
        _frozen_line(facts),
        _weighting_line(facts),
        *_doubtful_heads(facts),
        *facts.notes,
    ]
    wrap = textwrap.TextWrapper(WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(line if len(line) <= WIDTH else wrap.fill(line) for line in lines if line)


def _first_line(facts: RunFacts) -> str:
    length = counted(facts.steps, "step")
    if facts.epochs is not None:
        length = f"{facts.epochs:g} {'epoch' if facts.epochs == 1 else 'epochs'} ({length})"
    begin = f"Resuming at step {facts.first_step:,} of " if facts.first_step else "Training for "
    return f"{begin}{length}, {facts.batch_rows:,} rows a step, {facts.precision}"


def _head_lines(facts: RunFacts) -> list[str]:
    table = [["head", "task", "labels"]]
    for name, head in facts.heads.items():
        task = "multi-label" if head.multi_label else "single-label"
        table.append([short_name(name), task, f"{head.num_labels:,}"])
    if facts.counts is None:
        return aligned(table, left=2)
    any_multi_label = any(head.multi_label for head in facts.heads.values())
    lacking = any(counts.unlabelled for counts in facts.counts.values())
    table[0] += ["labelled", *(["unlabelled"] if lacking else []), *(["none apply"] if any_multi_label else [])]
    rare = [f"rare labels (fewer than {RARE} rows)"]
    for line, (name, head) in zip(table[1:], facts.heads.items(), strict=True):
        counts = facts.counts[name]
        line.append(f"{counts.labelled:,}")
        line += [f"{counts.unlabelled:,}" if counts.unlabelled else NO_NUMBER] if lacking else []
        line += [f"{counts.none:,}" if head.multi_label else NO_NUMBER] if any_multi_label else []
        rare.append(_rare(head, counts))
    return [_shortened(f"{line}  {labels}") for line, labels in zip(aligned(table, left=2), rare, strict=True)]


def _rare(head: HeadConfig, counts: HeadCounts) -> str:
    rare = [label for label, count in zip(head.labels, counts.positives, strict=True) if count < RARE]
    labels = [repr(label) if "," in label or label != label.strip() else label for label in rare]
    return f"{len(labels):,}: {', '.join(labels)}" if labels and counts.labelled else NO_NUMBER


def _shortened(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3].rpartition(' ')[0]} ..."


def _rows_line(rows: Mapping[str, int | None]) -> str:
    counts = (f"{split} {'streamed' if count is None else f'{count:,}'}" for split, count in rows.items())
    return f"rows: {', '.join(counts)}"


def _trained_line(groups: Sequence[ParameterGroup]) -> str:
    descriptions = []
    for group in groups:
        lowest, highest = f"{min(group.rates):.3g}", f"{max(group.rates):.3g}"
        rate = lowest if lowest == highest else f"{lowest} to {highest}"
        descriptions.append(f"{group.name.replace('_', ' ')} {group.parameters:,} at {rate}")
    return f"trained (parameters, at the peak learning rate): {', '.join(descriptions)}"


def _frozen_line(facts: RunFacts) -> str:
    counts = [f"{part} {count:,}" for part, count in facts.frozen.items() if count]
    untrained_heads = [name for name in facts.heads if name not in facts.trained_heads]
    line = f"frozen (parameters): {', '.join(counts)}" if counts else ""
    return f"{line}; the heads {', '.join(untrained_heads)} are not trained" if untrained_heads else line


_HEAD_WEIGHTING = {
    "fixed": "added as they are",
    "prior": "each divided by the loss of the best prediction that ignores the text, so that all heads count alike",
    "uncertainty": "weighted by learned uncertainties",
}


def _weighting_line(facts: RunFacts) -> str:
    """Return a line on the combination of the heads' losses."""
    weights = {name: facts.heads[name].loss_weight for name in facts.trained_heads}
    if len(weights) < 2:
        return ""
    how = _HEAD_WEIGHTING[facts.head_weighting]
    if facts.constant_losses:
        known = {name: loss for name, loss in facts.constant_losses.items() if name in weights}
        losses = ", ".join(f"{name} {loss:.3g}" for name, loss in known.items())
        if len(known) > _MOST_LOSSES:
            least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
            losses = f"from {known[least]:.3g} of {least} to {known[most]:.3g} of {most}"
        others = ", ".join(name for name in weights if name not in facts.constant_losses)
        how += f" ({losses}; not divided, as that is 0 or not known: {others})" if others else f" ({losses})"
    elif facts.head_weighting == "prior":
        how = "added as they are, because no loss of a constant prediction is known"
    if len(set(weights.values())) > 1:
        how += f", times their loss_weight ({', '.join(f'{name} {weight:g}' for name, weight in weights.items())})"
    return f'losses of the heads: {how} (head_weighting="{facts.head_weighting}")'


def _doubtful_heads(facts: RunFacts) -> list[str]:
    """Return lines about heads with nothing to learn, and about nearly equal labels."""
    lines = []
    for name, head in facts.heads.items():
        counts = None if facts.counts is None else facts.counts[name]
        present = [] if counts is None else [label for label, n in zip(head.labels, counts.positives, strict=True) if n]
        if name not in facts.trained_heads:
            continue
        if counts is not None and not counts.labelled:
            lines.append(f"Head {name!r} has no labelled training row: it learns nothing.")
        elif head.multi_label and counts is not None and not present:
            lines.append(f"Head {name!r}: no label applies to any training row, so it learns to predict none.")
        elif head.multi_label and counts is not None and _only_positive(counts):
            lines.append(f"Head {name!r}: {ONLY_POSITIVE}, so it learns to predict every label. {EMPTY_ADVICE}")
        elif not head.multi_label and (head.num_labels == 1 or len(present) == 1):
            only = (present or head.labels)[0]
            lines.append(f"Head {name!r} has one class only, {only!r}: there is nothing to learn.")
        alike = near_equal_labels(head.labels)
        if alike:
            groups = "; ".join(" and ".join(map(repr, labels)) for labels in alike[:_GROUPS])
            more = f"; and {len(alike) - _GROUPS:,} more" if len(alike) > _GROUPS else ""
            lines.append(f"Head {name!r} has labels that differ only in case, blanks or Unicode form: {groups}{more}.")
    return lines


def _only_positive(counts: HeadCounts) -> bool:
    return bool(np.any(counts.known)) and np.array_equal(counts.sums, counts.known)


def facts_of_run(trainer: "MultiHeadTrainer", state: TrainerState, optimizer: Optimizer) -> RunFacts:
    """Collect the facts of a run before it begins.

    Args:
        trainer: A `MultiHeadTrainer`.
        state: Its `TrainerState`.
        optimizer: Optimizer with parameter groups.
    """
    args: MultiHeadTrainingArguments = trainer.args
    sets = trainer.eval_dataset
    train = trainer.train_dataset
    splits = {"train": train}
    if isinstance(sets, dict):
        splits |= {f"evaluation {name!r}": rows for name, rows in sets.items()}
    elif sets is not None:
        splits["evaluation"] = sets
    rows = {split: len(rows) if has_length(rows) else None for split, rows in splits.items()}
    if trainer.test_rows is not None:
        rows["test"] = trainer.test_rows
    device_rows = state.train_batch_size if args.auto_find_batch_size else args.train_batch_size
    return RunFacts(
        heads=trainer.config.heads,
        trained_heads=list(trainer.trained_heads),
        counts=trainer.label_counts,
        rows=rows,
        steps=state.max_steps,
        epochs=None if args.max_steps > 0 else args.num_train_epochs,
        first_step=state.global_step,
        batch_rows=device_rows * args.gradient_accumulation_steps * args.world_size,
        precision=_precision(trainer),
        groups=_groups(optimizer),
        frozen=_frozen(trainer.model),
        head_weighting=args.head_weighting,
        constant_losses=trainer.constant_losses if args.head_weighting == "prior" else {},
        notes=trainer.chosen_settings(),
    )


def _groups(optimizer: Optimizer) -> list[ParameterGroup]:
    """Return parameter groups by part of the model, with the encoder's layers as one group.

    A scheduler stores the peak rate as `initial_lr`.
    """
    groups: dict[str, ParameterGroup] = {}
    for param_group in optimizer.param_groups:
        name = param_group.get("name", "parameters")
        name = name if name.startswith("heads") or name in _AFTER_HEADS else "encoder"
        group = groups.setdefault(name, ParameterGroup(name, 0, []))
        group.parameters += sum(parameter.numel() for parameter in param_group["params"])
        group.rates.append(float(param_group.get("initial_lr", param_group["lr"])))
    order = ["encoder", *(name for name in groups if name.startswith("heads")), *_AFTER_HEADS]
    return [groups[name] for name in order if name in groups]


def _frozen(model: nn.Module) -> dict[str, int]:
    base = multi_head_model(model)
    return {
        part: sum(parameter.numel() for parameter in module.parameters() if not parameter.requires_grad)
        for part, module in (("encoder", base.encoder), ("heads", base.heads))
    }


def _precision(trainer: "MultiHeadTrainer") -> str:
    mixed = trainer.accelerator.mixed_precision
    precision = "float32" if mixed == "no" else f"{mixed} mixed precision"
    dtype = str(multi_head_model(trainer.model).encoder.dtype).removeprefix("torch.")
    return precision if dtype == "float32" else f"{precision}, encoder weights in {dtype}"
