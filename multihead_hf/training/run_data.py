"""Rows of a run, prepared for the heads of its model."""

from collections.abc import Mapping
from typing import Any

from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from ..data.counting import HeadCounts, can_be_counted, head_counts
from ..data.preparation import part_of
from ..data.rows_like import PreparedRows, RowsLike
from ..evaluation.metric_names import check_set_keys, metric_keys
from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig
from .arguments import MultiHeadTrainingArguments
from .checks import check_best_metric, check_best_metric_is_labelled, check_cacheable, check_learnable
from .preparation import (
    apply_text_settings,
    check_same_labels,
    labels_of,
    prepared,
    prepared_for_training,
    text_reading,
)


class RunData:
    """Training and evaluation rows: `train` and `evaluation` (a dict if there are several datasets).

    Args:
        tokenizer: Tokenizer of the encoder.
        train: Rows to train on, as the user gave them.
        evaluation: Rows to evaluate on, as the user gave them.
        has_own_metrics: Whether the user has a function that computes further metrics.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        train: RowsLike | None,
        evaluation: RowsLike | None,
        has_own_metrics: bool,
    ) -> None:
        self.tokenizer = tokenizer
        self.train: Any = train  # replaced by the prepared rows later
        self.evaluation: Any = part_of(evaluation, "validation")
        self._has_own_metrics = has_own_metrics
        self._labels: dict[str, list[str]] | None = None  # labels of the heads that the rows were prepared for
        self._texts: dict[str, Any] = {}  # text settings that they were prepared with
        self._counted: tuple[Any, dict[str, HeadCounts]] | None = None

    def prepare(self, config: MultiHeadConfig, args: MultiHeadTrainingArguments) -> None:
        """Prepare the rows for the first model; later models need the same heads and text settings.

        Raises:
            ValueError: Rows cannot be prepared, two metrics have the same name, or the heads or text settings differ
                from those before.
        """
        if self._labels is not None:
            check_same_labels(self._labels, config)
            apply_text_settings(config, args)
            self._check_texts(config)
            return
        metric_keys(config.heads)  # metrics with the same name fail now, not after the first epoch
        if isinstance(self.evaluation, Mapping):
            check_set_keys(config.heads, self.evaluation)
        if not self._has_own_metrics:
            check_best_metric(args, config, self.evaluation)
        apply_text_settings(config, args)
        train = prepared_for_training(self.train, config, args, self.tokenizer)
        check_learnable(train, self.label_counts(train, config.heads), config, args)
        evaluation = self.prepared_for_evaluation(self.evaluation, config, args, "eval_dataset")
        if not self._has_own_metrics:
            check_best_metric_is_labelled(args, config, evaluation)
        if args.cache_features:
            sets = evaluation if isinstance(evaluation, dict) else {"eval_dataset": evaluation}
            for what, rows in ({"train_dataset": train} | sets).items():
                if rows is not None:
                    check_cacheable(what, rows)
        self.train, self.evaluation = train, evaluation
        self._labels, self._texts = labels_of(config), text_reading(config)

    def prepared_for_evaluation(
        self, rows: RowsLike, config: MultiHeadConfig, args: MultiHeadTrainingArguments, what: str = "dataset"
    ) -> PreparedRows | dict[str, PreparedRows]:
        """Return prepared rows, or a dict of them for a dict of several datasets."""
        if isinstance(rows, (dict, DatasetDict)):
            name_of = (lambda name: f"{what} {name!r}") if what == "eval_dataset" else (lambda name: what)
            return {
                name: prepared(dataset, config, args, self.tokenizer, name_of(name)) for name, dataset in rows.items()
            }
        return prepared(rows, config, args, self.tokenizer, what)

    def label_counts(self, rows: object, heads: Mapping[str, HeadConfig]) -> dict[str, HeadCounts] | None:
        """Return the label counts of prepared training rows, computed once; `None` for a stream."""
        if not can_be_counted(rows):
            return None
        if self._counted is None or self._counted[0] is not rows:
            self._counted = (rows, head_counts(rows, heads))
        return self._counted[1]

    def check_heads_of(self, rows: object, config: MultiHeadConfig) -> None:
        """Check that rows were prepared for the heads and text settings that the model has now.

        Raises:
            ValueError: The rows were prepared here, for other heads or with other text settings.
        """
        datasets = [
            self.train,
            self.evaluation,
            *(self.evaluation.values() if isinstance(self.evaluation, dict) else ()),
        ]
        if self._labels is not None and rows is not None and any(rows is dataset for dataset in datasets):
            check_same_labels(self._labels, config)
            self._check_texts(config)

    def _check_texts(self, config: MultiHeadConfig) -> None:
        before, now = self._texts, text_reading(config)
        if changed := [f"{key} {before[key]!r} (now {now[key]!r})" for key in now if now[key] != before[key]]:
            raise ValueError(
                f"the data of this Trainer was prepared with {', '.join(changed)}: make a new MultiHeadTrainer, which "
                "prepares its data for the model as it is now (a hyperparameter search cannot change this)"
            )
