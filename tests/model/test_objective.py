"""From terms to a step's loss: heads computed as one, ratios over a step, combinations of heads."""

import pytest
import tiny
import torch
from torch import Tensor

from multihead_hf import HeadConfig
from multihead_hf.model.losses_multihead import RatioTerm, loss_terms
from multihead_hf.model.objective_multihead import (
    StepTotals,
    batch_units,
    combined_loss,
    head_losses,
    step_ratio,
)

ROWS, LABELS = 8, 4
MULTI = {"labels": list("abcd"), "problem_type": "multi_label_classification"}
KINDS = {
    "cross_entropy": {"labels": list("abcd"), "label_weights": [1.0, 2.0, 0.5, 1.0]},
    "bce": {**MULTI, "pos_weight": [2.0, 1.0, 1.0, 3.0]},
    "focal": {**MULTI, "loss": "focal"},
    "asymmetric": {**MULTI, "loss": "asymmetric"},
    "soft_f1_bce": {**MULTI, "loss": "soft_f1_bce"},
    "macro": {**MULTI, "loss": "soft_f1", "loss_kwargs": {"average": "macro"}},
    "micro": {**MULTI, "loss": "soft_f1", "loss_kwargs": {"average": "micro"}},
}


def data(heads: dict[str, HeadConfig], seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits in float64, and targets with missing rows and cells."""
    generator = torch.Generator().manual_seed(seed)
    logits = {name: torch.randn(ROWS, LABELS, generator=generator).double().requires_grad_() for name in heads}
    labels = {}
    for name, head in heads.items():
        cells = torch.randint(0, 2, (ROWS, LABELS), generator=generator).float()
        cells[3], cells[5, 1] = -100, -100
        ids = torch.randint(0, LABELS, (ROWS,), generator=generator)
        ids[2] = -100
        labels[name] = cells if head.multi_label else ids
    return logits, labels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_a_step", [False, True])
def test_heads_computed_as_one_have_the_losses_of_each(kind: str, in_a_step: bool) -> None:
    heads = {name: HeadConfig(**KINDS[kind]) for name in ("one", "two", "three")}
    logits, labels = data(heads)
    labels["two"] = torch.full_like(labels["two"], -100)
    weights = torch.linspace(0, 2, ROWS)
    step = StepTotals(batch_units(heads, labels, weights), torch.tensor(1.0), {}) if in_a_step else None
    together = head_losses(heads, logits, labels, step=step, sample_weight=weights)
    assert list(together.losses) == ["one", "two", "three"]
    combined_loss(heads, together.losses).backward()
    gradients = {name: values.grad for name, values in logits.items()}
    for name, head in heads.items():
        mine = logits[name].detach().requires_grad_()
        alone = head_losses({name: head}, {name: mine}, {name: labels[name]}, step=step, sample_weight=weights)
        torch.testing.assert_close(together.losses[name], alone.losses[name])
        assert together.terms[name].keys() == alone.terms[name].keys()
        (alone.losses[name] / 3).backward()
        torch.testing.assert_close(gradients[name], mine.grad)
        assert bool(mine.grad.any()) == (name != "two")
    assert together.losses["two"] == 0


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_shares_of_a_ratio_over_the_step(average: str) -> None:
    """Two passes over the parts give the value and the gradient of the whole, weighted rows and all."""
    settings = {"average": average, "scope": "step"}
    heads = {"head": HeadConfig(**MULTI, loss="soft_f1", loss_kwargs=settings, learn_thresholds=0.4)}
    logits, labels = data(heads)
    z, y = logits["head"], labels["head"]
    tau = {"head": torch.linspace(-1, 1, LABELS).double().requires_grad_()}
    weights = torch.linspace(0.5, 2, ROWS)
    whole = head_losses(heads, logits, labels, tau, sample_weight=weights).losses["head"]
    expected = torch.autograd.grad(whole, [z, tau["head"]])

    parts = [[0, 1, 2], [3], [4, 5, 6, 7]]
    units = [batch_units(heads, {"head": y[rows]}, weights[rows])["head"]["soft_f1"] for rows in parts]
    step = StepTotals({"head": {"soft_f1": torch.stack(units).sum()}}, torch.tensor(3.0), {})

    def shares(step: StepTotals) -> list:
        return [head_losses(heads, {"head": z[rows]}, {"head": y[rows]}, tau, step, weights[rows]) for rows in parts]

    sums = sum(found.statistics["head"]["soft_f1"] for found in shares(step))
    (term,) = loss_terms("head", heads["head"])
    assert isinstance(term, RatioTerm)
    ratio = step_ratio(term, sums, step.units["head"]["soft_f1"])
    torch.testing.assert_close(ratio.value, whole.detach())
    split = sum(found.losses["head"] for found in shares(step._replace(ratios={"head": {"soft_f1": ratio}})))
    torch.testing.assert_close(split, whole)
    found = torch.autograd.grad(split, [z, tau["head"]])
    assert all(gradient.any() for gradient in expected)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_ratio_over_a_step_without_labels_is_zero() -> None:
    head = HeadConfig(**MULTI, loss="soft_f1", loss_kwargs={"average": "micro", "scope": "step"})
    (term,) = loss_terms("head", head)
    assert isinstance(term, RatioTerm)
    ratio = step_ratio(term, torch.zeros(3), torch.tensor(0.0))
    assert ratio.value == 0
    assert not ratio.gradient.any()


def test_samples_soft_f1_needs_no_second_pass() -> None:
    head = HeadConfig(**MULTI, loss="soft_f1", loss_kwargs={"scope": "step"})
    assert not any(isinstance(term, RatioTerm) for term in loss_terms("head", head))


@pytest.mark.parametrize("architecture", ["linear", "mlp"])
def test_heads_of_one_shape_are_one_product_while_training(architecture: str) -> None:
    labels = {"a": 3, "b": 3, "c": 2, "d": 3, "e": 3}
    heads = {
        name: HeadConfig([f"{i}" for i in range(count)], dropout=0.0, architecture=architecture)
        for name, count in labels.items()
    }
    model = tiny.model(heads=heads, pooling="mean")
    pooled = torch.randn(5, 32, requires_grad=True)
    seen: list[str] = []
    model.heads["d"].register_forward_hook(lambda *_: seen.append("d"))
    model.heads["e"].layers[-1].register_full_backward_hook(lambda *_: seen.append("e"))
    alone = model.heads(pooled, list(heads))[0]
    assert seen == ["d"]
    model.train()
    with torch.profiler.profile() as profile:
        together = model.heads(pooled, list(heads))[0]
    products = [event.count for event in profile.key_averages() if event.key == "aten::baddbmm"]
    assert seen == ["d", "d"]  # a head that somebody hooked into runs by itself
    assert products == [1 if architecture == "linear" else 2]
    assert list(together) == list(heads)
    for name in heads:
        torch.testing.assert_close(alone[name], together[name])
    sum(values.square().sum() for values in together.values()).backward()
    assert seen[-1] == "e"
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.heads.parameters())


def test_heads_computed_as_one_have_dropout_of_their_own() -> None:
    heads = {name: HeadConfig(["x", "y"], dropout=0.5) for name in "ab"}
    model = tiny.model(heads=heads).train()
    for name in "ab":
        torch.nn.init.ones_(model.heads[name].layers[1].weight)
        torch.nn.init.zeros_(model.heads[name].layers[1].bias)
    logits, _ = model.heads(torch.ones(4, 32), list(heads))
    assert not torch.equal(logits["a"], logits["b"])
