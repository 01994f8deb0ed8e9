"""Checks before training starts: arguments, rows, labels, metrics and collator."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import DataLoaderDispatcher
from datasets import Dataset
from huggingface_hub import get_token
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers.utils import logging

from ..data.counting import HeadCounts, can_be_counted, head_counts
from ..data.rows_like import PreparedRows, RowsLike, has_length
from ..evaluation.metric_names import evaluation_keys
from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig, near_names
from ..model.storage_multihead import has_adapter
from ..model.unwrapping import multi_head_model
from .arguments import MultiHeadTrainingArguments
from .defaults import heads_in

logger = logging.get_logger(__name__)


def check_arguments(args: MultiHeadTrainingArguments) -> None:
    """Check arguments of a run that do not depend on the model or the data.

    Raises:
        ValueError: Arguments do not work with several heads, DataParallel is used, processes would each train alone,
            or a push has no token.
    """
    if not isinstance(args, MultiHeadTrainingArguments):
        raise ValueError(f"args must be a MultiHeadTrainingArguments, not {type(args).__name__}")
    if args.label_smoothing_factor:
        raise ValueError(
            "label_smoothing_factor is for models with one head; smooth the labels of a single-label head with "
            "HeadConfig(loss_kwargs={'label_smoothing': 0.1})"
        )
    if "loss" in args.include_for_metrics:
        raise ValueError("include_for_metrics='loss' has no single loss with several heads: use eval_<head>_loss")
    if args.batch_eval_metrics or not args.eval_do_concat_batches:
        raise ValueError("metrics of the heads need batch_eval_metrics=False and eval_do_concat_batches=True")
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible to one process, and DataParallel averages losses wrongly: start one "
            f"process for each, `accelerate launch --num_processes {args.n_gpu} script.py`, or make only one GPU "
            "visible"
        )
    started = int(os.environ.get("WORLD_SIZE") or 1) if "LOCAL_RANK" in os.environ else 1
    if started > 1 and args.world_size == 1:
        raise ValueError(
            f"{started} processes were started (by torchrun or accelerate launch), but each would train a model of its "
            "own and write it to the same folder. To train on CPUs together: use_cpu=True (--use_cpu)"
        )
    if args.neftune_noise_alpha is not None and args.freeze_encoder:
        raise ValueError(
            "neftune_noise_alpha adds noise to the embeddings while the encoder is trained, which freeze_encoder=True "
            "excludes: leave one of them out"
        )
    if args.cache_features:
        _check_cache_arguments(args)
    if args.push_to_hub:
        check_token(args.hub_token)


def _check_cache_arguments(args: MultiHeadTrainingArguments) -> None:
    if args.fp16_full_eval or args.bf16_full_eval:
        raise ValueError(
            "cache_features: fp16_full_eval and bf16_full_eval change the encoder's weights, and so its features; for "
            "a smaller cache set feature_dtype='bfloat16'"
        )
    if "inputs" in args.include_for_metrics:
        raise ValueError(
            "cache_features: the metrics cannot have inputs (include_for_metrics), which are not read again"
        )
    if args.feature_cache_dir is not None and os.path.isfile(args.feature_cache_dir):
        raise ValueError(f"feature_cache_dir {args.feature_cache_dir} is a file: give a folder")
    if args.feature_cache_dir is not None and args.output_dir is not None:
        inside = os.path.relpath(args.feature_cache_dir, args.output_dir)
        if not inside.startswith(("_", "..")) and not os.path.isabs(inside):
            raise ValueError(
                f"feature_cache_dir {args.feature_cache_dir} is inside output_dir and would be pushed with the "
                "model: use a folder outside, or leave feature_cache_dir out"
            )


def check_extensions(
    args: MultiHeadTrainingArguments,
    data_collator: Callable | None = None,
    optimizers: tuple[Optimizer | None, LRScheduler | None] = (None, None),
    compute_loss_func: Callable | None = None,
    **others: Any,
) -> None:
    """Check arguments of the Trainer that do not work with several heads.

    Raises:
        ValueError: The heads cannot be trained with an argument.
    """
    if compute_loss_func is not None:
        raise ValueError(
            "compute_loss_func would be scaled wrongly by accumulation and processes, and does not distinguish "
            "heads: give each head its loss, losses={head: function}"
        )
    if args.cache_features and data_collator is not None:
        raise ValueError(
            "cache_features collates features, which your data_collator does not support: leave out "
            "data_collator or cache_features"
        )
    if args.head_weighting == "uncertainty" and optimizers[0] is not None:
        raise ValueError(
            "head_weighting='uncertainty' learns parameters that an optimizer made before does not have: pass "
            "optimizer_cls_and_kwargs instead of optimizers"
        )


def check_best_metric(args: MultiHeadTrainingArguments, config: MultiHeadConfig, evaluation: RowsLike | None) -> None:
    """Check that `metric_for_best_model` is a metric of the run.

    Args:
        args: Arguments of a run without metrics of the user.
        config: Configuration of the model.
        evaluation: The evaluation dataset, or a dict of several.

    Raises:
        ValueError: `metric_for_best_model` is unknown; the message suggests similar names.
    """
    if args.metric_for_best_model is None or evaluation is None:
        return
    known = list(evaluation_keys(config.heads))
    if args.prediction_loss_only:
        known = ["loss", *(f"{name}_loss" for name in config.heads)]
    if isinstance(evaluation, Mapping):
        # the metrics of each dataset, and the mean over the datasets
        known = [
            *([] if args.prediction_loss_only else ["f1"]),
            *(f"{name}_{key}" for name in evaluation for key in known),
        ]
    metric = args.metric_for_best_model.removeprefix("eval_")
    if metric not in known and not metric.endswith(("runtime", "_per_second")):
        near = near_names(metric, known)
        shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
        if isinstance(evaluation, Mapping) and metric == "loss":  # (the default of load_best_model_at_end)
            near = " Each of several evaluation datasets has its own: choose one of these metrics."
            near += " f1 is the mean over the datasets." if "f1" in known else ""
        raise ValueError(f"metric_for_best_model {metric!r} is not one of the metrics.{near} The metrics are {shown}")


def check_best_metric_is_labelled(
    args: MultiHeadTrainingArguments,
    config: MultiHeadConfig,
    evaluation: PreparedRows | Mapping[str, PreparedRows] | None,
) -> None:
    """Check that there are labels in the evaluation rows from which `metric_for_best_model` is computed.

    Args:
        args: Arguments of the run.
        config: Configuration of the model.
        evaluation: The prepared evaluation dataset, or a dict of several.

    Raises:
        ValueError: `metric_for_best_model` is a metric of rows without labels for its head, or for any head.
    """
    metric = (args.metric_for_best_model or "").removeprefix("eval_")
    sets = dict(evaluation) if isinstance(evaluation, Mapping) else {"": evaluation}
    # (a dataset's name is the prefix of its metrics; "f1" and "loss" of several datasets are means over them)
    used_sets = sets
    if named := max((name for name in sets if name and metric.startswith(f"{name}_")), key=len, default=None):
        used_sets = {named: sets[named]}
    if not metric or not all(map(can_be_counted, used_sets.values())):
        return
    metric_of_set = metric.removeprefix("" if named is None else f"{named}_")
    name = max((name for name in config.heads if metric_of_set.startswith(f"{name}_")), key=len, default=None)
    heads = config.heads if name is None else {name: config.heads[name]}
    if metric_of_set == "loss" and args.train_heads:  # (it is that of the trained heads)
        heads = {name: head for name, head in config.heads.items() if name in args.train_heads}
    if any(count.labelled for rows in used_sets.values() for count in head_counts(rows, heads).values()):
        return
    if name is None:
        raise ValueError(
            f"metric_for_best_model {metric!r} cannot be computed: no row of eval_dataset has a label of the heads "
            f"{list(heads)}. If the rows have labels, name their columns with label_columns={{head: column}}"
        )
    raise ValueError(
        f"metric_for_best_model {metric!r} is a metric of head {name!r}, but eval_dataset has no labels of that head"
    )


def warn_of_frozen_heads(model: nn.Module, config: MultiHeadConfig, trained: Collection[str]) -> None:
    """Warn about heads without trained parameters that the user did not freeze, as with PEFT's default settings.

    Args:
        model: The model, perhaps with an adapter or wrapped by PEFT.
        config: Configuration of the model.
        trained: Names of the heads to train.
    """
    learning = {
        name
        for name, head in heads_in(model, config.heads)
        if any(parameter.requires_grad for parameter in head.parameters())
    }
    frozen = [name for name in trained if name not in learning]
    base = multi_head_model(model)
    if frozen and (base is not model or has_adapter(base)):
        logger.warning(
            f"the heads {frozen} are frozen and will not be part of the adapter: they stay as they are. To train them "
            "too: LoraConfig(..., modules_to_save=['heads'])"
        )


def check_learnable(
    rows: PreparedRows | None,
    counts: Mapping[str, HeadCounts] | None,
    config: MultiHeadConfig,
    args: MultiHeadTrainingArguments,
) -> None:
    """Warn about a head without a labelled training row.

    Args:
        rows: The prepared training rows.
        counts: Counts of their labels; `None` for a stream, which is not checked.
        config: Configuration of the model.
        args: Arguments of the run.

    Raises:
        ValueError: Nothing would be learned: no row has a label or a positive weight, no head has a positive weight,
            or there is no full batch with `dataloader_drop_last`.
    """
    heads = {name: head for name, head in config.heads.items() if args.train_heads is None or name in args.train_heads}
    if rows is None or not heads:
        return
    if not any(head.loss_weight for head in heads.values()):
        raise ValueError(f"the loss_weight of all trained heads is 0 ({list(heads)}), so nothing would be learned")
    batch = args.per_device_train_batch_size
    if args.dataloader_drop_last and has_length(rows) and len(rows) < batch * args.world_size:
        raise ValueError(
            f"train_dataset has {len(rows)} rows, fewer than the {batch * args.world_size} of a batch, and "
            "dataloader_drop_last=True leaves it out: nothing would be learned"
        )
    if counts is None:
        return
    none = [name for name in heads if not counts[name].labelled]
    if len(none) == len(heads):
        raise ValueError(f"train_dataset: no row has a label for {list(heads)}, so nothing would be learned")
    if not any(counts[name].weight for name in heads):
        raise ValueError(
            "train_dataset: sample_weight is 0 in all rows with a label for the heads "
            f"{[name for name in heads if name not in none]}, so nothing would be learned"
        )
    weightless = [name for name in heads if name not in none and not _has_weight(heads[name], counts[name])]
    unweighted = [name for name in heads if name not in [*none, *weightless] and not counts[name].weight]
    if not any(head.loss_weight for name, head in heads.items() if name not in [*none, *weightless, *unweighted]):
        labelled = [name for name in heads if name not in none]
        raise ValueError(
            f"train_dataset: only the heads {labelled} have labelled rows, and their loss_weight, the label_weights "
            "of all labels that occur, or the sample_weight of all these rows are 0, so nothing would be learned"
        )
    if none:
        logger.warning(f"train_dataset: no row has a label for the heads {none}, so they learn nothing")
    if weightless:
        logger.warning(
            f"train_dataset: the label_weights of all labels that occur are 0 for the heads {weightless}, so they "
            "learn nothing"
        )
    if unweighted:
        logger.warning(
            f"train_dataset: sample_weight is 0 in all rows with a label for the heads {unweighted}, so they learn "
            "nothing"
        )


def _has_weight(head: HeadConfig, count: HeadCounts) -> bool:
    """Return whether a label that occurs has a weight in the loss; for a multi-label head, also if only as a 0."""
    if not isinstance(head.label_weights, list):
        return True
    return bool((np.asarray(head.label_weights) * (count.known if head.multi_label else count.positives)).any())


def check_collator(collate: Callable[[list[Any]], Mapping[str, Any]], rows: PreparedRows) -> None:
    """Check that a custom collator makes a batch of prepared rows with labels.

    Raises:
        ValueError: The collator fails, or its batches have no dict of labels.
    """
    if not has_length(rows):
        return
    advice = (
        "The labels of a row are a dict head → target, as MultiHeadDataCollator reads them: subclass it, or leave "
        "data_collator out"
    )
    try:
        with torch.random.fork_rng(devices=[]):
            batch = collate([rows[index] for index in range(min(len(rows), 2))])
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        problem = str(error).partition("\n")[0]
        raise ValueError(
            f"data_collator {type(collate).__name__} fails on prepared rows: {problem}. {advice}"
        ) from error
    if not isinstance(batch.get("labels"), Mapping):
        raise ValueError(f"data_collator {type(collate).__name__} gives batches without a dict of labels. {advice}")


def check_token(token: str | None) -> None:
    """Check that a Hub token is available.

    Raises:
        ValueError: Neither `token` nor a stored token exists.
    """
    if not token and not get_token():
        raise ValueError(
            "pushing to the Hub needs a token, but none was found: run `hf auth login`, set HF_TOKEN, or pass hub_token"
        )


def check_countable(dataloader: DataLoader, processes: int) -> None:
    """Check that an evaluation can tell padded rows from real ones.

    Raises:
        ValueError: Several processes each read the same stream, so that padded rows would be counted.
    """
    if processes > 1 and not has_length(dataloader.dataset) and not isinstance(dataloader, DataLoaderDispatcher):
        raise ValueError(
            f"a stream is evaluated by {processes} processes, each reading it by itself: the rows with which the last "
            "batch is filled up would be counted as data. Give a dataset with a length, or let one process read and "
            'send: accelerator_config={"dispatch_batches": True, "split_batches": True}'
        )


def check_cacheable(what: str, rows: object) -> None:
    """Check that a dataset can be used with `cache_features`.

    Raises:
        ValueError: The rows cannot be identified before they are read.
    """
    if not isinstance(rows, Dataset):
        raise ValueError(
            f"cache_features needs datasets with a length, but {what} is a {type(rows).__name__}: pass a "
            "datasets.Dataset, a data frame or files, or leave cache_features out"
        )
    if rows.format["type"] == "custom":
        raise ValueError(
            f"cache_features reads each row once, but {what} has a transform: remove the transform, or leave "
            "cache_features out"
        )
