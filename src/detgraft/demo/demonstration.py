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

from detgraft.base.files import write_atomic
from detgraft.demo.made import make_shapes
from detgraft.measure.cost import show
from detgraft.plan.expression import is_expression
from detgraft.study.report.compare import side_by_side
from detgraft.upstream.release.quiet import quiet
from detgraft.upstream.service.training import Epoch, Start, open_trainable, train, weights_of
from detgraft.upstream.service.validation import Validated, validate

Progress = Callable[[str, int, int], None]
"""Called with a task's name, what is done and what there is to do."""

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

SHOWN = 4  # pictures that are drawn


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
        picture: Validation pictures with the truth, and beside it what both models found, a PNG.
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
    shown = [Path(one.file) for one in seen.pictures[:SHOWN]]
    with quiet():
        side_by_side({one.model: one.weights for one in models}, shown, picture, imgsz=IMGSZ, device=DEVICE)
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
