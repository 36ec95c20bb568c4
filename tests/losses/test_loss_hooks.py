"""Where the installed release computes its loss: the grafted one is there, and everything else is as it was."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from loss_support import batch_of, ready, steps
from torch import Tensor
from ultralytics.utils import loss as stock
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import TaskAlignedAssigner

from detgraft.catalog.losses import losses
from detgraft.errors import PlanError
from detgraft.plan.expression import parse_term
from detgraft.upstream.model import criteria
from detgraft.upstream.model.build import build
from detgraft.upstream.release.capabilities import HAS_YOLO26
from detgraft.upstream.service.losses import loss_of

YOLO26 = ("yolo26n-seg", "yolo26n-pose")
END_TO_END = "yolo26n" if HAS_YOLO26 else "yolov10n"


@pytest.mark.parametrize(
    ("base", "term"),
    [
        ("yolo11n", "ciou"),
        pytest.param("yolo11n-seg", "ciou", marks=pytest.mark.slow),
        pytest.param("yolo11n-pose", "ciou", marks=pytest.mark.slow),
        pytest.param(END_TO_END, "ciou", marks=pytest.mark.slow),
        pytest.param("yolov10n", "ciou", marks=pytest.mark.slow),
        pytest.param("rtdetr-l", "giou", marks=pytest.mark.slow),
    ],
)
def test_the_stock_loss_by_name_trains_bit_by_bit_as_without(base: str, term: str) -> None:
    plain, named = ready(base), ready(f"{base}+{term}")
    batch = batch_of(plain, imgsz=160 if "rtdetr" in base else 96)
    expected, weights = steps(plain, batch)
    found, after = steps(named, batch)
    assert found == expected
    assert all(torch.equal(after[key], value) for key, value in weights.items())


class Seen:
    """Takes down what the stock ``BboxLoss`` compares and what it gets for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        original = criteria.with_global

        def with_global(function: Any, name: str, value: Any) -> Any:
            def spy(a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                found: Tensor = value(a, b, *args, **kwargs)
                self.calls.append((a.detach(), b.detach(), found.detach(), stride()))
                return found

            def stride() -> Tensor:
                cells = value.__closure__[[*value.__code__.co_freevars].index("pairs_stride")].cell_contents
                found: Tensor = cells()
                return found

            return original(function, name, spy)

        monkeypatch.setattr(criteria, "with_global", with_global)


@pytest.mark.parametrize("text", ["mpdiou", "nwd(ratio=1.0)", "siou(inner=0.75)"])
def test_pairs_come_in_pixels_of_the_input(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ready(f"yolo11n+{text}")
    batch = batch_of(model, imgsz=96)
    batch["img"] = batch["img"][..., :64]  # 96 high, 64 wide
    seen = Seen(monkeypatch)
    loss_of(model, batch)
    ((pred, target, found, stride),) = seen.calls
    assert len(pred) > 4
    assert set(stride.flatten().tolist()) <= {8.0, 16.0, 32.0}
    size = batch["bboxes"][:, 2:] * torch.tensor([64.0, 96.0])
    for box in (target * stride)[:, 2:] - (target * stride)[:, :2]:
        assert (size - box).abs().sum(1).min() < 1e-2  # every target is one of the labels, in pixels
    term = parse_term(text)
    entry = losses.get(term.name)
    value: Any = entry.term(term.keywords)
    expected = value(pred * stride, target * stride, torch.tensor([96.0, 64.0]), None)
    torch.testing.assert_close(1 - found.squeeze(-1), expected, rtol=1e-5, atol=1e-6)


def test_older_releases_do_not_say_where_anchors_stand() -> None:
    strides = [8.0, 16.0, 32.0]
    points = []
    for stride in (8, 16, 32):
        y, x = torch.meshgrid(torch.arange(96 / stride) + 0.5, torch.arange(64 / stride) + 0.5, indexing="ij")
        points.append(torch.stack((x, y), -1).view(-1, 2))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        places, image = criteria._scene({"anchor_points": torch.cat(points).to(dtype)}, strides)
        assert image.tolist() == [96, 64]
        assert places.flatten().tolist() == [8.0] * 96 + [16.0] * 24 + [32.0] * 6


def test_the_assigner_and_other_models_keep_ciou() -> None:
    grafted, plain = ready("yolo11n+siou"), ready("yolo11n")
    batch = batch_of(plain)
    expected = float(loss_of(plain, batch))
    assert float(loss_of(grafted, batch)) != expected
    assert float(loss_of(plain, batch)) == expected
    assert stock.bbox_iou is bbox_iou  # nothing global was changed
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[2.0, 3, 14, 11]])
    ciou = bbox_iou(a, b, xywh=False, CIoU=True).squeeze(-1).clamp_(0)
    for model in (grafted, plain):
        torch.testing.assert_close(model.criterion.assigner.iou_calculation(a, b), ciou, rtol=0, atol=0)
        assert type(model.criterion.assigner) is TaskAlignedAssigner


def test_the_assigner_follows_when_it_is_told_to() -> None:
    model = ready("yolo11n+eiou(assigner=True)")
    batch = batch_of(model)
    loss_of(model, batch)
    assigner = model.criterion.assigner
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[2.0, 3, 14, 11]])
    value: Any = losses.get("eiou").term({})
    torch.testing.assert_close(assigner.iou_calculation(a, b), (1 - value(b, a)).clamp(0, 1))
    assert assigner.__dict__[criteria.MARK]["image"].tolist() == [96, 96]
    other = ready("yolo11n+eiou")
    assert float(loss_of(other, batch)) != float(loss_of(model, batch))


def test_both_branches_of_an_end_to_end_head_have_the_loss() -> None:
    model = ready("yolov10n+wiou+focal")
    batch = batch_of(model)
    loss_of(model, batch).backward()
    means = criteria.means_of(model.criterion)
    assert set(means) == {"one2many", "one2one"}
    assert all(0.9 < mean < 1 for mean in means.values())
    head = list(model.model)[-1]
    for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
        assert any(float(p.grad.abs().sum()) > 0 for p in getattr(head, name).parameters()), name
    for branch in criteria.branches(model.criterion).values():
        assert branch.bbox_loss.__dict__[criteria.MARK]["text"] == "wiou"
        assert type(branch.bce).__name__ == "ScoreLoss"


def test_a_step_weighs_by_the_mean_that_has_taken_it_in() -> None:
    model = ready("yolo11n+wiou(momentum=0.5)")
    batch = batch_of(model)
    pairs: list[float] = []
    term = criteria.box_term("wiou(momentum=0.5)")
    function = term.function

    def spy(pred: Tensor, target: Tensor, *, overlap: Tensor, mean: Tensor, **options: Any) -> Tensor:
        pairs.append(float((1 - overlap).mean()))
        assert float(mean) == pytest.approx(0.5 + 0.5 * pairs[0])
        found: Tensor = function(pred, target, overlap=overlap, mean=mean, **options)
        return found

    object.__setattr__(term, "function", spy)
    try:
        loss_of(model, batch)
        expected = 0.5 + 0.5 * pairs[0]
        assert criteria.means_of(model.criterion)[""] == pytest.approx(expected)
        with torch.no_grad():
            loss_of(model, batch)
    finally:
        criteria._term.cache_clear()
    assert criteria.means_of(model.criterion)[""] == pytest.approx(expected)  # nothing is learned without gradients


@pytest.mark.parametrize("text", ["focal", "varifocal", "quality_focal"])
def test_scores_get_the_class_loss(text: str) -> None:
    grafted, plain = ready(f"yolo11n+{text}"), ready("yolo11n")
    batch = batch_of(plain)
    given: list[tuple[Tensor, Tensor, Tensor]] = []

    class Spy(torch.nn.BCEWithLogitsLoss):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            found = super().forward(x, y)
            given.append((x.detach(), y, found.detach()))
            return found

    plain.criterion.bce = Spy(reduction="none")
    expected = plain.loss(batch)
    found = grafted.loss(batch)
    ((x, y, _),) = given
    value: Any = losses.get(text).term({})
    total = value(x, y).sum() / y.sum().clamp(min=1) * plain.args.cls
    parts, stock_parts = parts_of(found[1]), parts_of(expected[1])
    torch.testing.assert_close(parts[1], total, rtol=1e-5, atol=1e-5)
    assert torch.equal(parts[[0, 2]], stock_parts[[0, 2]])


def parts_of(items: Any) -> Tensor:
    """Box, class and third part of a loss, which newer releases name."""
    return torch.stack(list(items.values())) if isinstance(items, dict) else items


def test_slide_weighs_by_the_overlaps_of_matched_boxes() -> None:
    model = ready("yolo11n+slide")
    batch = batch_of(model)
    seen: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    term = criteria.class_term("slide")
    function = term.function

    def spy(logits: Tensor, targets: Tensor, *, quality: Tensor, mean: Tensor) -> Tensor:
        seen.append((logits, targets, quality, mean))
        found: Tensor = function(logits, targets, quality=quality, mean=mean)
        return found

    object.__setattr__(term, "function", spy)
    try:
        loss_of(model, batch)
    finally:
        criteria._term.cache_clear()
    ((_, targets, quality, mean),) = seen
    assert torch.equal(quality > 0, (targets > 0) & (quality > 0))
    matched = quality.amax(-1)[targets.amax(-1) > 0]
    assert len(matched) > 4
    assert float(mean) == pytest.approx(float(matched.mean()), abs=1e-5)
    assert "pairs" not in model.criterion.assigner.__dict__[criteria.MARK]


def test_a_batch_without_objects() -> None:
    for text in ("wiou", "wiou+slide", "nwd+varifocal"):
        model = ready(f"yolo11n+{text}")
        batch = batch_of(model)
        for key in ("batch_idx", "cls", "bboxes"):
            batch[key] = batch[key][:0]
        loss = loss_of(model, batch)
        loss.backward()
        assert loss.isfinite()
        assert criteria.means_of(model.criterion).get("", 1.0) == 1.0


def test_a_criterion_holds_nothing_of_ours() -> None:
    model = ready("yolo11n+wiou(inner=0.8)+slide")
    loss_of(model, batch_of(model)).backward()
    text = pickle.dumps(model.criterion, protocol=0)
    assert b"detgraft." not in text
    assert b"detgraft_loss" in text
    again = pickle.loads(text)
    twin = copy.deepcopy(model.criterion)
    for criterion in (again, twin):
        assert criteria.means_of(criterion) == criteria.means_of(model.criterion)
        assert type(criterion.bce).__name__ == "ScoreLoss"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("yolo11n-cls+wiou", "'wiou' is a loss of detectors; the head Classify has no boxes"),
        ("yolo11n-obb+siou", "'siou' is a formula of upright boxes; .* With rotated boxes go nwd, alpha_iou"),
        ("yolo11n-obb+alpha_iou(form=ciou)", "rotated boxes have the form iou only"),
        ("yolo11n-obb+nwd(assigner=True)", "OBB's assigner keeps ProbIoU"),
    ],
)
def test_heads_that_have_no_place_for_a_loss(model: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        build(model)


@pytest.mark.slow
def test_rotated_boxes() -> None:
    plain = ready("yolo11n-obb")
    batch = batch_of(plain, imgsz=96)
    expected = parts_of(plain.loss(batch)[1])
    for text in ("nwd(ratio=0.0)", "alpha_iou(alpha=1.0,form=iou)"):
        found = parts_of(ready(f"yolo11n-obb+{text}").loss(batch)[1])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for text in ("nwd", "alpha_iou", "nwd(inner=0.7)", "nwd(focaler=(0.0,0.9))", "slide", "varifocal"):
        model = ready(f"yolo11n-obb+{text}")
        loss, items = model.loss(batch)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert not torch.allclose(parts_of(items), expected, rtol=1e-4, atol=1e-4), text


@pytest.mark.slow
def test_rtdetr() -> None:
    plain = ready("rtdetr-l")
    batch = batch_of(plain, imgsz=160)

    def loss(text: str) -> tuple[dict[str, float], Any]:
        model = ready(f"rtdetr-l+{text}" if text else "rtdetr-l")
        torch.manual_seed(2)
        total, parts = model.loss(batch)
        total.backward()
        names = ("giou_loss", "cls_loss", "l1_loss")
        values = parts.values() if isinstance(parts, dict) else parts
        return {key: float(value) for key, value in zip(names, values, strict=True)}, model

    stock_parts, _ = loss("")
    for text, changed in (
        ("giou", set()),
        ("wiou(inner=0.75)", {"giou_loss"}),
        ("nwd(ratio=1.0)", {"giou_loss"}),
        ("slide", {"cls_loss"}),
        ("mpdiou+focal", {"giou_loss", "cls_loss"}),
    ):
        found, model = loss(text)
        assert {key for key in found if found[key] != stock_parts[key]} == changed, text
        record = model.criterion.__dict__[criteria.MARK]
        assert record["image"] == [160.0, 160.0]
        if text.startswith("wiou"):
            assert 0.9 < criteria.means_of(model.criterion)[""] < 1
    stock_vfl = ready("rtdetr-l").criterion.vfl
    same = f"varifocal(gamma={getattr(stock_vfl, 'gamma', 2.0)},alpha={getattr(stock_vfl, 'alpha', 0.75)})"
    found, _ = loss(same)
    assert found["cls_loss"] == pytest.approx(stock_parts["cls_loss"], rel=1e-5)
    other, _ = loss("eiou(assigner=True)")
    assert other["l1_loss"] != stock_parts["l1_loss"]  # the matcher chose other queries
    model = ready("rtdetr-l+wiou+focal")
    for key in ("batch_idx", "cls", "bboxes"):
        batch[key] = batch[key][:0]
    total, _ = model.loss(batch)
    assert total.isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["wiou", "mpdiou(assigner=True)", "slide+nwd"])
@pytest.mark.parametrize("base", ["yolo11n-seg", "yolo11n-pose", *(YOLO26 if HAS_YOLO26 else ())])
def test_segmentation_and_pose(base: str, text: str) -> None:
    plain, model = ready(base, nc=1 if "pose" in base else 4), ready(f"{base}+{text}", nc=1 if "pose" in base else 4)
    batch = batch_of(plain, imgsz=128)
    before = loss_of(plain, copy.deepcopy(batch))
    after = loss_of(model, copy.deepcopy(batch))
    after.backward()
    assert after.isfinite()
    assert float(before) != float(after)
