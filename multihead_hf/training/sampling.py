"""Order of the training rows, which is the same for a resumed and an uninterrupted run."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


def with_read_lengths(sampler: LengthGroupedSampler) -> LengthGroupedSampler:
    """Read the lengths at once; a column of a dataset would be read row by row in each epoch."""
    sampler.lengths = sampler.lengths[:]
    return sampler


class SeededByEpoch(Sampler[int]):
    """A sampler that groups by length and whose order depends only on seed and epoch.

    Transformers draws the order from the global random state when an epoch begins. When a run resumes within an epoch,
    the checkpoint's random state is restored only after that.

    Args:
        sampler: The sampler as the Trainer makes it.
        seed: Seed of the run's data.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int) -> None:
        self._sampler, self._seed, self._epoch = sampler, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch for the next order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator = torch.Generator().manual_seed(self._seed + self._epoch)
        return iter(self._sampler)
