"""Training batches as Ultralytics' loaders make them, without a data set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
