"""How a study ends and is found again: verdicts, the report's path, its own folder, one meaning of ``out=``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import SMALL_STUDY, finished_study, make_spec

import detgraft
from detgraft.cli.study import command
from detgraft.errors import ArgumentError
from detgraft.study.api import open_study, report, status
from detgraft.study.design.errors import StudyError
from detgraft.study.design.spec import spec_from_arguments
from detgraft.study.run.executor import local_slots
from detgraft.study.run.pools import run_remotely
from detgraft.study.run.store import StudyFolder

FAKE = Path(__file__).with_name("fake")
WORDS = ["data=data.yaml", "base=yolo11n", "variants=carafe", "seeds=1", "epochs=2", "imgsz=64", "batch=4"]
WORDS += ["controls=none", "bootstrap=20", "out=out"]


@pytest.mark.slow
def test_a_run_without_a_file_ends_with_verdict_report_and_a_folder_to_go_on_with(tmp_path: Path) -> None:
    for module in ("faster_coco_eval", "plotly"):
        pytest.importorskip(module, reason="the extra study is not installed")
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [cell, leaf]\n", "utf-8")
    code = f"""
import json, os
from detgraft.cli.study import command
assert command("run", {WORDS!r}, as_json=False) == 0
os.chdir("images")
assert command("status", ["../out"], as_json=False) == 0
assert command("retry", ["../out"], as_json=True) == 0
assert command("report", ["../out", "to=shown"], as_json=False) == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(FAKE), str(Path(detgraft.__file__).parents[1])))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = tmp_path / "out" / "report" / "report.html"
    assert page.is_file()
    assert f"Report: {page}" in done.stdout
    assert "carafe: cannot tell (too few seeds). Only 1 seed(s) finished" in done.stdout
    assert "Go on with: detgraft study report out\n" in done.stdout
    assert (tmp_path / "images" / "shown" / "report.md").is_file()
    machine = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert machine["report"] == str(page)
    assert machine["verdicts"] == {"carafe": "cannot tell (too few seeds)"}
    assert (tmp_path / "out" / "study.yaml").is_file()


def test_a_studys_folder_is_the_study_wherever_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data.yaml").write_text("names: [cell]\n")
    monkeypatch.chdir(tmp_path / "here")
    study = finished_study(tmp_path / "here", pictures=False)
    digest = study.spec.digest()
    monkeypatch.chdir("/")
    assert open_study(study.path).digest() == digest
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = tmp_path / "there" / "out"
    for way in (moved, moved / "study.yaml"):
        found = open_study(way)
        assert (found.digest(), found.out.resolve()) == (digest, moved)
    shown = status(moved)
    assert shown.complete
    assert shown.go_on == f"detgraft study report {os.path.relpath(moved)}"
    assert report(moved).html == moved / "report" / "report.html"
    # The name is no key of the identity, but it stands on the report.
    assert open_study(moved).name == study.spec.name


def test_a_folder_that_is_no_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"is no study's folder: it holds no study\.yaml"):
        open_study(tmp_path)


def test_a_persons_own_file_in_the_folder_is_kept(tmp_path: Path) -> None:
    own = tmp_path / "study.yaml"
    spec = make_spec(tmp_path, SMALL_STUDY)
    before = own.read_bytes()
    StudyFolder(spec, tmp_path).open()
    assert own.read_bytes() == before


def test_factors_are_written_as_they_were(tmp_path: Path) -> None:
    text = SMALL_STUDY.replace("variants: [carafe]", "factors: [carafe, dysample]")
    study = StudyFolder(make_spec(tmp_path, text))
    study.open()
    assert open_study(study.path).identity() == study.spec.identity()


def test_out_is_the_studys_folder_everywhere(tmp_path: Path) -> None:
    study = finished_study(tmp_path, pictures=False)
    moved = tmp_path / "elsewhere"
    study.path.rename(moved)
    file = str(tmp_path / "study.yaml")
    assert command("status", [file, f"out={moved}"], as_json=True) == 0
    assert command("report", [file, f"out={moved}", f"to={tmp_path / 'page'}"], as_json=True) == 0
    assert (tmp_path / "page" / "report.html").is_file()
    assert not (moved / "report").exists()
    with pytest.raises(ArgumentError, match="is one already"):
        command("status", [str(moved), f"out={moved}"], as_json=True)
    with pytest.raises(ArgumentError, match="out= is a study's folder everywhere"):
        command("init", [f"out={tmp_path / 'new.yaml'}"], as_json=True)
    assert command("init", [f"to={tmp_path / 'new.yaml'}"], as_json=True) == 0


BASE = {"data": "data.yaml", "base": "yolo11n", "variants": "carafe", "seeds": "2"}


@pytest.mark.parametrize(("text", "device"), [("cpu", ("cpu",)), ("0", ("0",)), ("0,2", ("0", "2")), ("[1]", ("1",))])
def test_a_device_is_the_studys_and_the_same_for_every_arm(text: str, device: tuple[str, ...]) -> None:
    spec = spec_from_arguments({**BASE, "device": text})
    assert spec.device == device
    assert "device" not in spec.train
    assert spec.identity()["device"] == ("cpu" if text == "cpu" else "gpu")
    assert "device" not in spec_from_arguments(BASE).identity()


def test_the_processor_is_enforced_and_an_absent_gpu_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [slot.gpu for slot in local_slots(3, ("cpu",))] == ["", "", ""]
    monkeypatch.setattr("detgraft.study.run.executor.visible_gpus", lambda: ["4", "7"])
    assert [slot.gpu for slot in local_slots(None, ("1",))] == ["7"]
    assert [slot.gpu for slot in local_slots(None, ())] == ["4", "7"]
    with pytest.raises(StudyError, match="there is no GPU 2 on this machine; there are: 0 to 1"):
        local_slots(None, ("2",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    show = (sys.executable, "-c", "import os; print('sees', repr(os.environ['CUDA_VISIBLE_DEVICES']))")
    assert run_remotely(str(tmp_path), 1, show, True) == 0
    assert "sees ''" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("device", ["gpu", "-1", "0,0", "true", "1.5"])
def test_wrong_devices_are_named(device: str) -> None:
    with pytest.raises(StudyError, match="device: expected cpu, or the numbers of the GPUs"):
        spec_from_arguments({**BASE, "device": device})


def test_a_margin_in_points_is_refused() -> None:
    with pytest.raises(StudyError, match=r"margin: 1 is 100 points; write 0\.01 for 1 of them"):
        spec_from_arguments({**BASE, "margin": "1"})
    with pytest.raises(StudyError, match=r"margin: 0\.5 is 50 points; write 0\.005"):
        spec_from_arguments({**BASE, "margin": "0.5"})
    assert spec_from_arguments({**BASE, "margin": "0.01"}).metrics.margin == 0.01


@pytest.mark.parametrize(
    ("action", "word", "message"),
    [
        ("run", "budget=3", "budget= belongs to study screen, not to study run"),
        ("report", "resume=restart", "resume= belongs to study run, retry, screen, not to study report"),
        ("status", "extend", "extend= belongs to study run, retry, not to study status"),
        ("screen", "budgt=3", "study screen has no argument 'budgt'. Did you mean 'budget'"),
        ("run", "retrry=True", "study run has no argument 'retrry'. Did you mean 'retry'"),
    ],
)
def test_an_argument_of_another_action_or_a_misspelt_one_is_named(action: str, word: str, message: str) -> None:
    for study in (["study.yaml"], WORDS):
        with pytest.raises(ArgumentError, match=message):
            command(action, [*study, word], as_json=False)
