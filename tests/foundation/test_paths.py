"""Chinese texts, Chinese and spaced paths, Windows' separators, and data sets laid out as the tutorials ask."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from seed_yamls import has_chinese
from support import TINY

from detgraft import YOLO, build
from detgraft.upstream.describe.resolve import ZOO

CARAFE = (ZOO / "yolo11-carafe.yaml").read_text("utf-8")
ODD_NAMES = ["模型 一", "ünïcode (1)", "a.b c", "exp11s"]


@pytest.mark.parametrize("folder", ODD_NAMES)
@pytest.mark.parametrize("relative", [True, False])
def test_model_yamls_in_odd_folders(
    folder: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "yolo11-升采样.yaml").write_text(f"# 中文注释 {folder}\n{CARAFE}", "utf-8")
    monkeypatch.chdir(tmp_path)
    path = Path(folder) / "yolo11n-升采样.yaml" if relative else tmp_path / folder / "yolo11n-升采样.yaml"
    model = build(path, nc=2)
    assert sum(p.numel() for p in model.parameters()) == 2_730_662


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_model_yamls_as_windows_writes_them(encoding: str, newline: str, tmp_path: Path) -> None:
    path = tmp_path / "yolo11-win.yaml"
    path.write_bytes(f"# 通道放缩的系数\n{CARAFE}".replace("\n", newline).encode(encoding))
    assert has_chinese(path)
    model: Any = build(tmp_path / "yolo11s-win.yaml", nc=2)
    assert model.yaml["scale"] == "s"


def layout(folder: Path, made_set: Path, *, classes: bool) -> Path:
    """The made set as the tutorials lay theirs out: train/images, train/labels (with classes.txt or not), val/..."""
    for part in ("train", "val"):
        shutil.copytree(made_set.parent / "images" / part, folder / part / "images")
        shutil.copytree(made_set.parent / "labels" / part, folder / part / "labels")
        for cache in (folder / part).glob("*.cache"):
            cache.unlink()
    if classes:
        (folder / "train" / "labels" / "classes.txt").write_text("细胞\n叶子\n坚果\n", "utf-8")
    return folder


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".cache"}


@pytest.mark.parametrize("classes", [True, False])
def test_train_on_a_folder(classes: bool, made_set: Path, tmp_path: Path) -> None:
    folder = layout(tmp_path / "数据 集", made_set, classes=classes)
    before = files(folder)
    model = YOLO("yolo11n-carafe.yaml")
    runs = tmp_path / "运行 结果"
    model.train(data=str(folder), epochs=1, imgsz=64, project=str(runs), name="第一次", **TINY)
    names = {0: "细胞", 1: "叶子", 2: "坚果"} if classes else {0: "class0", 1: "class1", 2: "class2"}
    assert YOLO(runs / "第一次" / "weights" / "best.pt").names == names
    derived = list(runs.rglob("data.yaml"))
    assert len(derived) == 1, "the data YAML is derived and written beside the run"
    data = yaml.safe_load(derived[0].read_text("utf-8"))
    assert data["names"] == names
    assert Path(data["train"]) == folder / "train" / "images"
    assert files(folder) == before, "nothing is written into the data set but Ultralytics' own caches"


@pytest.mark.parametrize(
    ("train", "quote"),
    [("train\\images", ""), ("train\\images", '"'), ("train\\images", "'"), (".\\train\\images", "")],
)
def test_data_yamls_with_backslashes(train: str, quote: str, made_set: Path, tmp_path: Path) -> None:
    folder = layout(tmp_path / "数据 集", made_set, classes=False)
    val = train.replace("train", "val")
    text = f"# 数据\ntrain: {quote}{train}{quote}\nval: {quote}{val}{quote}\nnames: [细胞, b, c]\n"
    (folder / "我的 数据.yaml").write_text(text, "utf-8")
    model = YOLO("yolo11n-carafe.yaml")
    seen: list[tuple[int, str]] = []
    model.add_callback("on_val_end", lambda validator: seen.append((validator.seen, validator.data["names"][0])))
    model.val(
        data=str(folder / "我的 数据.yaml"),
        imgsz=64,
        workers=0,
        plots=False,
        device="cpu",
        project=str(tmp_path / "runs"),
    )
    assert seen == [(3, "细胞")]
    assert (folder / "我的 数据.yaml").read_text("utf-8") == text, "the user's file is never changed"


def test_everything_odd_at_once(made_set: Path, tmp_path: Path) -> None:
    """Chinese and spaced paths for the model, the data, the run and the picture, from YAML to saved prediction."""
    data = layout(tmp_path / "数据 集", made_set, classes=False)
    (data / "数据.yaml").write_text("train: train\\images\nval: val\\images\nnames: [细胞, 叶子, 坚果]\n", "utf-8")
    (tmp_path / "模型 一").mkdir()
    (tmp_path / "模型 一" / "yolo11-卡拉菲.yaml").write_text(f"# 中文\n{CARAFE}", "utf-8")
    model = YOLO(tmp_path / "模型 一" / "yolo11n-卡拉菲.yaml")
    runs = tmp_path / "运行 结果"
    model.train(data=str(data / "数据.yaml"), epochs=1, imgsz=64, project=str(runs), name="第一次", **TINY)
    best = YOLO(runs / "第一次" / "weights" / "best.pt")
    assert best.names == {0: "细胞", 1: "叶子", 2: "坚果"}
    picture = next((data / "val" / "images").iterdir())
    picture = picture.rename(picture.with_name(f"图 片{picture.suffix}"))
    (result,) = best.predict(str(picture), imgsz=64, save=True, conf=0.0, max_det=3, project=str(runs), name="预测")
    saved: Any = Path(result.save_dir) / picture.name
    assert saved.is_file()
    assert saved.stat().st_size > 0
