"""Every task is judged by its own figure: masks, key points and rotated boxes in pixels, and classes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import finished_study, metrics_of
from PIL import Image, ImageDraw
from test_detections import scene

import detgraft
from detgraft.errors import DetgraftError
from detgraft.study.api import report, run
from detgraft.study.design.config import config_of
from detgraft.study.design.errors import StudyError
from detgraft.study.design.spec import StudySpec, read_spec
from detgraft.study.judge.detections import Detections, Truth, average_precision, best_threshold, match
from detgraft.study.judge.result import SplitMetrics
from detgraft.study.judge.shapes import encoded, key_points, masks
from detgraft.study.run import preflight
from detgraft.study.run.evaluation import evaluate
from task_data import NAMES, SIZE, make_data

fast = pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")

TASKS = ("segment", "pose", "obb", "classify")
BASES = {"segment": "yolo11n-seg", "pose": "yolo11n-pose", "obb": "yolo11n-obb", "classify": "yolo11n-cls"}


def make(folder: Path, task: str, more: str = "", train: str = "") -> StudySpec:
    data = make_data(folder / "data", task)
    (folder / "study.yaml").write_text(
        f"data: {data}\nbase: {BASES[task]}\nvariants: [simam]\nseeds: 1\ncontrols: none\nout: {folder / 'out'}\n"
        f"train: {{epochs: 1, imgsz: 64, batch: 4, workers: 0{train}}}\nmetrics: {{bootstrap: 20{more}}}\n"
    )
    return read_spec(folder / "study.yaml")


# ---- the overlaps give the AP of faster-coco-eval


def outlines(random: np.random.Generator, boxes_N4: np.ndarray) -> list[np.ndarray]:
    """A pentagon in each box."""
    found = []
    for x1, y1, x2, y2 in boxes_N4:
        angle = np.sort(random.uniform(0, 2 * np.pi, 5))
        centre, half = np.array(((x1 + x2) / 2, (y1 + y2) / 2)), np.array(((x2 - x1) / 2, (y2 - y1) / 2))
        found.append(centre + half * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    return found


def masked(truth: Truth, found: Detections, random: np.random.Generator) -> Any:
    labelled = outlines(random, truth.boxes_G4)
    runs = []
    for d, picture in enumerate(found.picture_D):
        own = np.flatnonzero(truth.picture_G == picture)
        base = labelled[int(random.choice(own))] if len(own) and random.random() < 0.7 else None
        points = outlines(random, found.boxes_D4[d : d + 1])[0] if base is None else base + random.normal(0, 2, (5, 2))
        image = Image.new("1", (640, 640))
        ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=1)
        runs += encoded(np.array(image)[None])
    return masks(truth, labelled, runs)


def pointed(truth: Truth, found: Detections, random: np.random.Generator) -> Any:
    def inside(boxes: np.ndarray) -> np.ndarray:
        share = random.uniform(0, 1, (len(boxes), 4, 2))
        return boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])

    seen = random.integers(0, 3, (len(truth.boxes_G4), 4, 1)) * (random.random((len(truth.boxes_G4), 1, 1)) > 0.2)
    labelled = np.concatenate([inside(truth.boxes_G4), seen], axis=-1)
    points = inside(found.boxes_D4)
    for d, picture in enumerate(found.picture_D):
        own = np.flatnonzero(truth.picture_G == picture)
        if len(own) and random.random() < 0.8:
            points[d] = labelled[int(random.choice(own)), :, :2] + random.normal(0, 3, (4, 2))
    return key_points(truth, labelled, points, (0.05, 0.1, 0.08, 0.1))


@pytest.mark.parametrize("shaped", [masked, pointed])
@pytest.mark.parametrize("seed", range(3))
def test_the_bootstrap_matches_as_faster_coco_eval_does(shaped: Any, seed: int) -> None:
    from detgraft.study.judge.coco import coco_metrics

    truth, found = scene(seed)
    shapes = shaped(truth, found, np.random.default_rng(seed))
    figures, per_class = coco_metrics(truth, found, shapes)
    matches = match(truth, found, shapes.overlap, shapes.ignored_G, shapes.most)
    ours = average_precision(matches)
    np.testing.assert_allclose(ours, [per_class[name] for name in truth.names], atol=1e-9)
    assert 0.02 < float(figures["AP"] or 0) < 0.98
    assert figures["AP50"] == pytest.approx(float(np.nanmean(average_precision(matches, thresholds=slice(0, 1)))))
    if shaped is pointed:
        assert shapes.ignored_G.any()
        assert figures["AP_small"] is None
    assert figures["AP_medium"] is not None


def test_the_best_threshold_by_counting() -> None:
    truth, found = scene(1)
    matches = match(truth, found)
    best = best_threshold(matches)

    def at(score: float) -> tuple[float, float, float]:
        rows = []
        for k in np.flatnonzero(matches.labelled_IK.sum(0)):
            own = (matches.classes_D == k) & (matches.scores_D >= score)
            hits, shown, there = matches.right_DT[own, 0].sum(), own.sum(), matches.labelled_IK[:, k].sum()
            p, r = hits / shown if shown else 0.0, hits / there
            rows.append((p, r, 2 * p * r / (p + r) if hits else 0.0))
        return tuple(np.mean(rows, axis=0))

    every = {float(score): at(float(score)) for score in np.unique(matches.scores_D)}
    assert best["F1"] == pytest.approx(max(f1 for _, _, f1 in every.values()))
    assert (best["P"], best["R"], best["F1"]) == pytest.approx(every[float(best["threshold"] or 0)])
    empty = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros(0, int))
    assert best_threshold(match(truth, empty)) == {"P": 0.0, "R": 0.0, "F1": 0.0, "threshold": None}


# ---- the labels of Ultralytics, in pixels


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained checkpoint of each task."""
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for task, base in BASES.items():
        torch.manual_seed(0)
        model = detgraft.YOLO(f"{base}.yaml")
        more = {"kpt_shape": [4, 3]} if task == "pose" else {}
        description = {**model.model.yaml, **more, "nc": 2}
        model.model = type(model.model)(description, nc=2, verbose=False)
        model.model.names = dict(enumerate(NAMES))
        found[task] = folder / f"{task}.pt"
        torch.save({"model": model.model, "train_args": {"task": task, "imgsz": 64}}, found[task])
    return found


def truth_in_pixels(folder: Path, file: str, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Classes, and corners or key points in pixels, read from the label file."""
    place = Path(file)
    rows = np.loadtxt(folder / "data" / "labels" / place.parent.name / f"{place.stem}.txt", ndmin=2)
    points = rows[:, 5:].reshape(-1, 4, 3) if task == "pose" else rows[:, 1:].reshape(-1, 4, 2)
    points[..., :2] *= SIZE[::-1]
    return rows[:, 0], points


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_a_perfect_model_scores_one_and_a_shifted_one_less(
    task: str, best: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detgraft.upstream.service import validation

    spec = make(tmp_path, task)
    config = config_of(spec, spec.base, 0, {"data": str(tmp_path / "data" / "data.yaml")})
    shutil.copy(best[task], tmp_path / "best.pt")
    shift = 0.0

    def found_in(file: str) -> validation.FoundInPicture:
        kinds, points = truth_in_pixels(tmp_path, file, task)
        points = points.copy()
        points[..., :2] += shift
        flat = points[..., :2]
        boxes = np.concatenate([flat.min(1), flat.max(1)], axis=1)
        more: dict[str, Any] = {}
        if task == "segment":
            runs = [fast.mask.frPyObjects([one.reshape(-1).tolist()], *SIZE)[0] for one in flat]
            more["masks_DHW"] = np.stack([fast.mask.decode(one) for one in runs]).astype(bool)
        elif task == "pose":
            more["points_DKC"] = points
        else:
            from ultralytics.utils.ops import xyxyxyxy2xywhr

            more["rotated_D5"] = xyxyxyxy2xywhr(flat.reshape(-1, 8).astype(np.float32))
        return validation.FoundInPicture(boxes, np.full(len(kinds), 0.9), kinds, SIZE, **more)

    monkeypatch.setattr(validation, "detect", lambda _best, files, *_, **__: (found_in(file) for file in files))
    whole = evaluate(config, tmp_path)
    assert set(whole) == {"val", "test"}
    for split, metrics in whole.items():
        assert metrics.task == task
        assert metrics.coco["AP"] == pytest.approx(1.0), split
        assert metrics.best["F1"] == pytest.approx(1.0)
        assert np.load(tmp_path / f"bootstrap_{split}.npy") == pytest.approx(1.0)
    assert (tmp_path / "detections_test.npz").is_file() == (task != "obb")
    only = dataclasses.replace(config, train={**config.train, "classes": [1]})
    one = evaluate(only, tmp_path)["val"]
    assert one.per_class["bar"] is None
    assert one.coco["AP"] == pytest.approx(1.0), "the labels of the other class are none"
    # What is found in the other class must not be looked at either; the stand-in finds it all the same.
    shift = 3.0
    moved = evaluate(config, tmp_path)["val"]
    assert 0 < float(moved.coco["AP"] or 0) < 0.95
    assert moved.truth == whole["val"].truth
    words = (tmp_path / "data" / "labels" / "val" / "0.txt").read_text().splitlines()
    changed = " ".join([*words[0].split()[:-3], "0.5", "0.5", "2"]) if task == "pose" else words[1]
    (tmp_path / "data" / "labels" / "val" / "0.txt").write_text("\n".join([changed]) + "\n")
    (tmp_path / "data" / "labels" / "val.cache").unlink()
    assert evaluate(config, tmp_path)["val"].truth != whole["val"].truth


def test_classification_is_measured_picture_by_picture(best: dict[str, Path], tmp_path: Path) -> None:
    spec = make(tmp_path, "classify")
    config = config_of(spec, spec.base, 0, {"data": str(tmp_path / "data")})
    shutil.copy(best["classify"], tmp_path / "best.pt")
    found = evaluate(config, tmp_path)["test"]
    assert found.task == "classify"
    assert found.coco["top1"] == pytest.approx(found.ultralytics["metrics/accuracy_top1"])
    assert found.coco["top5"] == 1.0
    counts = [len(list((tmp_path / "data" / "test" / name).iterdir())) for name in NAMES]
    share = sum(n * float(found.per_class[name] or 0) for n, name in zip(counts, NAMES, strict=True)) / sum(counts)
    assert share == pytest.approx(found.coco["top1"])
    assert np.load(tmp_path / "bootstrap_test.npy").shape == (20,)
    assert set(found.best) == {"P", "R", "F1"}


def test_detect_gives_masks_points_and_turned_boxes(best: dict[str, Path], tmp_path: Path) -> None:
    from detgraft.upstream.service.validation import detect

    make_data(tmp_path, "segment")
    file = str(tmp_path / "images" / "val" / "0.png")
    for task in ("segment", "pose", "obb"):
        (one,) = detect(str(best[task]), [file], 64, 0.0, 0.99)
        count = len(one.scores_D)
        assert count > 0
        assert one.size == SIZE
        shown = {"segment": one.masks_DHW, "pose": one.points_DKC, "obb": one.rotated_D5}
        shapes = {"segment": (count, *SIZE), "pose": (count, 4, 3), "obb": (count, 5)}
        assert {key: value.shape for key, value in shown.items() if value is not None} == {task: shapes[task]}


# ---- what is known before the training


@pytest.mark.parametrize("task", TASKS)
def test_every_task_passes_the_preflight_and_says_what_decides(task: str, tmp_path: Path) -> None:
    spec = make(tmp_path, task)
    found = preflight.check_arm(config_of(spec, spec.arms[1], 0), str(tmp_path / "out"))
    assert found["task"] == task
    assert set(found["sources"]) == {"train", "val", "test"}


def test_class_folders_are_checked(tmp_path: Path) -> None:
    spec = make(tmp_path, "classify", ", split: test")
    config = config_of(spec, spec.base, 0)
    shutil.rmtree(tmp_path / "data" / "test")
    with pytest.raises(DetgraftError, match="has no folder test/, which 'split: test' asks for"):
        preflight.check_arm(config, "out")
    (tmp_path / "data" / "val" / "other").mkdir()
    with pytest.raises(DetgraftError, match="the val split has the class 'other', which train/ has not"):
        preflight.check_arm(config, "out")
    shutil.rmtree(tmp_path / "data" / "val")
    with pytest.raises(DetgraftError, match="needs a folder val/"):
        preflight.check_arm(config, "out")


WRONG = [
    ("classify", ", primary: AP50", "", "primary: AP50 is no figure of the task classify; write top1"),
    ("segment", ", primary: top1", "", "primary: top1 is no figure of the task segment; write AP, AP50 or AP75"),
    ("segment", "", ", angle: 1.0", "'angle' belongs to the task obb and would have no effect on segment"),
    ("obb", "", ", erasing: 0.1", "'erasing' belongs to the task classify and would have no effect on obb"),
    ("classify", "", ", classes: [0]", "'classes' chooses boxes"),
]


@pytest.mark.parametrize(("task", "more", "train", "message"), WRONG, ids=[row[3][:20] for row in WRONG])
def test_what_does_not_go_with_a_task_is_refused(
    task: str, more: str, train: str, message: str, tmp_path: Path
) -> None:
    from detgraft.base.files import write_json
    from detgraft.study.run.store import StudyFolder

    folder = StudyFolder(make(tmp_path, task, more, train))
    folder.open()
    for arm in folder.spec.arms:
        folder.arm_file(arm).parent.mkdir(parents=True, exist_ok=True)
        write_json(folder.arm_file(arm), {"task": task})
    with pytest.raises(StudyError, match=message):
        preflight._compare_tasks(folder, lambda line: None)


# ---- the report


def test_the_report_of_a_classification_speaks_of_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    study = finished_study(tmp_path, pictures=False)
    for cell in study.cells():
        result = cell.result()
        ap = float(metrics_of(0.5).coco["AP"] or 0) + 0.01 * cell.seed + 0.1 * (cell.arm.name == "carafe")
        own = {"metrics/accuracy_top1": ap, "metrics/accuracy_top5": 1.0}
        metrics = SplitMetrics(8, "truth", {"top1": ap, "top5": 1.0}, {"bar": ap}, own, "classify", {"F1": ap})
        dataclasses.replace(result, metrics={"val": metrics, "test": metrics}).write(cell.folder / "result.json")
    written = report(study.spec)
    assert written.analysis.primary == "top1"
    text = written.markdown.read_text("utf-8")
    assert text.splitlines()[0].endswith("does the graft help? (judged by top-1 accuracy)")
    assert "decided by top1" in text
    assert "AP_small" not in text
    assert "| F1 |" in text
    assert written.csv.read_text().splitlines()[0].count("test_top1") == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("task", TASKS)
def test_a_study_of_every_task_runs_to_its_report(task: str, tmp_path: Path) -> None:
    spec = make(tmp_path, task)
    done = run(spec, say=print)
    assert done.complete, done.failed
    assert done.report is not None
    found = report(spec).analysis
    assert found.task == task
    assert found.split == "test"
    for result in found.results:
        assert result.metrics["test"].task == task
