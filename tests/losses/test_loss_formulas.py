"""Each formula against scalars, official numbers, finite differences, and what must hold for any boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scalar_losses
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from detgraft.catalog.losses import Loss, losses
from detgraft.losses.geometry import Pair
from detgraft.losses.wiou import running_mean
from detgraft.plan.expression import parse_term

OFFICIAL: dict[str, Any] = json.loads((Path(__file__).parent / "official.json").read_text("utf-8"))
IMAGE = torch.tensor([480.0, 640.0])
BOX = [entry.name for entry in losses if entry.kind == "box"]
VARIANTS = [
    *BOX,
    "wiou(version=1)",
    "wiou(version=2)",
    "wiou(version=3,alpha=1.7,delta=2.7)",
    "shape_iou(scale=0.7)",
    "piou(version=1)",
    "piou(lam=1.1)",
    "nwd(ratio=1.0,constant=30.0)",
    "nwd(ratio=0.2)",
    "siou(theta=2.5)",
    *(f"alpha_iou(form={form})" for form in ("iou", "giou", "diou")),
    "alpha_iou(alpha=0.8,form=ciou)",
]
MODIFIED = [
    f"{name}({modifier})"
    for name in BOX
    for modifier in ("inner=0.75", "inner=1.25", "focaler=(0.1,0.9)", "inner=0.8,focaler=(0.05,0.95)")
]


def of(text: str) -> tuple[Loss, Any]:
    term = parse_term(text)
    entry = losses.get(term.name)
    return entry, entry.term(term.keywords)


def value(text: str, pred: Tensor, target: Tensor, mean: float = 0.6) -> Tensor:
    found: Tensor = of(text)[1](pred, target, IMAGE.to(pred), torch.tensor(mean, dtype=pred.dtype))
    return found


def scalar(text: str, a: list[float], b: list[float], mean: float = 0.6) -> float:
    term = parse_term(text)
    options = {key: value for key, value in term.keywords.items() if key not in ("inner", "focaler")}
    if term.name == "wiou":
        options["mean"] = mean
    overlap = (
        scalar_losses.inner_iou(a, b, term.keywords["inner"]) if "inner" in term.keywords else scalar_losses.iou(a, b)
    )
    if "focaler" in term.keywords:
        overlap = scalar_losses.focaler_iou(overlap, *term.keywords["focaler"])
    return float(getattr(scalar_losses, term.name)(a, b, overlap, **options))


def boxes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    middle = 100 + 80 * torch.rand(2, count, 2, generator=random, dtype=torch.float64)
    half = 5 + 40 * torch.rand(2, count, 2, generator=random, dtype=torch.float64)
    middle[0] = middle[1] + 0.5 * (middle[0] - middle[1])
    found = torch.cat((middle - half, middle + half), -1)
    return found[0], found[1]


@pytest.mark.parametrize("text", [*VARIANTS, *MODIFIED])
def test_the_same_as_with_plain_numbers(text: str) -> None:
    pred, target = boxes(60, 1)
    found = value(text, pred, target)
    expected = [scalar(text, a, b) for a, b in zip(pred.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    single = value(text, pred.float(), target.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), found, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in OFFICIAL["figures"] if name in BOX or "(" in name])
def test_the_official_numbers(name: str) -> None:
    text, _, after = name.partition(" after ")
    inputs = {key: torch.tensor(values, dtype=torch.float64) for key, values in OFFICIAL["inputs"].items()}
    target, pred = inputs["target"], inputs["pred"].requires_grad_()
    mean = torch.ones((), dtype=torch.float64)
    if "wiou" in name:  # the official module takes a step's mean in before it weighs the step
        lost = 1 - Pair(pred, target).iou.detach()
        for _ in range(5 if after else 1):
            mean = running_mean(mean, lost.sum(), torch.tensor(float(len(lost))), 0.01)
    loss = of(text)[1](pred, target, None, mean)
    loss.sum().backward()
    figures = OFFICIAL["figures"][name]
    torch.testing.assert_close(loss.detach(), torch.tensor(figures["loss"], dtype=torch.float64), rtol=1e-6, atol=1e-6)
    expected = torch.tensor(figures["gradient"], dtype=torch.float64)
    torch.testing.assert_close(pred.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["focal", "varifocal", "quality_focal", "slide"])
def test_the_official_numbers_of_scores(name: str) -> None:
    inputs = {key: torch.tensor(values) for key, values in OFFICIAL["inputs"].items()}
    logits = inputs["logits"].requires_grad_()
    targets = inputs["hard"] if name == "focal" else inputs["soft"]
    loss = of(name)[1](logits, targets, inputs["soft"], torch.tensor(0.45)).sum(1)
    loss.sum().backward()
    figures = OFFICIAL["figures"][name]
    torch.testing.assert_close(loss.detach(), torch.tensor(figures["loss"]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits.grad, torch.tensor(figures["gradient"]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["focal", "focal(gamma=1.5,alpha=-1.0)", "varifocal(gamma=1.5,alpha=0.25)", "quality_focal(beta=1.0)", "slide"],
)
def test_scores_the_same_as_with_plain_numbers(text: str) -> None:
    random = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(80, generator=random)
    targets = torch.rand(80, generator=random) * (torch.rand(80, generator=random) > 0.5)
    quality = torch.rand(80, generator=random) * (targets > 0)
    for mean in (0.05, 0.45):
        found = of(text)[1](logits, targets, quality, torch.tensor(mean))
        term = parse_term(text)
        expected = []
        for x, y, q in zip(logits.tolist(), targets.tolist(), quality.tolist(), strict=True):
            more = (q, mean) if term.name == "slide" else ()
            expected.append(getattr(scalar_losses, term.name)(x, y, *more, **term.keywords))
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("text", VARIANTS)
def test_gradients_by_finite_differences(text: str) -> None:
    pred, target = boxes(8, 2)
    if text.startswith(("ciou", "nwd", "alpha_iou", "wiou")):
        # Their weights count as constants: a, R's denominator and beta keep their values while a box is moved.
        _check_with_frozen_weights(text, pred, target)
        return
    assert torch.autograd.gradcheck(lambda p: value(text, p, target), (pred.requires_grad_(),), atol=1e-6, rtol=1e-5)


def _check_with_frozen_weights(text: str, pred: Tensor, target: Tensor) -> None:
    term = parse_term(text)
    pair = Pair(pred, target)
    overlap = pair.iou

    def frozen(p: Tensor) -> Tensor:
        moved = Pair(p, target)
        if term.name == "wiou":
            attention = (moved.distance2 / (pair.diagonal2 + 1e-7)).exp()
            beta = (1 - overlap) / 0.6
            options = {"version": 3, "alpha": 1.9, "delta": 3.0, "gamma": 0.5, **term.keywords}
            weight = {
                1: torch.ones_like(beta),
                2: beta ** options["gamma"],
                3: beta / (options["delta"] * options["alpha"] ** (beta - options["delta"])),
            }[options["version"]]
            return weight * attention * (1 - moved.iou)
        v = _v(pair)
        weight = v / (1 - overlap + v + 1e-7)
        whole = value(text, p, target)
        if "form=iou" in text or "form=giou" in text or "form=diou" in text:
            return whole
        share = 1 - term.keywords.get("ratio", 0.5) if term.name == "nwd" else 1.0
        alpha = term.keywords.get("alpha", 3.0) if term.name == "alpha_iou" else 1.0
        w = _v(moved) / (1 - moved.iou + _v(moved) + 1e-7)
        return whole + share * ((weight * _v(moved)) ** alpha - (w * _v(moved)) ** alpha)

    step = 1e-5
    leaf = pred.clone().requires_grad_()
    value(text, leaf, target).sum().backward()
    for column in range(4):
        move = torch.zeros_like(pred)
        move[:, column] = step
        numeric = (frozen(pred + move) - frozen(pred - move)) / (2 * step)
        torch.testing.assert_close(leaf.grad[:, column], numeric, rtol=1e-4, atol=1e-6)


def _v(pair: Pair) -> Tensor:
    (w, h), (wt, ht) = pair.size, pair.target_size
    return 4 / torch.pi**2 * ((wt / (ht + 1e-7)).atan() - (w / h).atan()).square()


SIDES = st.floats(2, 200, width=32)
PLACES = st.floats(-300, 300, width=32)
BOXES = st.builds(lambda x, y, w, h: [x, y, x + w, y + h], PLACES, PLACES, SIDES, SIDES)
SYMMETRIC = ("giou", "diou", "ciou", "eiou", "siou", "wiou", "mpdiou", "nwd", "alpha_iou")
OF_PIXELS = ("mpdiou", "nwd")


@settings(max_examples=25, deadline=None)
@given(BOXES, BOXES, st.floats(0.1, 20), PLACES, PLACES)
def test_what_holds_for_any_boxes(a: list[float], b: list[float], scale: float, x: float, y: float) -> None:
    first, second = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    move = torch.tensor([x, y, x, y], dtype=torch.float64)
    for name in BOX:
        found = value(name, first, second)
        assert float(found) >= -1e-6, name
        assert float(found.isfinite())
        assert torch.allclose(value(name, first + move, second + move), found, rtol=1e-4, atol=1e-5), name
        if name not in OF_PIXELS:  # these measure distances by the picture or by a number of pixels
            assert torch.allclose(value(name, scale * first, scale * second), found, rtol=1e-4, atol=1e-5), name
        if name in SYMMETRIC:
            assert torch.allclose(value(name, second, first), found, rtol=1e-6, atol=1e-7), name
        assert float(value(name, first, first)) < 1e-4, name
        turned = [t[:, [1, 0, 3, 2]] for t in (first, second)]
        if name != "mpdiou":
            assert torch.allclose(value(name, *turned), found, rtol=1e-4, atol=1e-6), name


DEGENERATE = torch.tensor(
    [
        [[50.0, 50, 50, 50], [40, 40, 80, 80]],  # no size, inside
        [[50, 50, 50, 50], [50, 50, 50, 50]],  # no size, both
        [[40, 40, 80, 80], [50, 50, 50, 50]],
        [[50, 20, 50, 90], [50, 30, 50, 80]],  # lines
        [[20, 50, 90, 50], [50, 30, 50, 80]],
        [[40, 40, 80, 80], [40, 40, 80, 80]],  # identical
        [[0, 0, 10, 10], [500, 500, 510, 510]],  # apart
        [[-9000, -9000, -8000, -8000], [300, 300, 310, 310]],  # far
        [[-400, -300, -350, -250], [10, 10, 60, 60]],  # outside the picture
        [[60, 60, 40, 40], [40, 40, 80, 80]],  # right and left exchanged
        [[0, 0, 640, 640], [300, 300, 300.5, 300.5]],
    ]
)


@pytest.mark.parametrize("text", [*VARIANTS, "wiou(inner=0.75)", "ciou(inner=0.75)", "siou(focaler=(0.0,0.95))"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mean", [1.0, 1e-3])
def test_degenerate_boxes_stay_finite(text: str, dtype: torch.dtype, mean: float) -> None:
    pred = DEGENERATE[:, 0].to(dtype).requires_grad_()
    half = torch.bfloat16 if dtype == torch.float32 else dtype
    with torch.autocast("cpu", half, enabled=dtype != torch.float32):
        loss = value(text, pred, DEGENERATE[:, 1], mean)
        loss.sum().backward()
    assert loss.isfinite().all(), (text, loss)
    assert pred.grad is not None
    assert pred.grad.isfinite().all(), (text, pred.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "text", ["focal", "focal(gamma=0.5)", "varifocal", "quality_focal", "quality_focal(beta=0.5)", "slide"]
)
def test_extreme_scores_stay_finite(text: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([-60000.0, -100, -20, 0, 20, 100, 60000, 0]).to(dtype).requires_grad_()
    for targets in (torch.zeros(8), torch.ones(8), torch.full((8,), 0.5)):
        logits.grad = None
        loss = of(text)[1](logits, targets, targets, torch.tensor(0.3))
        loss.sum().backward()
        assert loss.isfinite().all(), (text, loss)
        assert logits.grad.isfinite().all(), (text, targets[0], logits.grad)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("ciou(inner=1.0)", "ciou"),
        ("ciou(focaler=(0.0,1.0))", "ciou"),
        ("nwd(ratio=0.0)", "ciou"),
        ("alpha_iou(alpha=1.0)", "ciou"),
        ("alpha_iou(alpha=1.0,form=giou)", "giou"),
        ("alpha_iou(alpha=1.0,form=diou)", "diou"),
        ("wiou(version=2,gamma=0.0)", "wiou(version=1)"),
    ],
)
def test_options_that_reduce_one_loss_to_another(text: str, other: str) -> None:
    pred, target = boxes(40, 3)
    torch.testing.assert_close(value(text, pred, target), value(other, pred, target), rtol=1e-9, atol=1e-9)


def test_focal_without_focus_is_cross_entropy() -> None:
    logits, targets = torch.randn(50), torch.rand(50)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(of("focal(gamma=0.0,alpha=-1.0)")[1](logits, targets), entropy)
    torch.testing.assert_close(of("quality_focal(beta=0.0)")[1](logits, targets), entropy)


def test_modifiers_change_a_loss_as_their_papers_say() -> None:
    pred, target = boxes(40, 4)
    plain = Pair(pred, target).iou
    for name in ("giou", "diou", "ciou", "eiou", "siou", "mpdiou", "shape_iou"):
        other = torch.tensor(
            [scalar_losses.inner_iou(a, b, 0.7) for a, b in zip(pred.tolist(), target.tolist(), strict=True)]
        )
        shifted = value(name, pred, target) + plain - other.double()
        torch.testing.assert_close(value(f"{name}(inner=0.7)", pred, target), shifted, rtol=1e-6, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0.001, 1))
def test_the_running_mean(steps: list[float], momentum: float) -> None:
    mean, expected = torch.ones((), dtype=torch.float64), 1.0
    for step in steps:
        mean = running_mean(mean, torch.tensor(3 * step), torch.tensor(3.0), momentum)
        expected += momentum * (step - expected)
    assert float(mean) == pytest.approx(expected, abs=1e-6)
    assert running_mean(mean, torch.tensor(0.0), torch.tensor(0.0), momentum) == mean
    assert running_mean(mean, torch.tensor(float("nan")), torch.tensor(2.0), momentum) == mean


def test_rotated_boxes_at_no_angle_are_as_far_apart_as_upright_ones() -> None:
    pred, target = boxes(30, 6)

    def turned(corners: Tensor) -> Tensor:
        size = corners[:, 2:] - corners[:, :2]
        return torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, size, torch.zeros(len(corners), 1)), 1).double()

    term = of("nwd(ratio=1.0)")[1]
    one = torch.ones(len(pred), 1, dtype=torch.float64)
    zero = lambda a, _b: a[..., 0] * 0  # noqa: E731
    found = term.of_rotated(turned(pred), turned(target), zero, one)
    torch.testing.assert_close(found, value("nwd(ratio=1.0)", pred, target), rtol=1e-6, atol=1e-6)
    # The matrices' root, written out, at any angle.
    angles = torch.rand(30, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    a, b = (
        torch.cat((turned(box)[:, :4], angle[:, None]), 1)
        for box, angle in ((pred, angles[:, 0]), (target, angles[:, 1]))
    )

    def covariance(box: Tensor) -> Tensor:
        c, s = box[4].cos(), box[4].sin()
        turn = torch.stack((torch.stack((c, -s)), torch.stack((s, c))))
        return turn @ torch.diag((box[2:4] / 2).square()) @ turn.T

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T

    expected = []
    for p, t in zip(a, b, strict=True):
        s, u = covariance(p), covariance(t)
        spread = torch.trace(s + u - 2 * root(root(s) @ u @ root(s)))
        expected.append(1 - (-((p[:2] - t[:2]).square().sum() + spread).sqrt() / 12.8).exp())
    torch.testing.assert_close(term.of_rotated(a, b, zero, one), torch.stack(expected), rtol=1e-5, atol=1e-5)
