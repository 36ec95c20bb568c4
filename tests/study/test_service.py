"""What a study asks of Ultralytics: a picture's detections are its own, and the figures are those of Ultralytics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import detgraft
from detgraft.demo.made import make_shapes
from detgraft.upstream.service.validation import FoundInPicture, detect, validate


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    model = detgraft.YOLO("yolo11n.yaml")
    with torch.no_grad():  # a fresh model is sure of nothing; raise its class scores so that boxes are found
        for branch in model.model.model[-1].cv3:
            branch[-1].bias += 9.0
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    model.save(path)
    return str(path)


def found(weights: str, files: list[Path]) -> list[FoundInPicture]:
    return list(detect(weights, [str(file) for file in files], 64, 0.001, 0.7))


@pytest.mark.trust
def test_what_is_found_in_a_picture_does_not_depend_on_the_others(weights: str, tmp_path: Path) -> None:
    """A list given to Ultralytics' predict is one batch, padded to squares when its pictures differ in shape."""
    random = np.random.default_rng(0)
    files = []
    for name, (height, width) in {"wide": (32, 64), "a*b": (32, 64), "tall [1]": (64, 48)}.items():
        files.append(tmp_path / f"{name}.png")
        Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(files[-1])
    together = found(weights, files)
    assert [one.size for one in together] == [(32, 64), (32, 64), (64, 48)]
    for file, among in zip(files, together, strict=True):
        (alone,) = found(weights, [file])
        assert len(alone.scores_D)
        np.testing.assert_array_equal(alone.boxes_D4, among.boxes_D4)
        np.testing.assert_array_equal(alone.scores_D, among.scores_D)
        np.testing.assert_array_equal(alone.classes_D, among.classes_D)


def test_validation_gives_ultralytics_figures_and_the_labels_of_the_split(weights: str, tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "shapes", train=2, val=3, imgsz=64, seed=0)
    seen = validate(weights, str(data), "val", 64, 2, tmp_path / "eval_val")
    own = detgraft.YOLO(weights).val(
        data=str(data), imgsz=64, batch=2, workers=0, plots=False, device="cpu", project=str(tmp_path), name="own"
    )
    assert seen.figures == {key: float(value) for key, value in own.results_dict.items()}
    assert [Path(picture.file).name for picture in seen.pictures] == sorted(
        path.name for path in (tmp_path / "shapes" / "images" / "val").glob("*")
    )
    labels = [path.read_text() for path in sorted((tmp_path / "shapes" / "labels" / "val").glob("*.txt"))]
    for picture, text in zip(seen.pictures, labels, strict=True):
        rows = np.array([[float(value) for value in line.split()] for line in text.splitlines()])
        np.testing.assert_array_equal(picture.classes_G.reshape(-1), rows[:, 0])
        np.testing.assert_allclose(picture.boxes_G4, rows[:, 1:], atol=1e-6)
    assert len(seen.names) == 3
    assert not seen.has_test
