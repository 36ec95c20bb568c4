"""Builds the model object of a description, and says what a name means to Ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn import tasks

from detgraft.errors import Location, PlanError, WeightsError, nearest
from detgraft.plan.expression import is_expression, parse_expression
from detgraft.upstream.describe.description import Description
from detgraft.upstream.describe.expressions import read_description
from detgraft.upstream.describe.resolve import locate, zoo_yamls
from detgraft.upstream.model.arguments import check_counts, described


def model_file(model: str | Path, *, stock: bool = False) -> str:
    """Return a model's name as Ultralytics wants it: an expression or a zoo name gets the ending of a YAML.

    Args:
        model: What the user gave.
        stock: Take a bare stock name (``yolo11n``) for its YAML too; otherwise it means its checkpoint, as upstream.
    """
    name = str(model).strip()
    if is_expression(name):
        return f"{parse_expression(name)}.yaml"
    if name.lower().endswith((".yaml", ".yml")):
        return name
    if name.lower().endswith(".pt"):
        return _existing_checkpoint(name)
    found = None if Path(name).suffix else locate(f"{name}.yaml")
    return f"{name}.yaml" if found is not None and (stock or found in zoo_yamls().values()) else name


def _existing_checkpoint(name: str) -> str:
    """Return a checkpoint's name when it exists, or when Ultralytics publishes one of that name and may fetch it."""
    from ultralytics.utils import SETTINGS
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    path = Path(name)
    published = path.name == name and name in GITHUB_ASSETS_NAMES
    kept = Path(SETTINGS["weights_dir"]) / path  # where Ultralytics looks, too
    if not published and "://" not in name and not path.is_file() and not kept.is_file():
        folders = [folder for folder in (path.parent, kept.parent) if folder.is_dir()]
        siblings = [p.name for folder in folders for p in folder.glob("*.pt")]
        raise WeightsError(f"there is no such checkpoint.{nearest(path.name, siblings)}", Location(name))
    return name


def named_description(model: str | Path, *, stock: bool = False) -> Description | None:
    """Read or compose what a model's name describes, once; None for a checkpoint or an exported model.

    Args:
        model: What the user gave.
        stock: See :func:`model_file`.

    Raises:
        DetgraftError: There is no such model, or its description is malformed.
    """
    name = str(model).strip()
    if is_expression(name):
        return read_description(name)
    name = model_file(name, stock=stock)
    return read_description(name) if name.lower().endswith((".yaml", ".yml")) else None


def build(model: str | Path | dict[str, Any], nc: int | None = None, ch: int = 3, verbose: bool = False) -> nn.Module:
    """Build the Ultralytics model object of a description, with new weights.

    Args:
        model: A graft expression, a model YAML (own, stock or of the zoo), or its mapping.
        nc: Number of classes; the description's own by default.
        ch: Number of image channels; three, or what the description says.
        verbose: Whether to print the build log.

    Returns:
        A ``DetectionModel`` or the subclass for the model's task, in training mode.

    Raises:
        DetgraftError: The description cannot be built.
    """
    check_counts(nc=nc, ch=ch)
    if isinstance(model, dict):
        mapping = described(model)
    else:
        description = named_description(model, stock=True)
        mapping = tasks.yaml_model_load(str(model).strip()) if description is None else description.copied()
    kind = _model_class(mapping)
    asked = mapping.get("ch") if ch == 3 else None  # a description's own number comes before the default
    built: nn.Module = kind(mapping, ch=asked or ch, nc=nc, verbose=verbose)
    return built


def _model_class(mapping: dict[str, Any]) -> type:
    head = mapping.get("head") or mapping.get("backbone")
    last = head[-1] if isinstance(head, list) and head else None
    if not isinstance(last, (list, tuple)) or len(last) != 4:
        raise PlanError("the model has no head", Location(str(mapping.get("yaml_file") or "model description")))
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
