"""Private hooks of transformers that the package relies on: an upgrade that renames one fails here, and not silently
in a run."""

import inspect
from collections.abc import Callable, Iterator

import pytest
from transformers import PreTrainedModel, Trainer
from transformers.pipelines.base import Pipeline

import multihead_hf

# `Trainer` method → its parameters, and why no public method or callback does the job
OVERRIDDEN = {
    "_get_num_items_in_batch": (
        ["batch_samples", "device"],
        "it counts labels of tensors, and ours are dicts; `get_batch_samples` calls it, and so does evaluation",
    ),
    "_get_eval_sampler": (
        ["eval_dataset"],
        "it makes the sampler by length, which reads a column of lengths row by row",
    ),
    "_get_train_sampler": (
        ["train_dataset"],
        "it makes the sampler by length, whose order has to be that of seed and epoch for a run that is resumed",
    ),
    "_init_training_state": (
        ["max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"],
        "shares of a run become numbers of steps before a checkpoint is compared with them, which warns otherwise",
    ),
    "_push_from_checkpoint": (
        ["checkpoint_folder"],
        "on_push_begin comes before the Trainer's pickle is written into the folder that is uploaded with it",
    ),
    "_save": (
        ["output_dir", "state_dict"],
        "`save_model` ends with a push: what it writes has to be in place before, and whole, over a model that is there",
    ),
    "_set_signature_columns_if_needed": (
        [],
        "it keeps the columns that `forward` takes; lengths are none of them, and sampling by length reads them",
    ),
}
# (class, method, parameters): called, or overridden in the files that travel with a model
USED = [
    (Trainer, "_prepare_input", ["data"]),
    (Trainer, "_prepare_inputs", ["inputs"]),
    (PreTrainedModel, "_from_config", ["config", "kwargs"]),
    (PreTrainedModel, "_init_weights", ["module"]),
]


def own_classes() -> Iterator[type]:
    """The classes of the package that `MultiHeadTrainer` is made of."""
    return (each for each in multihead_hf.MultiHeadTrainer.__mro__ if each.__module__.startswith("multihead_hf"))


def parameters(function: Callable) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def test_the_trainer_overrides_no_other_private_method() -> None:
    overridden = {
        name for each in own_classes() for name in vars(each) if name.startswith("_") and name in dir(Trainer)
    }
    assert {name for name in overridden if not name.startswith("__")} - {"_signature_columns"} == set(OVERRIDDEN)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_a_private_hook_of_the_trainer_is_as_it_was(name: str) -> None:
    expected, reason = OVERRIDDEN[name]
    assert parameters(getattr(Trainer, name)) == expected, f"{name} is overridden because {reason}"


@pytest.mark.parametrize("hook", USED, ids=lambda hook: hook[1])
def test_what_is_used_of_transformers_is_as_it_was(hook: tuple[type, str, list[str]]) -> None:
    owner, name, expected = hook
    assert parameters(getattr(owner, name)) == expected


def test_the_base_class_calls_its_hooks() -> None:
    """A hook that is there and not called any more would be as silent as one that was renamed."""
    source = inspect.getsource(Trainer)
    for name in OVERRIDDEN:
        assert source.count(f"self.{name}") > 0, name
    assert "_eval_dataloaders" in source


def test_a_pipeline_keeps_its_batch_size_and_workers_where_they_are_read() -> None:
    source = inspect.getsource(Pipeline)
    assert "self._batch_size" in source
    assert "self._num_workers" in source
