"""Every place where detgraft reaches into Ultralytics' losses, in one list.

Each hook looks whether the object at hand carries a record of ours (``upstream/model/criteria.py``) and else calls the
original at once, so a model without a grafted loss computes what it always did. Nothing of Ultralytics is imported on
top of this file.

| hooked name | why |
|---|---|
| ``init_criterion`` of the model classes in ``nn.tasks`` | grafts a model's losses into its new criterion |
| ``RTDETRDetectionModel.loss`` | tells the criterion the size of the pictures |
| ``utils.loss``: ``BboxLoss.forward``, ``RotatedBboxLoss.forward`` | another loss of the matched pairs |
| ``utils.loss``: ``bce`` of ``v8DetectionLoss`` | another loss of the scores |
| ``utils.loss``: ``__call__`` and ``loss`` of the YOLO criteria | one step of a running mean |
| ``utils.tal``: ``TaskAlignedAssigner.forward``, ``.iou_calculation`` | ``assigner=True``; overlaps for ``slide`` |
| ``models.utils.loss``: ``DETRLoss._get_loss_bbox``, ``._get_loss_class`` | RT-DETR's losses |
| ``models.utils.loss``: ``RTDETRDetectionLoss.forward`` | one step of a running mean |
| ``models.utils.ops``: ``HungarianMatcher.forward`` | ``assigner=True`` of RT-DETR |
| ``engine.trainer``: ``BaseTrainer.save_model``, ``.validate`` | running means into checkpoints |
| ``engine.trainer``: ``BaseTrainer.resume_training`` | and back |
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from detgraft.plan.losses import KEY
from detgraft.upstream.hooks.tasks import require, wrap

MARK = "detgraft_loss"  # as in upstream/model/criteria.py, which is imported when there is a loss


def install() -> None:
    """Install the hooks into the model classes, the YOLO criteria and the assigner.

    Raises:
        UpstreamError: The installed Ultralytics lacks a name that a hook needs.
    """
    from ultralytics.nn import tasks
    from ultralytics.utils import loss, tal

    detection = require(tasks, "DetectionModel")
    for kind in [value for value in vars(tasks).values() if isinstance(value, type) and issubclass(value, detection)]:
        if "init_criterion" in vars(kind):
            wrap(kind, "init_criterion", _init_criterion)
    wrap(require(tasks, "RTDETRDetectionModel"), "loss", _rtdetr_loss)
    wrap(require(loss, "BboxLoss"), "forward", _box_forward)
    wrap(require(loss, "RotatedBboxLoss"), "forward", _rotated_forward)
    base = require(loss, "v8DetectionLoss")
    if "bce" not in vars(base):
        base.bce = property(_bce, _set_bce)
    for kind in [value for value in vars(loss).values() if isinstance(value, type) and issubclass(value, base)]:
        for name in ("__call__", "loss"):
            if name in vars(kind):
                wrap(kind, name, _one_step)
    assigner = require(tal, "TaskAlignedAssigner")
    wrap(assigner, "forward", _assigner_forward)
    wrap(assigner, "iou_calculation", _iou_calculation)


def install_rtdetr() -> None:
    """Install the hooks into RT-DETR's criterion, right after its module is imported.

    Raises:
        UpstreamError: The installed Ultralytics lacks a name that a hook needs.
    """
    loss = sys.modules["ultralytics.models.utils.loss"]
    wrap(require(loss, "DETRLoss"), "_get_loss_bbox", _calling("rtdetr_box"))
    wrap(require(loss, "DETRLoss"), "_get_loss_class", _calling("rtdetr_class"))
    wrap(require(loss, "RTDETRDetectionLoss"), "forward", _one_step)


def install_matcher() -> None:
    """Install the hook into RT-DETR's matcher, right after its module is imported.

    Raises:
        UpstreamError: The installed Ultralytics lacks a name that the hook needs.
    """
    wrap(require(sys.modules["ultralytics.models.utils.ops"], "HungarianMatcher"), "forward", _calling("matching"))


def install_trainer() -> None:
    """Install the hooks into the trainer, right after its module is imported.

    Raises:
        UpstreamError: The installed Ultralytics lacks a name that a hook needs.
    """
    trainer = require(sys.modules["ultralytics.engine.trainer"], "BaseTrainer")
    wrap(trainer, "save_model", _handing_over)
    wrap(trainer, "validate", _handing_over)
    wrap(trainer, "resume_training", _resume_training)


def _init_criterion(original: Any) -> Callable[..., Any]:
    def init_criterion(self: Any) -> Any:
        found = original(self)
        if KEY in (getattr(self, "yaml", None) or ()):
            from detgraft.upstream.model.criteria import equip

            equip(self, found)
        return found

    return init_criterion


def _rtdetr_loss(original: Any) -> Callable[..., Any]:
    def loss(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if KEY in (getattr(self, "yaml", None) or ()):
            from detgraft.upstream.model.criteria import tell_image

            tell_image(self, batch)
        return original(self, batch, *args, **kwargs)

    return loss


def _box_forward(original: Any) -> Callable[..., Any]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if MARK not in self.__dict__:
            return original(self, *args, **kwargs)
        from detgraft.upstream.model.criteria import box_forward

        return box_forward(original, None, self, args, kwargs)

    return forward


def _rotated_forward(original: Any) -> Callable[..., Any]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if MARK not in self.__dict__:
            return original(self, *args, **kwargs)
        from ultralytics.utils.metrics import probiou

        from detgraft.upstream.model.criteria import box_forward

        return box_forward(original, probiou, self, args, kwargs)

    return forward


def _bce(self: Any) -> Any:
    """The criterion's cross-entropy, or the class loss that was grafted in its place."""
    try:
        own = self.__dict__["bce"]
    except KeyError:
        raise AttributeError(f"'{type(self).__name__}' object has no attribute 'bce'") from None
    if MARK not in self.__dict__:
        return own
    from ultralytics.utils.metrics import probiou

    from detgraft.upstream.model.criteria import ScoreLoss

    return ScoreLoss(self, probiou)


def _set_bce(self: Any, value: Any) -> None:
    self.__dict__["bce"] = value


def _one_step(original: Any) -> Callable[..., Any]:
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if MARK not in getattr(self, "bbox_loss", self).__dict__:
            return original(self, *args, **kwargs)
        from detgraft.upstream.model.criteria import one_step

        with one_step(self):
            return original(self, *args, **kwargs)

    return step


def _assigner_forward(original: Any) -> Callable[..., Any]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if MARK not in self.__dict__:
            return original(self, *args, **kwargs)
        from detgraft.upstream.model.criteria import assigned

        return assigned(original, self, args, kwargs)

    return forward


def _iou_calculation(original: Any) -> Callable[..., Any]:
    def iou_calculation(self: Any, gt_bboxes: Any, pd_bboxes: Any) -> Any:
        if "text" not in self.__dict__.get(MARK, ()):
            return original(self, gt_bboxes, pd_bboxes)
        from detgraft.upstream.model.criteria import assigner_overlap

        return assigner_overlap(self, gt_bboxes, pd_bboxes)

    return iou_calculation


def _calling(name: str) -> Callable[[Any], Callable[..., Any]]:
    """Make a hook that hands a call on an object with a record to a function of ``upstream/model/criteria.py``."""

    def make(original: Any) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if MARK not in self.__dict__:
                return original(self, *args, **kwargs)
            from detgraft.upstream.model import criteria

            return getattr(criteria, name)(original, self, args, kwargs)

        return call

    return make


def _handing_over(original: Any) -> Callable[..., Any]:
    """Give the averaged model, which is validated and saved, the running means of the one that is trained."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        average = getattr(getattr(self, "ema", None), "ema", None)
        if average is not None and KEY in (getattr(self.model, "yaml", None) or getattr(average, "yaml", None) or ()):
            from detgraft.upstream.model.criteria import give_means, means_of, unwrapped

            means = means_of(getattr(unwrapped(self.model), "criterion", None))
            if means:
                give_means(unwrapped(average), means)
        return original(self, *args, **kwargs)

    return call


def _resume_training(original: Any) -> Callable[..., Any]:
    def resume_training(self: Any, ckpt: Any) -> Any:
        average = ckpt.get("ema") if isinstance(ckpt, dict) and self.resume else None
        if average is not None:
            from detgraft.upstream.model.criteria import MEANS, give_means, unwrapped

            means = getattr(unwrapped(average), MEANS, None)
            if isinstance(means, dict):
                # Before Ultralytics makes the criterion anew, as it does for heads with two branches.
                give_means(unwrapped(self.model), {str(name): float(mean) for name, mean in means.items()})
        return original(self, ckpt)

    return resume_training
