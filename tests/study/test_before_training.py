"""What can be known before the training is said before it, not after hours."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import finished_study
from PIL import Image
from safetensors.torch import save_file

import detgraft
from detgraft.base.files import write_json
from detgraft.demo.made import make_shapes
from detgraft.errors import DetgraftError, MissingExtraError
from detgraft.study.api import report, run
from detgraft.study.design.config import config_of
from detgraft.study.design.errors import StudyError
from detgraft.study.design.seal import seal
from detgraft.study.design.spec import StudySpec, read_spec
from detgraft.study.run import preflight
from detgraft.study.run.evaluation import evaluate
from detgraft.study.run.store import StudyFolder
from detgraft.study.screen import screen

pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")
STUDY = """
data: shapes/data.yaml
base: {base}
variants: [{variant}]
seeds: 1
train: {{epochs: 1, imgsz: 64, batch: 4, workers: 0}}
controls: none
metrics: {{bootstrap: 0, split: {split}}}
init: {init}
"""
DATA = "path: {root}\ntrain: images/train\nval: images/val\nnames: [circle, square, triangle]\n"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=4, val=3, imgsz=64, seed=0)
    (folder / "data.yaml").write_text(DATA.format(root=folder))
    return folder


def make(folder: Path, shapes: Path, base: str = "yolo11n", variant: str = "carafe", **words: str) -> StudySpec:
    if not (folder / "shapes").exists():
        shutil.copytree(shapes, folder / "shapes")
        (folder / "shapes" / "data.yaml").write_text(DATA.format(root=folder / "shapes"))
    text = STUDY.format(base=base, variant=variant, split=words.get("split", "auto"), init=words.get("init", "scratch"))
    if "weights" in words:
        text += f"weights: {words['weights']}\n"
    (folder / "study.yaml").write_text(f"{text}out: {folder / 'out'}\n")
    return read_spec(folder / "study.yaml")


def checked(spec: StudySpec, arm: int = 1) -> dict[str, Any]:
    """The preflight's answer for the base (0) or the variant (1)."""
    return preflight.check_arm(config_of(spec, spec.arms[arm], 0), str(spec.folder / "out"))


def grafted_yaml(folder: Path, argument: str) -> Path:
    """The zoo's convnextv2_atto detector with one more argument in the backbone's row."""
    from detgraft.upstream.describe.resolve import zoo_yamls

    text = Path(zoo_yamls()["yolo11-convnextv2.yaml"]).read_text()
    changed = re.sub(r"(convnextv2_atto, \[)[^\]]*\]", rf"\g<1>{argument}]", text)
    assert changed != text
    path = folder / "yolo11n-mine.yaml"
    path.write_text(changed)
    return path


@pytest.mark.trust
@pytest.mark.parametrize("init", ["scratch", "transfer"])
def test_a_yaml_arm_with_own_weights_is_refused_unless_all_may_have_them(
    init: str, shapes: Path, tmp_path: Path
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "enc.safetensors")
    for argument in ("imagenet", "enc.safetensors"):
        grafted_yaml(tmp_path, argument)
        spec = make(tmp_path, shapes, variant="{model: yolo11n-mine.yaml}", init=init)
        with pytest.raises(DetgraftError, match=rf"yolo11n-mine\.yaml, line \d+.*{argument}.*'init: {init}' holds for"):
            checked(spec)


@pytest.mark.trust
@pytest.mark.parametrize("word", ["brand_new: 1", "lr0: -3", "mosaic: much"])
def test_a_wrong_training_argument_leaves_no_folder(word: str, shapes: Path, tmp_path: Path) -> None:
    spec = make(tmp_path, shapes, variant="carafe, simam, ema")
    path = spec.folder / "study.yaml"
    path.write_text(path.read_text().replace("train: {", f"train: {{{word}, "))
    for begin in (run, screen):
        with pytest.raises(StudyError, match=word.partition(":")[0]):
            begin(path, say=lambda _line: None)
        assert not spec.out.exists()


@pytest.mark.trust
def test_a_torchvision_row_without_a_word_takes_published_weights(shapes: Path, tmp_path: Path) -> None:
    rows = (
        "nc: 3\nbackbone:\n  - [-1, 1, TorchVision, [576, mobilenet_v3_small{}]]\n  - [0, 1, Index, [24, 4]]\nhead:\n"
    )
    for words, found in ((", None", 0), (", DEFAULT, True, 2, True", 1), ("", 1)):
        (tmp_path / "tv.yaml").write_text(rows.format(words) + "  - [[0], 1, Detect, [nc]]\n")
        from detgraft.upstream.service.arms import own_weights

        assert len(own_weights(str(tmp_path / "tv.yaml"))) == found


@pytest.mark.trust
def test_the_report_says_that_a_yaml_arm_started_with_weights_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    study = finished_study(tmp_path, pictures=False)
    arm = study.spec.variants[0]
    study.arm_file(arm).parent.mkdir(parents=True, exist_ok=True)
    for own, said in (([], False), (["mine.yaml, line 3: convnextv2_atto with imagenet"], True)):
        write_json(study.arm_file(arm), {"own_weights": own})
        text = report(study.spec).markdown.read_text("utf-8")
        (row,) = [line for line in text.splitlines() if line.startswith("| carafe |") and "%" not in line][-1:]
        assert ("its weights=" in row) == said  # a column that says "nothing" for every arm is left out


@pytest.mark.trust
def test_classification_needs_class_folders(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(DetgraftError, match=r"data\.yaml: classification needs a folder with train/CLASS/"):
        checked(make(tmp_path, shapes, base="yolo11n-cls"), arm=0)


@pytest.mark.trust
def test_what_decides_is_said_before_the_training(shapes: Path, tmp_path: Path) -> None:
    spec = make(tmp_path, shapes, base="yolo11n-seg")
    folder = StudyFolder(spec)
    folder.open()
    folder.arm_file(spec.base).parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    assert checked(spec, arm=0)["task"] == "segment"
    answers: dict[str, dict[str, Any]] = {arm.name: {"task": "segment", "cost": {"params": 1}} for arm in spec.arms}

    def tell() -> None:
        for arm in spec.arms:
            key = preflight._key(spec, arm)
            write_json(folder.arm_file(arm), seal({"key": key, "error": None, **answers[arm.name]}))
        preflight.preflight(folder, None, lines.append)  # type: ignore[arg-type]  # every arm is checked already

    tell()
    assert lines == ["Note: 'yolo11n-seg' is made for the task segment; AP of masks, by faster-coco-eval, decides."]
    answers["carafe"]["task"] = "detect"
    with pytest.raises(StudyError, match="line 4: 'carafe' is made for the task detect, the base 'yolo11n-seg' for"):
        tell()


@pytest.mark.trust
def test_the_title_says_that_boxes_decided_a_study_of_an_earlier_version(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    study = finished_study(tmp_path, pictures=False)
    for mark, more in (("(M)", "masks"), ("(P)", "key points")):
        for cell in study.cells():
            own = {"metrics/mAP50-95(B)": 0.5, f"metrics/mAP50-95{mark}": 0.4}
            result = cell.result()
            metrics = {split: dataclasses.replace(found, ultralytics=own) for split, found in result.metrics.items()}
            dataclasses.replace(result, metrics=metrics).write(cell.folder / "result.json")
        written = report(study.spec)
        title = f"does the graft help? (judged by boxes; {more} were not measured)"
        assert written.markdown.read_text("utf-8").splitlines()[0].endswith(title)
        assert written.html.read_text("utf-8").count(title) == 2


@pytest.mark.trust
def test_a_test_split_that_is_asked_for_must_be_there(shapes: Path, tmp_path: Path) -> None:
    spec = make(tmp_path, shapes, split="test")
    with pytest.raises(DetgraftError, match=r"data\.yaml: names no test split .*write split: val or auto"):
        checked(spec)
    folder = tmp_path / "shapes"
    (folder / "data.yaml").write_text(DATA.format(root=folder) + "test: images/test\n")
    for split in ("test", "auto"):  # auto takes test where it is named, and would fail there at the end
        with pytest.raises(DetgraftError, match=r"'test:' leads to .*which does not exist"):
            checked(make(tmp_path, shapes, split=split))
    (folder / "images" / "test").mkdir()
    with pytest.raises(DetgraftError, match="there are no pictures in the test split"):
        checked(make(tmp_path, shapes))
    shutil.copy(next((folder / "images" / "val").iterdir()), folder / "images" / "test" / "a.jpg")
    with pytest.raises(DetgraftError, match="none of the 1 pictures of the test split has a label.*split: val"):
        checked(make(tmp_path, shapes))
    (folder / "labels" / "test").mkdir()
    (folder / "labels" / "test" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert checked(make(tmp_path, shapes))["task"] == "detect"


@pytest.mark.trust
def test_a_missing_plotly_is_told_before_the_training(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make(tmp_path, shapes)
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr("detgraft.study.api.preflight", _fail)
    with pytest.raises(MissingExtraError, match=r"'plotly'.*detgraft\[study\]"):
        run(spec, say=lambda line: None)


@pytest.mark.trust
def test_a_folder_that_cannot_be_written_is_one_sentence(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, shapes)
    (tmp_path / "file").write_text("in the way")
    text = (tmp_path / "study.yaml").read_text().replace(f"out: {tmp_path / 'out'}", "out: file/out")
    (tmp_path / "study.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detgraft.study.api.preflight", _fail)
    with pytest.raises(StudyError, match=r"study\.yaml, line 10: out: nothing can be written into .*Not a directory"):
        run(tmp_path / "study.yaml", say=lambda line: None)


@pytest.mark.trust
def test_a_full_disk_is_told_before_the_training(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make(tmp_path, shapes)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12, 90_000_000))

    def priced(folder: StudyFolder, *_: object) -> None:
        for arm in folder.spec.arms:
            folder.arm_file(arm).parent.mkdir(parents=True, exist_ok=True)
            write_json(folder.arm_file(arm), {"cost": {"params": 2_600_000}})

    monkeypatch.setattr("detgraft.study.api.preflight", priced)
    monkeypatch.setattr("detgraft.study.api.Engine", _fail)
    with pytest.raises(StudyError, match=r"out: 0\.09 GB are free in .* 2 run\(s\), 1 at once, need about 0\.14 GB"):
        run(spec, say=lambda line: None)


def _fail(*_: object) -> None:
    raise AssertionError("this should not have been reached")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    model = detgraft.YOLO(detgraft.build("yolo11n.yaml", nc=3).yaml["yaml_file"])
    model.model = detgraft.build("yolo11n.yaml", nc=3)
    with torch.no_grad():  # a fresh model is sure of nothing; raise its class scores so that boxes are found
        for branch in model.model.model[-1].cv3:
            branch[-1].bias += 9.0
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    model.save(path)
    return str(path)


@pytest.mark.trust
def test_the_classes_that_are_trained_are_those_that_are_measured(
    weights: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A perfect detector of the one class that was trained got AP 0.333: the other two counted as missed."""
    from detgraft.upstream.service import validation

    spec = make(tmp_path, shapes)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "shapes" / "images" / "val" / "three.jpg")
    label = "".join(f"{k} {0.2 + 0.3 * k} 0.5 0.2 0.3\n" for k in range(3))
    (tmp_path / "shapes" / "labels" / "val" / "three.txt").write_text(label)
    shutil.copy(weights, tmp_path / "best.pt")
    found: list[Any] = []

    def perfect(_weights: str, files: list[str], *_: object, **_words: object) -> list[validation.FoundInPicture]:
        """Finds every label of class 1 exactly."""
        pictures = []
        for file in files:
            rows = np.loadtxt(file.replace("/images/", "/labels/").replace(".jpg", ".txt"), ndmin=2)
            rows = rows[rows[:, 0] == 1]
            size = Image.open(file).size
            corners = np.concatenate([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2], axis=1)
            boxes = corners * np.tile(size, 2)
            pictures.append(validation.FoundInPicture(boxes, np.full(len(boxes), 0.9), rows[:, 0], size[::-1]))
        found.append(len(pictures))
        return pictures

    config = config_of(spec, spec.base, 0, {"data": str(tmp_path / "shapes" / "data.yaml")})
    monkeypatch.setattr(validation, "detect", perfect)
    every = evaluate(config, tmp_path)["val"]
    assert every.coco["AP"] == pytest.approx(1 / 3)
    only = {**config.train, "classes": [1]}
    one = evaluate(type(config)(**{**vars(config), "train": only}), tmp_path)["val"]
    assert one.coco["AP"] == pytest.approx(1.0)
    assert len(found) == 2


@pytest.mark.trust
def test_only_the_trained_classes_are_looked_for(weights: str, shapes: Path, tmp_path: Path) -> None:
    from detgraft.upstream.service.validation import detect

    files = [str(path) for path in sorted((shapes / "images" / "val").iterdir())]

    def found(classes: list[int] | None) -> set[float]:
        return {number for one in detect(weights, files, 64, 0.001, 0.7, classes=classes) for number in one.classes_D}

    every = found(None)
    assert every
    for number in range(3):
        assert found([number]) == every & {float(number)}


@pytest.mark.trust
def test_a_class_that_the_data_lacks_is_refused(shapes: Path, tmp_path: Path) -> None:
    spec = make(tmp_path, shapes)
    config = config_of(spec, spec.base, 0)
    wrong = type(config)(**{**vars(config), "train": {**config.train, "classes": [3]}})
    with pytest.raises(DetgraftError, match="the data has the classes 0 to 2, found 3"):
        preflight.check_arm(wrong, str(tmp_path / "out"))


@pytest.mark.trust
def test_no_name_writes_markdown_into_the_report(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    from markdown_it import MarkdownIt

    names = ["# big", "[x](http://evil)", "![p](http://evil/p.png)", "a|b", "`code`", "*bold*", "<img src=x>", "- item"]
    text = (
        "data: data.yaml\nbase: yolo11n\nseeds: 6\ntrain: {epochs: 4, imgsz: 64, batch: 4}\nmetrics: {bootstrap: 0}\n"
        "controls: none\nvariants:\n"
    ) + "".join(f"  - {{name: '{name}', graft: carafe@head.{k}}}\n" for k, name in enumerate(names))
    study = finished_study(tmp_path, pictures=False, text=text)
    written = report(study.spec)
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(written.markdown.read_text("utf-8"))
    for tag in ("<img", "<a ", "<code>", "<em>"):
        assert tag not in page
    assert "<h1>big" not in page
    # The verdicts: the variant, and as many columns in each row as in the head.
    table = page[page.index("<table>") : page.index("</table>")]
    assert {row.count("<td") for row in table.split("<tr>")[2:]} == {table.count("<th>")}
    for name in names:
        shown = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert f"<td>{shown}</td>" in page, name
    lines = written.csv.read_text("utf-8").splitlines()
    assert any(line.startswith("'- item,variant") for line in lines)
