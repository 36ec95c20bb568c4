"""Grafted losses inside Ultralytics' criteria: which one has which, and what is computed in the stock one's place.

Nothing of a stock class's code is replaced. A criterion of a model with a loss carries plain data (a text, numbers, a
tensor) under a name of ours, so whatever pickles it needs no detgraft. Where the stock code asks for the IoU of matched
pairs, it is given 1 - loss, which it subtracts from 1; where it asks for the cross-entropy of scores, it is given the
class loss.

| what stock code asks | of what |
|---|---|
| ``BboxLoss.forward``: ``bbox_iou(pred, target, xywh=False, CIoU=True)`` | the function's globals, for one call |
| ``RotatedBboxLoss.forward``: ``probiou(pred, target)`` | likewise |
| ``DETRLoss._get_loss_bbox``: ``bbox_iou(pred, target, xywh=True, GIoU=True)`` | likewise |
| ``HungarianMatcher.forward``: the same, with ``assigner=True`` | likewise |
| ``TaskAlignedAssigner.iou_calculation``, with ``assigner=True`` | the method |
| ``self.bce`` of a YOLO criterion, ``self.vfl`` and ``self.fl`` of RT-DETR's | the attribute |
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from detgraft.catalog.losses import Loss, losses
from detgraft.errors import Location, PlanError, UpstreamError
from detgraft.losses.geometry import Pair, working
from detgraft.losses.terms import BoxTerm, ClassTerm
from detgraft.losses.wiou import START, running_mean
from detgraft.plan.expression import GraftTerm, parse_term
from detgraft.plan.losses import KEY, LossTerm, losses_of
from detgraft.upstream.release.capabilities import ULTRALYTICS_VERSION, stock_module

MARK = "detgraft_loss"
"""Attribute of a criterion's parts that holds what was grafted into them, as plain data."""

MEANS = "detgraft_loss_means"
"""Attribute of a model that holds its running means, by branch of its criterion, as plain numbers."""

_BRANCHES = ("one2many", "one2one")


# Which losses fit which head --------------------------------------------------------------------------------------


def refuse_unfit(mapping: Mapping[str, Any], where: Location) -> None:
    """Raise where a description asks for a loss that its head has no place for.

    Args:
        mapping: A model description.
        where: Where its ``losses:`` are written.

    Raises:
        PlanError: Says why.
        DetgraftError: The key is malformed, see :func:`detgraft.plan.losses.losses_of`.
    """
    asked = losses_of(mapping, where)
    head = mapping.get("head") or mapping.get("backbone")
    if not asked or not isinstance(head, list) or not head or len(head[-1]) != 4:
        return
    name = str(head[-1][2])
    family = _family(name)
    if not family:
        raise PlanError(
            f"'{asked[0]}' is a loss of detectors; the head {name} has no boxes with classes to apply it to", where
        )
    for found in asked:
        if family == "obb" and found.entry.kind == "box":
            _refuse_upright(found, where)


def _refuse_upright(found: LossTerm, where: Location) -> None:
    if not found.entry.rotated:
        able = ", ".join(entry.name for entry in losses if entry.rotated)
        raise PlanError(
            f"'{found}' is a formula of upright boxes; the head OBB compares rotated ones by ProbIoU. With "
            "rotated boxes "
            f"go {able}, each with inner= and focaler=",
            where,
        )
    if found.term.keywords.get("form", "iou") != "iou":
        raise PlanError(f"'{found}': rotated boxes have the form iou only", where)
    if found.term.keywords.get("assigner"):
        raise PlanError(f"'{found}': assigner=True is for upright boxes; OBB's assigner keeps ProbIoU", where)


def _family(name: str) -> str:
    """``yolo``, ``obb`` or ``rtdetr`` for a head whose criterion has a place for losses, else nothing."""
    if name == "RTDETRDecoder":
        return "rtdetr"
    head, detect, obb = stock_module(name), stock_module("Detect"), stock_module("OBB")
    if head is None or detect is None or not issubclass(head, detect) or name.startswith(("World", "YOLOE")):
        return ""
    return "obb" if obb is not None and issubclass(head, obb) else "yolo"


def box_term(text: str) -> BoxTerm:
    """Return the box loss of a text such as ``wiou(version=3)``, ready to be called."""
    return cast(BoxTerm, _term(text, losses.get(_parsed(text).name)))


def class_term(text: str) -> ClassTerm:
    """Return the class loss of a text such as ``varifocal``, ready to be called."""
    return cast(ClassTerm, _term(text, losses.get(_parsed(text).name)))


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> GraftTerm:
    return parse_term(text)


@functools.lru_cache(maxsize=256)
def _term(text: str, entry: Loss) -> BoxTerm | ClassTerm:
    return entry.term(_parsed(text).keywords)


# Criteria made ready ----------------------------------------------------------------------------------------------


def equip(model: Any, criterion: Any) -> None:
    """Graft a model's losses into its new criterion.

    Args:
        model: An Ultralytics model whose description may ask for losses.
        criterion: What its ``init_criterion`` has made.

    Raises:
        UpstreamError: The installed release computes its loss in a way that has no place for it.
    """
    mapping = getattr(model, "yaml", None)
    asked = losses_of(mapping) if isinstance(mapping, Mapping) else []
    texts: dict[str, str] = {found.entry.kind: str(found) for found in asked}
    if not texts:
        return
    means = getattr(model, MEANS, {})
    for name, branch in branches(criterion).items():
        if hasattr(branch, "matcher") and hasattr(branch, "_get_loss_bbox"):
            _equip_rtdetr(model, branch, texts, means.get(name, START))
        elif hasattr(branch, "bbox_loss") and hasattr(branch, "assigner"):
            _equip_yolo(branch, texts, means.get(name, START))
        else:
            raise UpstreamError(
                f"ultralytics {ULTRALYTICS_VERSION} computes this model's loss with {type(branch).__name__}, "
                "which has no "
                "place for another one"
            )


def branches(criterion: Any) -> dict[str, Any]:
    """Return the criteria inside one: both branches of an end-to-end head, or the one under an empty name."""
    found = {name: getattr(criterion, name) for name in _BRANCHES if hasattr(criterion, name)}
    return found or {"": criterion}


def _equip_yolo(criterion: Any, texts: Mapping[str, str], mean: float) -> None:
    text = texts.get("box")
    if text is not None:
        term = box_term(text)
        if "yolo" not in term.stock.split(","):
            _mark(criterion.bbox_loss, text=text, strides=[float(s) for s in criterion.stride], mean=mean, term=term)
            if term.assigner:
                vars(criterion.assigner)[MARK] = {"text": text}
    if "class" in texts:
        vars(criterion)[MARK] = {"text": texts["class"]}
        if class_term(texts["class"]).asks_quality:
            vars(criterion.assigner).setdefault(MARK, {})["keeps"] = True


def _equip_rtdetr(model: Any, criterion: Any, texts: Mapping[str, str], mean: float) -> None:
    record: dict[str, Any] = {"image": _image_of(model)}
    if "class" in texts:
        record["class"] = texts["class"]
    text = texts.get("box")
    if text is not None:
        term = box_term(text)
        if "rtdetr" not in term.stock.split(","):
            record["text"] = text
            if term.keeps_mean:
                record["mean"] = torch.tensor(mean, dtype=torch.float32)
            if term.assigner:
                vars(criterion.matcher)[MARK] = {"text": text, "image": record["image"]}
    vars(criterion)[MARK] = record


def _mark(part: Any, *, text: str, strides: list[float], mean: float, term: BoxTerm) -> None:
    record: dict[str, Any] = {"text": text, "strides": strides}
    if term.keeps_mean:
        record["mean"] = torch.tensor(mean, dtype=torch.float32)
    vars(part)[MARK] = record


def _image_of(model: Any) -> list[float]:
    """Height and width of the network's input as its settings have it, until a batch says it."""
    args = getattr(model, "args", None)
    size = args.get("imgsz") if isinstance(args, Mapping) else getattr(args, "imgsz", None)
    pair = list(size) if isinstance(size, (list, tuple)) else [size or 640] * 2
    return [float(side) for side in (pair if len(pair) == 2 else pair * 2)]


def tell_image(model: Any, batch: Any) -> None:
    """Tell RT-DETR's criterion, which sees shares of the picture, how large the pictures of a batch are.

    Args:
        model: The model, whose criterion is made now if it has none.
        batch: The batch.
    """
    mapping = vars(model).get("yaml")
    if not isinstance(mapping, Mapping) or KEY not in mapping:
        return
    if getattr(model, "criterion", None) is None:
        model.criterion = model.init_criterion()
    record = vars(model.criterion).get(MARK)
    if record is not None:
        image = [float(side) for side in batch["img"].shape[2:]]
        for part in (record, vars(getattr(model.criterion, "matcher", object)).get(MARK)):
            if part is not None:
                part["image"] = image


# The running mean -------------------------------------------------------------------------------------------------


def _records(criterion: Any) -> dict[str, dict[str, Any]]:
    """The records with a running mean, by branch."""
    found = {}
    for name, branch in branches(criterion).items():
        record = vars(getattr(branch, "bbox_loss", branch)).get(MARK)
        if record is not None and "mean" in record:
            found[name] = record
    return found


def means_of(criterion: Any) -> dict[str, float]:
    """Return the running means of a criterion by branch, as plain numbers; empty where it keeps none."""
    return (
        {name: float(record["mean"]) for name, record in _records(criterion).items()} if criterion is not None else {}
    )


def give_means(model: Any, means: Mapping[str, float]) -> None:
    """Give a model running means: to keep, for the criterion that it will make, and to the one that it has."""
    setattr(model, MEANS, dict(means))
    criterion = getattr(model, "criterion", None)
    if criterion is None:
        return
    for name, record in _records(criterion).items():
        if name in means:
            record["mean"] = torch.tensor(means[name], dtype=torch.float32, device=record["mean"].device)


def unwrapped(model: Any) -> Any:
    """Return the model that is trained inside what wraps it: distribution, compilation, distillation."""
    for name in ("module", "_orig_mod", "student_model"):
        while hasattr(model, name):
            model = getattr(model, name)
    return model


def _learn(record: dict[str, Any], term: BoxTerm, pred: Tensor | None, target: Tensor | None, device: Any) -> None:
    """Take a step's pairs into the running mean, of all processes together; nothing is learned without gradients."""
    if "took" in record:
        record["took"] = True
    if not torch.is_grad_enabled():
        return
    step = torch.zeros(2, dtype=torch.float32, device=device)
    if pred is not None and target is not None and len(pred):
        with torch.no_grad():
            loss = 1 - Pair(working(pred), working(target)).iou
        step = torch.stack((loss.sum(dtype=torch.float32), loss.new_tensor(float(loss.numel())).float()))
    if is_distributed():
        torch.distributed.all_reduce(step)
    record["mean"] = running_mean(record["mean"].to(step.device), step[0], step[1], float(term.momentum or 0))


def is_distributed() -> bool:
    """Whether this process trains together with others."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


@contextlib.contextmanager
def one_step(criterion: Any) -> Iterator[None]:
    """Have every process take part once in a step's running mean, also one whose pictures have no matched pair.

    Some releases do not ask for the box loss then, and the other processes would wait for it.
    """
    record = vars(getattr(criterion, "bbox_loss", criterion)).get(MARK)
    if record is None or "mean" not in record or "took" in record:
        yield
        return
    record["took"] = False
    try:
        yield
        if not record["took"]:
            _learn(
                record,
                box_term(record["text"]),
                None,
                None,
                getattr(criterion, "device", None) or record["mean"].device,
            )
    finally:
        del record["took"]


# What is computed in the stock one's place ---------------------------------------------------------------------------


def with_global(function: Callable[..., Any], name: str, value: Any) -> Callable[..., Any]:
    """Return a function that runs the same code and finds ``value`` under one of its global names.

    Args:
        function: A plain function.
        name: A global name that its code asks for.
        value: What it finds.

    Raises:
        UpstreamError: Its code does not ask for that name.
    """
    plain: Any = inspect.unwrap(function)
    if name not in plain.__code__.co_names:
        raise UpstreamError(
            f"ultralytics {ULTRALYTICS_VERSION}: {plain.__qualname__} does not compare boxes by {name}, so no "
            "other loss can "
            "stand in its place; docs/compatibility.md lists the releases that were tried"
        )
    made = types.FunctionType(
        plain.__code__, {**plain.__globals__, name: value}, plain.__name__, plain.__defaults__, plain.__closure__
    )
    made.__kwdefaults__ = plain.__kwdefaults__
    return made


@functools.lru_cache(maxsize=16)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def box_forward(
    original: Callable[..., Any], rotated: Callable[..., Any] | None, part: Any, args: Any, kwargs: Any
) -> Any:
    """Run the stock ``forward`` of a ``BboxLoss`` with another loss of the matched pairs.

    Args:
        original: The stock method.
        rotated: The release's ``probiou`` where the boxes are rotated.
        part: The ``BboxLoss``, with its record.
        args: What it was called with.
        kwargs: Likewise.
    """
    record = vars(part)[MARK]
    term = box_term(record["text"])
    given = _signature(original).bind(part, *args, **kwargs).arguments
    mask = given["fg_mask"]
    stride, image = _scene(given, record["strides"])

    def pairs_stride() -> Tensor:
        return stride.to(given["pred_bboxes"].device).expand(*given["pred_bboxes"].shape[:2], 1)[mask]

    def upright(pred: Tensor, target: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        scale = pairs_stride()
        pred, target = working(pred) * scale, working(target) * scale
        if term.keeps_mean:
            _learn(record, term, pred, target, pred.device)
        return 1.0 - term(pred, target, image.to(pred), record.get("mean")).unsqueeze(-1)

    def turned(pred: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        def overlap_of(a: Tensor, b: Tensor) -> Tensor:
            found: Tensor = rotated(a, b, *args, **kwargs).squeeze(-1)  # type: ignore[misc]
            return found

        return 1.0 - term.of_rotated(pred, target, overlap_of, pairs_stride()).unsqueeze(-1)

    stand_in, name = (upright, "bbox_iou") if rotated is None else (turned, "probiou")
    return with_global(original, name, stand_in)(part, *args, **kwargs)


def _scene(given: Mapping[str, Any], strides: list[float]) -> tuple[Tensor, Tensor]:
    """Pixels per unit at every anchor, shape (A, 1), and height and width of the network's input.

    Newer releases say both. Of older ones the anchors tell: each level begins in the middle of its first cell.
    """
    points: Tensor = given["anchor_points"]
    if "stride" in given and "imgsz" in given:
        return given["stride"].float(), given["imgsz"].float()
    starts = (points == 0.5).all(-1).nonzero().flatten().tolist()
    counts = [end - start for start, end in zip(starts, [*starts[1:], len(points)], strict=True)]
    if len(counts) != len(strides):
        raise UpstreamError(
            f"ultralytics {ULTRALYTICS_VERSION}: the anchors have {len(counts)} levels and the head "
            f"{len(strides)} strides"
        )
    across = int((points[: counts[0], 1] == 0.5).sum())
    image = torch.tensor([counts[0] // across * strides[0], across * strides[0]])
    levels = [torch.full((count, 1), stride) for count, stride in zip(counts, strides, strict=True)]
    return torch.cat(levels), image


def rtdetr_box(original: Callable[..., Any], criterion: Any, args: Any, kwargs: Any) -> Any:
    """Run the stock ``_get_loss_bbox`` of RT-DETR's criterion with another loss of the matched pairs."""
    record = vars(criterion)[MARK]
    if "text" not in record:
        return original(criterion, *args, **kwargs)
    term = box_term(record["text"])
    given = _signature(original).bind(criterion, *args, **kwargs).arguments
    pred, target = given["pred_bboxes"], given["gt_bboxes"]
    image = torch.tensor(record["image"], device=pred.device)
    if term.keeps_mean and record.get("took") is False and not given.get("postfix"):
        # Once in a step, of the last layer's pairs: the number of other calls differs from process to process.
        some = len(target) > 0
        boxes = (_corners(pred, image), _corners(target, image)) if some else (pred[:0], target[:0])
        _learn(record, term, boxes[0], boxes[1], pred.device)

    def compare(a: Tensor, b: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        return 1.0 - term(_corners(a, image), _corners(b, image), image, record.get("mean")).unsqueeze(-1)

    return with_global(original, "bbox_iou", compare)(criterion, *args, **kwargs)


def _corners(boxes: Tensor, image: Tensor) -> Tensor:
    """Centre and size as shares of the picture, to left, top, right and bottom in pixels."""
    boxes = working(boxes)
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((middle - half, middle + half), -1) * image.flip(0).repeat(2).to(boxes)


def matching(original: Callable[..., Any], matcher: Any, args: Any, kwargs: Any) -> Any:
    """Run RT-DETR's stock matcher with another loss in its cost, as ``assigner=True`` asks."""
    record = vars(matcher)[MARK]
    term = box_term(record["text"])

    def compare(a: Tensor, b: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        image = torch.tensor(record["image"], device=a.device)
        mean = torch.ones((), device=a.device)
        return 1.0 - term(_corners(a, image), _corners(b, image), image, mean).unsqueeze(-1)

    with torch.no_grad():  # a release may say so with a decorator, which stays behind
        return with_global(original, "bbox_iou", compare)(matcher, *args, **kwargs)


def assigned(original: Callable[..., Any], assigner: Any, args: Any, kwargs: Any) -> Any:
    """Run a stock assigner's ``forward``, and keep what a class loss or ``assigner=True`` wants to know of it."""
    record = vars(assigner)[MARK]
    given = _signature(original).bind(assigner, *args, **kwargs).arguments
    points: Tensor = given["anc_points"]
    record["image"] = (points.amax(0) + points.amin(0)).flip(0)  # centres of the finest cells at both ends
    found = original(assigner, *args, **kwargs)
    if record.get("keeps"):
        record["pairs"] = (given["pd_bboxes"], found[1], found[3])
    return found


def assigner_overlap(assigner: Any, target: Tensor, pred: Tensor) -> Tensor:
    """What a task-aligned assigner judges pairs by with ``assigner=True``: 1 - loss, 0 to 1, shape (N,)."""
    record = vars(assigner)[MARK]
    image = record["image"].to(pred)
    loss: Tensor = box_term(record["text"])(pred, target, image, torch.ones((), device=pred.device))
    return (1 - loss).clamp(0, 1).to(pred.dtype)


class ScoreLoss:
    """What a YOLO criterion with a class loss has in its cross-entropy's place, for the time of a call.

    Args:
        criterion: The criterion, with its record.
        rotated: The release's ``probiou``, for the overlap of rotated boxes.
    """

    def __init__(self, criterion: Any, rotated: Callable[..., Any]) -> None:
        self.criterion = criterion
        self.rotated = rotated

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each score, shape as the scores."""
        term = class_term(vars(self.criterion)[MARK]["text"])
        if not term.asks_quality:
            return term(logits, targets)
        pairs = vars(self.criterion.assigner)[MARK].pop("pairs", None)
        if pairs is None:
            raise UpstreamError(
                f"ultralytics {ULTRALYTICS_VERSION} weighs scores before it assigns boxes, which this class loss needs"
            )
        pred, target, mask = pairs
        overlap = torch.zeros(mask.shape, dtype=torch.float32, device=logits.device)
        mean = overlap.new_zeros(())
        with torch.no_grad():
            chosen = mask.bool()
            found = self._overlap(pred[chosen], target[chosen])
            overlap[chosen] = found
            if len(found):
                mean = found.mean()
            quality = overlap[..., None] * (targets > 0)
        return term(logits, targets, quality, mean)

    def _overlap(self, pred: Tensor, target: Tensor) -> Tensor:
        if pred.shape[-1] == 4:
            return Pair(working(pred), working(target)).iou
        found: Tensor = self.rotated(working(pred), working(target)).squeeze(-1)
        return found.clamp(0, 1)


def rtdetr_class(original: Callable[..., Any], criterion: Any, args: Any, kwargs: Any) -> Any:
    """Run the stock ``_get_loss_class`` of RT-DETR's criterion with another loss of the scores."""
    text = vars(criterion)[MARK].get("class")
    if text is None:
        return original(criterion, *args, **kwargs)
    term = class_term(text)

    def with_objects(scores: Tensor, quality: Tensor, labels: Tensor) -> Tensor:
        targets = labels.float() if term.hard else quality
        matched = quality[labels > 0]
        mean = matched.mean() if len(matched) else quality.new_zeros(())
        return term(scores, targets, quality, mean).mean(1).sum()

    def without_objects(scores: Tensor, labels: Tensor) -> Tensor:
        return with_objects(scores, torch.zeros_like(labels), labels)

    shown = _With(criterion, vfl=with_objects, fl=without_objects)
    return original(shown, *args, **kwargs)


class _With:
    """An object with some attributes replaced, for the time of one call."""

    def __init__(self, whole: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced)
        self.__dict__["_whole"] = whole

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_whole"], name)
