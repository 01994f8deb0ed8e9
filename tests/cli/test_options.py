"""Options that commands share, and those that they take from the library."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from command_line import cli

from multihead_hf.cli.options import separators
from multihead_hf.evaluation.thresholds import GRANULARITIES, METRICS
from multihead_hf.explanation.explain import METHODS
from multihead_hf.explanation.gradients import BASELINES
from multihead_hf.explanation.perturbation import QUANTITIES
from multihead_hf.model.configuration_multihead import POOLINGS
from multihead_hf.model.reading_multihead import EMPTY
from multihead_hf.prediction.backends import BACKENDS
from multihead_hf.prediction.precision import PRECISIONS
from multihead_hf.publishing.export import FORMATS, QUANTIZE


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--label-column", "topc=topics"], "there is no head 'topc'. Did you mean 'topic'? Heads: ['topic', 'mood']"),
        (["--sep", "topc=|"], "there is no head 'topc'. Did you mean 'topic'? Heads: ['topic', 'mood']"),
        (["--empty", "topc=none"], "there is no head 'topc'. Did you mean 'topic'? Heads: ['topic', 'mood']"),
        (["--empty", "topic=nothing"], "'topic=nothing': give missing or none, or NAME=none. Did you mean 'none'?"),
        (["--sep", "topic="], "'topic=': there is no separator after the =. Some need quotes: \"topic=;\""),
        (["--sep", "colour=|"], "there is no head 'colour'. Heads: ['topic', 'mood']"),
        (["--sep", "topic=|", "--sep", "mod=,"], "there is no head 'mod'. Did you mean 'mood'?"),
    ],
)
def test_a_misspelt_head_is_named(table: Path, saved: Path, arguments: list[str], expected: str) -> None:
    model = saved
    commands: list[list[Any]] = [["evaluate", model, table]]
    if arguments[0] == "--sep":
        commands.append(["inspect", table, "--model", model])
    for command in commands:
        done = cli(*command, *arguments)
        assert done.returncode == 2
        assert expected in done.stderr


def test_a_head_has_one_column(table: Path, saved: Path) -> None:
    done = cli("evaluate", saved, table, "--label-column", "mood", "--label-column", "mood=topic_labels")
    assert done.returncode == 2
    assert "the head 'mood' is given twice" in done.stderr


def test_a_separator_may_hold_an_equals_sign() -> None:
    assert separators([" = "], ["topic"]) == " = "
    assert separators(["=>"], ["topic"]) == "=>"
    assert separators(["topic=|"], ["topic", "mood"]) == {"topic": "|"}
    assert separators([], ["topic"]) is None


@pytest.mark.parametrize(
    ("command", "option", "known"),
    [
        ("inspect", "empty", EMPTY),
        ("tune-thresholds", "metric", METRICS),
        ("tune-thresholds", "granularity", GRANULARITIES),
        ("explain", "method", METHODS),
        ("explain", "baseline", BASELINES),
        ("explain", "quantity", QUANTITIES),
        ("predict", "precision", PRECISIONS),
        ("predict", "backend", BACKENDS),
        ("convert", "pooling", POOLINGS),
        ("export", "format", FORMATS),
        ("export", "quantize", QUANTIZE),
    ],
)
def test_choices_are_those_of_the_library(command: str, option: str, known: Iterable[str]) -> None:
    shown = cli(command, "--help").stdout
    assert re.search(rf"--{option} +[\[<]{re.escape('|'.join(known))}[]>]", shown), shown


def test_a_choice_that_there_is_not_is_wrong_usage() -> None:
    done = cli("explain", "model", "text", "--method", "shap")
    assert done.returncode == 2
    assert all(method in done.stderr for method in METHODS)
    assert "Value error" not in done.stderr  # (typer 0.29 begins with it)


def test_a_similar_choice_is_suggested() -> None:
    done = cli("predict", "model", "rows.csv", "--backend", "openvin")
    assert done.returncode == 2
    assert "'openvin' is not one of 'auto'" in done.stderr
    assert "Did you mean 'openvino'?" in done.stderr
