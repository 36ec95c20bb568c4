"""A finished study without training, and a stand-in for the cell program: for tests of everything around training."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from detgraft.base.files import write_json
from detgraft.measure.price import Cost
from detgraft.study.design.config import CellConfig, config_of
from detgraft.study.design.seal import seal
from detgraft.study.design.spec import StudySpec, read_spec
from detgraft.study.judge.detections import Detections, Truth, bootstrap, match, save_detections
from detgraft.study.judge.result import Result, SplitMetrics
from detgraft.study.judge.verification import marks_of
from detgraft.study.run.cell import WATCH, end_with_parent, run_cell
from detgraft.study.run.checkpoints import Checkpoints
from detgraft.study.run.store import Cell, StudyFolder

STUDY = """
data: data.yaml
base: yolo11n
variants: [carafe, convnextv2_atto, "name <b>with</b> marks"]
seeds: 6
train: {epochs: 4, imgsz: 64, batch: 4}
metrics: {bootstrap: 60}
out: out
"""
SMALL_STUDY = """
data: data.yaml
base: yolo11n
variants: [carafe]
seeds: 2
train: {epochs: 4}
controls: none
"""
COSTS = {"yolo11n": 2.6, "carafe": 2.7, "convnextv2_atto": 4.9, "scale: yolo11s": 9.4}
EFFECTS = {"carafe": 0.03, "convnextv2_atto": -0.001, "scale: yolo11s": 0.04}


def make_spec(folder: Path, text: str = STUDY) -> StudySpec:
    """A study file in ``folder``; its arms exist only by name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return dataclasses.replace(read_spec(folder / "study.yaml"), out=folder / "out")


def cost_of(arm: str) -> Cost:
    millions = COSTS.get(arm, 3.0)
    pixels = "" if arm == "yolo11n" else f"timm/{arm}: input: pixels of 0..1"
    return Cost(int(millions * 1e6), 2.4 * millions, 3 + millions, None, 64, "cpu", input=pixels)


def write_preflight(folder: StudyFolder) -> None:
    """What the preflight would have found, so that the engine can start."""
    for arm in folder.spec.arms:
        target = folder.arm_file(arm)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            target,
            seal({"key": "", "error": None, "cost": dataclasses.asdict(cost_of(arm.name)), "data": "data.yaml"}),
        )


def metrics_of(ap: float, classes: tuple[str, ...] = ("cell", "leaf")) -> SplitMetrics:
    coco = {
        "AP": ap,
        "AP50": min(ap * 1.5, 1),
        "AP75": ap * 0.9,
        "AP_small": ap * 0.5,
        "AP_medium": ap,
        "AP_large": None,
    }
    own = {"metrics/mAP50-95(B)": ap, "metrics/mAP50(B)": min(ap * 1.5, 1)}
    apart = 0.02 * min(ap, 1 - ap)
    return SplitMetrics(8, "truth", coco, {name: ap + apart * (2 * k - 1) for k, name in enumerate(classes)}, own)


def finish(folder: StudyFolder, cell: Cell, ap: float, resumed_at: tuple[int, ...] = ()) -> None:
    """Write a cell as if it had been trained, with the given AP."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    epochs = int(folder.spec.train["epochs"])
    config = config_of(folder.spec, cell.arm, cell.seed)
    write_json(cell.folder / "cell.json", config.to_json())
    write_json(cell.folder / "started.json", {"first": "2026-01-01T00:00:00+00:00", "sittings": 1})
    curve = [{"epoch": e, "metrics/mAP50-95(B)": ap * (e + 1) / epochs, "seconds": 9.0 * e} for e in range(epochs)]
    write_json(cell.folder / "curve.json", curve)
    Result(
        arm=cell.arm.name,
        role=cell.arm.role,
        model=config.model,
        seed=cell.seed,
        metrics={"val": metrics_of(ap + 0.01), "test": metrics_of(ap)},
        cost=cost_of(cell.arm.name),
        epochs=epochs,
        best_epoch=epochs,
        seconds=36.0,
        resumed_at=resumed_at,
        transferred=None,
        config=config.digest(),
        study=config.study,
        versions={"python": "3", "detgraft": "0"},
        hardware={"device": "cpu", "processor": "made up", "cores": 1, "memory_gib": 1, "system": "none"},
        git={},
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T01:00:00+00:00",
        files=marks_of(cell.folder),
    ).write(cell.folder / "result.json")


def finished_study(folder: Path, pictures: bool = True, text: str = STUDY) -> StudyFolder:
    """A whole study: carafe helps by 3 points, convnextv2_atto does nothing, the third stays unclear."""
    study = StudyFolder(make_spec(folder, text))
    study.open()
    random = np.random.default_rng(0)
    drawn = _pictures(folder / "pictures", 8) if pictures else None
    for cell in study.cells():
        name = cell.arm.name
        scatter = 0.04 if "marks" in name else 0.003
        ap = 0.5 + EFFECTS.get(name, 0.0) + random.normal(0, scatter)
        if drawn is not None:
            cell.folder.mkdir(parents=True)
            found = _detections(drawn, random, 0.2 if name == "carafe" else 0.4)
            save_detections(cell.folder / "detections_test.npz", drawn, found)
            np.save(cell.folder / "bootstrap_test.npy", bootstrap(match(drawn, found), 60, 1))
        finish(study, cell, float(ap), (2,) if (name, cell.seed) == ("carafe", 1) else ())
    return study


def _pictures(folder: Path, count: int) -> Truth:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    files, boxes, where = [], [], []
    for i in range(count):
        picture = Image.new("RGB", (320, 240), (230, 225, 215))
        pen = ImageDraw.Draw(picture)
        for _ in range(5):
            x, y, side = random.uniform(0, 250), random.uniform(0, 170), random.uniform(20, 70)
            pen.ellipse((x, y, x + side, y + side), fill=tuple(int(v) for v in random.integers(60, 200, 3)))
            boxes.append([x, y, x + side, y + side])
            where.append(i)
        picture.save(folder / f"picture {i}.jpg")
        files.append(str(folder / f"picture {i}.jpg"))
    kinds = np.arange(len(boxes)) % 2
    return Truth(
        tuple(files), np.full((count, 2), (240, 320)), np.array(boxes), kinds, np.array(where), ("cell", "leaf")
    )


def _detections(truth: Truth, random: np.random.Generator, missing: float) -> Detections:
    keep = random.random(len(truth.classes_G)) > missing
    boxes = truth.boxes_G4[keep] + random.normal(0, 2, (int(keep.sum()), 4))
    return Detections(boxes, random.uniform(0.2, 1, len(boxes)), truth.classes_G[keep], truth.picture_G[keep])


def checkpoint(path: Path, content: str) -> None:
    """A file of torch's container format (a zip), written in place as Ultralytics does."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


def stand_in_trainer(config: CellConfig, folder: Path, book: Checkpoints) -> Path:
    """Trains nothing, but publishes a state after every epoch like the real one; its figures depend on the seed.

    ``STAND_IN`` in the environment: ``pause`` in seconds for each epoch, and ``fail`` with what an arm raises.
    """
    orders = json.loads(os.environ.get("STAND_IN", "{}"))
    state = book.newest()
    if state is not None and state.finished:
        return state.best
    info = dict(state.info) if state else {"curve": [], "resumed_at": [], "transferred": None, "seconds": 0.0}
    if state:
        info["resumed_at"] = [*info["resumed_at"], state.epoch + 1]
    # A resumed run has another random state, as with Ultralytics.
    random = np.random.default_rng([config.seed, len(config.arm), *info["resumed_at"]])
    weights = folder / "train" / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    epochs = int(config.train["epochs"])
    for epoch in range(state.epoch + 1 if state else 0, epochs):
        time.sleep(orders.get("pause", 0.0))
        act_up(orders.get("fail", {}).get(config.arm), epoch)
        for name in ("last.pt", "best.pt"):
            checkpoint(weights / name, f"{config.arm} {config.seed} {epoch}")
        info["curve"] = [*info["curve"], {"epoch": epoch, "metrics/mAP50-95(B)": float(random.random())}]
        info |= {"best_epoch": epoch, "seconds": info["seconds"] + 1.0, "save_dir": str(folder / "train")}
        book.publish(weights / "last.pt", weights / "best.pt", epoch, epoch + 1 == epochs, info)
        write_json(folder / "progress.json", {"epoch": epoch + 1, "epochs": epochs, "seconds": info["seconds"]})
    return weights / "best.pt"


def act_up(order: str | None, epoch: int) -> None:
    """Fail in one of the ways that a training can."""
    if order == "gpu":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.79 GiB total capacity)")
    if order == "disk":
        Path("/dev/full").write_text("this device is always full")
    if order == "hang" and epoch == 1:
        time.sleep(600)
    if order == "die" and epoch == 1:
        os.kill(os.getpid(), 9)


def stand_in_evaluator(config: CellConfig, folder: Path) -> dict[str, SplitMetrics]:
    """Measures nothing: the figure is the curve's last value."""
    curve = json.loads((folder / "curve.json").read_text())
    return {"val": metrics_of(float(curve[-1]["metrics/mAP50-95(B)"]))}


def main() -> int:
    if os.environ.get(WATCH):
        end_with_parent()
    return run_cell(Path(sys.argv[1]), stand_in_trainer, stand_in_evaluator)


if __name__ == "__main__":
    raise SystemExit(main())
