"""``data=``: folders and YAMLs as people have them, and one clear error for each thing that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from detgraft.datasets.folder import load_data_yaml, normalise_data_yaml, resolve_data
from detgraft.errors import DataError

BOX = "0.5 0.5 0.2 0.2"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes())


def text(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def tutorial_folder(root: Path, layout: str = "{split}/{kind}", splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Two pictures a split, one box each: class 0 and class 1."""
    for split in splits:
        for index in (0, 1):
            picture(root / layout.format(split=split, kind="images") / f"{index}.jpg")
            text(root / layout.format(split=split, kind="labels") / f"{index}.txt", f"{index} {BOX}\n")
    return root


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_folder_layouts(tmp_path: Path, layout: str, val: str) -> None:
    home = tutorial_folder(tmp_path / "home", layout, ("train", val, "test"))
    found = resolve_data(home, tmp_path / "run")
    assert found == tmp_path / "run" / "data.yaml"
    data = read(found)
    for key, split in (("train", "train"), ("val", val), ("test", "test")):
        assert data[key] == (home / layout.format(split=split, kind="images")).resolve().as_posix()
    assert data["names"] == {0: "class0", 1: "class1"}
    assert data["nc"] == 2
    assert "path" not in data
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["data.yaml"]


def test_without_a_test_split_there_is_no_test_key(tmp_path: Path) -> None:
    assert "test" not in read(resolve_data(tutorial_folder(tmp_path / "home"), tmp_path / "run"))


def test_without_out_dir_nothing_is_written_beside_the_data(tmp_path: Path) -> None:
    home = tutorial_folder(tmp_path / "home")
    before = sorted(tmp_path.rglob("*"))
    found = resolve_data(str(home))
    assert sorted(tmp_path.rglob("*")) == before
    assert read(found)["nc"] == 2
    found.unlink()
    found.parent.rmdir()


@pytest.mark.parametrize("where", ["train/labels", "train", ".", "labels"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "utf-16"])
def test_classes_txt_in_every_encoding(tmp_path: Path, where: str, encoding: str) -> None:
    home = tutorial_folder(tmp_path / "我的 数据 集")
    text(home / where / "classes.txt", "红细胞\r\nwhite cell\r\nNO\r\n\r\n", encoding)
    data = read(resolve_data(home, tmp_path / "运行 1"))
    assert data["names"] == {0: "红细胞", 1: "white cell", 2: "NO"}
    assert data["nc"] == 3


def test_the_folders_own_yaml_gives_names_and_other_keys(tmp_path: Path) -> None:
    home = tutorial_folder(tmp_path / "home")
    text(home / "data.yaml", "path: /nowhere\ntrain: x\nval: y\nnames: [a, b, c]\nkpt_shape: [4, 3]\ndownload: z.zip\n")
    text(home / "yolo11.yaml", "nc: 80\nbackbone: []\n")
    data = read(resolve_data(home, tmp_path / "run"))
    assert data["names"] == {0: "a", 1: "b", 2: "c"}
    assert data["kpt_shape"] == [4, 3]
    assert data["train"] == (home / "train/images").resolve().as_posix()
    assert "download" not in data


def test_a_folder_without_splits_but_with_a_yaml_uses_the_yaml(tmp_path: Path) -> None:
    tutorial_folder(tmp_path / "home", "{kind}/{split}2017", ("train",))
    own = text(tmp_path / "home/coco.yaml", "train: images/train2017\nval: images/train2017\nnc: 2\n")
    assert resolve_data(tmp_path / "home", tmp_path / "run") == own
    assert not (tmp_path / "run").exists()
    text(tmp_path / "home/other.yaml", "train: images/train2017\nval: images/train2017\nnc: 2\n")
    with pytest.raises(DataError, match=r"several data YAMLs \(coco.yaml, other.yaml\)"):
        resolve_data(tmp_path / "home", tmp_path / "run")


def test_pictures_without_labels_are_background_and_rows_of_other_tasks_pass(tmp_path: Path) -> None:
    home = tutorial_folder(tmp_path / "home")
    picture(home / "train/images/deep/er/9.PNG")
    text(home / "train/labels/1.txt", "")
    text(home / "train/labels/0.txt", f"4 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n\n1.0 {BOX} 0.5 0.5 2\n")
    assert read(resolve_data(home, tmp_path / "run"))["nc"] == 5


def test_windows_separators_in_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tutorial_folder(tmp_path / "a b" / "数据")
    monkeypatch.chdir(tmp_path)
    assert read(resolve_data("a b\\数据", tmp_path / "run"))["nc"] == 2


def rejects(tmp_path: Path, home: Path | str, *parts: str) -> None:
    """The folder is refused with one error that has all parts, and no run folder is made."""
    with pytest.raises(DataError) as caught:
        resolve_data(home, tmp_path / "run")
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert not (tmp_path / "run").exists()


def test_no_training_pictures(tmp_path: Path) -> None:
    home = tutorial_folder(tmp_path / "home", splits=("val",))
    rejects(tmp_path, home, "no training pictures", "train/images", "found ['val']")
    (home / "train/images").mkdir(parents=True)
    rejects(tmp_path, home, "no pictures in the train split", str(home / "train/images"))


def test_one_folder_too_high_is_told(tmp_path: Path) -> None:
    tutorial_folder(tmp_path / "train" / "dataset")
    rejects(tmp_path, tmp_path / "train", str(tmp_path / "train" / "dataset"), "give that one")


def test_no_val_split_tells_how_to_make_one(tmp_path: Path) -> None:
    rejects(
        tmp_path, tutorial_folder(tmp_path / "home", splits=("train",)), "no validation pictures", "val/images", "move"
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_no_labels(tmp_path: Path, split: str) -> None:
    home = tutorial_folder(tmp_path / "home")
    for path in (home / split / "labels").iterdir():
        path.rename(path.with_name(f"other{path.name}"))
    rejects(tmp_path, home, f"no labels for the {split} split", "2 pictures")


def test_only_empty_labels(tmp_path: Path) -> None:
    home = tutorial_folder(tmp_path / "home")
    for path in home.rglob("*.txt"):
        path.write_text("")
    rejects(tmp_path, home, "every label file is empty")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0.5 0.5 0.2", "at least 5 numbers (class, centre x, centre y, width, height), found 4"),
        ("cat 0.5 0.5 0.2 0.2", "numbers only, found 'cat"),
        ("0 0.5 0.5 nan 0.2", "numbers only"),
        ("0,0.5,0.5,0.2,0.2", "at least 5 numbers"),
        (f"-1 {BOX}", "class index (whole number from 0), found '-1'"),
        (f"1.5 {BOX}", "found '1.5'"),
        ("0 120 80 40 40", "relative to the picture (numbers from 0 to 1), found 120 80 40 40"),
        ("0 0.5 0.5 -0.2 0.2", "relative to the picture"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_malformed_rows_name_file_and_line(tmp_path: Path, split: str, row: str, message: str) -> None:
    home = tutorial_folder(tmp_path / "home")
    label = text(home / split / "labels" / "1.txt", f"0 {BOX}\n\n{row}\n0 {BOX}\n")
    rejects(tmp_path, home, f"{label}, line 3", message)


def test_a_class_beyond_the_names(tmp_path: Path) -> None:
    home = tutorial_folder(tmp_path / "home")
    text(home / "train/labels/classes.txt", "one\n")
    rejects(
        tmp_path, home, f"{home / 'train/labels/1.txt'}, line 1", "from 0 to 0 (1 names in ", "classes.txt", "found 1"
    )


def test_classes_txt_that_cannot_be_right(tmp_path: Path) -> None:
    home = tutorial_folder(tmp_path / "home")
    classes = text(home / "train/labels/classes.txt", "\n\n")
    rejects(tmp_path, home, str(classes), "empty file")
    text(classes, "one\n\ntwo\n")
    rejects(tmp_path, home, f"{classes}, line 2", "empty line between names")
    text(classes, "one\ntwo\n")
    text(home / "val/labels/classes.txt", "two\none\n")
    rejects(tmp_path, home, str(home / "val/labels/classes.txt"), "['two', 'one'] against ['one', 'two']")
    text(classes, b"good\nbad \xff\xff\n")
    rejects(tmp_path, home, f"{classes}, line 2", "UTF-8 or GBK")


def test_images_behind_a_link_without_images_in_its_path(tmp_path: Path) -> None:
    home = tutorial_folder(tmp_path / "home")
    (home / "train/images").rename(tmp_path / "pictures")
    try:
        (home / "train/images").symlink_to(tmp_path / "pictures", target_is_directory=True)
    except OSError:
        pytest.skip("this system does not let a user make links")
    rejects(tmp_path, home, "pictures", "no folder called 'images'")


def test_missing_data_proposes_the_nearest_name(tmp_path: Path) -> None:
    tutorial_folder(tmp_path / "bloodcells")
    rejects(tmp_path, tmp_path / "bloodcell", "no such file or folder", "Did you mean 'bloodcells'?")
    rejects(tmp_path, tmp_path / "no" / "where", f"{str(tmp_path / 'no')!r} does not exist either")
    with pytest.raises(DataError, match=r"Did you mean 'coco128.yaml'\?"):
        resolve_data("coco129.yml", known=["coco128.yaml", "african-wildlife.yaml"])
    rejects(tmp_path, text(tmp_path / "data.csv", "x"), "expected a data YAML")


# --- YAMLs -----------------------------------------------------------------------------------------------------------


def test_a_yaml_is_returned_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tutorial_folder(tmp_path)
    given = text(tmp_path / "data.yaml", "train: train/images\nval: val/images\nnames: [a, b]\n")
    before = given.read_bytes()
    assert resolve_data(given, tmp_path / "run") == given
    monkeypatch.chdir(tmp_path)
    assert resolve_data("data.yaml", tmp_path / "run") == given
    assert normalise_data_yaml(given, tmp_path / "run") == given
    assert given.read_bytes() == before
    assert not (tmp_path / "run").exists()


BACKSLASHED = [
    "train: train\\images\nval: val\\images\n",
    'train: "train\\images"  # 训练集\nval: "val\\images"\n',
    "train: 'train\\images'\nval:\n  - 'val\\images'\n",
    'train: ["train\\images"]\nval:\n- "val\\\\images"\n',
    "train: ..\\train\\images\nval: ..\\val\\images\n",
    ".\\ROOT train: train\\images\nvalidation: val/images\n".replace(".\\ROOT ", ""),
]


@pytest.mark.parametrize("head", BACKSLASHED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "utf-16"])
def test_backslashes_and_encodings(tmp_path: Path, head: str, encoding: str) -> None:
    home = tutorial_folder(tmp_path / "我的 数据")
    given = text(home / "data.yaml", f"# 数据集\n{head}nc: 2\nnames: ['细胞', 'a\\b']\n", encoding)
    before = given.read_bytes()
    data = load_data_yaml(given)
    flat = [item for key in ("train", "val") for item in ([data[key]] if isinstance(data[key], str) else data[key])]
    assert flat == [(home / split / "images").resolve().as_posix() for split in ("train", "val")]
    assert data["names"] == {0: "细胞", 1: "a\\b"}
    corrected = normalise_data_yaml(given, tmp_path / "run")
    assert corrected == tmp_path / "run" / "data.yaml"
    assert {key: read(corrected)[key] for key in ("train", "val", "names")} == {
        key: data[key] for key in ("train", "val", "names")
    }
    assert normalise_data_yaml(corrected, tmp_path / "again") == corrected
    assert given.read_bytes() == before


def test_the_corrected_copy_never_replaces_the_given_file(tmp_path: Path) -> None:
    tutorial_folder(tmp_path)
    given = text(tmp_path / "data.yaml", "train: train\\images\nval: val\\images\nnc: 2\n")
    assert normalise_data_yaml(given, tmp_path) == tmp_path / "data-corrected.yaml"
    assert "\\" in given.read_text()


def test_path_keeps_its_stock_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tutorial_folder(tmp_path / "work")
    given = text(tmp_path / "elsewhere" / "data.yaml", "path: .\ntrain: train/images\nval: val/images\nnc: 2\n")
    monkeypatch.chdir(work)
    assert load_data_yaml(given)["train"] == (work / "train/images").resolve().as_posix()
    assert normalise_data_yaml(given, tmp_path / "run") == given
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"line 2: 'train:' leads to"):
        load_data_yaml(given)
    text(given, "path: sets\\cells\ntrain: train/images\nval: val/images\nnc: 2\n")
    unknown = load_data_yaml(given)
    assert (unknown["path"], unknown["train"]) == ("sets/cells", "train/images"), "only Ultralytics' settings can tell"
    tutorial_folder(tmp_path / "datasets" / "sets" / "cells")
    found = load_data_yaml(given, datasets_dir=tmp_path / "datasets")
    assert found["train"] == (tmp_path / "datasets/sets/cells/train/images").resolve().as_posix()


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", 1, "found an empty file"),
        ("# only a comment\n- train\n", 2, "found a list"),
        ("just words\n", 1, "found a str"),
        ("train: train/images\nval: [\n", 3, "not readable as YAML"),
        ("trian: train/images\nval: val/images\nnc: 2\n", None, "'train:' is missing or empty. Did you mean 'trian'?"),
        ("train: train/images\nnc: 2\n", None, "'val:' is missing or empty"),
        (
            "train: train/images\nval: val/images\nname: [a]\n",
            None,
            "'names:' and 'nc:' is needed. Did you mean 'name'?",
        ),
        ("train: train/images\nval: val/images\nnc: two\n", 3, "found 'two'"),
        ("nc: 3\ntrain: train/images\nval: val/images\nnames: [a, b]\n", 4, "'nc: 3' does not match the 2 names"),
        ("train: train/images\nval: val/images\nnames: {1: a, 2: b}\n", 3, "indices 0 to 1, found [1, 2]"),
        ("train: train/images\nval: val/images\nnames: cell\n", 3, "a list or a mapping"),
        ("train: 5\nval: val/images\nnc: 2\n", 1, "'train' must be a folder or a list of folders, found 5"),
        ("# 注释\n\ntrain: train\\image\nval: val/images\nnc: 2\n", 3, "Did you mean 'images'?"),
        ("train: train/images\nval: [val/images, nope/images]\nnc: 2\n", 2, "nope"),
    ],
)
def test_wrong_yamls_name_file_and_line(tmp_path: Path, content: str, line: int | None, message: str) -> None:
    tutorial_folder(tmp_path / "home")
    given = text(tmp_path / "home" / "data.yaml", content)
    for refuse in (load_data_yaml, lambda path: normalise_data_yaml(path, tmp_path / "run"), resolve_data):
        with pytest.raises(DataError) as caught:
            refuse(given)
        assert str(caught.value).startswith(f"{given}, line {line}: " if line else f"{given}: "), str(caught.value)
        assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_missing_split_names_the_resolved_path(tmp_path: Path) -> None:
    given = text(tmp_path / "data.yaml", "train: train\\images\nval: val\\images\nnc: 2\n")
    with pytest.raises(DataError) as caught:
        load_data_yaml(given)
    assert repr(str(tmp_path / "train" / "images")) in str(caught.value)


def test_what_ultralytics_tolerates_stays_tolerated(tmp_path: Path) -> None:
    tutorial_folder(tmp_path)
    optional = text(tmp_path / "a.yaml", "train: train/images\nval: val/images\ntest: # optional\nminival: no\nnc: 2\n")
    assert load_data_yaml(optional)["test"] is None
    absent = text(tmp_path / "b.yaml", "train: gone\nval: val/images\ntest: nowhere\nnc: 2\n")
    assert load_data_yaml(absent, needed=["val"])["nc"] == 2
    loadable = text(tmp_path / "c.yaml", "train: gone\nval: gone\nnc: 2\ndownload: https://example.org/set.zip\n")
    assert load_data_yaml(loadable, download=True)["download"].startswith("https")
    with pytest.raises(DataError, match="would fetch.*download=True"):
        load_data_yaml(loadable)


def test_a_missing_yaml_proposes_its_sibling(tmp_path: Path) -> None:
    text(tmp_path / "coco128.yaml", "train: x\n")
    with pytest.raises(DataError, match=r"no such file or folder.*Did you mean 'coco128.yaml'\?"):
        load_data_yaml(tmp_path / "coco12.yaml")


def test_the_blood_cell_set(shared: Path, tmp_path: Path) -> None:
    assert resolve_data(shared / "data/bccd/data.yaml") == shared / "data/bccd/data.yaml"
    data = read(resolve_data(shared / "data/bccd", tmp_path / "run"))
    assert data["names"] == {0: "RBC", 1: "WBC", 2: "Platelets"}
    assert data["test"].endswith("bccd/images/test")


def test_stock_ultralytics_reads_the_results_as_meant(tmp_path: Path) -> None:
    from ultralytics.data import utils

    home = tutorial_folder(tmp_path / "我的 数据", splits=("train", "valid"))
    text(home / "train/labels/classes.txt", "RBC\nWBC\n", "gbk")
    derived = utils.check_det_dataset(str(resolve_data(home, tmp_path / "运行 1")), autodownload=False)
    given = text(home / "win.yaml", 'train: "train\\images"\nval: ..\\valid\\images\nnames: [RBC, WBC]\n')
    corrected = utils.check_det_dataset(str(normalise_data_yaml(given, tmp_path / "run2")), autodownload=False)
    for stock in (derived, corrected):
        assert Path(stock["train"]) == (home / "train/images").resolve()
        assert Path(stock["val"]) == (home / "valid/images").resolve()
        assert stock["names"] == {0: "RBC", 1: "WBC"}
    images = [str(Path(derived["train"]) / "0.jpg")]
    assert Path(utils.img2label_paths(images)[0]).is_file()
