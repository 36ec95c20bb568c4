"""Studies that really train, on a tiny made set; the kills at random moments are in the slow part."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import detgraft
from detgraft.base.files import read_json, write_json
from detgraft.demo.made import make_shapes
from detgraft.study.api import report, run, status
from detgraft.study.design.config import config_of
from detgraft.study.design.errors import StudyError
from detgraft.study.design.seal import seal
from detgraft.study.design.spec import StudySpec, read_spec
from detgraft.study.judge.detections import average_precision, load_detections, match
from detgraft.study.judge.result import Cost
from detgraft.study.run.cell import run_cell
from detgraft.study.run.checkpoints import Checkpoints
from detgraft.study.run.failures import GpuMemoryError, explain
from detgraft.study.run.lock import holder_of
from detgraft.study.run.store import Cell, State, StudyFolder
from detgraft.study.run.training import Recorder

pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")
STUDY = """
data: shapes
base: yolo11n
variants: [carafe]
seeds: 1
train: {epochs: 2, imgsz: 64, batch: 4, workers: 0}
controls: none
metrics: {bootstrap: 20}
"""


def make(folder: Path, text: str = STUDY, data: Path | None = None) -> StudySpec:
    folder.mkdir(parents=True, exist_ok=True)
    if data is None:
        make_shapes(folder / "shapes", train=4, val=3, imgsz=64, seed=0)
    (folder / "study.yaml").write_text(f"{text}\nout: {folder / 'out'}\n", encoding="utf-8")
    return read_spec(folder / "study.yaml")


def test_what_cannot_be_built_is_found_before_any_training(tmp_path: Path) -> None:
    spec = make(tmp_path, STUDY.replace("[carafe]", "[carafee]"))
    with pytest.raises(StudyError, match=r"nothing was trained(.|\n)*line 4: carafee: (.|\n)*'CARAFE'"):
        run(spec, say=lambda line: None)
    assert not list((tmp_path / "out").rglob("started.json"))
    wrong = make(tmp_path, STUDY.replace("epochs: 2", "epochs: 2, epoch: 3"))
    with pytest.raises(StudyError, match=r"line 6: Ultralytics has no training argument 'epoch'.*'epochs'"):
        run(wrong, say=lambda line: None)


def test_a_real_cell_resumes_from_its_last_epoch_and_measures_by_the_coco_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = StudyFolder(make(tmp_path, STUDY.replace("epochs: 2", "epochs: 3")))
    study.open()
    cell = next(study.cells())
    cell.folder.mkdir(parents=True)
    write_json(cell.folder / "cell.json", config_of(study.spec, cell.arm, cell.seed).to_json())
    write_json(cell.folder / "cost.json", seal(dataclasses.asdict(Cost(1, None, None, None, 64, "cpu"))))
    publish = Recorder.publish

    def break_off(recorder: Recorder, trainer: object) -> None:
        publish(recorder, trainer)
        (cell.folder / "train" / "weights" / "best.pt").write_bytes(b"half a fi")
        raise RuntimeError("broken off")

    monkeypatch.setattr(Recorder, "publish", break_off)
    assert run_cell(cell.folder) == 1
    assert cell.error() == "RuntimeError: broken off"
    assert cell.progress()["epoch"] == 1
    monkeypatch.setattr(Recorder, "publish", publish)
    assert run_cell(cell.folder) == 0
    result = cell.result()
    assert result.resumed_at == (1,)
    assert result.epochs == 3
    assert [row["epoch"] for row in read_json(cell.folder / "curve.json")] == [0, 1, 2]
    assert cell.state() is State.DONE
    truth, found = load_detections(cell.folder / "detections_val.npz")
    assert result.metrics["val"].images == len(truth.files) == 3
    labels = [path.read_text().splitlines() for path in sorted((tmp_path / "shapes" / "labels" / "val").glob("*.txt"))]
    assert len(truth.classes_G) == sum(len(lines) for lines in labels)
    _, x, y, w, h = (float(value) for value in labels[0][0].split())
    corners = [64 * (x - w / 2), 64 * (y - h / 2), 64 * (x + w / 2), 64 * (y + h / 2)]
    assert np.abs(truth.boxes_G4 - corners).max(axis=1).min() < 0.01
    assert len(found.scores_D) > 0
    ours = average_precision(match(truth, found))
    assert float(np.nanmean(ours)) == pytest.approx(result.metrics["val"].coco["AP"], abs=1e-6)
    assert "metrics/mAP50-95(B)" in result.metrics["val"].ultralytics


@pytest.mark.parametrize("checkpoint", ["yolo11n.pt", "none"])
def test_a_pretrained_arm_starts_from_its_backbones_file(
    tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both arms train one epoch; what they start from is read where Ultralytics' trainer holds it, before a step."""
    torch.manual_seed(5)
    state = timm.create_model("test_convnext").state_dict()
    save_file(state, tmp_path / "backbone.safetensors")
    detgraft.YOLO("yolo11n.yaml").save(tmp_path / "yolo11n.pt")
    stock = detgraft.YOLO(tmp_path / "yolo11n.pt").model.state_dict()
    text = STUDY.replace("base: yolo11n", "base: yolo11n+timm/test_convnext").replace("epochs: 2", "epochs: 1")
    graft = f"yolo11n+timm/test_convnext(weights='{tmp_path / 'backbone.safetensors'}')"
    text = text.replace("variants: [carafe]", f'variants: [{{name: own, model: "{graft}"}}]')
    given = checkpoint if checkpoint == "none" else tmp_path / checkpoint
    study = StudyFolder(make(tmp_path, f"{text}init: pretrained\nweights: {given}\n"))
    study.open()
    starts: list[dict[str, torch.Tensor]] = []
    begin = Recorder.note_transfer

    def note(recorder: Recorder, trainer: Any) -> None:
        starts.append({key: value.clone() for key, value in trainer.model.state_dict().items()})
        begin(recorder, trainer)

    monkeypatch.setattr(Recorder, "note_transfer", note)
    for cell in study.cells():
        cell.folder.mkdir(parents=True)
        write_json(cell.folder / "cell.json", config_of(study.spec, cell.arm, cell.seed).to_json())
        write_json(cell.folder / "cost.json", seal(dataclasses.asdict(Cost(1, None, None, None, 64, "cpu"))))
        assert run_cell(cell.folder) == 0
        assert (cell.result().transferred is None) == (checkpoint == "none")
    base, own = starts
    stem = next(key for key in base if key.endswith("net.stem_0.weight"))
    assert torch.equal(own[stem], state["stem.0.weight"])
    assert not torch.equal(base[stem], own[stem])
    last = next(key for key in reversed(stock) if key.endswith("conv.weight") and key.startswith("model.23.cv2"))
    moved = next(key for key in base if key.endswith(last.split(".", 2)[2]) and base[key].shape == stock[last].shape)
    assert torch.equal(base[moved], stock[last]) == torch.equal(own[moved], stock[last]) == (checkpoint != "none")


def test_another_batch_than_the_other_arms_is_refused(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Checkpoints(tmp_path), None, 16)
    recorder.refuse_other_batch(16)
    with pytest.raises(GpuMemoryError, match="batch 8 instead of 16") as caught:
        recorder.refuse_other_batch(8)
    assert explain(caught.value, tmp_path).startswith("The GPU has too little memory")


@pytest.mark.slow
def test_a_real_study_from_start_to_report(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    spec = make(tmp_path)
    lines: list[str] = []
    done = run(spec, say=lines.append)
    assert done.complete, [*done.failed.values(), *lines]
    assert any("epoch 2/2" in line for line in lines)
    for cell, _ in done.cells:
        result = cell.result()
        assert (cell.folder / "best.pt").stat().st_size > 1_000_000
        assert result.cost.params > 2_000_000
        assert result.cost.latency_ms is not None
        assert result.versions["ultralytics"]
        assert not result.resumed
    assert report(spec).html.is_file()


RUN = "import sys; from detgraft.study.api import run; run(sys.argv[1], say=lambda line: None)"
KILLED = STUDY.replace("[carafe]", "[carafe, dynamicconv, c3k2_dynamicconv]").replace("seeds: 1", "seeds: 6")


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(folder / "study.yaml")], start_new_session=True, cwd=folder)


def kill_until_done(broken: StudyFolder, folder: Path, kills: int, seconds: float) -> None:
    """Run a study to its end, killing it or one of its runs with SIGKILL at random moments while a run is at work.

    Every second kill comes only once a run has published an epoch, each time another run's: so there are runs to be
    taken up again, and not one run that is killed again and again while it goes on.

    Args:
        broken: The study.
        folder: Where its file lies.
        kills: How often.
        seconds: How long a run usually takes; the moments are spread over as long.
    """
    chance = random.Random(0)
    hits = 0
    halved: set[Path] = set()
    for turn in range(kills):
        process = start(folder)
        while not (running(broken) if turn % 2 else between_epochs(broken) - halved):
            assert process.poll() is None, "the study was over too early"
            time.sleep(0.05)
        halved |= between_epochs(broken)
        time.sleep(chance.uniform(0, 1.2 * seconds if turn % 2 else 0.2))
        victims = running(broken)
        hits += bool(victims)
        if victims and chance.random() < 0.5:
            os.kill(victims[0], signal.SIGKILL)
            time.sleep(chance.uniform(0, 3))
        process.kill()
        process.wait()
        end = time.monotonic() + 60
        while running(broken):
            assert time.monotonic() < end, "a run outlived the study that started it"
            time.sleep(0.1)
    assert hits >= kills // 2, "the kills hit no runs"
    assert start(folder).wait() == 0


def between_epochs(study: StudyFolder) -> set[Path]:
    """The runs at work that have published one of their two epochs."""
    at_work = [cell.folder for cell in study.cells() if holder_of(cell.folder / "cell.lock")]
    return {cell.folder for cell in study.cells() if cell.folder in at_work and cell.progress().get("epoch") == 1}


def running(study: StudyFolder) -> list[int]:
    """Process numbers of the runs at work."""
    return [holder.pid for c in study.cells() if (holder := holder_of(c.folder / "cell.lock"))]


def curve_of(cell: Cell) -> list[dict[str, object]]:
    """The learning curve without the times, which are never the same."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_json(cell.folder / "curve.json")]


def check_nothing_was_lost(whole: StudyFolder, broken: StudyFolder) -> None:
    """Same cells, each once; the undisturbed ones equal to the last digit, the others marked."""
    assert status(whole.spec).complete
    assert status(broken.spec).complete
    pairs = list(zip(whole.cells(), broken.cells(), strict=True))
    assert len(list(broken.path.rglob("result.json"))) == len(pairs) == 24
    resumed = 0
    for calm, cell in pairs:
        assert (calm.arm.name, calm.seed) == (cell.arm.name, cell.seed)
        assert not calm.result().resumed
        assert [row["epoch"] for row in curve_of(cell)] == [0, 1]
        resumed += cell.result().resumed
        if not cell.result().resumed:
            assert curve_of(cell) == curve_of(calm), cell.label
            assert cell.result().metrics == calm.result().metrics, cell.label
    assert resumed >= 3, "hardly a run was killed between two epochs"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killing_a_study_of_3_variants_and_6_seeds_loses_nothing(tmp_path: Path) -> None:
    whole = StudyFolder(make(tmp_path / "whole", KILLED))
    begin = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    seconds = (time.monotonic() - begin) / 24
    text = KILLED.replace("data: shapes", f"data: {tmp_path / 'whole' / 'shapes'}")
    broken = StudyFolder(make(tmp_path / "broken", text))
    kill_until_done(broken, tmp_path / "broken", 10, seconds)
    check_nothing_was_lost(whole, broken)
