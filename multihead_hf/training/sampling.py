"""Order of the training rows, which is the same for a resumed run as for one without a pause."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class SeededByEpoch(Sampler[int]):
    """A sampler by length whose order depends only on seed and epoch.

    Transformers draws the order from the global random state when an epoch begins; on resume in the middle of an epoch,
    the state of the checkpoint is restored only later.

    Args:
        sampler: The sampler as the Trainer makes it.
        seed: Seed of the run's data.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int) -> None:
        self._sampler, self._seed, self._epoch = sampler, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order is drawn next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator = torch.Generator().manual_seed(self._seed + self._epoch)
        return iter(self._sampler)
