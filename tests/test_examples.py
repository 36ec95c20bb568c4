"""The recipes of examples/ run, each in a process of its own, at a small size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detgraft.demo.made import make_shapes

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = ("--epochs", "1", "--imgsz", "64", "--batch", "4")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    return make_shapes(folder / "set", train=8, val=4, imgsz=64)


def run(name: str, *words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_cost_table() -> None:
    lines = run("cost_table.py", "--grafts", "carafe", "simam", "--imgsz", "64").splitlines()
    stock, carafe, simam = (line.split() for line in lines[-3:])
    assert stock[0] == "yolo11n"
    assert carafe[0] == "yolo11n+carafe"
    assert int(carafe[1].replace(",", "")) > int(stock[1].replace(",", ""))
    assert simam[1] == stock[1], "SimAM has no parameters"


def test_own_block() -> None:
    text = run("own_block.py", "--imgsz", "64")
    assert "yolo11n+gatedconv" in text
    assert text.count(" pass") == 2


@pytest.mark.slow
def test_train_a_graft(data: Path, tmp_path: Path) -> None:
    text = run("train_a_graft.py", "--data", data, "--model", "yolo11n+simam", "--project", tmp_path / "runs", *SMALL)
    assert "mAP50-95" in text
    assert list((tmp_path / "runs").rglob("best.pt"))


@pytest.mark.slow
def test_compare(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run("compare.py", "--data", data, "--variants", "simam", "--seeds", "2", "--out", out, *SMALL)
    assert (out / "report" / "report.html").is_file()


@pytest.mark.slow
def test_pretrain_then_train(data: Path, tmp_path: Path) -> None:
    words = ("--pretrain-epochs", "1", "--pretrain-imgsz", "64", "--width", "0.25", "--project", tmp_path / "runs")
    run("pretrain_then_train.py", "--pictures", data.parent / "images", "--data", data, *words, *SMALL)
    assert list((tmp_path / "runs").rglob("best.pt"))


@pytest.mark.slow
def test_export_and_verify(data: Path, tmp_path: Path) -> None:
    run("train_a_graft.py", "--data", data, "--model", "yolo11n+carafe", "--project", tmp_path / "runs", *SMALL)
    best = next((tmp_path / "runs").rglob("best.pt"))
    picture = next((data.parent / "images" / "val").iterdir())
    assert "; equal" in run("export_and_verify.py", "--model", best, "--source", picture, "--imgsz", "64")


def test_every_recipe_is_listed_and_run() -> None:
    recipes = {path.name for path in EXAMPLES.glob("*.py")}
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert {name for name in recipes if f"({name})" in page} == recipes
    assert {f"{name.removeprefix('test_')}.py" for name in globals() if name.startswith("test_")} >= recipes
