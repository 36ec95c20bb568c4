"""Builds the model object of a description, and says what a name means to Ultralytics."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils.downloads import GITHUB_ASSETS_STEMS

from detgraft.errors import Location, PlanError, WeightsError
from detgraft.plan.expression import is_expression, parse_expression
from detgraft.plan.typed import as_typed
from detgraft.upstream.describe.description import Description
from detgraft.upstream.describe.expressions import read_description
from detgraft.upstream.describe.meant import meant
from detgraft.upstream.describe.resolve import locate, zoo_yamls
from detgraft.upstream.model.arguments import check_counts, described
from detgraft.upstream.model.values import refuse_absent


def model_file(model: str | Path, *, stock: bool = False) -> str:
    """Return a model's name as Ultralytics wants it: an expression or a zoo name gets the ending of a YAML.

    Args:
        model: What the user gave.
        stock: Take a bare stock name (``yolo11n``) for its YAML too; otherwise it means its checkpoint, as upstream.

    Raises:
        DetgraftError: There is no such model; says what may be meant.
    """
    name = typed_name(model)
    if is_expression(name):
        return f"{parse_expression(name)}.yaml"
    if name.lower().endswith((".yaml", ".yml")):
        return name
    if name.lower().endswith(".pt"):
        refuse_absent(name)
        return name
    found = None if Path(name).suffix else locate(f"{name}.yaml")
    if found is not None and (stock or found in zoo_yamls().values()):
        return f"{name}.yaml"
    _refuse_unknown(name, is_description=found is not None)
    return name


def typed_name(model: str | Path) -> str:
    """Return a model's name with plain characters, and say so once where they were others."""
    name = str(model).strip()
    plain = as_typed(name)
    if plain != name:
        _say_read(name, plain)
    if not plain:
        raise PlanError("the model's name is empty; write an expression such as yolo11n+carafe, or a file")
    return plain


@functools.lru_cache(maxsize=64)
def _say_read(name: str, plain: str) -> None:
    tasks.LOGGER.warning(f"'{name}' is read as '{plain}'")


def _refuse_unknown(name: str, *, is_description: bool) -> None:
    """Refuse what is neither a description nor a checkpoint and no exported model, which Ultralytics opens itself."""
    path = Path(name)
    if "://" in name:
        return
    if path.is_dir():
        if not path.name.endswith("_model") and not path.suffix:
            raise PlanError("is a folder; a model is an expression such as yolo11n+carafe, or a file", Location(name))
    elif path.exists():
        from ultralytics.engine.exporter import export_formats

        exported = sorted({Path(f"x{suffix}").suffix for suffix in export_formats()["Suffix"]} - {""})
        if path.suffix.lower() not in (*exported, ".safetensors"):
            raise PlanError(
                "is no model; expected a YAML, a checkpoint (.pt, .safetensors) or an exported model "
                f"({', '.join(found for found in exported if found != '.pt')})",
                Location(name),
            )
    elif name in GITHUB_ASSETS_STEMS:  # means its checkpoint, which Ultralytics fetches where it is not here
        refuse_absent(f"{name}.pt")
    elif is_description:
        raise WeightsError(f"there is no published checkpoint of this name; write {name}.yaml for its YAML or {name}n")
    else:
        hint = meant(name) or " A model is an expression such as yolo11n+carafe, a YAML, or a checkpoint (.pt)"
        raise PlanError(f"there is no such model.{hint}", Location(name))


def named_description(model: str | Path, *, stock: bool = False) -> Description | None:
    """Read or compose what a model's name describes, once; None for a checkpoint or an exported model.

    Args:
        model: What the user gave.
        stock: See :func:`model_file`.

    Raises:
        DetgraftError: There is no such model, or its description is malformed.
    """
    name = typed_name(model)
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
        mapping = tasks.yaml_model_load(typed_name(model)) if description is None else description.copied()
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
    for head, name in (("WorldDetect", "WorldModel"), ("YOLOEDetect", "YOLOEModel"), ("YOLOESegment", "YOLOESegModel")):
        if str(last[2]).startswith(head) and hasattr(tasks, name):  # their layers read a text, too
            return getattr(tasks, name)  # type: ignore[no-any-return]
    task = tasks.guess_model_task(mapping)
    names = {
        "classify": "ClassificationModel",
        "segment": "SegmentationModel",
        "pose": "PoseModel",
        "obb": "OBBModel",
    }
    return getattr(tasks, names.get(task, "DetectionModel"))  # type: ignore[no-any-return]
