"""Reading weight files without progress bars, and with errors that name the file.

This file travels with every saved model.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from transformers.utils.logging import EmptyTqdm, set_tqdm_hook

_Found = TypeVar("_Found")


@contextlib.contextmanager
def tensors_only(source: object) -> Iterator[None]:
    """Replace errors about damaged or unsafe files of weights by a `ValueError` that names the source.

    The message of torch about an unsafe pickle recommends loading it anyway.

    Args:
        source: Folder or Hub name of the weights, for the message.

    Raises:
        ValueError: The weights are a pickle that torch refuses to read, or a safetensors file that is damaged.
    """
    try:
        yield
    except torch.serialization.pickle.UnpicklingError:
        raise ValueError(
            f"{source}: its weights are a pickle that is damaged or holds more than tensors, and reading it could run "
            "code: it is refused. Use a checkpoint in safetensors"
        ) from None
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # a class of a package that this file cannot import
            raise
        raise ValueError(f"{source}: a file of its weights is damaged, download or save it again: {error}") from error


def without_bars(function: Callable[..., _Found], *args: Any, **kwargs: Any) -> _Found:
    """Call a function without the progress bars of transformers for reading and writing weights.

    Progress bars of downloads are shown as usual.
    """
    before = set_tqdm_hook(lambda factory, args, kwargs: EmptyTqdm(*args, **kwargs))
    try:
        return function(*args, **kwargs)
    finally:
        set_tqdm_hook(before)
