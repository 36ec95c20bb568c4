"""The commands of the pages run, at a small size; the parameters that the tutorials' pages name are those built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from documents import DOCS, ROOT, blocks, commands, pages

from detgraft.demo.made import make_shapes

pytestmark = pytest.mark.slow

SMALL = {"epochs": "1", "imgsz": "64", "batch": "4", "seeds": "2", "nbs": "4", "pretrain_epochs": "1"}
ALWAYS = {
    "train": ("device=cpu", "workers=0", "plots=False", "batch=4", "imgsz=64", "epochs=1"),
    "compare": ("device=cpu", "imgsz=64"),
    "val": ("device=cpu", "workers=0", "plots=False", "imgsz=64"),
    "predict": ("device=cpu", "imgsz=64"),
    "export": ("imgsz=64",),
    "show": ("imgsz=64",),
    "check": ("imgsz=96",),
}
ELSEWHERE = ("weights=imagenet", "repvit.pth", "yolo11n.pt", "ConvNeXtV2.yaml", "best.onnx", "plugins=", "@all")
"""What needs a network, or a file that a page says the reader has."""

TOO_LONG = ("demo", "study", "pretrain")
"""These have slow tests of their own (tests/study, tests/pretrain, test_release)."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it: data.yaml, dataset/, pictures/, and a trained model."""
    home = tmp_path_factory.mktemp("reader")
    made = make_shapes(home / "dataset", train=8, val=4, imgsz=64)
    root = made.parent if made.is_file() else made
    shutil.copytree(root / "images" / "val", home / "pictures")
    text = (root / "data.yaml").read_text("utf-8")
    (home / "data.yaml").write_text(re.sub(r"^path:.*\n", "", text, flags=re.M) + f"path: {root.as_posix()}\n", "utf-8")
    place = f"project={home / 'runs' / 'detect'}"  # under pytest Ultralytics has a place of its own for runs
    run(home, "train", "model=yolo11n+carafe", "data=data.yaml", "name=train", place, *ALWAYS["train"])
    best = next((home / "runs").rglob("best.pt"))
    encoder = ("name=convnextv2_atto", f"project={home / 'runs' / 'pretrain'}", "device=cpu", "workers=0", "imgsz=64")
    run(home, "pretrain", "model=convnextv2_atto", "data=dataset/images/train", "epochs=1", "batch=4", *encoder)
    for page in pages():
        for block in blocks(page):  # a file that a page shows, with its name in the first line
            named = re.match(r"# ([\w-]+\.yaml)\n", block.text)
            if block.language == "yaml" and named:
                (home / named[1]).write_text(block.text, "utf-8")
    shutil.copy(best, home / "best.pt")
    shutil.copy(next(iter((home / "pictures").iterdir())), home / "picture.jpg")
    for name in ("a", "b"):
        (home / name).mkdir()
        shutil.copy(best, home / name / "best.pt")
    necks = [block.text for block in blocks(DOCS / "necks.md") if block.language == "yaml"]
    (home / "my_neck.yaml").write_text(necks[0], "utf-8")  # the page's own fragment
    as_coco(root, home / "my_coco")
    as_polygons(root, home / "polygons")
    return home


def as_coco(root: Path, folder: Path) -> None:
    """The same pictures and boxes as COCO JSON, one file and one folder of pictures for each split."""
    names = yaml.safe_load((root / "data.yaml").read_text("utf-8"))["names"]
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        pictures, boxes = [], []
        shutil.copytree(root / "images" / split, folder / split)
        for number, path in enumerate(sorted((folder / split).iterdir())):
            width, height = Image.open(path).size
            pictures.append({"id": number, "file_name": path.name, "width": width, "height": height})
            for line in (root / "labels" / split / f"{path.stem}.txt").read_text("utf-8").splitlines():
                kind, x, y, w, h = (float(word) for word in line.split())
                box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
                boxes.append({"image_id": number, "category_id": int(kind) + 1, "bbox": box, "area": box[2] * box[3]})
        kinds = [{"id": index + 1, "name": name} for index, name in names.items()]
        rows = [{"id": index, "iscrowd": 0, **box} for index, box in enumerate(boxes)]
        text = json.dumps({"images": pictures, "annotations": rows, "categories": kinds})
        (folder / "annotations" / f"instances_{split}.json").write_text(text, "utf-8")


def as_polygons(root: Path, folder: Path) -> None:
    """The same set for segmentation: each box as a polygon of four corners."""
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns("*.cache"))
    text = (root / "data.yaml").read_text("utf-8")
    (folder / "data.yaml").write_text(re.sub(r"^path:.*\n", "", text, flags=re.M), "utf-8")
    for path in (folder / "labels").rglob("*.txt"):
        rows = []
        for line in path.read_text("utf-8").splitlines():
            kind, *box = line.split()
            x, y, w, h = map(float, box)
            left, right, top, bottom = x - w / 2, x + w / 2, y - h / 2, y + h / 2
            rows.append(f"{kind} {left} {top} {right} {top} {right} {bottom} {left} {bottom}")
        path.write_text("\n".join(rows) + "\n", "utf-8")


def run(home: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "YOLO_CONFIG_DIR": str(home / "config")}
    done = subprocess.run(
        [sys.executable, "-m", "detgraft.cli.main", *words],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-1500:]}{done.stderr[-2500:]}"
    return done.stdout


def small(words: list[str]) -> list[str]:
    """The command with small numbers, and with what keeps it on this machine."""
    given = {word.partition("=")[0] for word in words}
    shrunk = [f"{k}={SMALL[k]}" if (k := word.partition("=")[0]) in SMALL and "=" in word else word for word in words]
    return [*shrunk, *(word for word in ALWAYS.get(words[0], ()) if word.partition("=")[0] not in given)]


COMMANDS = {
    " ".join(words): words
    for page in [ROOT / "README.md", *pages()]
    for block in blocks(page)
    if block.language in ("bash", "console", "sh")
    for words in commands(block.text)
    if words[0] not in TOO_LONG and not any(word in " ".join(words) for word in ELSEWHERE)
}


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_run(line: str, folder: Path) -> None:
    words = small(COMMANDS[line])
    if "resume=" in line:  # a finished training cannot go on
        pytest.skip("tests/foundation/test_train_cycle.py resumes one that was broken off")
    if words[0] == "check" and "--only" not in words:
        words += ["--only", "gradients"]
    if words[0] == "train" and any("-seg" in word for word in words):  # boxes alone teach no masks
        words = ["data=polygons/data.yaml" if word == "data=data.yaml" else word for word in words]
    if words[0] == "new":
        shutil.rmtree(folder / "new", ignore_errors=True)
        words.append("out=new")
    if words[0] == "train" and any(word.startswith("pretrain=") for word in words):
        pytest.skip("tests/pretrain has both steps")
    run(folder, *words)


TUTORIALS = sorted(
    (page.stem, match[1], match[2], figure)
    for page in (DOCS / "tutorials").glob("*.md")
    if not page.name.endswith(".zh.md")
    for match, figure in zip(
        re.finditer(r'^detgraft show "?([^"\s]+)"? nc=(\d+)$', page.read_text("utf-8"), re.MULTILINE),
        re.findall(r"parameters \| [\d,]+ \| ([\d,]+) \|", page.read_text("utf-8")),
        strict=True,
    )
)


@pytest.mark.parametrize(("page", "model", "nc", "figure"), TUTORIALS, ids=lambda value: str(value))
def test_the_parameters_of_a_tutorial_are_those_built(page: str, model: str, nc: str, figure: str) -> None:
    from detgraft import build

    built = build(model, nc=int(nc))
    assert f"{sum(weight.numel() for weight in built.parameters()):,}" == figure, page


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocs_static_i18n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    english = {path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*.html")}
    pages_of = {
        path for path in english if path.parts[0] != "zh" and path.name != "404.html" and "results" not in path.parts
    }
    assert {Path("zh", path) for path in pages_of} <= english
