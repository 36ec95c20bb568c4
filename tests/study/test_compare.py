"""``detgraft compare``: the pictures on which two models differ, with right, false and missed boxes told apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detgraft.errors import ArgumentError, DataError
from detgraft.study.report.boxes import draw_box
from detgraft.study.report.compare import compare

NAMES = {0: "cat", 1: "dog"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures with one labelled box each, 20 to 60 pixels."""
    folder = tmp_path / "images"
    (tmp_path / "labels").mkdir()
    folder.mkdir()
    for name in "abc":
        Image.fromarray(np.full((100, 100, 3), 200, np.uint8)).save(folder / f"{name}.png")
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.4 0.4 0.4 0.4\n", "utf-8")
    return folder


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, dict[str, list[Any]]]], list[tuple[str, int]]]:
    """Puts models in place that find what is told, by model and picture: [left, top, right, bottom, class, score].

    Returns the models that looked, with the side of the pictures in pixels.
    """
    from detgraft.upstream.service import validation

    def install(told: dict[str, dict[str, list[Any]]]) -> list[tuple[str, int]]:
        looked: list[tuple[str, int]] = []

        class Model:
            def __init__(self, name: str) -> None:
                self.names = {0: "cat"} if name == "other.pt" else NAMES
                self.overrides = {"a.pt": {"imgsz": 160}, "b.pt": {"imgsz": [96, 224]}}.get(name, {})

        def detect(model: str, files: list[str], imgsz: int, *_: Any) -> Iterator[validation.FoundInPicture]:
            looked.append((model, imgsz))
            for file in files:
                rows = np.asarray(told.get(model, {}).get(Path(file).stem, []), dtype=float).reshape(-1, 6)
                yield validation.FoundInPicture(rows[:, :4], rows[:, 5], rows[:, 4], (100, 100))

        monkeypatch.setattr(validation, "YOLO", Model)
        monkeypatch.setattr(validation, "detect", detect)
        return looked

    return install


RIGHT = [20, 20, 60, 60, 0, 0.9]
ELSEWHERE = [70, 70, 90, 90, 1, 0.5]


def test_the_pictures_with_the_largest_difference_come_first(
    pictures: Path, models: Callable[..., None], tmp_path: Path
) -> None:
    models({"a.pt": {"a": [RIGHT], "b": [RIGHT], "c": [RIGHT]}, "b.pt": {"a": [RIGHT], "b": [ELSEWHERE], "c": []}})
    found = compare("a.pt", "b.pt", pictures, tmp_path / "out.png")
    assert [Path(file).stem for file in found.differing] == ["b", "c"]
    assert (found.right, found.false, found.missed) == ((3, 1), (0, 1), (0, 2))
    assert found.labelled == 3
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width > 3 * 380
        assert sheet.height > 2 * 380


def test_without_labels_the_models_are_compared_with_each_other(
    pictures: Path, models: Callable[..., None], tmp_path: Path
) -> None:
    for label in (tmp_path / "labels").iterdir():
        label.unlink()
    models({"a.pt": {"a": [RIGHT]}, "b.pt": {"a": [RIGHT], "c": [ELSEWHERE]}})
    found = compare("a.pt", "b.pt", pictures, tmp_path / "out.png")
    assert [Path(file).stem for file in found.differing] == ["c"]
    assert found.labelled == 0


def test_each_model_looks_at_pictures_of_the_size_that_it_was_trained_with(
    pictures: Path, models: Callable[..., list[tuple[str, int]]], tmp_path: Path
) -> None:
    """At 640 pixels a model of 160 finds next to nothing; Ultralytics predicts at the trained size, too."""
    looked = models({})
    assert compare("a.pt", "b.pt", pictures, tmp_path / "out.png").imgsz == (160, 224)
    assert compare("a.pt", "c.pt", pictures, tmp_path / "out.png", imgsz=320).imgsz == (320, 320)
    assert compare("c.pt", "a.pt", pictures, tmp_path / "out.png").imgsz == (640, 160)
    assert looked == [("a.pt", 160), ("b.pt", 224), ("a.pt", 320), ("c.pt", 320), ("c.pt", 640), ("a.pt", 160)]


def test_models_that_agree_write_nothing(pictures: Path, models: Callable[..., None], tmp_path: Path) -> None:
    models({"a.pt": {"a": [RIGHT]}, "b.pt": {"a": [RIGHT]}})
    found = compare("a.pt", "b.pt", pictures, tmp_path / "out.png")
    assert found.picture is None
    assert not (tmp_path / "out.png").exists()


def test_wrong_sources_and_other_classes(pictures: Path, models: Callable[..., None], tmp_path: Path) -> None:
    models({})
    with pytest.raises(DataError, match="other classes"):
        compare("a.pt", "other.pt", pictures, tmp_path / "out.png")
    with pytest.raises(DataError, match="no such picture"):
        compare("a.pt", "b.pt", tmp_path / "nowhere", tmp_path / "out.png")
    with pytest.raises(DataError, match="no picture in it"):
        compare("a.pt", "b.pt", tmp_path / "labels", tmp_path / "out.png")
    (tmp_path / "labels" / "a.txt").write_text("0 0.4 0.4\n", "utf-8")
    with pytest.raises(DataError, match=r"a\.txt, line 1"):
        compare("a.pt", "b.pt", pictures, tmp_path / "out.png")


def test_right_false_and_missed_are_told_apart_without_colour() -> None:
    """In grey, the share of each box's edge that is drawn: all of it, about two thirds, about two fifths."""
    shares = {}
    for kind in ("right", "false", "missed"):
        picture = Image.new("RGB", (120, 120), "white")
        draw_box(ImageDraw.Draw(picture), (10, 10, 110, 110), kind)
        grey = np.asarray(picture.convert("L"))
        shares[kind] = float((grey[10, 15:100] < 200).mean())
    assert shares["right"] == 1.0
    assert 0.5 < shares["false"] < 0.85
    assert 0.3 < shares["missed"] < 0.7
    assert shares["false"] > shares["missed"]


def test_no_line_runs_through_a_text_and_no_text_covers_another() -> None:
    from detgraft.study.report import boxes

    places: list[tuple[float, float, float, float]] = []
    label = boxes._label

    def noted(*words: Any) -> Any:
        places.append(label(*words))
        return places[-1]

    picture = Image.new("RGB", (200, 200), "white")
    pen = ImageDraw.Draw(picture)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "_label", noted)
        rows = [((20.0 + 3 * k, 60.0 + 3 * k, 120.0, 140.0), "false", f"nut 0.{k}5") for k in range(4)]
        boxes.draw_boxes(pen, rows, 10)
    for number, one in enumerate(places):
        assert one[0] >= 0
        assert one[1] >= 10
        assert one[2] <= 200
        assert one[3] <= 200
        assert all(boxes._common(one, other) == 0 for other in places[number + 1 :])
        x1, y1, x2, y2 = (round(value) for value in one)
        inside = np.asarray(picture)[y1 + 2 : y2 - 1, x1 + 2 : x2 - 1].astype(int)
        assert not ((inside[..., 0] > 150) & (inside[..., 1] < 90)).any(), "a red line runs through the text"


def test_both_models_stand_beside_the_truth_under_their_titles(
    pictures: Path, models: Callable[..., None], tmp_path: Path
) -> None:
    from detgraft.study.report.compare import side_by_side

    models({"a.pt": {"a": [RIGHT]}, "b.pt": {"a": [ELSEWHERE]}})
    side_by_side({"stock": "a.pt", "graft": "b.pt"}, sorted(pictures.iterdir()), tmp_path / "out.png", imgsz=64)
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width > 3 * 380
        assert sheet.height > 3 * 380


@pytest.mark.slow
def test_two_trained_checkpoints_are_compared_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from detgraft import YOLO
    from detgraft.cli.compare import command
    from detgraft.demo.made import make_shapes

    data = make_shapes(tmp_path / "data", train=24, val=6, imgsz=64)
    settings: dict[str, Any] = {"epochs": 8, "imgsz": 64, "batch": 4, "nbs": 4, "optimizer": "AdamW", "lr0": 0.003}
    settings |= {"workers": 0, "device": "cpu", "plots": False, "val": False, "mosaic": 0.0, "amp": False}
    models = []
    for name in ("yolo11n.yaml", "yolo11n+carafe"):
        place = {"project": str(tmp_path / "runs"), "name": name.partition(".")[0]}
        YOLO(name).train(data=str(data), **settings, **place)
        models.append(str(tmp_path / "runs" / place["name"] / "weights" / "last.pt"))
    capsys.readouterr()
    out = tmp_path / "out.png"
    command(*models, [f"source={data}", f"out={out}", "device=cpu"], as_json=True)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["labelled"] == 6
    assert found["imgsz"] == [64, 64], "the size of their training"
    boxes = sum(len(path.read_text("utf-8").splitlines()) for path in (tmp_path / "data" / "labels" / "val").iterdir())
    for right, missed in zip(found["right"], found["missed"], strict=True):
        assert right + missed == boxes, "every labelled box is found or missed"
    assert bool(found["differing"]) == out.is_file()
    if out.is_file():
        with Image.open(out) as sheet:
            assert sheet.width > 3 * 380


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("yolo11n", "b.pt", "source=x"), "two checkpoints"),
        (("a.pt", "b.pt"), "source="),
        (("a.pt", "b.pt", "source=x", "out=folder"), "PNG"),
        (("a.pt", "b.pt", "source=x", "count=0"), "count"),
        (("a.pt", "b.pt", "source=x", "imgsz=1,2"), "one number"),
    ],
)
def test_the_command_says_what_it_takes(words: tuple[str, ...], says: str) -> None:
    from detgraft.cli.compare import command

    with pytest.raises(ArgumentError, match=says):
        command(words[0], words[1], words[2:], as_json=False)
