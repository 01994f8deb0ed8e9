"""Evaluation and prediction of a Trainer: its hooks, and the counts of a running evaluation."""

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import EvalPrediction, TrainerControl
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput
from transformers.utils import logging

from ..data.rows_like import PreparedRows, RowsLike
from ..evaluation.collapse import collapsed_heads, messages, weak_heads
from ..evaluation.evaluate import Evaluation
from ..evaluation.metric_names import check_set_keys
from ..evaluation.streaming import StreamingMetrics
from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig, near_names
from ..model.unwrapping import multi_head_model
from ..publishing.card_callback import ModelCardCallback
from .checks import check_countable
from .console import set_title
from .data_hooks import DataHooks
from .defaults import heads_in, never_trained
from .preparation import prepared

logger = logging.get_logger(__name__)


class RunningEvaluation:
    """Accumulates the losses and metrics of an evaluation while the Trainer's loop runs.

    `prefix` is the metric prefix of the newest evaluation, and `last` holds its counts.
    """

    def __init__(self) -> None:
        self.prefix = "eval"
        self.last: StreamingMetrics | None = None
        self._current: Evaluation | None = None
        self._users_keys: set[str] = set()
        self._weak: dict[tuple[str, str], str] = {}  # prefix and head → kind of the weakness

    @contextlib.contextmanager
    def counted(
        self, heads: Mapping[str, HeadConfig], with_metrics: bool, gather: Callable[[Any], Any], prefix: str
    ) -> Iterator[Evaluation]:
        """Return the context of a loop whose batches are counted.

        Args:
            heads: As for `Evaluation`.
            with_metrics: As for `Evaluation`.
            gather: As for `Evaluation`.
            prefix: Prefix of the metrics.
        """
        self.prefix, self._users_keys = prefix, set()
        self._current = evaluation = Evaluation(heads, with_metrics, gather)
        try:
            yield evaluation
        finally:
            self._current = None
        self.last = evaluation.metrics

    def add(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], sample_weight: Tensor | None) -> None:
        """Add a batch of this process, if a loop is running."""
        if self._current is not None:
            self._current.add(logits, labels, sample_weight)

    def noting_keys(self, compute_metrics: Callable[[EvalPrediction], dict]) -> Callable[[EvalPrediction], dict]:
        """Return the user's function, whose keys take precedence over the library's."""

        def metrics(prediction: EvalPrediction) -> dict[str, float]:
            user_metrics = compute_metrics(prediction)
            if not isinstance(user_metrics, Mapping):
                raise ValueError(
                    f"compute_metrics returned {user_metrics!r:.80}: it must return a dict of metric → number"
                )
            self._users_keys = {f"{self.prefix}_{key.removeprefix(f'{self.prefix}_')}" for key in user_metrics}
            return user_metrics

        return metrics

    def figures(
        self, evaluation: Evaluation, combine: Callable[[Mapping[str, Tensor]], Tensor], trained: Collection[str]
    ) -> dict[str, float]:
        """Return the metrics with their prefix, without those that the user's function computes."""
        # the prefix is added here: the Trainer would omit it if a head's name begins with it
        metrics = {f"{self.prefix}_{key}": value for key, value in evaluation.figures(combine, trained).items()}
        return {key: value for key, value in metrics.items() if key not in self._users_keys}

    def warn_of_weak_heads(self, heads: Collection[str], prefix: str, ended: bool, says: bool) -> None:
        """Warn once about a head that has learned nothing or lacks other thresholds, and again when that has changed.

        Args:
            heads: Names of the heads.
            prefix: Prefix of the evaluation's metrics.
            ended: Whether no further training step comes; only then other thresholds are recommended.
            says: Whether this process shows the warning.
        """
        if self.last is None:
            return
        found = weak_heads(self.last) if ended else collapsed_heads(self.last)
        new = {name: own for name, own in found.items() if name in heads and own[0] != self._weak.get((prefix, name))}
        self._weak |= {(prefix, name): found.get(name, ("", ""))[0] for name in heads}
        for text in messages(new) if says else ():
            with tqdm.external_write_mode():  # above the progress bar
                logger.warning(f"{set_title(prefix)}: {text}" if set_title(prefix) else text)


@contextlib.contextmanager
def keeping_weights(model: nn.Module) -> Iterator[None]:
    """Restore the weights of a model on exit.

    With `bf16_full_eval` or `fp16_full_eval` the base class rounds them for the evaluation and does not restore them.
    """
    before = {weight: weight.data for weight in (*model.parameters(), *model.buffers())}
    try:
        yield
    finally:
        for tensor, data in before.items():
            tensor.data = data.to(tensor.device)


class EvaluationHooks(DataHooks):
    """Methods of `MultiHeadTrainer` that evaluate and predict."""

    eval_dataset: Any
    control: TrainerControl
    recommends_thresholds = True
    """Whether the evaluation at the end of the training recommends thresholds; not if they are tuned next."""
    test_rows: int | None = None
    """Number of rows that are evaluated after the training, for the table at its start."""
    _evaluation: RunningEvaluation
    _card: ModelCardCallback

    @property
    def config(self) -> MultiHeadConfig:
        """Configuration of the model that is trained."""
        return multi_head_model(self.model).config

    @property
    def trained_heads(self) -> dict[str, HeadConfig]:
        """Head → configuration, of the heads that are trained: all of them, or those of `train_heads`."""
        names = self.args.train_heads
        return {name: head for name, head in self.config.heads.items() if names is None or name in names}

    def _combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError

    @property
    def last_evaluation(self) -> StreamingMetrics | None:
        """Counts and metrics of the newest evaluation, which print as a table; `None` before it."""
        return self._evaluation.last

    @property
    def metric_prefix(self) -> str:
        """Prefix of the newest evaluation's metrics."""
        return self._evaluation.prefix

    @contextlib.contextmanager
    def _with_arguments(self, **changes: Any) -> Iterator[None]:
        """Use a copy of the arguments with changes until exit."""
        arguments, self.args = self.args, copy.copy(self.args)
        self.args.__dict__.update(changes)
        try:
            yield
        finally:
            self.args = arguments

    def get_eval_dataloader(self, eval_dataset: PreparedRows | str | None = None) -> DataLoader:
        """Return the dataloader of an evaluation, over all rows.

        Args:
            eval_dataset: A dataset, the name of an evaluation dataset, or `None` for the Trainer's.
        """
        if self.args.cache_features:
            # a loader with persistent workers would not notice that the encoder has changed
            self.__dict__.pop("_eval_dataloaders", None)
            rows = self.eval_dataset[eval_dataset] if isinstance(eval_dataset, str) else eval_dataset
            eval_dataset = self._with_features(self.eval_dataset if rows is None else rows, "evaluation")
        # cached features have one length, and groups would take memory for each row
        order = {"train_sampling_strategy": "sequential"} if self.args.cache_features else {}
        # `dataloader_drop_last` applies to training only; metrics are computed over all rows
        with self._with_arguments(dataloader_drop_last=False, **order):
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: PreparedRows) -> DataLoader:
        """Return the dataloader of a prediction, over all rows and in their order.

        Args:
            test_dataset: The prepared dataset.
        """
        # grouping by length would return predictions in an unknown order
        with self._with_arguments(dataloader_drop_last=False, train_sampling_strategy="sequential"):
            return super().get_test_dataloader(test_dataset)

    def evaluate(
        self,
        eval_dataset: RowsLike | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate the model, as `Trainer.evaluate`, on raw or prepared datasets.

        Args:
            eval_dataset: Rows, or a dict of several datasets, or the name of one in the Trainer's dict; `None` means
                the Trainer's `eval_dataset`.
            ignore_keys: Keys of the model's output that are left out.
            metric_key_prefix: Prefix of the metrics.

        Returns:
            Metric → value; with a dict of datasets also `<prefix>_f1`, the mean over them.

        Raises:
            ValueError: The rows do not fit the model's heads.
        """
        multi_head_model(self.model).sync_thresholds()
        sets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {}
        is_name = isinstance(eval_dataset, str) and eval_dataset in sets
        if sets and isinstance(eval_dataset, str) and not is_name and not set("/.*") & set(eval_dataset):
            near = near_names(eval_dataset, sets)
            raise ValueError(f"there is no evaluation dataset {eval_dataset!r}.{near} They are {list(sets)}")
        is_stored = is_name or eval_dataset is None
        self._data.check_heads_of(self.eval_dataset if is_stored else eval_dataset, self.config)
        if isinstance(eval_dataset, Mapping):
            check_set_keys(self.config.heads, eval_dataset, metric_key_prefix)
        if not is_stored:
            eval_dataset = self._data.prepared_for_evaluation(eval_dataset, self.config, self.args)
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        rows: Any = eval_dataset if eval_dataset is not None else self.eval_dataset
        if isinstance(rows, dict):
            metrics.update(self._mean_over_sets(metrics, metric_key_prefix, rows))
        elif self._evaluation.last is not None and not self._evaluation.last.labelled_heads:
            logger.warning(
                f"{metric_key_prefix}: no row has a label of the heads {list(self.config.heads)}, so there are no "
                "metrics of them"
            )
        elif not self.is_in_train or 4 * self.state.global_step > self.state.max_steps:
            # (in the first quarter of a training a head may not have learned anything yet)
            ended = not self.is_in_train or (
                self.recommends_thresholds and self.state.global_step >= self.state.max_steps
            )
            first = self.is_world_process_zero()
            self._evaluation.warn_of_weak_heads(self._heads_that_learn(), metric_key_prefix, ended, first)
        if metric_key_prefix == "eval":
            self._card.note_evaluation(metrics, rows)
        return metrics

    def note_test_scores(self, metrics: Mapping[str, float], rows: object) -> None:
        """Let the model card have the scores of an evaluation with the prefix `test`.

        Args:
            metrics: Metrics, as `evaluate` returns them.
            rows: The evaluated rows, or a dict of several datasets.
        """
        self._card.note_evaluation(metrics, rows, "test")

    def _heads_that_learn(self) -> list[str]:
        """Return the names of the heads, without single-label heads that are not trained now and never were."""
        fresh = {name for name, head in heads_in(self.model, self.config.heads) if never_trained(head)}
        learning = self.trained_heads if self.is_in_train else {}
        return [
            name
            for name, head in self.config.heads.items()
            if head.multi_label or name in learning or name not in fresh
        ]

    def _mean_over_sets(self, metrics: Mapping[str, float], prefix: str, sets: Mapping[str, Any]) -> dict[str, float]:
        scores = [metrics[f"{prefix}_{name}_f1"] for name in sets if f"{prefix}_{name}_f1" in metrics]
        if not scores:
            return {}
        mean = {f"{prefix}_f1": sum(scores) / len(scores)}
        self.log(dict(mean))
        # the callbacks got the metrics of each dataset; early stopping on the mean needs the mean
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, mean)
        return mean

    def predict(
        self, test_dataset: RowsLike, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Predict raw or prepared rows, as `Trainer.predict`.

        Args:
            test_dataset: The rows.
            ignore_keys: Keys of the model's output that are left out.
            metric_key_prefix: Prefix of the metrics.

        Returns:
            The `PredictionOutput` of the base class; predictions and labels are dicts by head, in row order.

        Raises:
            ValueError: The rows do not fit the model's heads.
        """
        multi_head_model(self.model).sync_thresholds()
        self._data.check_heads_of(test_dataset, self.config)
        rows = prepared(test_dataset, self.config, self.args, self._data.tokenizer, "dataset", require_labels=False)
        return super().predict(rows, ignore_keys, metric_key_prefix)

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Run an evaluation, as `Trainer.evaluation_loop`, with the heads' metrics and the exact losses over all rows.

        The base class has the mean of batch means. Rows are counted batch by batch: predictions are kept only for
        `predict` and `compute_metrics`. The random state is restored afterwards.

        Args:
            dataloader: Batches of prepared rows.
            *args: As for the base class.
            **kwargs: As for the base class.

        Returns:
            The `EvalLoopOutput` of the base class, with these metrics.

        Raises:
            ValueError: Several processes each read the same stream.
        """
        check_countable(dataloader, self.args.world_size)
        prefix, with_metrics = kwargs.get("metric_key_prefix", "eval"), not self.args.prediction_loss_only
        gather = self.accelerator.gather_for_metrics
        cast = self.args.bf16_full_eval or self.args.fp16_full_eval
        with (
            self._evaluation.counted(self.config.heads, with_metrics, gather, prefix) as evaluation,
            keeping_weights(self.model) if cast else contextlib.nullcontext(),
            # loaders draw a seed for each pass, and an evaluation must not change the course of the training
            torch.random.fork_rng(devices=[]),
        ):
            output = super().evaluation_loop(dataloader, *args, **kwargs)
        # gloo frees gathered tensors in its own threads, which need the GIL: a process that ends before they have
        # finished hangs in the destructor of its process group (torch 2.13). While it waits here, they can finish
        self.accelerator.wait_for_everyone()
        output.metrics.update(self._evaluation.figures(evaluation, self._combine, self.trained_heads))
        return output

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, dict[str, Tensor] | None, dict[str, Tensor] | None]:
        """Compute the logits of one batch and count them in the running evaluation.

        Args:
            model: The model to be evaluated.
            inputs: The batch.
            prediction_loss_only: Whether to return no logits and labels.
            ignore_keys: Keys of the model's output that are left out.

        Returns:
            No loss, the logits and the labels.
        """
        # without labels: batch losses are not used for the exact losses, and a model may lack a loss function
        labels = inputs.get("labels")
        model_inputs = {"return_dict": True, **{key: value for key, value in inputs.items() if key != "labels"}}
        ignored = [*(ignore_keys or []), *self.config.keys_to_ignore_at_inference]
        _, logits, _ = super().prediction_step(model, model_inputs, False, ignored)
        if labels is not None:
            labels = self._prepare_input(labels)
            self._evaluation.add(logits, labels, self._prepare_input(inputs.get("sample_weight")))
        return (None, None, None) if prediction_loss_only else (None, logits, labels)
