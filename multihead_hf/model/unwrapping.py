"""Finding the `MultiHeadModel` inside a wrapper, such as PEFT's."""

import os

from torch import nn

from .head_multihead import is_a
from .inputs_multihead import check_adapter
from .modeling_multihead import MultiHeadModel


def multi_head_model(model: object) -> MultiHeadModel:
    """Return the `MultiHeadModel` of a trained model: the model itself, or the base model of a PEFT model.

    Raises:
        ValueError: There is none, or its adapter does not work with it.
    """
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if is_a(module, MultiHeadModel):
            check_adapter(model, module.config)
            return module
    if model is None:
        raise ValueError(
            "there is no model (None). After a hyperparameter search the trainer has none: make a MultiHeadTrainer "
            "with its best settings (best_run.hyperparameters) and train it"
        )
    if isinstance(model, (str, os.PathLike)):
        raise ValueError(f"a MultiHeadModel is expected, not its name: MultiHeadModel.from_pretrained({str(model)!r})")
    raise ValueError(
        f"a MultiHeadModel is expected, not a {type(model).__name__}: "
        "MultiHeadModel.from_encoder(name_or_path, heads={...})"
    )
