"""Shared parts of the recipes: the command line with each recipe's settings, and the final report."""

import os
import sys
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from typing import Any, TypeVar

from transformers import HfArgumentParser, set_seed

from multihead_hf import MultiHeadTrainer, MultiHeadTrainingArguments, write_report

Options = TypeVar("Options")


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Shows defaults, and the description as it is written."""


def parse_arguments(
    options: type[Options],
    defaults: dict[str, Any],
    demo: dict[str, Any],
    description: str | None,
    argv: list[str] | None,
) -> tuple[Options, MultiHeadTrainingArguments]:
    """Parse flags for all fields and set the seed; `--demo` replaces the recipe's `defaults` by those in `demo`."""
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser(
        (options, MultiHeadTrainingArguments), description=description, formatter_class=HelpFormatter
    )
    parser.set_defaults(**defaults)
    if any(each == "--demo" or each.lower() in ("--demo=true", "--demo=1", "--demo=yes") for each in argv):
        parser.set_defaults(**demo)
    own, training = parser.parse_args_into_dataclasses(args=argv)
    set_seed(training.seed)
    return own, training


def report_on(trainer: MultiHeadTrainer, rows: Any, name: str = "_report") -> str:
    """Write the report into the output folder; return a message with its path, or with the reason why it is missing."""
    folder = os.path.join(str(trainer.args.output_dir), name)
    try:
        write_report(trainer, rows, folder)
    except ImportError as error:
        return f"No report: {error}"
    return f"The report is {folder}/report.html"
