"""What the checks need from Ultralytics: descriptions, training batches, losses, fusing, checkpoints, exports.

Small functions only; what is a pass or a fail is decided in ``verify/``.
"""

from __future__ import annotations

import copy
import datetime
import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT

from detgraft.errors import DetgraftError
from detgraft.plan.rows import Plan
from detgraft.plan.weights_files import without_files
from detgraft.upstream.describe.expressions import RECORD
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.describe.resolve import locate, without_scale, zoo_yamls
from detgraft.upstream.model.models import build, model_file
from detgraft.upstream.parser.names import names_grafts
from detgraft.upstream.release.capabilities import HAS_SAFE_LOAD, ULTRALYTICS_VERSION
from detgraft.upstream.release.quiet import quiet

__all__ = ["HAS_SAFE_LOAD", "ULTRALYTICS_VERSION"]

SCRIPT_REOPEN = """
import sys
import numpy
import torch
if "detgraft" in sys.argv[4:]:
    import detgraft
from ultralytics import YOLO
weights, pictures, answers = sys.argv[1:4]
if weights.endswith(".safetensors"):
    from detgraft import YOLO
model = YOLO(weights).model.float().eval()
with torch.no_grad():
    output = model(torch.from_numpy(numpy.load(pictures)))
while not isinstance(output, torch.Tensor):
    output = output[0]
numpy.save(answers, output.numpy())
"""
"""A user's script that opens a checkpoint: weights, pictures (.npy), answers (.npy), further packages to import."""


def description_of(model: str | Path) -> dict[str, Any]:
    """Return the mapping behind a model's name, without building it.

    Raises:
        DetgraftError: There is no such model, or it is malformed.
    """
    return dict(tasks.yaml_model_load(model_file(model, stock=True)))


def mapping_of(model: nn.Module) -> dict[str, Any]:
    """Return a copy of the description that a built model carries."""
    mapping: Any = getattr(model, "yaml", None)
    return copy.deepcopy(mapping) if isinstance(mapping, dict) else {}


def plan_for(mapping: dict[str, Any]) -> Plan | None:
    """Return the plan of a description, or None where it has none (a model that was put together by hand)."""
    try:
        return plan_of(mapping)
    except DetgraftError:
        return None


def build_seeded(mapping: dict[str, Any], seed: int, ch: int = 3) -> Any:
    """Build a description after setting torch's seed.

    Args:
        mapping: A model description.
        seed: Seed for the weights.
        ch: Image channels.
    """
    torch.manual_seed(seed)
    with quiet():
        return build(without_files(copy.deepcopy(mapping)), ch=ch)


def base_of(mapping: dict[str, Any]) -> str | None:
    """Return the stock model that a grafted description stands on, or None where that is not known.

    An expression records it; for a YAML the name tells: ``yolo11n-carafe.yaml`` stands on ``yolo11n.yaml``.
    """
    if not names_grafts(mapping):
        return None
    record = mapping.get(RECORD)
    if isinstance(record, dict):
        return str(record["base"])
    name = Path(str(mapping.get("yaml_file") or "")).name
    words = name.removesuffix(".yaml").removesuffix(".yml").split("-")
    scale = str(mapping.get("scale") or "")
    for count in range(len(words) - 1, 0, -1):
        candidate = "-".join(words[:count])
        found = locate(f"{candidate}.yaml")
        if found is None or found in zoo_yamls().values():
            continue
        if scale and count == 1 and without_scale(candidate) == candidate and not candidate.endswith(scale):
            candidate += scale
        return f"{candidate}.yaml"
    return None


def is_topk(model: nn.Module) -> bool:
    """Say whether a model's answer is a ranked list (RT-DETR, end-to-end heads) instead of one entry per anchor."""
    head: Any = list(model.model)[-1]  # type: ignore[arg-type]
    return type(head).__name__ == "RTDETRDecoder" or bool(getattr(head, "end2end", False))


def is_rtdetr(model: nn.Module) -> bool:
    """Say whether a model has an RT-DETR head."""
    return type(list(model.model)[-1]).__name__ == "RTDETRDecoder"  # type: ignore[arg-type]


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


def training_batch(model: Any, pictures: int, imgsz: int, seed: int, boxes: int = 4) -> dict[str, Tensor]:
    """Make a training batch as Ultralytics' loaders make it, with random pictures and boxes.

    Args:
        model: The model; its head says which labels are needed.
        pictures: Number of pictures.
        imgsz: Height and width in pixels.
        seed: Seed of the contents.
        boxes: Boxes per picture.
    """
    random = torch.Generator().manual_seed(seed)
    head = list(model.model)[-1]
    kind = type(head).__name__
    channels = int(model.yaml.get("channels", model.yaml.get("ch", 3)) or 3)
    count = pictures * boxes
    batch: dict[str, Any] = {"img": torch.rand(pictures, channels, imgsz, imgsz, generator=random)}
    classes = int(model.yaml.get("nc") or 1)
    if kind == "Classify":
        batch["cls"] = torch.arange(pictures).remainder(classes)
        return batch
    centre = 0.3 + 0.4 * torch.rand(count, 2, generator=random)
    extent = 0.2 + 0.3 * torch.rand(count, 2, generator=random)
    batch |= {
        "batch_idx": torch.arange(pictures).repeat_interleave(boxes).float(),
        "cls": torch.arange(count).remainder(classes).float()[:, None],
        "bboxes": torch.cat((centre, extent), 1),
    }
    if kind.startswith("OBB"):
        batch["bboxes"] = torch.cat((batch["bboxes"], 0.5 * torch.rand(count, 1, generator=random)), 1)
    if kind.startswith("Pose"):
        points, values = head.kpt_shape
        keypoints = torch.ones(count, points, values)
        keypoints[..., :2] = 0.3 + 0.4 * torch.rand(count, points, 2, generator=random)
        batch["keypoints"] = keypoints
    if kind.startswith(("Segment", "YOLOESegment")):
        side = imgsz // 4
        # Overlapping masks are stored as one map per picture that holds the number of each pixel's object.
        batch["masks"] = torch.randint(0, boxes + 1, (pictures, side, side), generator=random).float()
        batch["sem_masks"] = torch.randint(0, classes, (pictures, side, side), generator=random)
    return batch


def fused(model: Any) -> Any:
    """Return a fused copy in evaluation mode."""
    with quiet():
        return copy.deepcopy(model).float().eval().fuse(verbose=False)


def save_checkpoint(model: nn.Module, path: Path) -> None:
    """Save a model as Ultralytics' trainer does, in float32 so that nothing is rounded.

    Args:
        model: An Ultralytics model; not changed.
        path: The new ``.pt`` file.
    """
    saved: Any = copy.deepcopy(model).float()
    saved.criterion = None
    args = getattr(saved, "args", None)
    known = args if isinstance(args, dict) else vars(args) if hasattr(args, "__dict__") else {}
    task = tasks.guess_model_task(saved)
    train_args = {**DEFAULT_CFG_DICT, **known, "task": task, "imgsz": known.get("imgsz") or 640}
    saved.args, saved.task = train_args, task
    torch.save(
        {
            "epoch": -1,
            "model": saved,
            "ema": None,
            "optimizer": None,
            "train_args": train_args,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "version": ULTRALYTICS_VERSION,
        },
        path,
    )


def export_file(checkpoint: Path, kind: str, imgsz: int, *, dynamic: bool, batch: int = 1) -> tuple[Path, Any]:
    """Export a checkpoint with Ultralytics' own exporter; the file lands beside it.

    Args:
        checkpoint: A ``.pt`` file.
        kind: ``torchscript``, ``onnx`` or ``openvino``.
        imgsz: Height and width in pixels.
        dynamic: Leave batch, height and width free; has no meaning for TorchScript.
        batch: Batch size of a static export.

    Returns:
        The file (or folder), and the PyTorch model exactly as the exporter prepared and traced it.
    """
    import ultralytics

    words: dict[str, Any] = {"format": kind, "imgsz": imgsz, "device": "cpu", "batch": batch, "verbose": False}
    if kind != "torchscript":
        words["dynamic"] = dynamic
    if kind == "onnx":
        words["simplify"] = importlib.util.find_spec("onnxslim") is not None
    traced: list[Any] = []
    with quiet(logging.CRITICAL):  # a failure comes back as an exception and needs no second telling
        wrapper = ultralytics.YOLO(str(checkpoint))
        wrapper.add_callback("on_export_end", lambda exporter: traced.append(exporter.model))
        path = Path(wrapper.export(**words))
    return path, traced[0]


def load_weights(model: Any, source: Any) -> None:
    """Load a model's weights into another, as training with ``pretrained=`` does."""
    with quiet():
        model.load(source, verbose=False)


def loss_in(wrapped: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the training loss through a wrapper such as DDP, which passes batches on to the model's ``forward``."""
    total: Tensor = wrapped(batch)[0].sum()
    return total


def for_another_process(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return a description without weights files, as plain data."""
    return without_files(copy.deepcopy(mapping))
