"""The made set: boxes lie on the drawn pixels, the same seed gives the same files, nothing half-done is left."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from detgraft.demo import made
from detgraft.demo.made import MIN_VISIBLE, draw_scene, make_shapes
from detgraft.demo.things import CLASSES
from detgraft.errors import ArgumentError, DataError

SMALL = {"train": 3, "val": 2, "imgsz": 96}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_layout_is_yolo_and_resolves_beside_the_file(tmp_path: Path) -> None:
    data_yaml = make_shapes(tmp_path / "set", **SMALL)
    data = yaml.safe_load(data_yaml.read_text(encoding="utf-8"))
    assert data == {"train": "images/train", "val": "images/val", "names": {0: "cell", 1: "leaf", 2: "nut"}}
    for split in ("train", "val"):
        images = sorted((tmp_path / "set" / "images" / split).iterdir())
        labels = sorted((tmp_path / "set" / "labels" / split).iterdir())
        assert len(images) == SMALL[split]
        assert [path.stem for path in images] == [path.stem for path in labels]
        assert {Image.open(path).size for path in images} == {(96, 96)}


def test_stored_boxes_are_tight_to_the_visible_pixels_of_a_fresh_rendering(tmp_path: Path) -> None:
    imgsz, boxes = 160, 0
    make_shapes(tmp_path / "set", train=6, val=2, imgsz=imgsz, seed=3)
    for split, count in (("train", 6), ("val", 2)):
        for index in range(count):
            scene = draw_scene(imgsz, 3, split, index)
            rows = (tmp_path / "set/labels" / split / f"{split}_{index:04d}.txt").read_text().splitlines()
            assert len(rows) == len(scene.things) >= 1
            for row, thing in zip(rows, scene.things, strict=True):
                label, x, y, width, height = map(float, row.split())
                ys, xs = np.nonzero(thing.visible_HW)
                found = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) * imgsz
                np.testing.assert_allclose(found, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=0.01)
                assert label == thing.label
                boxes += 1
    assert boxes >= 20


def test_boxes_surround_pixels_that_really_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same scene with and without its last object: what differs is that object, its shadow and its blur."""
    monkeypatch.setattr(made, "_photograph", lambda rng, picture, light: ((picture * 255).astype(np.uint8), 90))
    for index in range(6):
        scene = draw_scene(160, 11, "train", index)
        before: list[np.ndarray] = []
        overlay = made._overlay

        def remember(picture: np.ndarray, *rest: object, seen: list[np.ndarray] = before, draw=overlay) -> np.ndarray:
            seen.append((picture * 255).astype(np.uint8))
            return draw(picture, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(made, "_overlay", remember)
            draw_scene(160, 11, "train", index)
        changed = np.abs(scene.image_HW3.astype(int) - before[-1].astype(int)).max(2) > 0
        last = scene.things[-1]
        assert changed[last.visible_HW].mean() > 0.97
        left, top, right, bottom = last.box
        far = np.ones_like(changed)
        far[max(top - 16, 0) : bottom + 16, max(left - 16, 0) : right + 16] = False
        assert not changed[far].any()


def test_no_pixel_shows_two_objects() -> None:
    shared_pixels = 0
    for index in range(15):
        shown = np.sum([thing.visible_HW for thing in draw_scene(96, 0, "train", index).things], axis=0)
        assert shown.max() == 1
        boxes = [thing.box for thing in draw_scene(96, 0, "train", index).things]
        covered = np.zeros((96, 96), int)
        for left, top, right, bottom in boxes:
            covered[top:bottom, left:right] += 1
        shared_pixels += int((covered > 1).sum())
    assert shared_pixels > 500, "boxes must overlap, or the set would be too easy"


@pytest.mark.parametrize("corner", [(-3, -2), (2, 1), (7, 8), (-3, 8), (7, -2)])
def test_an_object_over_the_edge_is_cut_not_moved(corner: tuple[int, int]) -> None:
    x, y = corner
    patch = np.arange(1, 26).reshape(5, 5)
    large = np.zeros((30, 30), int)
    large[10 + y : 15 + y, 10 + x : 15 + x] = patch
    pasted = made._paste(np.zeros((10, 10), int), patch, np.array(corner))
    np.testing.assert_array_equal(pasted, large[10:20, 10:20])


def test_every_object_stays_visible_and_every_class_appears() -> None:
    things = [thing for index in range(25) for thing in draw_scene(96, 0, "train", index).things]
    assert min(thing.visible for thing in things) >= MIN_VISIBLE >= 0.35
    assert min(thing.visible for thing in things) < 0.9, "some objects must be partly hidden"
    counts = np.bincount([thing.label for thing in things], minlength=len(CLASSES))
    assert (counts >= 0.15 * len(things)).all()
    sides = [max(right - left, bottom - top) for left, top, right, bottom in (thing.box for thing in things)]
    assert max(sides) > 2 * min(sides)


def test_same_seed_same_files_other_seed_other_files(tmp_path: Path) -> None:
    np.random.seed(1)
    make_shapes(tmp_path / "a", **SMALL, seed=5)
    state = np.random.get_state()[1].copy()
    np.random.seed(2)
    make_shapes(tmp_path / "b", **SMALL, seed=5)
    make_shapes(tmp_path / "c", **SMALL, seed=6)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a").keys() == contents(tmp_path / "c").keys()
    name = str(Path("images/train/train_0000.jpg"))
    assert contents(tmp_path / "a")[name] != contents(tmp_path / "c")[name]
    np.random.seed(1)
    assert (np.random.get_state()[1] == state).all(), "the global generator must not be drawn from"


def test_a_larger_set_begins_with_the_smaller_one(tmp_path: Path) -> None:
    make_shapes(tmp_path / "a", train=2, val=1, imgsz=96)
    make_shapes(tmp_path / "b", train=3, val=1, imgsz=96)
    small, large = contents(tmp_path / "a/images"), contents(tmp_path / "b/images")
    assert small.items() <= large.items()


def test_train_and_val_differ() -> None:
    assert not np.array_equal(draw_scene(96, 0, "train", 0).image_HW3, draw_scene(96, 0, "val", 0).image_HW3)


def test_pictures_carry_jpeg_artefacts(tmp_path: Path) -> None:
    make_shapes(tmp_path / "set", **SMALL)
    stored = np.asarray(Image.open(io.BytesIO((tmp_path / "set/images/val/val_0000.jpg").read_bytes())), dtype=float)
    error = np.abs(stored - draw_scene(96, 0, "val", 0).image_HW3)
    assert 0.5 < error.mean() < 15, "the stored picture is the drawn one (RGB order kept), slightly damaged"


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    make_shapes(tmp_path / "set", **SMALL, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 5) for done in range(1, 6)]


def test_a_finished_set_is_reused(tmp_path: Path) -> None:
    first = make_shapes(tmp_path / "set", **SMALL)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}
    calls: list[int] = []
    assert make_shapes(tmp_path / "set", **SMALL, progress=lambda done, total: calls.append(done)) == first
    assert calls == []
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}


@pytest.mark.parametrize("change", ["argument", "version", "lost picture"])
def test_a_set_that_no_longer_matches_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    make_shapes(tmp_path / "set", **SMALL)
    arguments = dict(SMALL)
    if change == "argument":
        arguments["val"] = 3
    elif change == "version":
        monkeypatch.setattr(made, "VERSION", made.VERSION + 1)
    else:
        (tmp_path / "set/images/train/train_0001.jpg").unlink()
    make_shapes(tmp_path / "set", **arguments)
    manifest = json.loads((tmp_path / "set/manifest.json").read_text())
    assert {key: manifest[key] for key in arguments} == arguments
    assert manifest["version"] == made.VERSION
    assert len(list((tmp_path / "set/images/train").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_making_leaves_everything_as_it_was(
    tmp_path: Path, interruption: type[BaseException], earlier: bool
) -> None:
    if earlier:
        make_shapes(tmp_path / "set", train=1, val=1, imgsz=64)
    before = contents(tmp_path)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise interruption

    with pytest.raises(interruption):
        make_shapes(tmp_path / "set", **SMALL, progress=stop)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["set"] if earlier else [])


@pytest.mark.parametrize("manifest", [None, "{}", "not json", '{"maker": "someone"}'])
def test_a_folder_with_other_things_is_refused_and_untouched(tmp_path: Path, manifest: str | None) -> None:
    home = tmp_path / "holiday"
    home.mkdir()
    (home / "photo.jpg").write_bytes(b"x")
    if manifest is not None:
        (home / "manifest.json").write_text(manifest)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=r"holiday.*choose another folder"):
        make_shapes(home, **SMALL)
    assert contents(tmp_path) == before


def test_an_empty_folder_and_a_missing_parent_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert make_shapes(tmp_path / "empty", **SMALL).is_file()
    assert make_shapes(tmp_path / "数 据" / "set", **SMALL).is_file()


@pytest.mark.parametrize(
    "wrong", [{"train": 0}, {"val": 0}, {"imgsz": 32}, {"seed": -1}, {"train": 1.5}, {"val": True}]
)
def test_wrong_arguments_are_named_and_write_nothing(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(wrong))} must be a whole number.*found"):
        make_shapes(tmp_path / "set", **{**SMALL, **wrong})
    assert list(tmp_path.iterdir()) == []
