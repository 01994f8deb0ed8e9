"""The order of the training rows, the same for a run that goes on from a checkpoint as for one without a pause."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class SeededByEpoch(Sampler[int]):
    """A sampler by length whose order depends on seed and epoch only. (Transformers draws it from the global random
    state when an epoch begins, and that of a checkpoint in the middle of an epoch is restored later.)

    Args:
        sampler: the sampler as the Trainer makes it.
        seed: seed of the run's data.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int) -> None:
        self._sampler, self._seed, self._epoch = sampler, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator = torch.Generator().manual_seed(self._seed + self._epoch)
        return iter(self._sampler)
