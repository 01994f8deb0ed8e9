"""A tiny model for the demo page, in which known words make known labels about 0.8 probable."""

import functools
import random
from pathlib import Path

import tiny
import torch

from multihead_hf import HeadConfig, MultiHeadModel

TOPICS = ["roads", "waste", "</script><b>noise</b>"]
"""w1, w2 and w3 speak for them."""
MOODS = ["calm", "angry"]
"""w5 speaks for the second."""


@functools.cache
def knowing_model() -> MultiHeadModel:
    """Trained until a label is 0.8 probable where its word is in the text, and 0.2 where not. Leave it as it is."""
    heads = {
        "topic": HeadConfig(TOPICS, "multi_label_classification", dropout=0.0),
        "<i>mood</i>": HeadConfig(MOODS, dropout=0.0),
    }
    model = tiny.model(heads=heads, pooling="mean")  # in evaluation mode: no dropout
    tokenizer = tiny.tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    random.seed(0)
    for _ in range(120):
        texts = [random.sample(tiny.WORDS[:8], random.randint(1, 4)) for _ in range(32)]
        topics = torch.tensor([[0.8 if word in text else 0.2 for word in ("w1", "w2", "w3")] for text in texts])
        moods = torch.tensor([int("w5" in text) for text in texts])
        inputs = tokenizer([" ".join(text) for text in texts], padding=True, return_tensors="pt")
        model(**inputs, labels={"topic": topics, "<i>mood</i>": moods}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def save(model: MultiHeadModel, folder: Path) -> Path:
    """Save it with its tokenizer."""
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder
