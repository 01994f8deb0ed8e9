"""Random heads, losses, missing labels and batches for a few steps: finite losses, and the saved model is the model."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from fuzzing import fuzz
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import set_seed

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel, MultiHeadPredictor

MISSING = -100
SHARE = st.floats(0, 1)
LOSSES: dict[str, dict[str, Any]] = {
    "bce": {},
    "focal": {"gamma": st.floats(0, 5), "alpha": SHARE},
    "asymmetric": {"gamma_positive": st.floats(0, 4), "gamma_negative": st.floats(0, 6), "margin": st.floats(0, 0.5)},
    "soft_f1": {
        "average": st.sampled_from(["samples", "macro", "micro"]),
        "temperature": st.floats(0.1, 5),
        "absent_labels": st.sampled_from(["skip", "count"]),
    },
    "soft_f1_bce": {"alpha": SHARE, "average": st.sampled_from(["samples", "macro", "micro"])},
}


@st.composite
def heads(draw: st.DrawFn) -> HeadConfig:
    labels = [f"l{place}" for place in range(draw(st.integers(1, 5)))]
    settings: dict[str, Any] = {"dropout": draw(st.sampled_from([0.0, 0.3])), "loss_weight": draw(st.floats(0.1, 3))}
    if draw(st.booleans()):
        settings |= {"architecture": "mlp", "hidden_size": draw(st.integers(1, 5))}
        settings["activation"] = draw(st.sampled_from(["relu", "gelu", "tanh"]))
    weights = st.one_of(st.none(), st.lists(st.floats(0.1, 5), min_size=len(labels), max_size=len(labels)))
    if len(labels) > 1 and draw(st.booleans()):
        settings["label_weights"] = draw(weights)
        if draw(st.booleans()):
            settings["loss_kwargs"] = {"label_smoothing": draw(st.floats(0, 0.9))}
        return HeadConfig(labels, "single_label_classification", **settings)
    loss = draw(st.sampled_from(list(LOSSES)))
    some = {name: draw(values) for name, values in LOSSES[loss].items() if draw(st.booleans())}
    if loss == "bce":
        settings |= {"label_weights": draw(weights), "pos_weight": draw(weights)}
    if loss.startswith("soft_f1") and draw(st.booleans()):
        settings["learn_thresholds"] = draw(st.floats(0.1, 0.9))
    return HeadConfig(labels, "multi_label_classification", loss=loss, loss_kwargs=some, **settings)


def targets(draw: st.DrawFn, head: HeadConfig, rows: int) -> torch.Tensor:
    if not head.multi_label:
        ids = st.one_of(st.just(MISSING), st.integers(0, head.num_labels - 1))
        return torch.tensor(draw(st.lists(ids, min_size=rows, max_size=rows)))
    cells = st.one_of(st.sampled_from([0.0, 1.0, float(MISSING)]), st.floats(0, 1, width=32))
    row = st.one_of(
        st.just([float(MISSING)] * head.num_labels), st.lists(cells, min_size=head.num_labels, max_size=head.num_labels)
    )
    return torch.tensor(draw(st.lists(row, min_size=rows, max_size=rows)))


def batch(draw: st.DrawFn, rows: int) -> dict[str, torch.Tensor]:
    length = draw(st.integers(2, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    ids = torch.randint(4, len(tiny.VOCAB), (rows, length), generator=generator)
    lengths = torch.tensor(draw(st.lists(st.integers(1, length), min_size=rows, max_size=rows)))
    mask = (torch.arange(length) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.slow
@fuzz(15)
@given(st.data())
def test_a_few_steps_stay_finite_and_what_is_saved_is_the_model(data: st.DataObject) -> None:
    named = data.draw(st.dictionaries(st.sampled_from(["a", "b.c", "é", "label"]), heads(), min_size=1, max_size=3))
    pooling = data.draw(st.sampled_from(["cls", "mean", "max", "last"]))
    set_seed(0)
    model = MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(dropout=0.1), heads=named, pooling=pooling))
    optimizer = torch.optim.AdamW(model.parameters(), lr=data.draw(st.sampled_from([1e-4, 1e-2])))
    model.train()
    for _ in range(3):
        rows = data.draw(st.integers(1, 5))
        labels = {name: targets(data.draw, head, rows) for name, head in named.items() if data.draw(st.booleans())}
        if not labels:
            continue
        weights = data.draw(st.one_of(st.none(), st.lists(st.floats(0, 3, width=32), min_size=rows, max_size=rows)))
        inputs = batch(data.draw, rows)
        weight = None if weights is None else torch.tensor(weights)
        output = model(**inputs, labels=labels, sample_weight=weight)
        assert torch.isfinite(output.loss), named
        for name, own in labels.items():
            assert torch.isfinite(output.losses[name]), named[name]
            if bool((own == MISSING).all()):
                assert output.losses[name] == 0, named[name]
        optimizer.zero_grad()
        output.loss.backward()
        assert all(torch.isfinite(own.grad).all() for own in model.parameters() if own.grad is not None), named
        optimizer.step()
    model.eval()
    assume(all(torch.isfinite(own).all() for own in model.parameters()))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = MultiHeadModel.from_pretrained(folder)
        assert sorted(path.name for path in Path(folder).glob("*.safetensors")) == ["model.safetensors"]
    inputs = batch(data.draw, data.draw(st.integers(1, 5)))
    for name, logits in model(**inputs).logits.items():
        assert torch.equal(logits, again(**inputs).logits[name]), named[name]
    texts = ["w1 w2", "", "w3 w4 w5 w6"]
    one, other = (MultiHeadPredictor(own, tiny.tokenizer(), precision="fp32").predict(texts) for own in (model, again))
    for name in named:
        assert torch.equal(one[name].probabilities, other[name].probabilities)
        assert (one[name].labels, one[name].scores) == (other[name].labels, other[name].scores)
