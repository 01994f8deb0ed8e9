"""Training rows of a Trainer: their columns, their order, and the features of a frozen encoder."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..data.rows_like import PreparedRows
from ..model.unwrapping import multi_head_model
from .arguments import MultiHeadTrainingArguments
from .checks import check_cacheable
from .features import FeatureCache, cache_for
from .run_data import RunData
from .sampling import SeededByEpoch, with_read_lengths


class DataHooks(Trainer):
    """Methods of `MultiHeadTrainer` that provide rows for the training loop."""

    args: MultiHeadTrainingArguments
    train_dataset: Any
    _data: RunData
    _feature_cache: FeatureCache | None = None
    _signature_columns: list[str] | None

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            # used by train_sampling_strategy
            self._signature_columns = [*(self._signature_columns or []), self.args.length_column_name]

    def get_train_dataloader(self) -> DataLoader:
        """Return the dataloader of the training rows, with their features under `cache_features`."""
        rows = self.train_dataset
        self.train_dataset = self._with_features(rows, "training")
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = rows

    def _get_train_sampler(self, train_dataset: PreparedRows | None = None) -> Sampler | None:
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return SeededByEpoch(with_read_lengths(sampler), seed)

    def _get_eval_sampler(self, eval_dataset: PreparedRows) -> Sampler | None:
        sampler = super()._get_eval_sampler(eval_dataset)
        return with_read_lengths(sampler) if isinstance(sampler, LengthGroupedSampler) else sampler

    def _with_features(self, dataset: PreparedRows | None, what: str) -> PreparedRows | None:
        if not self.args.cache_features or dataset is None:
            return dataset
        check_cacheable(what, dataset)
        if self._feature_cache is None:
            self._feature_cache = cache_for(self.args, self._data.tokenizer, self.accelerator.mixed_precision)
        return self._feature_cache.rows(multi_head_model(self.model), dataset, self._encode)

    def _encode(self, tokens: dict[str, Tensor]) -> Tensor:
        # (the Trainer applies autocast to `forward` only)
        with torch.no_grad(), self.accelerator.autocast():
            return multi_head_model(self.model).encode(**self._prepare_inputs(tokens))
