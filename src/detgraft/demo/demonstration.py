"""The demonstration: a small made data set, a stock and a grafted detector trained on it, and a picture of the outcome.

Everything is made on the spot: no network, no data set, no GPU.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
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
from detgraft.upstream.release.quiet import quiet
from detgraft.upstream.service.training import Epoch, Start, open_trainable, train, weights_of
from detgraft.upstream.service.validation import Validated, detect, validate

Progress = Callable[[str, int, int], None]
"""Called with a task's name, what is done and what there is to do."""

Image = npt.NDArray[np.uint8]

STOCK = "yolo11n"
GRAFT = "yolo11n+carafe"
IMGSZ = 160
DEVICE = "cpu"

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
    "workers": 0,
    "amp": False,
    "val": False,
    "device": DEVICE,
    "verbose": False,
}

SHOWN = 0.3  # score from which on a detection is drawn
OVERLAP = 0.7  # IoU of non-maximum suppression

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
        seen, metrics = _validate(weights, data, out)
        cost = costs[name]
        models.append(DemoModel(name, cost.params, cost.gflops, *metrics, seconds, str(weights)))
    picture = out / "predictions.png"
    _draw(Path(models[-1].weights), [one.file for one in seen.pictures[:8]], seen.names, picture)
    result = DemoResult(tuple(models), str(picture), str(out))
    write_atomic(out / "result.json", json.dumps(asdict(result), indent=2).encode())
    return result


class _Listener:
    """Told of a training; passes on which epoch is done."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress = name, progress

    def note_transfer(self, start: Start) -> None:
        """The demonstration starts from scratch."""

    def refuse_other_batch(self, batch: int) -> None:
        """On the CPU Ultralytics keeps the batch."""

    def publish(self, epoch: Epoch) -> None:
        """Tell which epoch is done."""
        self.progress(self.name, epoch.number + 1, epoch.epochs)


def _train(name: str, data: Path, out: Path, epochs: int, progress: Progress) -> tuple[Path, float]:
    folder = out / "runs" / name.replace("/", "_")
    with quiet():
        model = open_trainable(name if name.endswith(".yaml") or is_expression(name) else f"{name}.yaml")
        started = time.perf_counter()
        settings = {**TRAINING, "epochs": epochs}
        train(model, _Listener(name, progress), settings, data=str(data), seed=0, folder=folder, resume=False)
        seconds = time.perf_counter() - started
    return weights_of(folder) / "last.pt", seconds


def _validate(weights: Path, data: Path, out: Path) -> tuple[Validated, tuple[float, float]]:
    folder = out / "runs" / f"val-{weights.parent.parent.name}"
    with quiet():
        found = validate(str(weights), str(data), "val", IMGSZ, 8, folder, DEVICE)
    return found, (found.figure("mAP50"), found.figure("mAP50-95"))


def _draw(
    weights: Path, files: Sequence[str], names: Mapping[int, str], target: Path, columns: int = 4, size: int = 320
) -> None:
    """Draw the predictions on pictures into one PNG, with ``columns`` of them in a row."""
    tiles: list[Image] = []
    with quiet():
        found = list(detect(str(weights), files, IMGSZ, SHOWN, OVERLAP, DEVICE))
    for file, one in zip(files, found, strict=True):
        scale = size / max(one.size)
        tile = np.full((size, size, 3), 255, np.uint8)
        whole = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
        picture = cv2.resize(whole, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        tile[: picture.shape[0], : picture.shape[1]] = picture
        for box, label, score in zip(
            one.boxes_D4.tolist(), one.classes_D.astype(int).tolist(), one.scores_D.tolist(), strict=True
        ):
            _box(tile, [round(value * scale) for value in box], f"{names[label]} {score:.2f}", label)
        tiles.append(tile)
    rows = -(-len(tiles) // columns)
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
