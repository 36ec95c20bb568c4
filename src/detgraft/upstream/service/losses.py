"""The training loss, ready as a trainer makes it ready."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.metrics import bbox_iou

from detgraft.plan.losses import KEY
from detgraft.upstream.model import criteria


def ready_for_loss(model: nn.Module) -> Any:
    """Give a model the settings that its loss reads, as a trainer would, and put it into training mode."""
    prepared: Any = model
    prepared.args = get_cfg(DEFAULT_CFG_DICT)
    prepared.nc = int(prepared.yaml.get("nc") or 1)
    prepared.criterion = prepared.init_criterion()
    for parameter in prepared.parameters():
        if parameter.dtype.is_floating_point:
            parameter.requires_grad_(True)
    for name, parameter in prepared.named_parameters():
        if ".dfl" in name:  # fixed by every stock trainer: the integral over the distribution is no weight
            parameter.requires_grad_(False)
    prepared.train()
    return prepared


def loss_of(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Return the training loss of a batch, summed over its parts."""
    loss: Any = model.loss(batch)[0]
    total: Tensor = loss.sum()
    return total


def loss_in(wrapped: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the training loss through a wrapper such as DDP, which passes batches on to the model's ``forward``."""
    total: Tensor = wrapped(batch)[0].sum()
    return total


def with_losses(model: Any, texts: list[str]) -> Any:
    """Return a model, which is changed, with other losses; none for its stock ones.

    Args:
        model: An Ultralytics model.
        texts: Loss terms such as ``wiou(version=3)``.
    """
    kept = {key: value for key, value in model.yaml.items() if key != KEY}
    model.yaml = {**kept, KEY: texts} if texts else kept
    model.criterion = None
    return model


def is_stock_loss(criterion: Any) -> bool:
    """Whether a criterion computes Ultralytics' own losses."""
    parts = [criterion, *criteria.branches(criterion).values()]
    parts += [getattr(part, name) for part in parts for name in ("bbox_loss", "assigner") if hasattr(part, name)]
    records = [vars(part).get(criteria.MARK) for part in parts]
    return not any(record and ({"text", "class"} & record.keys()) for record in records)


def stock_box_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Return Ultralytics' own box loss of YOLO heads, 1 - CIoU.

    Args:
        pred: Left, top, right, bottom, shape (N, 4).
        target: Likewise.
    """
    overlap: Tensor = bbox_iou(pred, target, xywh=False, CIoU=True).squeeze(-1)
    return 1 - overlap
