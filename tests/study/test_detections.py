"""AP of a weighted choice of pictures: equal to faster-coco-eval, and to repeating the pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from detgraft.study.judge.detections import (
    Detections,
    Truth,
    average_precision,
    bootstrap,
    errors_by_picture,
    iou,
    load_detections,
    match,
    save_detections,
)


def scene(seed: int, pictures: int = 12, classes: int = 3, noise: float = 6.0) -> tuple[Truth, Detections]:
    """Random labels, and detections that are jittered labels, doubles and inventions."""
    random = np.random.default_rng(seed)
    boxes, kinds, where = [], [], []
    for i in range(pictures):
        for _ in range(int(random.integers(0, 8))):
            x, y = random.uniform(0, 500, 2)
            w, h = random.uniform(8, 160, 2)
            boxes.append([x, y, x + w, y + h])
            kinds.append(int(random.integers(0, classes)))
            where.append(i)
    truth = Truth(
        tuple(f"picture {i}.jpg" for i in range(pictures)),
        np.full((pictures, 2), 640),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(kinds, dtype=np.int64),
        np.array(where, dtype=np.int64),
        tuple(f"class {k}" for k in range(classes)),
    )
    pick = random.integers(0, len(boxes), 3 * len(boxes))
    found = truth.boxes_G4[pick] + random.normal(0, noise, (len(pick), 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
    wrong = random.random(len(pick)) < 0.25
    kind = np.where(wrong, random.integers(0, classes, len(pick)), truth.classes_G[pick])
    # Coarse scores, so that ties between and within pictures occur.
    return truth, Detections(found, np.round(random.random(len(pick)), 2), kind, truth.picture_G[pick])


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_faster_coco_eval(seed: int) -> None:
    pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")
    from detgraft.study.judge.coco import coco_metrics

    truth, found = scene(seed)
    figures, per_class = coco_metrics(truth, found)
    ours = average_precision(match(truth, found))
    np.testing.assert_allclose(ours, [per_class[name] for name in truth.names], atol=1e-9)
    np.testing.assert_allclose(np.nanmean(ours), figures["AP"], atol=1e-9)
    for key, at in (("AP50", 0), ("AP75", 5)):
        value = np.nanmean(average_precision(match(truth, found), thresholds=slice(at, at + 1)))
        np.testing.assert_allclose(value, figures[key], atol=1e-9)


def test_perfect_and_empty_detections() -> None:
    pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")
    from detgraft.study.judge.coco import coco_metrics

    truth, _ = scene(0)
    perfect = Detections(truth.boxes_G4, np.linspace(0.5, 1, len(truth.classes_G)), truth.classes_G, truth.picture_G)
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    assert coco_metrics(truth, perfect)[0]["AP"] == pytest.approx(1.0)
    assert coco_metrics(truth, nothing)[0]["AP"] == 0.0
    assert np.nanmean(average_precision(match(truth, perfect))) == pytest.approx(1.0)
    assert np.nanmean(average_precision(match(truth, nothing))) == 0.0
    assert errors_by_picture(truth, perfect).sum() == 0
    assert errors_by_picture(truth, nothing).sum() == len(truth.classes_G)


def test_a_class_without_labels_has_no_ap() -> None:
    truth, found = scene(1)
    truth = dataclasses.replace(truth, names=(*truth.names, "never seen"))
    assert np.isnan(average_precision(match(truth, found))[-1])


def test_weights_equal_repeated_pictures() -> None:
    truth, found = scene(2, noise=3.0)
    # Different scores everywhere: with ties, repeating a picture may sort its copies differently.
    found = dataclasses.replace(found, scores_D=np.random.default_rng(0).permutation(len(found.scores_D)) / 1e4)
    weights = np.array([2, 0, 1] * 4)
    weighted = average_precision(match(truth, found), weights)
    chosen = np.repeat(np.arange(12), weights)

    def repeat(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = [np.flatnonzero(picture == old) for old in chosen]
        return np.concatenate(parts), np.concatenate([np.full(len(p), new) for new, p in enumerate(parts)])

    g, picture_g = repeat(truth.picture_G)
    d, picture_d = repeat(found.picture_D)
    again = Truth(
        tuple(f"{i}" for i in range(len(chosen))),
        np.full((len(chosen), 2), 640),
        truth.boxes_G4[g],
        truth.classes_G[g],
        picture_g,
        truth.names,
    )
    repeated = Detections(found.boxes_D4[d], found.scores_D[d], found.classes_D[d], picture_d)
    np.testing.assert_allclose(weighted, average_precision(match(again, repeated)), atol=2e-3)


def test_bootstrap_is_paired_and_centred() -> None:
    truth, found = scene(3, pictures=40)
    matches = match(truth, found)
    first, second = bootstrap(matches, 300, seed=7), bootstrap(matches, 300, seed=7)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, bootstrap(matches, 300, seed=8))
    assert abs(first.mean() - np.nanmean(average_precision(matches))) < 0.05
    assert first.std() > 0.005


def test_iou_against_counted_pixels() -> None:
    a, b = np.array([[0, 0, 4, 4], [1, 1, 3, 5]]), np.array([[2, 2, 6, 6], [10, 10, 12, 12]])
    grid = np.zeros((2, 2))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            masks = np.zeros((2, 20, 20), dtype=bool)
            for mask, (x1, y1, x2, y2) in zip(masks, (first, second), strict=True):
                mask[y1:y2, x1:x2] = True
            grid[i, j] = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    np.testing.assert_allclose(iou(a, b), grid)


def test_detections_survive_the_file(tmp_path: Path) -> None:
    truth, found = scene(5)
    save_detections(tmp_path / "d.npz", truth, found)
    again, boxes = load_detections(tmp_path / "d.npz")
    assert again.files == truth.files
    assert again.names == truth.names
    np.testing.assert_allclose(boxes.boxes_D4, found.boxes_D4, rtol=1e-5)
    moved = dataclasses.replace(truth, files=tuple(f"elsewhere/{name}" for name in truth.files))
    assert moved.digest() == truth.digest()
    other = dataclasses.replace(truth, classes_G=(truth.classes_G + 1) % 3)
    assert other.digest() != truth.digest()


def test_recall_on_the_grid_is_compared_as_the_coco_code_does() -> None:
    """7 of 25 labels are not 0.28 in double precision: a slack there gave another AP for 20, 25, 50 or 100 labels."""
    pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")
    from detgraft.study.judge.coco import coco_metrics

    boxes = np.array([[10.0 * g, 10.0, 10.0 * g + 8, 30.0] for g in range(25)])
    truth = Truth(("a.jpg",), np.full((1, 2), 640), boxes, np.zeros(25, int), np.zeros(25, int), ("only",))
    found = np.concatenate([boxes[:7], boxes[:1] + 300, boxes[7:8]])
    scores = np.linspace(0.9, 0.1, 9)
    detections = Detections(found, scores, np.zeros(9, int), np.zeros(9, int))
    figures, _ = coco_metrics(truth, detections)
    assert average_precision(match(truth, detections))[0] == pytest.approx(figures["AP"], abs=1e-12)
