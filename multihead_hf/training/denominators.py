"""What the terms of the losses are divided by: counted over a whole optimiser step before its first forward pass."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import loss_terms, step_denominators


def whole_step_denominators(
    heads: Mapping[str, HeadConfig], batches: list[Mapping[str, Any]], accelerator: Accelerator
) -> dict[str, dict[str, Tensor]]:
    """Head → term → units (scalars on the accelerator's device) in all micro-batches of a step, over all processes.

    Args:
        heads: the heads being trained.
        batches: this process's micro-batches, with `labels` and perhaps `sample_weight`; may be empty.
        accelerator: sums over the processes, in one small reduction.
    """
    keys = [(name, term.name) for name, head in heads.items() for term in loss_terms(name, head)]
    total = torch.zeros(len(keys), dtype=torch.float64)
    for batch in batches:
        # a collator of one's own may leave out heads
        units = step_denominators(heads, batch["labels"], batch.get("sample_weight"))
        values = [units.get(name, {}).get(term, 0.0) for name, term in keys]
        total += torch.stack([torch.as_tensor(value).double().cpu() for value in values])
    if accelerator.num_processes > 1:
        # float32 on the wire: counts are exact up to 2**24, and some accelerators have no float64
        total = accelerator.reduce(total.float().to(accelerator.device), reduction="sum").double().cpu()
    summed: dict[str, dict[str, Tensor]] = {name: {} for name in heads}
    for (name, term), value in zip(keys, total, strict=True):
        summed[name][term] = value.float().to(accelerator.device)
    return summed
