"""Ultralytics' own heat maps (``predict visualize=True``) on grafts: the picture is that of an independent LayerCAM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import ultralytics
from torch import Tensor

from detgraft import YOLO, build
from detgraft.upstream.service.checkpoints import save_checkpoint

SIDE = 160
slow = pytest.mark.slow
DRAWS = "_cam.jpg" in (Path(ultralytics.__file__).parent / "utils" / "plotting.py").read_text("utf-8")
pytestmark = pytest.mark.skipif(
    not DRAWS, reason=f"Ultralytics {ultralytics.__version__} draws features of rows, no heat map"
)


def checkpoint(name: str, path: Path) -> Path:
    """A model whose class scores depend on the picture; fresh ones are nearly constant."""
    torch.manual_seed(0)
    model: Any = build(name, nc=3)
    head = model.model[-1]
    with torch.no_grad():
        for branch in head.cv3:
            branch[-1].weight.mul_(30)
            branch[-1].bias.fill_(-0.5)
    # Batch norms of a fresh model let features fade away; these have seen pictures.
    model.train()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    with torch.no_grad():
        model(torch.rand(2, 3, SIDE, SIDE))
    save_checkpoint(model.eval(), path)
    return path


def picture(path: Path) -> np.ndarray[Any, Any]:
    """Two discs on a slope of grey; PNG, so that it is read as it was written."""
    image = np.repeat(np.linspace(40, 200, SIDE, dtype=np.uint8)[None, :, None], SIDE, 0).repeat(3, 2)
    cv2.circle(image, (45, 50), 22, (30, 30, 220), -1)
    cv2.circle(image, (115, 110), 28, (220, 60, 20), -1)
    cv2.imwrite(str(path), image)
    return image


def layer_cam(model: Any, image: np.ndarray[Any, Any], conf: float = 0.25, most: int = 16) -> np.ndarray[Any, Any]:
    """LayerCAM at the head's inputs, layer by layer, 0 to 255: positive gradient times activation, the largest."""
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    pixels.requires_grad_(True)
    outputs: list[Any] = []
    value: Any = pixels
    for layer in list(model.model)[:-1]:
        sources = [layer.f] if isinstance(layer.f, int) else layer.f
        given = [value if source == -1 else outputs[source] for source in sources]
        value = layer(given if isinstance(layer.f, list) else given[0])
        outputs.append(value)
    head = model.model[-1]
    features: list[Tensor] = [outputs[source] for source in head.f]
    raw = head(list(features))[1]
    logits = raw.get("one2many", raw)["scores"].amax(1)[0]
    order = [int(i) for i in logits.argsort(descending=True) if logits[i].sigmoid() >= conf][:most]
    cam = torch.zeros(1, 1, SIDE, SIDE)
    for number in order or [int(logits.argmax())]:
        gradients = torch.autograd.grad(logits[number], features, retain_graph=True, allow_unused=True)
        for feature, gradient in zip(features, gradients, strict=True):
            if gradient is not None:
                level = (gradient.clamp(min=0) * feature).sum(1, keepdim=True).clamp(min=0)
                level = torch.nn.functional.interpolate(level, (SIDE, SIDE), mode="bilinear", align_corners=False)
                cam = torch.maximum(cam, level / level.amax().clamp(min=1e-7))
    found: np.ndarray[Any, Any] = (cam[0, 0] * 255).byte().numpy()
    return found


@pytest.mark.parametrize(
    "name",
    [
        "yolo11n+carafe",
        pytest.param("yolo11n+convnextv2_atto", marks=slow),
        pytest.param("yolo11n+repvit_m0_9", marks=slow),
        pytest.param("yolo11n+c3k2(pinwheelconv)", marks=slow),
        pytest.param("yolo11n+ema", marks=slow),
        pytest.param("yolo11n+bifpn", marks=slow),
        pytest.param("yolov8n+p2", marks=slow),
        pytest.param("yolo11n.yaml", marks=slow),
    ],
)
def test_the_heat_map_is_that_of_an_independent_layer_cam(name: str, tmp_path: Path) -> None:
    path = checkpoint(name, tmp_path / "model.pt")
    image = picture(tmp_path / "discs.png")
    places = {"project": str(tmp_path / "runs"), "name": "seen", "exist_ok": True}
    YOLO(path).predict(str(tmp_path / "discs.png"), imgsz=SIDE, visualize=True, verbose=False, device="cpu", **places)
    written = sorted((tmp_path / "runs" / "seen").glob("discs*cam*"))
    assert len(written) == 1, "this release of Ultralytics writes one heat map for a picture"
    opened: Any = YOLO(path).model
    heat = layer_cam(opened.float().eval().fuse(verbose=False), image)
    assert heat.max() == 255
    assert heat.std() > 10, "it is high somewhere and low elsewhere"
    low, high = image.min((0, 1)), image.max((0, 1))
    stretched = (image.astype(np.float32) - low) / (high - low) * 255
    ground = stretched.astype(np.uint8)

    def written_as_jpeg(cam: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen = cv2.addWeighted(cv2.applyColorMap(cam, cv2.COLORMAP_JET), 0.5, ground, 0.5, 0)
        cv2.imwrite(str(tmp_path / "wanted.jpg"), seen)
        return np.asarray(cv2.imread(str(tmp_path / "wanted.jpg"))).astype(int)

    found = np.asarray(cv2.imread(str(written[0]))).astype(int)
    assert np.abs(found - written_as_jpeg(heat)).mean() < 0.5, "rounding of a few pixels by one"
    assert np.abs(found - written_as_jpeg(np.zeros_like(heat))).mean() > 3, "the heat is seen"
