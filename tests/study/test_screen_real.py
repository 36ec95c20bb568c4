"""Screens that really train, killed in the middle and taken up again; and what no design allows, said before a run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from detgraft.cli.study import command
from detgraft.demo.made import make_shapes
from detgraft.errors import ArgumentError
from detgraft.study.api import open_study, report, run, status
from detgraft.study.design.errors import StudyError
from detgraft.study.design.spec import read_spec
from detgraft.study.run.lock import holder_of

pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")
SCREEN = (
    "import sys; from detgraft.study.screen import screen; "
    "found = screen(sys.argv[1], keep=1, say=lambda line: print(line, flush=True)); sys.exit(not found.complete)"
)
AGAIN = SCREEN.replace("keep=1, ", "")
STUDY = """
data: shapes
base: yolo11n
{arms}
seeds: 2
train: {{epochs: {epochs}, imgsz: 64, batch: 4, workers: 0}}
controls: none
metrics: {{bootstrap: 20}}
executor: {executor}
out: {out}
"""


def written(folder: Path, arms: str, executor: str = "local", epochs: int = 2) -> Path:
    make_shapes(folder / "shapes", train=4, val=3, imgsz=64, seed=0)
    text = STUDY.format(arms=arms, executor=executor, epochs=epochs, out=folder / "out")
    (folder / "study.yaml").write_text(text, "utf-8")
    return folder / "study.yaml"


def at_work(out: Path) -> list[Path]:
    """Folders of runs that have finished an epoch and go on."""
    found = []
    for path in out.glob("round_*/cells/*/seed_*/progress.json"):
        if holder_of(path.parent / "cell.lock") and json.loads(path.read_text())["epoch"] >= 1:
            found.append(path.parent)
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_real_screen_is_killed_and_goes_on_to_its_report(executor: str, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    if executor == "ray" and find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    epochs = 10 if executor == "ray" else 2  # it takes Ray seconds to notice that the screen is gone
    study = written(tmp_path, "variants: [carafe, dysample, dynamicconv, simam]", executor, epochs)
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", SCREEN, str(study)], stdout=subprocess.PIPE, text=True)
    victims: list[Path] = []
    while not victims:
        assert process.poll() is None, "the screen was over too early"
        victims = at_work(out)
        time.sleep(0.05)
    process.kill()
    process.wait()
    end = time.monotonic() + 120
    while any(holder_of(path / "cell.lock") for path in out.glob("round_*/cells/*/seed_*")):
        assert time.monotonic() < end, "a run outlived the screen that started it"
        time.sleep(0.1)
    assert not [path for path in victims if (path / "result.json").exists()], "the kill came too late"
    done = subprocess.run([sys.executable, "-c", AGAIN, str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    screened, confirmed = status(out / "round_1"), status(out / "confirm")
    assert screened.complete
    assert confirmed.complete
    assert len(screened.cells) == 1 + 4, "the base and the variants, a seed each"
    assert len(confirmed.cells) == 2 * 2
    assert {c.seed for c, _ in screened.cells}.isdisjoint(c.seed for c, _ in confirmed.cells)
    resumed = [c.label for c, _ in screened.cells if c.result().resumed]
    assert [json.loads((path / "result.json").read_text())["resumed"] for path in victims] == [True] * len(victims)
    assert len(resumed) == len(victims), "what was not killed between two epochs ran undisturbed"
    found = report(out / "confirm")
    (judged,) = found.analysis.judged
    machine = json.loads(found.json.read_text())
    assert {row["name"] for row in machine["screen"]["rows"]} == {"carafe", "dysample", "dynamicconv", "simam"}
    (kept,) = [row for row in machine["screen"]["rows"] if row["confirmed"] is not None]
    assert kept["name"] == judged.comparison.variant
    assert kept["confirmed"] == pytest.approx(judged.comparison.difference)
    own = {
        c.arm.name: c.result().metrics[found.analysis.split].coco["AP"]
        for c, _ in screened.cells
        if c.arm.role != "base"
    }
    assert own[kept["name"]] == max(own.values()), "the best variant is kept"


@pytest.mark.slow
def test_factors_that_claim_one_row_are_named_before_any_training(tmp_path: Path) -> None:
    spec = read_spec(written(tmp_path, "factors: [carafe, dysample]"))
    with pytest.raises(StudyError, match="nothing was trained") as refused:
        run(spec, say=lambda line: None)
    text = str(refused.value)
    assert "'carafe' and 'dysample' both claim layer 11 of yolo11n" in text
    assert "line 4: carafe+dysample: " in text, text
    assert not list((tmp_path / "out").glob("cells/*/seed_*/started.json"))


def test_a_budget_that_is_too_small_is_said_before_anything_is_written(tmp_path: Path) -> None:
    study = written(tmp_path, "variants: [carafe, dysample, dynamicconv, simam]")
    with pytest.raises(ArgumentError, match=r"cost at least \d+ whole runs, and the budget is 3; a full study would"):
        command("screen", [str(study), "budget=3"], as_json=False)
    assert not (tmp_path / "out").exists()
    assert open_study(study).out == tmp_path / "out"
