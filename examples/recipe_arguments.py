"""The command line of the recipes: their own settings beside those of `MultiHeadTrainingArguments`."""

import sys
from typing import Any, TypeVar

from transformers import HfArgumentParser, set_seed

from multihead_hf import MultiHeadTrainingArguments

Options = TypeVar("Options")


def parse_arguments(
    options: type[Options],
    defaults: dict[str, Any],
    demo: dict[str, Any],
    description: str | None,
    argv: list[str] | None,
) -> tuple[Options, MultiHeadTrainingArguments]:
    """Every field is a flag. `defaults` are the recipe's, `demo` what differs with `--demo`; also sets the seed."""
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser((options, MultiHeadTrainingArguments), description=description)
    parser.set_defaults(**defaults)
    if "--demo" in argv:
        parser.set_defaults(**demo)
    own, training = parser.parse_args_into_dataclasses(args=argv)
    set_seed(training.seed)
    return own, training
