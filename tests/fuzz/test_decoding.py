"""Random decision settings against the rule written out in float64."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st

from multihead_hf import HeadConfig
from multihead_hf.model.decoding_multihead import predict

NEAR = 1e-5  # of a threshold: what lies nearer may fall on either side of it in float32


@st.composite
def heads_and_logits(draw: st.DrawFn) -> tuple[HeadConfig, npt.NDArray[np.float32], int | None, Any]:
    labels = [f"l{place}" for place in range(draw(st.integers(1, 6)))]
    multi = draw(st.booleans()) or len(labels) == 1
    share = st.floats(0.01, 0.99)
    temperature = st.floats(0.05, 20)
    settings: dict[str, Any] = {
        "calibration_temperature": draw(
            st.one_of(st.none(), temperature, st.lists(temperature, min_size=len(labels), max_size=len(labels)))
        )
    }
    threshold = None
    if multi:
        settings |= {"problem_type": "multi_label_classification"}
        each = st.lists(share, min_size=len(labels), max_size=len(labels))
        settings["thresholds"] = draw(st.one_of(st.none(), share, each))
        settings["min_labels"] = draw(st.one_of(st.none(), st.integers(0, len(labels))))
        least = max(settings["min_labels"] or 0, 1)
        settings["max_labels"] = draw(st.one_of(st.none(), st.integers(least, len(labels))))
        threshold = draw(st.one_of(st.none(), share, each, st.dictionaries(st.sampled_from(labels), share)))
    rows = draw(st.integers(1, 4))
    number = st.one_of(st.floats(-90, 90, width=32), st.sampled_from([0.0, -0.0, 20.0, 30.0, 1e30, -1e30]))
    values = draw(st.lists(number, min_size=rows * len(labels), max_size=rows * len(labels)))
    logits = np.array(values, dtype=np.float32).reshape(rows, len(labels))
    top_k = draw(st.one_of(st.none(), st.integers(1, len(labels) + 2)))
    return HeadConfig(labels=labels, **settings), logits, top_k, threshold


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def logit(share: float) -> float:
    return math.log(share) - math.log1p(-share)


def limits_of(head: HeadConfig, threshold: Any) -> list[float]:
    own = head.thresholds or [0.5] * head.num_labels
    if isinstance(threshold, dict):
        return [threshold.get(label, value) for label, value in zip(head.labels, own, strict=True)]
    if threshold is None:
        return own
    return threshold if isinstance(threshold, list) else [threshold] * head.num_labels


@fuzz(300)
@given(heads_and_logits())
def test_decisions_are_those_of_the_rule_in_float64(
    given_settings: tuple[HeadConfig, npt.NDArray[np.float32], int | None, Any],
) -> None:
    head, logits, top_k, threshold = given_settings
    found = predict(head, torch.from_numpy(logits), top_k, threshold)
    temperature = head.calibration_temperature or 1.0
    temperatures = temperature if isinstance(temperature, list) else [temperature] * head.num_labels
    for row, values in enumerate(logits.astype(np.float64)):
        own = [value / by for value, by in zip(values.tolist(), temperatures, strict=True)]
        top = max(own)
        total = sum(math.exp(value - top) for value in own)
        scores = [sigmoid(value) if head.multi_label else math.exp(value - top) / total for value in own]
        np.testing.assert_allclose(found.probabilities[row].numpy(), scores, atol=2e-5)
        order = sorted(range(len(own)), key=lambda place: -own[place])
        gaps = [own[one] - own[other] for one, other in itertools.pairwise(order)]
        ranks_are_sure = all(gap == 0 or gap > 1e-5 * max(1.0, abs(top)) for gap in gaps)
        decided = found.decisions[row].tolist()
        if not head.multi_label:
            assert sum(decided) == 1
            assert own[decided.index(True)] >= top - 1e-5 * max(1.0, abs(top))
        else:
            limits = limits_of(head, threshold)
            margins = [value - logit(limit) for value, limit in zip(own, limits, strict=True)]
            plain = [score >= limit for score, limit in zip(scores, limits, strict=True)]
            least = head.min_labels or 0
            most = head.num_labels if head.max_labels is None else head.max_labels
            assert sum(decided) == min(max(sum(decided), least), most)
            apart = sorted(margins)
            near = any(abs(score - limit) < NEAR for score, limit in zip(scores, limits, strict=True))
            tied = any(b - a < 1e-3 * max(1.0, abs(a)) for a, b in itertools.pairwise(apart))
            if not near and not tied:
                ranked = sorted(range(len(own)), key=lambda place: -margins[place])
                kept = ranked[: min(max(sum(plain), least), most)]
                assert decided == [place in kept for place in range(len(own))]
            if not near and head.min_labels is None and head.max_labels is None:
                assert decided == plain
        wanted = len(own) if top_k is not None and top_k > len(own) else top_k
        names = found.labels[row]
        assert len(names) == (sum(decided) if wanted is None else wanted)
        assert len(set(names)) == len(names)
        if ranks_are_sure:
            expected = [head.labels[place] for place in order]
            assert names == [name for name in expected if name in names]
            if wanted is not None:
                assert names == expected[:wanted]
        for name, score in found.entries(row) and zip(names, found.scores[row], strict=True):
            assert abs(score - scores[head.labels.index(name)]) < 2e-5
