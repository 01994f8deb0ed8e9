"""How long the fuzzers of `tests/fuzz` run: `make fuzz` sets FUZZ to a number of times the usual examples."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("FUZZ", "1"))


def fuzz(examples: int) -> Callable[[Any], Any]:
    """Decorator of a property: so many examples, the same ones each time."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )
