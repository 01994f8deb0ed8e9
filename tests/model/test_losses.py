"""Losses against independent references, missing labels, and numerics."""

import math
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from multihead_hf import HeadConfig
from multihead_hf.model.head_multihead import LOSS_SETTINGS
from multihead_hf.model.losses_multihead import (
    LOSSES,
    AdditiveTerm,
    loss_terms,
    register_loss,
)
from multihead_hf.model.objective_multihead import HeadLosses, StepTotals, batch_units, head_losses

ROWS, LABELS = 7, 5


def single(**settings: object) -> HeadConfig:
    return HeadConfig(labels=list("abcde"), **settings)


def multi(**settings: object) -> HeadConfig:
    return HeadConfig(labels=list("abcde"), problem_type="multi_label_classification", **settings)


def logits(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(ROWS, LABELS, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 2


def targets(missing: bool = False) -> Tensor:
    cells = torch.randint(0, 2, (ROWS, LABELS), generator=torch.Generator().manual_seed(1)).float()
    if missing:
        cells[2] = -100
        cells[4, 1] = cells[5, 3] = -100
    return cells


def found(head: HeadConfig, z: Tensor, y: Tensor, learned: Tensor | None = None, **options: Any) -> HeadLosses:
    return head_losses({"head": head}, {"head": z}, {"head": y}, {"head": learned}, **options)


def loss_of(head: HeadConfig, z: Tensor, y: Tensor, learned: Tensor | None = None, **options: Any) -> Tensor:
    return found(head, z, y, learned, **options).losses["head"]


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in LOSSES),
    ("cross_entropy", {"label_smoothing": 0.1}),
    *(("focal", {"gamma": gamma}) for gamma in (0.0, 0.5)),
    ("asymmetric", {"gamma_positive": 0.0, "gamma_negative": 0.5}),
    ("asymmetric", {"gamma_positive": 0.5, "gamma_negative": 0.0, "margin": 0.0}),
    *(("soft_f1", {"average": average}) for average in ("macro", "micro")),
    ("soft_f1_bce", {"average": "macro", "absent_labels": "count"}),
]


def head_of(name: str, kwargs: dict[str, Any]) -> tuple[HeadConfig, Tensor]:
    """A head with label weights and pos_weight where they count, and targets of which some are missing."""
    if LOSS_SETTINGS[name][0].startswith("single"):
        head = single(loss=name, loss_kwargs=kwargs, label_weights=[1.0, 2.0, 0.5, 1.0, 1.0])
        return head, torch.tensor([0, 4, -100, 2, 1, -100, 0])
    weights = [] if name == "soft_f1" else [1.0, 2.0, 0.5, 1.0, 1.0]
    settings = {"label_weights": weights or None, "pos_weight": [3.0, 1.0, 1.0, 2.0, 1.0] if "bce" in name else None}
    return multi(loss=name, loss_kwargs=kwargs, **settings), targets(missing=True)


def wimbert_soft_f1(z: Tensor, y: Tensor, tau: Tensor | float, temperature: float) -> Tensor:
    """W2, written out row by row."""
    values = []
    for row_z, row_y in zip(z, y.double(), strict=True):
        p = 1 / (1 + torch.exp(-temperature * (row_z - tau)))
        tp, fp, fn = (p * row_y).sum(), (p * (1 - row_y)).sum(), ((1 - p) * row_y).sum()
        precision, recall = tp / (tp + fp + 1e-8), tp / (tp + fn + 1e-8)
        values.append(1 - 2 * precision * recall / (precision + recall + 1e-8))
    return torch.stack(values).mean()


def test_the_table_of_settings_is_the_functions_signatures() -> None:
    assert list(LOSSES) == list(LOSS_SETTINGS)
    for name, (_, settings) in LOSS_SETTINGS.items():
        defaults = LOSSES[name].__kwdefaults__ or {}
        assert set(defaults) == set(settings), name


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 0.0, 3.0]])
def test_cross_entropy_is_torchs(weights: list[float] | None) -> None:
    y = torch.tensor([0, 4, -100, 2, 1, -100, 0])
    expected = F.cross_entropy(logits(), y, weight=None if weights is None else torch.tensor(weights).double())
    torch.testing.assert_close(loss_of(single(label_weights=weights), logits(), y), expected)


@pytest.mark.parametrize("pos_weight", [None, [0.5, 1.0, 2.0, 4.0, 8.0]])
def test_bce_is_torchs_over_the_known_cells(pos_weight: list[float] | None) -> None:
    y = targets(missing=True)
    known = y != -100
    weight = None if pos_weight is None else torch.tensor(pos_weight).double()
    cells = F.binary_cross_entropy_with_logits(
        logits(), torch.where(known, y, 0.0).double(), pos_weight=weight, reduction="none"
    )
    torch.testing.assert_close(loss_of(multi(pos_weight=pos_weight), logits(), y), cells[known].mean())


def test_label_weights_of_bce_weigh_cells() -> None:
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.5]).double()
    cells = F.binary_cross_entropy_with_logits(logits(), targets().double(), reduction="none")
    expected = (cells * weights).sum() / weights.expand_as(cells).sum()
    torch.testing.assert_close(loss_of(multi(label_weights=weights.tolist()), logits(), targets()), expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("threshold", [None, 0.565])
def test_soft_f1_is_wimberts(temperature: float, threshold: float | None) -> None:
    head = multi(loss="soft_f1", loss_kwargs={"temperature": temperature}, learn_thresholds=threshold)
    tau = math.log(0.565 / 0.435) if threshold else 0.0
    learned = torch.full((LABELS,), tau, dtype=torch.float64) if threshold else None
    value, parts = (got := found(head, logits(), targets(), learned)).losses["head"], got.terms["head"]
    expected = wimbert_soft_f1(logits(), targets(), tau, temperature)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(parts["soft_f1"], expected)


def test_soft_f1_bce_mixes_with_bce_on_raw_logits() -> None:
    head = multi(loss="soft_f1_bce", loss_kwargs={"alpha": 0.15, "temperature": 2.0}, learn_thresholds=0.565)
    tau = torch.full((LABELS,), math.log(0.565 / 0.435), dtype=torch.float64)
    value, parts = (got := found(head, logits(), targets(), tau)).losses["head"], got.terms["head"]
    bce = F.binary_cross_entropy_with_logits(logits(), targets().double())
    torch.testing.assert_close(parts["bce"], bce)
    torch.testing.assert_close(value, 0.15 * wimbert_soft_f1(logits(), targets(), tau, 2.0) + 0.85 * bce)


@pytest.mark.parametrize("loss", [name for name, (kind, _) in LOSS_SETTINGS.items() if kind.startswith("multi")])
def test_missing_rows_and_cells_count_on_neither_side(loss: str) -> None:
    head = multi(loss=loss)
    whole = torch.tensor([0, 1, 3, 6])  # rows without missing cells
    y = targets(missing=True)
    y[4:6] = -100
    torch.testing.assert_close(loss_of(head, logits(), y), loss_of(head, logits()[whole], targets()[whole]))
    z = logits().requires_grad_()
    loss_of(head, z, targets(missing=True)).backward()
    assert z.grad is not None
    assert z.grad[0].any()
    assert not z.grad[2].any()
    assert not z.grad[4, 1]
    assert not z.grad[5, 3]


@pytest.mark.parametrize("head", [single(), multi(), multi(loss="soft_f1"), multi(loss="soft_f1_bce")])
def test_nothing_labelled_is_an_exact_zero_in_the_graph(head: HeadConfig) -> None:
    z = logits().requires_grad_()
    y = torch.full((ROWS, LABELS), -100.0) if head.multi_label else torch.full((ROWS,), -100)
    value = loss_of(head, z, y)
    assert value == 0
    value.backward()
    assert z.grad is not None
    assert not z.grad.any()


@pytest.mark.parametrize(("name", "kwargs"), SETTINGS)
def test_gradients_in_float64(name: str, kwargs: dict[str, Any]) -> None:
    head, y = head_of(name, kwargs)
    learned = torch.linspace(-1, 1, LABELS).double().requires_grad_() if "f1" in name else None
    given = [logits().requires_grad_(), *([learned] if learned is not None else [])]
    assert torch.autograd.gradcheck(lambda z, tau=None: loss_of(head, z, y, tau), given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    head = multi(loss="soft_f1_bce")
    extreme = logits(dtype) * 20
    value = loss_of(head, extreme, targets())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss_of(head, extreme.float(), targets()))


@pytest.mark.parametrize(("name", "kwargs"), SETTINGS)
@pytest.mark.parametrize("size", [20.0, 1e4])
def test_extreme_logits_stay_finite(name: str, kwargs: dict[str, Any], size: float) -> None:
    head, y = head_of(name, kwargs)
    z = (logits(torch.float32).sign() * size).requires_grad_()
    value = loss_of(head, z, y)
    value.backward()
    assert torch.isfinite(value)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize(("name", "kwargs"), SETTINGS)
def test_in_float32_under_autocast(name: str, kwargs: dict[str, Any]) -> None:
    head, y = head_of(name, kwargs)
    z = logits(torch.float32).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss_of(head, z, y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss_of(head, z.float(), y))


@pytest.mark.parametrize("name", LOSSES)
def test_shares_of_a_step_sum_to_its_loss(name: str) -> None:
    is_multi = LOSS_SETTINGS[name][0].startswith("multi")
    head = multi(loss=name) if is_multi else single(loss=name, label_weights=[1.0, 2.0, 0.5, 1.0, 1.0])
    y = targets(missing=True) if is_multi else torch.tensor([0, 4, -100, 2, 1, -100, 0])
    step = StepTotals(batch_units({"head": head}, {"head": y}), torch.tensor(3.0), {})
    shares = [loss_of(head, logits()[rows], y[rows], step=step) for rows in ([0, 1, 2], [3], [4, 5, 6])]
    torch.testing.assert_close(sum(shares), loss_of(head, logits(), y))


def test_balanced_weights_that_nobody_computed() -> None:
    with pytest.raises(
        ValueError, match=r"head 'mood': label_weights='balanced' is not computed yet.*MultiHeadTrainer"
    ):
        loss_terms("mood", single(label_weights="balanced"))


def test_a_saved_loss_that_this_installation_does_not_know() -> None:
    head = HeadConfig.from_saved({**multi().to_dict(), "loss": "bse", "loss_kwargs": {"gamma": 2}})
    assert head.loss == "bse"
    model = tiny.model(heads={"topic": head})
    assert list(model(**tiny.batch()).logits) == ["topic"]
    with pytest.raises(ValueError, match=r"head 'topic': its loss 'bse' is unknown.*can predict but not train.*'bce'"):
        model(**tiny.batch(), labels={"topic": torch.zeros(3, LABELS)})


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 0.0, 3.0]])
def test_label_smoothing_is_torchs(weights: list[float] | None) -> None:
    y = torch.tensor([0, 4, -100, 2, 1, -100, 0])
    weight = None if weights is None else torch.tensor(weights).double()
    expected = F.cross_entropy(logits(), y, weight=weight, label_smoothing=0.2)
    head = single(label_weights=weights, loss_kwargs={"label_smoothing": 0.2})
    torch.testing.assert_close(loss_of(head, logits(), y), expected)


def test_focal_is_as_published() -> None:
    """Lin et al. 2017, cell by cell: −α_t (1 − p_t)^γ log p_t."""
    y = targets(missing=True)
    values = []
    for z, target in zip(logits().flatten().tolist(), y.flatten().tolist(), strict=True):
        if target != -100:
            p = 1 / (1 + math.exp(-z))
            p_t, alpha_t = (p, 0.25) if target == 1 else (1 - p, 0.75)
            values.append(-alpha_t * (1 - p_t) ** 2 * math.log(p_t))
    assert loss_of(multi(loss="focal"), logits(), y).item() == pytest.approx(sum(values) / len(values))
    plain = loss_of(multi(loss="focal", loss_kwargs={"gamma": 0, "alpha": 0.5}), logits(), y)
    torch.testing.assert_close(2 * plain, loss_of(multi(), logits(), y))


@pytest.mark.parametrize("margin", [0.05, 0.0])
def test_asymmetric_is_as_published(margin: float) -> None:
    """Ridnik et al. 2021, cell by cell, and the mean of its cells instead of the sum."""
    y = targets(missing=True)
    values = []
    for z, target in zip(logits().flatten().tolist(), y.flatten().tolist(), strict=True):
        if target != -100:
            p = 1 / (1 + math.exp(-z))
            shifted = max(p - margin, 0)
            values.append(-(1 - p) * math.log(p) if target == 1 else -(shifted**4) * math.log(1 - shifted))
    head = multi(loss="asymmetric", loss_kwargs={"margin": margin})
    assert loss_of(head, logits(), y).item() == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize("average", ["samples", "macro", "micro"])
def test_soft_f1_on_hard_predictions_is_scikit_learns(average: str) -> None:
    from sklearn.metrics import f1_score

    y = targets()
    y[:, 0], y[0] = 1.0, torch.tensor([1.0, 0, 1, 0, 0])
    hard = (torch.rand(y.shape, generator=torch.Generator().manual_seed(3)) > 0.5).double() * 200 - 100
    expected = f1_score(y, hard > 0, average=average, zero_division=0)
    head = multi(loss="soft_f1", loss_kwargs={"average": average, "absent_labels": "count"})
    assert 1 - loss_of(head, hard, y).item() == pytest.approx(expected, abs=1e-6)


def test_macro_soft_f1_and_labels_without_a_positive() -> None:
    """What `absent_labels` is about: such labels have loss 1 and no gradient."""
    y = targets()
    y[:, 1] = y[:, 3] = 0
    z = logits().requires_grad_()
    counted = loss_of(multi(loss="soft_f1", loss_kwargs={"average": "macro", "absent_labels": "count"}), z, y)
    counted.backward()
    assert z.grad is not None
    assert not z.grad[:, [1, 3]].any()
    assert z.grad[:, [0, 2, 4]].any()
    skipped = loss_of(multi(loss="soft_f1", loss_kwargs={"average": "macro"}), z, y)
    torch.testing.assert_close(counted, (3 * skipped + 2) / 5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("average", ["samples", "macro", "micro"])
def test_sample_weights_are_repeated_rows(name: str, average: str) -> None:
    """A weight of 2 is a row given twice, a weight of 0 one left out."""
    is_multi = LOSS_SETTINGS[name][0].startswith("multi")
    settings = {"average": average} if "average" in LOSS_SETTINGS[name][1] else {}
    head = multi(loss=name, loss_kwargs=settings) if is_multi else single(label_weights=[1.0, 2.0, 0.5, 1.0, 1.0])
    y = targets(missing=True) if is_multi else torch.tensor([0, 4, -100, 2, 1, -100, 0])
    rows = [0, 0, 1, 2, 3, 3, 3, 5]
    weights = torch.tensor([2.0, 1, 1, 3, 0, 1, 0])
    weighted = loss_of(head, logits(), y, sample_weight=weights)
    torch.testing.assert_close(weighted, loss_of(head, logits()[rows], y[rows]))


def test_soft_targets() -> None:
    soft = torch.rand(ROWS, LABELS, generator=torch.Generator().manual_seed(5))
    expected = F.binary_cross_entropy_with_logits(logits(), soft.double())
    torch.testing.assert_close(loss_of(multi(), logits(), soft), expected)


def test_a_loss_of_ones_own() -> None:
    def squared_error(head: HeadConfig, threshold_logits: Tensor | None = None, *, scale: float = 1.0) -> list:
        def numerator(z: Tensor, y: Tensor) -> Tensor:
            return scale * ((torch.sigmoid(z) - y) ** 2 * (y != -100)).sum(-1)

        return [AdditiveTerm("squared_error", 1.0, numerator, lambda y: (y != -100).sum(-1))]

    with pytest.raises(ValueError, match=r"'bce' is a built-in loss"):
        register_loss("bce", squared_error, "multi_label_classification")
    register_loss("squared_error", squared_error, "multi_label_classification")
    try:
        head = multi(loss="squared_error", loss_kwargs={"scale": 2.0})
        expected = 2 * ((torch.sigmoid(logits()) - targets().double()) ** 2).mean()
        torch.testing.assert_close(loss_of(head, logits(), targets()), expected)
        with pytest.raises(ValueError, match=r"loss 'squared_error' has no setting 'scal'.*'scale'"):
            multi(loss="squared_error", loss_kwargs={"scal": 2.0})
    finally:
        del LOSSES["squared_error"], LOSS_SETTINGS["squared_error"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"average": "makro"}, r"unknown loss_kwargs 'average' 'makro'.*'macro'"),
        ({"absent_labels": "drop"}, r"unknown loss_kwargs 'absent_labels'"),
        ({"alpha": 1.5}, r"loss_kwargs 'alpha' 1.5"),
        ({"epsilon": 0}, r"loss_kwargs 'epsilon' 0: give a number above 0"),
        ({"scope": "batch"}, r"unknown loss_kwargs 'scope' 'batch'.*'micro_batch'"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multi(loss="soft_f1_bce", loss_kwargs=settings)


def test_heads_combine_by_their_weights() -> None:
    heads = tiny.two_heads()
    heads["topic"].loss_weight = 3.0
    model = tiny.model(heads=heads)
    output = model(**tiny.batch(), labels=tiny.labels())
    torch.testing.assert_close(output.loss, (3 * output.losses["topic"] + output.losses["mood"]) / 4)
