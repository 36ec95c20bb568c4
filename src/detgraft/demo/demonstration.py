"""The demonstration: a small made data set, a stock and a grafted detector trained on it, and a picture of the outcome.

Everything is made on the spot: no network, no data set, no GPU.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from detgraft.base.files import write_atomic
from detgraft.demo.made import make_shapes
from detgraft.measure.cost import show
from detgraft.plan.expression import is_expression
from detgraft.upstream.model.models import YOLO
from detgraft.upstream.release.quiet import quiet

Progress = Callable[[str, int, int], None]
"""Called with a task's name, what is done and what there is to do."""

Image = npt.NDArray[np.uint8]

STOCK = "yolo11n"
GRAFT = "yolo11n+carafe"
IMGSZ = 160

# Few pictures need many small steps: no gradient accumulation (nbs = batch), a short warm-up, no mosaic.
TRAINING: dict[str, Any] = {
    "imgsz": IMGSZ,
    "batch": 8,
    "nbs": 8,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "lrf": 0.05,
    "warmup_epochs": 1,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "hsv_h": 0.01,
    "hsv_s": 0.4,
    "hsv_v": 0.3,
    "scale": 0.3,
    "flipud": 0.5,
    "seed": 0,
    "workers": 0,
    "amp": False,
    "val": False,
    "plots": False,
    "device": "cpu",
    "verbose": False,
    "exist_ok": True,
}

_COLOURS = ((60, 76, 231), (113, 204, 46), (219, 152, 52))  # BGR


@dataclass(frozen=True)
class DemoModel:
    """What one trained model reached.

    Args:
        model: Its name.
        params: Number of parameters.
        gflops: Operations at 640x640, in units of 1e9.
        map50: mAP at IoU 0.5 on the validation split.
        map50_95: mAP averaged over IoU 0.5 to 0.95.
        seconds: Training time.
        weights: The checkpoint.
    """

    model: str
    params: int
    gflops: float
    map50: float
    map50_95: float
    seconds: float
    weights: str


@dataclass(frozen=True)
class DemoResult:
    """The whole demonstration.

    Args:
        models: Stock first, then grafted.
        picture: Annotated predictions on validation pictures, a PNG.
        folder: Where everything lies.
    """

    models: tuple[DemoModel, ...]
    picture: str
    folder: str


def run_demo(out: Path, *, graft: str = GRAFT, epochs: int = 30, progress: Progress = lambda *_: None) -> DemoResult:
    """Train a stock and a grafted detector on made pictures and compare them.

    Args:
        out: Folder for data, runs and the picture; pictures made before are used again.
        graft: The grafted model.
        epochs: Training epochs of each.
        progress: Called as work goes on.

    Raises:
        DetgraftError: The model cannot be built, or the folder holds something else.
    """
    out = out.resolve()
    with quiet():  # a model that cannot be built is found before training
        costs = {name: show(name, nc=3) for name in (STOCK, graft)}
    data = make_shapes(out / "data", progress=lambda done, total: progress("pictures", done, total))
    models = []
    for name in (STOCK, graft):
        weights, seconds = _train(name, data, out, epochs, progress)
        metrics = _validate(weights, data, out)
        cost = costs[name]
        models.append(DemoModel(name, cost.params, cost.gflops, *metrics, seconds, str(weights)))
    picture = out / "predictions.png"
    _draw(Path(models[-1].weights), data.parent / "images" / "val", picture)
    result = DemoResult(tuple(models), str(picture), str(out))
    write_atomic(out / "result.json", json.dumps(asdict(result), indent=2).encode())
    return result


def _train(name: str, data: Path, out: Path, epochs: int, progress: Progress) -> tuple[Path, float]:
    with quiet():
        model: Any = YOLO(name if name.endswith(".yaml") or is_expression(name) else f"{name}.yaml")
        model.add_callback("on_train_epoch_end", lambda trainer: progress(name, trainer.epoch + 1, trainer.epochs))
        started = time.perf_counter()
        folder = name.replace("/", "_")
        model.train(data=str(data), epochs=epochs, project=str(out / "runs"), name=folder, **TRAINING)
        seconds = time.perf_counter() - started
    return Path(model.trainer.last), seconds


def _validate(weights: Path, data: Path, out: Path) -> tuple[float, float]:
    with quiet():
        metrics = YOLO(weights).val(
            data=str(data), imgsz=IMGSZ, batch=8, workers=0, plots=False, device="cpu", verbose=False,
            project=str(out / "runs"), name=f"val-{weights.parent.parent.name}", exist_ok=True,
        )  # fmt: skip
    return float(metrics.box.map50), float(metrics.box.map)


def _draw(weights: Path, pictures: Path, target: Path, columns: int = 4, rows: int = 2, size: int = 320) -> None:
    """Draw the predictions on the first validation pictures into one PNG."""
    paths = sorted(pictures.glob("*.jpg"))[: columns * rows]
    tiles: list[Image] = []
    with quiet():
        model: Any = YOLO(weights)
        results = model.predict([str(path) for path in paths], imgsz=IMGSZ, conf=0.3, device="cpu", verbose=False)
    for result in results:
        scale = size / max(result.orig_shape)
        tile = np.full((size, size, 3), 255, np.uint8)
        picture = cv2.resize(result.orig_img, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        tile[: picture.shape[0], : picture.shape[1]] = picture
        for box, label, score in zip(
            result.boxes.xyxy.tolist(), result.boxes.cls.int().tolist(), result.boxes.conf.tolist(), strict=True
        ):
            _box(tile, [round(value * scale) for value in box], f"{result.names[label]} {score:.2f}", label)
        tiles.append(tile)
    tiles += [np.full((size, size, 3), 255, np.uint8)] * (columns * rows - len(tiles))
    sheet = np.vstack([np.hstack(tiles[row * columns : (row + 1) * columns]) for row in range(rows)])
    done, encoded = cv2.imencode(".png", sheet)
    if not done:
        raise OSError(f"the picture {target} could not be encoded")
    write_atomic(target, encoded.tobytes())


def _box(tile: Image, corners: list[int], text: str, label: int) -> None:
    x1, y1, x2, y2 = corners
    colour = _COLOURS[label % len(_COLOURS)]
    cv2.rectangle(tile, (x1, y1), (x2, y2), colour, 2, cv2.LINE_AA)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
    top = max(y1 - height - 6, 0)
    left = max(min(x1, tile.shape[1] - width - 4), 0)
    cv2.rectangle(tile, (left, top), (left + width + 4, top + height + 6), colour, -1)
    cv2.putText(
        tile, text, (left + 2, top + height + 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA
    )
