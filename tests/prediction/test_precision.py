"""A lower precision is chosen where it decides as float32 does, but for near-ties."""

import pytest
import torch

from multihead_hf import HeadConfig
from multihead_hf.model.decoding_multihead import HeadPrediction, predict
from multihead_hf.prediction.precision import choose

HEADS = {
    "topic": HeadConfig(["a", "b", "c"], "multi_label_classification", thresholds=[0.5, 0.5, 0.3]),
    "mood": HeadConfig(["x", "y", "z"]),
}


def predictions(topic: list[float], mood: list[float]) -> dict[str, HeadPrediction]:
    """Of one text, from probabilities."""
    logits = {"topic": torch.logit(torch.tensor([topic])), "mood": torch.tensor([mood]).log()}
    return {name: predict(head, logits[name], None, None) for name, head in HEADS.items()}


SAFE = [0.9, 0.1, 0.9], [0.8, 0.1, 0.1]


@pytest.mark.parametrize(
    ("exact", "lower", "changed", "ties"),
    [
        (SAFE, SAFE, 0, 0),
        (([0.9, 0.51, 0.9], SAFE[1]), ([0.9, 0.49, 0.9], SAFE[1]), 1, 1),
        (([0.9, 0.53, 0.9], SAFE[1]), ([0.9, 0.49, 0.9], SAFE[1]), 1, 0),  # float32 was sure
        (([0.9, 0.1, 0.49], SAFE[1]), ([0.9, 0.1, 0.29], SAFE[1]), 1, 0),  # near 0.5, whose threshold is 0.3
        ((SAFE[0], [0.445, 0.435, 0.12]), (SAFE[0], [0.435, 0.445, 0.12]), 1, 1),
        ((SAFE[0], [0.5, 0.4, 0.1]), (SAFE[0], [0.4, 0.5, 0.1]), 1, 0),
        # a near-tie of one head does not excuse another head
        (([0.9, 0.51, 0.9], [0.5, 0.4, 0.1]), ([0.9, 0.49, 0.9], [0.4, 0.5, 0.1]), 1, 0),
    ],
)
def test_changes_beyond_near_ties_forbid_it(
    exact: tuple[list[float], list[float]], lower: tuple[list[float], list[float]], changed: int, ties: int
) -> None:
    choice = choose(HEADS, [predictions(*SAFE), predictions(*exact)], [predictions(*SAFE), predictions(*lower)], "bf16")
    assert (choice.rows, choice.changed, choice.near_ties) == (2, changed, ties)
    assert choice.precision == ("bf16" if changed == ties else "fp32")
    pairs = zip([*exact[0], *exact[1]], [*lower[0], *lower[1]], strict=True)
    assert choice.difference == pytest.approx(max(abs(one - other) for one, other in pairs), abs=1e-6)
