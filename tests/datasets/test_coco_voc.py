"""COCO JSON and VOC XML as data=: read as they are, the boxes right, wrong files named with their place."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from detgraft.datasets.folder import load_data_yaml, resolve_data
from detgraft.errors import DataError


def picture(path: Path, width: int = 100, height: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)
    return path


COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50},
        {"id": 9, "file_name": "b.jpg", "width": 100, "height": 50},
    ],
    "categories": [{"id": 3, "name": "猫"}, {"id": 1, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 20, 10], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [90, 40, 30, 10]},
        {"id": 4, "image_id": 7, "category_id": 1, "bbox": [90, 40, 0, 10]},
    ],
}


def coco_set(home: Path, layout: str) -> Path:
    for split in ("train", "val"):
        if layout == "standard":
            pictures, file = home / f"{split}2017", home / "annotations" / f"instances_{split}2017.json"
        elif layout == "images":
            pictures, file = home / "images" / split, home / "annotations" / f"{split}.json"
        else:
            name = {"val": "valid"}.get(split, split)
            pictures, file = home / name, home / name / "_annotations.coco.json"
        for name in ("a.jpg", "b.jpg"):
            picture(pictures / name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(COCO, ensure_ascii=False), "utf-8")
    return home


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["standard", "images", "roboflow"])
def test_coco_json_is_read_as_it_is(layout: str, tmp_path: Path) -> None:
    home = coco_set(tmp_path / "set 一", layout)
    before = contents(home)
    said: list[str] = []
    file = resolve_data(home, tmp_path / "out", tell=said.append)
    data = load_data_yaml(file)
    assert data["names"] == {0: "dog", 1: "猫"}, "in the order of the categories' numbers"
    labels = Path(data["train"].replace("/images/", "/labels/"))
    rows = [[float(v) for v in row.split()] for row in (labels / "a.txt").read_text().splitlines()]
    assert rows == [[1, 0.2, 0.2, 0.2, 0.2], [0, 0.95, 0.9, 0.1, 0.2]]
    assert (labels / "b.txt").read_text() == "", "a picture without labels is one of background"
    assert sorted(path.name for path in Path(data["val"]).iterdir()) == ["a.jpg", "b.jpg"]
    assert "train 2 pictures with 2 boxes, val 2 pictures with 2 boxes" in said[0]
    assert "2 crowd regions" in said[0]
    assert "2 boxes without an area" in said[0]
    assert "2 boxes were cut off" in said[0]
    assert contents(home) == before, "the user's files stay"


def test_one_json_finds_the_other_splits(tmp_path: Path) -> None:
    home = coco_set(tmp_path / "set", "standard")
    file = resolve_data(home / "annotations" / "instances_train2017.json", tmp_path / "out")
    assert load_data_yaml(file)["val"].endswith("/images/val")


def test_the_same_set_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    home = coco_set(tmp_path / "set", "standard")
    first = resolve_data(home, tmp_path / "out")
    assert resolve_data(home, tmp_path / "out") == first
    changed = copy.deepcopy(COCO)
    changed["annotations"][0]["bbox"] = [1, 1, 2, 2]
    (home / "annotations" / "instances_val2017.json").write_text(json.dumps(changed), "utf-8")
    assert resolve_data(home, tmp_path / "out") != first


def test_a_broken_jpeg_is_copied_since_ultralytics_would_write_over_it(tmp_path: Path) -> None:
    home = coco_set(tmp_path / "set", "standard")
    whole = home / "train2017" / "a.jpg"
    (home / "train2017" / "b.jpg").write_bytes(whole.read_bytes()[:-2])
    data = load_data_yaml(resolve_data(home, tmp_path / "out"))
    assert (Path(data["train"]) / "a.jpg").samefile(whole)
    assert not (Path(data["train"]) / "b.jpg").samefile(home / "train2017" / "b.jpg")


def spoil(change: Callable[[dict[str, Any]], object]) -> str:
    content = copy.deepcopy(COCO)
    change(content)
    return json.dumps(content)


WRONG_COCO: dict[str, tuple[str, tuple[str, ...]]] = {
    "no json": ("{\n\n oops", ("line 3", "JSON")),
    "a list": ("[1]", ("mapping", "list")),
    "no categories": (spoil(lambda c: c.pop("categories")), ("categories",)),
    "empty categories": (spoil(lambda c: c["categories"].clear()), ("categories", "write the classes there")),
    "category twice": (spoil(lambda c: c["categories"].append({"id": 3, "name": "x"})), ("categories[2]", "twice")),
    "category unnamed": (spoil(lambda c: c["categories"][0].pop("name")), ("categories[0]", "name")),
    "picture gone": (spoil(lambda c: c["images"][1].update(file_name="z.jpg")), ("images[1]", "z.jpg", "train2017")),
    "no width": (spoil(lambda c: c["images"][0].pop("width")), ("images[0]", "width")),
    "image twice": (spoil(lambda c: c["images"][1].update(id=7)), ("images[1]", "twice")),
    "lost image": (spoil(lambda c: c["annotations"][2].update(image_id=1)), ("annotations[2]", "image_id")),
    "image a list": (spoil(lambda c: c["annotations"][2].update(image_id=[7])), ("annotations[2]", "image_id")),
    "lost category": (spoil(lambda c: c["annotations"][0].update(category_id=2)), ("annotations[0]", "category_id")),
    "bbox short": (spoil(lambda c: c["annotations"][0].update(bbox=[1, 2, 3])), ("annotations[0]", "bbox")),
    "bbox text": (spoil(lambda c: c["annotations"][0].update(bbox=["1", 2, 3, 4])), ("annotations[0]", "bbox")),
    "bbox negative": (spoil(lambda c: c["annotations"][0].update(bbox=[9, 9, -1, 4])), ("annotations[0]", "negative")),
}


@pytest.mark.parametrize("name", WRONG_COCO)
def test_wrong_coco_files_are_named_with_their_place(name: str, tmp_path: Path) -> None:
    home = coco_set(tmp_path / "set", "standard")
    text, says = WRONG_COCO[name]
    (home / "annotations" / "instances_train2017.json").write_text(text, "utf-8")
    with pytest.raises(DataError) as caught:
        resolve_data(home, tmp_path / "out")
    message = str(caught.value)
    assert [word for word in says if word not in message] == [], message
    assert not (tmp_path / "out").exists()


def test_coco_without_a_val_split_or_with_other_classes(tmp_path: Path) -> None:
    home = coco_set(tmp_path / "set", "standard")
    val = home / "annotations" / "instances_val2017.json"
    content = {**COCO, "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}]}
    val.write_text(json.dumps(content), "utf-8")
    with pytest.raises(DataError, match="other classes"):
        resolve_data(home, tmp_path / "out")
    val.unlink()
    with pytest.raises(DataError, match="val split"):
        resolve_data(home, tmp_path / "out")
    (home / "boxes.json").write_text(json.dumps(COCO), "utf-8")
    with pytest.raises(DataError, match=r"instances_train\.json"):
        resolve_data(home / "boxes.json", tmp_path / "out")


XML = """<annotation><filename>whatever.png</filename><size><width>1</width><height>1</height></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>15</ymax></bndbox></object>
<object><name>ant</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>15</ymax></bndbox></object>
<object><name>bee</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>100</xmax><ymax>50</ymax></bndbox></object>
</annotation>"""


def voc_set(home: Path, layout: str) -> Path:
    for split, name in (("train", "a"), ("val", "b")):
        if layout == "standard":
            picture(home / "JPEGImages" / f"{name}.jpg")
            xml = home / "Annotations" / f"{name}.xml"
            lists = home / "ImageSets" / "Main"
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{split}.txt").write_text(f"{name}\n", "utf-8")
        else:
            folder = home / {"val": "valid"}.get(split, split)
            picture(folder / f"{name}.jpg")
            xml = folder / f"{name}.xml"
        xml.parent.mkdir(parents=True, exist_ok=True)
        xml.write_text(XML, "utf-8")
    return home


@pytest.mark.parametrize("layout", ["standard", "beside"])
def test_voc_xml_is_read_as_it_is(layout: str, tmp_path: Path) -> None:
    home = voc_set(tmp_path / "set", layout)
    before, said = contents(home), list[str]()
    data = load_data_yaml(resolve_data(home, tmp_path / "out", tell=said.append))
    assert data["names"] == {0: "bee", 1: "cat"}
    rows = (Path(data["train"].replace("/images/", "/labels/")) / "a.txt").read_text().splitlines()
    # Pixels count from 1 and the last one belongs to the box: 11 to 30 are 20 of 100 pixels, from the 10th on.
    assert [[float(v) for v in row.split()] for row in rows] == [[1, 0.2, 0.2, 0.2, 0.2], [0, 0.5, 0.5, 1, 1]]
    assert "2 difficult objects" in said[0]
    assert contents(home) == before


def test_voc_classes_follow_a_classes_txt(tmp_path: Path) -> None:
    home = voc_set(tmp_path / "set", "standard")
    (home / "classes.txt").write_text("cat\nbee\nant\n", "utf-8")
    assert load_data_yaml(resolve_data(home, tmp_path / "out"))["names"] == {0: "cat", 1: "bee", 2: "ant"}
    (home / "classes.txt").write_text("cat\nbea\n", "utf-8")
    with pytest.raises(DataError, match="'bee' is not in classes.txt. Did you mean 'bea'"):
        resolve_data(home, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("</annotation>", "", ("a.xml", "line", "XML")),
        ("<xmin>11", "<xmin>x", ("a.xml, object 1", "xmin", "'x'")),
        ("<xmax>30", "<xmax>3", ("a.xml, object 1", "ends before")),
        ("<name>cat</name>", "", ("a.xml, object 1", "name")),
        ("<annotation>", "<!DOCTYPE x [<!ENTITY a 'b'>]><annotation>", ("a.xml", "entities")),
        ("bndbox", "box", ("a.xml, object 1", "bndbox")),
    ],
)
def test_wrong_voc_files_are_named_with_their_place(old: str, new: str, says: tuple[str, ...], tmp_path: Path) -> None:
    home = voc_set(tmp_path / "set", "standard")
    (home / "Annotations" / "a.xml").write_text(XML.replace(old, new), "utf-8")
    with pytest.raises(DataError) as caught:
        resolve_data(home, tmp_path / "out")
    assert [word for word in says if word not in str(caught.value)] == [], str(caught.value)


def test_voc_without_splits_or_pictures_says_what_to_write(tmp_path: Path) -> None:
    home = voc_set(tmp_path / "set", "standard")
    (home / "ImageSets" / "Main" / "train.txt").write_text("a\nz\n", "utf-8")
    with pytest.raises(DataError, match=r"train\.txt, line 2: there is no Annotations/z\.xml"):
        resolve_data(home, tmp_path / "out")
    shutil.rmtree(home / "ImageSets")
    with pytest.raises(DataError, match=r"ImageSets/Main/train\.txt"):
        resolve_data(home, tmp_path / "out")


@pytest.mark.parametrize("part", ["Annotations", "JPEGImages", "labels", "images"])
def test_a_part_of_a_set_names_the_set(part: str, tmp_path: Path) -> None:
    home = tmp_path / "cells"
    if part in ("Annotations", "JPEGImages"):
        voc_set(home, "standard")
    else:
        for split in ("train", "val"):
            picture(home / "images" / split / "a.png")
            (home / "labels" / split).mkdir(parents=True)
            (home / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        (home / "classes.txt").write_text("cell\n")
    with pytest.raises(DataError, match=f"a part of a data set; write data={home}$"):
        resolve_data(home / part, tmp_path / "out")


def test_a_folder_without_class_names_says_where_to_write_them(tmp_path: Path) -> None:
    for split in ("train", "val"):
        picture(tmp_path / "set" / split / "images" / "a.jpg")
        (tmp_path / "set" / split / "labels").mkdir()
        (tmp_path / "set" / split / "labels" / "a.txt").write_text("1 .5 .5 .2 .2\n", "utf-8")
    said: list[str] = []
    file = resolve_data(tmp_path / "set", tmp_path / "out", tell=said.append)
    assert yaml.safe_load(file.read_text("utf-8"))["names"] == {0: "class0", 1: "class1"}
    assert "classes.txt" in said[0]


def test_ultralytics_reads_the_same_boxes(tmp_path: Path) -> None:
    """What a training would see, through Ultralytics' own data set class."""
    from ultralytics.data.dataset import YOLODataset

    from detgraft.upstream.model.data import prepare_data

    home = coco_set(tmp_path / "set", "standard")
    data = load_data_yaml(Path(prepare_data(str(home), "detect", tmp_path / "runs")))
    found = YOLODataset(img_path=data["train"], data={**data, "channels": 3}, task="detect", augment=False, imgsz=64)
    first = next(entry for entry in found.labels if Path(entry["im_file"]).name == "a.jpg")
    assert first["cls"].flatten().tolist() == [1, 0]
    assert first["bboxes"][0].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.2])
    with pytest.raises(DataError, match="task=segment"):
        prepare_data(str(home), "segment", tmp_path / "runs")


@pytest.mark.slow
def test_a_coco_set_and_a_voc_set_are_trained_by_one_line_each(tmp_path: Path) -> None:
    from detgraft import YOLO

    for home in (coco_set(tmp_path / "coco", "roboflow"), voc_set(tmp_path / "voc", "beside")):
        model = YOLO("yolo11n+carafe")
        model.train(
            data=str(home), epochs=1, imgsz=64, batch=2, workers=0, plots=False, device="cpu", project=str(tmp_path)
        )
        assert len(model.names) == 2
