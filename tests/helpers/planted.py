"""A tiny model that was taught one word for each label, for the tests of explanations."""

import functools
import random

import tiny
import torch
from torch import nn

from multihead_hf import HeadConfig, MultiHeadModel

PLANTED = "w7"


@functools.cache
def _weights(family: str) -> tuple[MultiHeadModel, dict[str, torch.Tensor]]:
    """`topic`: label `waste` if and only if w7 is there; `mood`: `angry` then, else `calm`."""
    heads = {
        "topic": HeadConfig(
            labels=tiny.TOPICS, problem_type="multi_label_classification", calibration_temperature=[1.0, 2.0, 1.0]
        ),
        "mood": HeadConfig(labels=tiny.MOODS),
    }
    model = tiny.model(family, heads=heads, pooling="mean")
    tokenizer, rng = tiny.tokenizer(), random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        texts = [rng.choices([word for word in tiny.WORDS if word != PLANTED], k=rng.randint(3, 9)) for _ in range(32)]
        there = torch.tensor([rng.random() < 0.5 for _ in texts])
        for words, yes in zip(texts, there.tolist(), strict=True):
            if yes:
                words[rng.randrange(len(words))] = PLANTED
        logits = model(**tokenizer([" ".join(words) for words in texts], padding=True, return_tensors="pt")).logits
        targets = torch.stack([torch.zeros(32), there.float(), torch.zeros(32)], dim=1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits["topic"], targets)
        loss = loss + nn.functional.cross_entropy(logits["mood"], there.long())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert loss.item() < 0.1
    return model, model.state_dict()


def planted_model(family: str = "bert", **settings: object) -> MultiHeadModel:
    """The model, with text settings of one's own."""
    taught, weights = _weights(family)
    model = tiny.model(family, heads=taught.config.heads, pooling="mean", **settings)
    model.load_state_dict(weights)
    return model
