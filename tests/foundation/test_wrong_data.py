"""Wrong sizes and wrong data sets: one clear error, exit status 2, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Answer, tree, words_of

from detgraft import YOLO, build, show
from detgraft.errors import DataError, SizeError

Cli = Callable[..., Answer]


@pytest.mark.parametrize("size", [(100, 100), (64, 100), (31, 64)])
def test_a_size_that_the_strides_do_not_divide(size: tuple[int, int], cli: Cli) -> None:
    bad = next(value for value in size if value % 32)
    model: Any = build("yolo11n-carafe.yaml", nc=2).eval()
    attempts: list[Callable[[], Any]] = [lambda: model(torch.zeros(1, 3, *size)), lambda: show(model, imgsz=size)]
    for attempt in attempts:
        with pytest.raises(SizeError) as caught:
            attempt()
        near = {bad // 32 * 32 or 32, bad // 32 * 32 + 32}
        assert words_of(str(caught.value), [str(bad), "32", *map(str, near)]) == []
    found = cli("show", "yolo11n-carafe.yaml", f"imgsz={size[0]},{size[1]}")
    assert found.status == 2
    assert str(bad) in found.err


@pytest.mark.parametrize("command", ["train", "val", "predict", "export"])
def test_a_size_that_does_not_fit_stops_every_command(command: str, cli: Cli, made_set: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    words = {"predict": f"source={made_set.parent / 'images' / 'val'}", "export": "format=torchscript"}
    found = cli(
        command,
        "model=yolo11n-carafe.yaml",
        words.get(command, f"data={made_set}"),
        "imgsz=100",
        f"project={tmp_path / 'runs'}",
    )
    assert found.status == 2
    assert words_of(found.err, ["100", "32", "96", "128"]) == []
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("missing.yaml", ("missing.yaml",)),
        ("coco12.yaml", ("coco12.yaml", "coco128.yaml")),
        ("无 数据", ("无 数据",)),
        ("empty", ("train/images",)),
        ("only-train", ("val/images",)),
        ("no-labels", ("label",)),
        ("bad-label", ("line 2", "bad.txt")),
        ("wrong-class", ("line 1", "bad.txt")),
        ("lost.yaml", ("line 1", "train", "nowhere")),
        ("no-names.yaml", ("names",)),
        ("typo.yaml", ("train", "'trian'")),
        ("broken.yaml", ("line 3", "YAML")),  # the bracket opened in line 2 is missed in the next line
        ("list.yaml", ("mapping", "list")),
    ],
)
@pytest.mark.parametrize("way", ["python", "command line"])
def test_data_sets_that_are_missing_or_laid_out_otherwise(
    data: str, says: tuple[str, ...], way: str, cli: Cli, made_set: Path, tmp_path: Path
) -> None:
    _spoil_data(tmp_path, made_set)
    before = tree(tmp_path)
    if way == "python":
        with pytest.raises(DataError) as caught:
            YOLO("yolo11n-carafe.yaml").train(data=data, epochs=1, project=str(tmp_path / "runs"))
        message = str(caught.value)
    else:
        found = cli("train", "model=yolo11n-carafe.yaml", f"data={data}", "epochs=1", f"project={tmp_path / 'runs'}")
        assert found.status == 2
        message = found.err
        assert "Traceback" not in message
    assert words_of(message, says) == [], message
    assert tree(tmp_path) == before


def _spoil_data(folder: Path, made_set: Path) -> None:
    picture = next((made_set.parent / "images" / "val").iterdir()).read_bytes()
    (folder / "empty").mkdir()
    for name, label in (
        ("only-train", "0 .5 .5 .2 .2"),
        ("no-labels", None),
        ("bad-label", "0 .5 .5 .2 .2\n0 .5"),
        ("wrong-class", "7 .5 .5 .2 .2"),
    ):
        for part in ("train",) if name == "only-train" else ("train", "val"):
            for kind in ("images", "labels"):
                (folder / name / part / kind).mkdir(parents=True)
            (folder / name / part / "images" / "bad.jpg").write_bytes(picture)
            if label is not None:
                (folder / name / part / "labels" / "bad.txt").write_text(label + "\n", "utf-8")
        if name == "wrong-class":
            (folder / name / "train" / "labels" / "classes.txt").write_text("a\nb\n", "utf-8")
    good = made_set.parent.as_posix()
    for name, text in (
        ("lost", f"train: {good}/nowhere\nval: {good}/images/val\nnames: [a, b, c]\n"),
        ("no-names", f"train: {good}/images/train\nval: {good}/images/val\n"),
        ("typo", f"trian: {good}/images/train\nval: {good}/images/val\nnames: [a, b, c]\n"),
        ("broken", "train: a\nval: [b\nnames: [c]\n"),
        ("list", "- train\n- val\n"),
    ):
        (folder / f"{name}.yaml").write_text(text, "utf-8")
