"""The public face of a model: Ultralytics' own classes, which also take graft names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ultralytics
from torch import nn
from ultralytics.nn import tasks

from detgraft.errors import PlanError
from detgraft.upstream import hooks

hooks.install()


def _has_rtdetr_head(model: object) -> bool:
    layers = getattr(model, "model", None)
    return isinstance(layers, nn.Sequential) and type(layers[-1]).__name__ == "RTDETRDecoder"


class RTDETR(ultralytics.RTDETR):  # type: ignore[misc]
    """``ultralytics.RTDETR`` that also takes graft names.

    Args:
        model: A checkpoint, a model YAML (own, stock or of the zoo).
    """


class YOLO(ultralytics.YOLO):  # type: ignore[misc]
    """``ultralytics.YOLO`` that also takes graft names; everything else is Ultralytics.

    A model with an RT-DETR head becomes an :class:`RTDETR`, with its own trainer and validator.

    Args:
        model: A checkpoint, a model YAML (own, stock or of the zoo).
        task: Task, guessed from the model by default.
        verbose: Whether to print the build log.

    Raises:
        DetgraftError: The model cannot be built.
    """

    def __init__(self, model: str | Path = "yolo11n.pt", task: str | None = None, verbose: bool = False) -> None:
        name = str(model)
        if name.lower().endswith((".yaml", ".yml")) and _names_rtdetr_head(name):
            self.__class__ = RTDETR  # type: ignore[assignment]
            RTDETR.__init__(self, name)  # type: ignore[arg-type]
            return
        super().__init__(model, task=task, verbose=verbose)
        if _has_rtdetr_head(self.model) and not isinstance(self, ultralytics.RTDETR):
            self.__class__ = RTDETR


def _names_rtdetr_head(name: str) -> bool:
    head = tasks.yaml_model_load(name).get("head")
    last = head[-1] if isinstance(head, list) and head else None
    return isinstance(last, list) and len(last) == 4 and last[2] == "RTDETRDecoder"


def build(model: str | Path | dict[str, Any], nc: int | None = None, ch: int = 3, verbose: bool = False) -> nn.Module:
    """Build the Ultralytics model object of a description, with new weights.

    Args:
        model: A model YAML (own, stock or of the zoo), or its mapping.
        nc: Number of classes; the description's own by default.
        ch: Number of image channels.
        verbose: Whether to print the build log.

    Returns:
        A ``DetectionModel`` or the subclass for the model's task, in training mode.

    Raises:
        DetgraftError: The description cannot be built.
    """
    mapping = dict(model) if isinstance(model, dict) else tasks.yaml_model_load(str(model))
    kind = _model_class(mapping)
    built: nn.Module = kind(mapping, ch=ch, nc=nc, verbose=verbose)
    return built


def _model_class(mapping: dict[str, Any]) -> type:
    head = mapping.get("head") or mapping.get("backbone")
    last = head[-1] if isinstance(head, list) and head else None
    if not isinstance(last, (list, tuple)) or len(last) != 4:
        raise PlanError("the model has no head")
    if last[2] == "RTDETRDecoder":
        return tasks.RTDETRDetectionModel  # type: ignore[no-any-return]
    task = tasks.guess_model_task(mapping)
    names = {
        "classify": "ClassificationModel",
        "segment": "SegmentationModel",
        "pose": "PoseModel",
        "obb": "OBBModel",
    }
    return getattr(tasks, names.get(task, "DetectionModel"))  # type: ignore[no-any-return]
