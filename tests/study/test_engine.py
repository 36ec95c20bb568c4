"""The machinery around training, with a stand-in for training: states, locks, resume, failures, kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from made_up import finish, make_spec, write_preflight

from detgraft.base.files import read_json, write_atomic
from detgraft.study.api import Status, status
from detgraft.study.design.errors import StudyBusyError, StudyChangedError, StudyError
from detgraft.study.design.seal import CHECKSUM, seal
from detgraft.study.judge.result import Result
from detgraft.study.run.checkpoints import Checkpoints
from detgraft.study.run.executor import Engine, Event, LocalPool, describe, duration
from detgraft.study.run.failures import explain
from detgraft.study.run.launch import Slot, environment
from detgraft.study.run.lock import Lock, holder_of
from detgraft.study.run.store import State, StudyFolder

STAND_IN = (sys.executable, str(Path(__file__).with_name("made_up.py")))
SMALL = """
data: data.yaml
base: yolo11n
variants: [carafe, dynamicconv]
seeds: 2
train: {epochs: 3, imgsz: 64, batch: 4}
controls: none
metrics: {bootstrap: 0}
"""
TINY = SMALL.replace("seeds: 2", "seeds: 1").replace("[carafe, dynamicconv]", "[carafe]")


def prepared(folder: Path, text: str = SMALL) -> StudyFolder:
    study = StudyFolder(make_spec(folder, text))
    study.open()
    write_preflight(study)
    return study


def work(study: StudyFolder, monkeypatch: pytest.MonkeyPatch, orders: object = None, **how: bool) -> list[Event]:
    monkeypatch.setenv("STAND_IN", json.dumps(orders or {}))
    events: list[Event] = []
    pool = LocalPool([Slot(None, 1)] * 3, STAND_IN)
    Engine(study, pool, events.append).run(**how)
    return events


def states(study: StudyFolder) -> list[State]:
    return [cell.state() for cell in study.cells()]


def figures(study: StudyFolder) -> dict[tuple[str, int], float | None]:
    return {(c.arm.name, c.seed): c.result().metrics["val"].coco["AP"] for c in study.cells()}


def test_a_study_runs_and_is_never_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(tmp_path)
    assert set(states(study)) == {State.PENDING}
    events = work(study, monkeypatch)
    assert states(study) == [State.DONE] * 6
    assert [e.kind for e in events].count("done") == 6
    assert events[-1].finished == events[-1].total == 6
    first = {c.folder: (c.folder / "result.json").stat().st_mtime_ns for c in study.cells()}
    assert work(study, monkeypatch) == []
    assert first == {c.folder: (c.folder / "result.json").stat().st_mtime_ns for c in study.cells()}
    result = next(study.cells()).result()
    assert (result.arm, result.seed, result.resumed, result.epochs) == ("yolo11n", 0, False, 3)
    assert result.study == study.spec.digest()
    assert not any(study.path.rglob("*.tmp"))
    assert not (next(study.cells()).folder / "checkpoints").exists()


def test_two_studies_with_the_same_seeds_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = prepared(tmp_path / "one", TINY), prepared(tmp_path / "two", TINY)
    work(one, monkeypatch)
    work(two, monkeypatch)
    assert figures(one) == figures(two)


def test_failures_are_sentences_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(tmp_path)
    orders = {"fail": {"carafe": "gpu", "dynamicconv": "disk"}}
    events = work(study, monkeypatch, orders)
    failed = {e.cell.arm.name: e.message for e in events if e.kind == "failed"}
    assert failed["carafe"].startswith("The GPU has too little memory")
    assert failed["dynamicconv"].startswith("The disk is full")
    shown: Status = status(study.spec)
    assert shown.states == {"pending": 0, "running": 0, "done": 2, "failed": 4, "broken off": 0, "damaged": 0}
    assert not shown.complete
    assert shown.failed["carafe, seed 1"].startswith("The GPU")
    json.dumps(shown.to_json())
    assert work(study, monkeypatch) == [], "failed runs are only repeated on request"
    work(study, monkeypatch, retry=True)
    assert states(study) == [State.DONE] * 6
    assert not any(c.result().resumed for c in study.cells())


def test_a_run_that_keeps_dying_fails_and_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(tmp_path)
    events = work(study, monkeypatch, {"fail": {"carafe": "die"}})
    died = [e for e in events if e.kind == "died"]
    failed = [e for e in events if e.kind == "failed"]
    assert {e.cell.label for e in failed} == {"carafe, seed 0", "carafe, seed 1"}
    assert "SIGKILL 3 times" in failed[0].message
    assert len(died) == 4
    assert states(study).count(State.DONE) == 4


def test_a_broken_off_run_goes_on_and_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = prepared(tmp_path / "whole", TINY), prepared(tmp_path / "broken", TINY)
    work(whole, monkeypatch)
    victim = next(c for c in broken.cells() if c.arm.name == "carafe")
    work(broken, monkeypatch, {"fail": {"carafe": "die"}})
    assert victim.state() is State.FAILED
    shutil.copytree(tmp_path / "broken", tmp_path / "again")
    work(broken, monkeypatch, retry=True)
    result = victim.result()
    assert result.resumed
    assert set(result.resumed_at) == {1}
    assert figures(broken)["yolo11n", 0] == figures(whole)["yolo11n", 0]
    # Restarted from scratch it equals the undisturbed run.
    again = prepared(tmp_path / "again", TINY)
    work(again, monkeypatch, retry=True, restart=True)
    assert figures(again) == figures(whole)
    assert not any(c.result().resumed for c in again.cells())


DRIVER = """
import json, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from made_up import make_spec, write_preflight
from detgraft.study.run.executor import Engine, LocalPool
from detgraft.study.run.launch import Slot
from detgraft.study.run.store import StudyFolder
study = StudyFolder(make_spec(Path(sys.argv[1]), {text!r}))
with_lock = study.lock()
study.open()
write_preflight(study)
Engine(study, LocalPool([Slot(None, 1)] * 3, {command!r}), lambda event: None).run()
with_lock.release()
"""


def drive(folder: Path, text: str, pause: float) -> subprocess.Popen[bytes]:
    code = DRIVER.format(tests=str(Path(__file__).parent), text=text, command=STAND_IN)
    env = os.environ | {"STAND_IN": json.dumps({"pause": pause})}
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], env=env, start_new_session=True)


LONG = SMALL.replace("epochs: 3", "epochs: 8").replace("seeds: 2", "seeds: 1")


def test_killing_the_study_kills_its_runs_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at random moments; some of them hit a run before the study. The slow tests do it to real trainings."""
    whole = prepared(tmp_path / "whole", LONG)
    work(whole, monkeypatch)
    broken = StudyFolder(make_spec(tmp_path / "broken", LONG))
    chance = random.Random(1)
    kills = 0
    while not all(s is State.DONE for s in states(broken)):
        process = drive(tmp_path / "broken", LONG, 0.35 if kills < 4 else 0.0)
        if kills < 4:
            wait_for_epochs(broken, process)
            time.sleep(chance.uniform(0.0, 0.5))
            alive = [holder.pid for c in broken.cells() if (holder := holder_of(c.folder / "cell.lock"))]
            if alive and kills % 2:
                os.kill(chance.choice(alive), signal.SIGKILL)
            process.kill()
            kills += 1
        assert process.wait(60) in (0, -signal.SIGKILL)
        wait_for_orphans(broken)
    assert kills == 4
    after, before = figures(broken), figures(whole)
    resumed = {(c.arm.name, c.seed) for c in broken.cells() if c.result().resumed}
    assert resumed
    assert after.keys() == before.keys()
    assert all(after[key] == before[key] for key in before if key not in resumed)
    assert len(list(broken.path.rglob("result.json"))) == 3
    for cell in broken.cells():
        curve = read_json(cell.folder / "curve.json")
        assert [row["epoch"] for row in curve] == list(range(8)), "an epoch is missing or stands there twice"


def wait_for_epochs(study: StudyFolder, process: subprocess.Popen[bytes]) -> None:
    """Until an epoch more than before is finished, or the study is over."""

    def total() -> int:
        return sum(int(c.progress().get("epoch", 0)) for c in study.cells())

    before, end = total(), time.monotonic() + 30
    while total() == before and process.poll() is None:
        assert time.monotonic() < end, "no epoch was finished"
        time.sleep(0.05)


def wait_for_orphans(study: StudyFolder) -> None:
    end = time.monotonic() + 10
    while any(c.state() is State.RUNNING for c in study.cells()):
        assert time.monotonic() < end, "a run outlived the study that started it"
        time.sleep(0.05)


def test_ctrl_c_ends_the_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(tmp_path)
    monkeypatch.setenv("STAND_IN", json.dumps({"pause": 5.0}))
    # A shell starts its background jobs with Ctrl-C ignored, and the tests may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        end = time.monotonic() + 20
        while not any((c.folder / "started.json").exists() for c in study.cells()) and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Engine(study, LocalPool([Slot(None, 1)] * 2, STAND_IN), lambda event: None).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert State.RUNNING not in states(study)
    assert State.BROKEN_OFF in states(study)


def test_a_second_run_of_the_same_study_is_refused(tmp_path: Path) -> None:
    study = prepared(tmp_path)
    process = drive(tmp_path, SMALL, 30.0)
    try:
        end = time.monotonic() + 20
        while holder_of(study.path / "study.lock") is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        with pytest.raises(StudyBusyError, match=f"process {process.pid} on "):
            study.lock()
    finally:
        process.kill()
        process.wait()
    lock = study.lock()  # the dead process holds nothing
    lock.release()
    wait_for_orphans(study)


def test_a_lock_of_another_process_with_the_same_number_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with Lock(path):
        assert holder_of(path) is not None
        raw = read_json(path)
    write_atomic(path, json.dumps(raw | {"ticks": raw["ticks"] - 1000}))
    assert holder_of(path) is None
    write_atomic(path, "{half a fi")
    assert holder_of(path) is None
    write_atomic(path, json.dumps(raw | {"host": "elsewhere"}))
    assert holder_of(path) is not None, "a fresh lock of another machine holds"
    os.utime(path, (time.time() - 500, time.time() - 500))
    assert holder_of(path) is None, "a silent one does not"


def test_a_changed_study_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(tmp_path)
    finish(study, next(study.cells()), 0.5)
    changed = StudyFolder(make_spec(tmp_path, SMALL.replace("epochs: 3", "epochs: 9")))
    before = (study.path / "study.json").read_bytes()
    with pytest.raises(StudyChangedError, match=r"train\.epochs: was 3, is 9"):
        changed.open(extend=True)
    assert (study.path / "study.json").read_bytes() == before
    more = StudyFolder(make_spec(tmp_path, SMALL.replace("seeds: 2", "seeds: 4")))
    with pytest.raises(StudyChangedError, match=r"seeds: was \[0, 1\].*(\n.*)*extend=True"):
        more.open()
    more.open(extend=True)
    assert more.extended()[0]["changes"] == ["seeds: was [0, 1], is [0, 1, 2, 3]"]
    more.open()
    assert len(more.extended()) == 1
    # Where and how runs are executed is not part of a study's identity.
    StudyFolder(make_spec(tmp_path, SMALL.replace("seeds: 2", "seeds: 4\nworkers: 2"))).open()


def test_a_study_without_results_may_change(tmp_path: Path) -> None:
    prepared(tmp_path)
    StudyFolder(make_spec(tmp_path, SMALL.replace("epochs: 3", "epochs: 9"))).open()


def test_checkpoints_survive_a_spoilt_newest_state(tmp_path: Path) -> None:
    from made_up import checkpoint

    book = Checkpoints(tmp_path / "states")
    for epoch in range(4):
        for name in ("last.pt", "best.pt"):
            checkpoint(tmp_path / name, f"epoch {epoch}")
        book.publish(tmp_path / "last.pt", tmp_path / "best.pt", epoch, epoch == 3, {"epoch": epoch})
    assert sorted(p.name for p in (tmp_path / "states").iterdir()) == ["epoch_00002", "epoch_00003"]
    newest = book.newest()
    assert newest is not None
    assert (newest.epoch, newest.finished) == (3, True)
    newest.last.write_bytes(newest.last.read_bytes()[:-30])
    before = book.newest()
    assert before is not None
    assert (before.epoch, before.finished) == (2, False)
    (before.folder / "state.json").unlink()
    assert book.newest() is None
    (tmp_path / "states" / ".draft_00009").mkdir()
    assert book.newest() is None


def test_results_survive_the_file(tmp_path: Path) -> None:
    study = prepared(tmp_path)
    cell = next(study.cells())
    finish(study, cell, 0.5, resumed_at=(2, 3))
    result = cell.result()
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert result.resumed
    raw = result.to_json()
    later = {key: value for key, value in raw.items() if key != CHECKSUM} | {"cost": raw["cost"] | {"watts": 7.0}}
    assert Result.from_json(seal(later)) == result, "a later version measures more; this one's runs are not damaged"
    with pytest.raises(StudyError, match="format 1 or 2"):
        Result.from_json(raw | {"format": 3})
    with pytest.raises(StudyError, match="not a complete result"):
        Result.from_json({k: v for k, v in raw.items() if k != "seed"})
    with pytest.raises(StudyError, match="absent"):
        Result.read(tmp_path / "none.json")


def test_atomic_writing_leaves_the_old_content_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    with pytest.raises(TypeError):
        write_atomic(path, 17)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_children_get_a_fixed_environment(tmp_path: Path) -> None:
    env = environment(tmp_path, Slot("3", 2), {"RANK": "1", "HOME": "/h", "OMP_NUM_THREADS": "64"})
    assert env["CUDA_VISIBLE_DEVICES"] == "3"
    assert env["OMP_NUM_THREADS"] == "2"
    assert env["YOLO_CONFIG_DIR"] == str(tmp_path / "settings")
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["HOME"] == "/h"
    assert "RANK" not in env


def test_errors_are_explained(tmp_path: Path) -> None:
    assert "too little memory" in explain(RuntimeError("CUDA out of memory. Tried"), tmp_path)
    assert explain(OSError(28, "No space left on device"), tmp_path).startswith("The disk is full")
    assert "machine has too little memory" in explain(MemoryError("x"), tmp_path)
    assert explain(StudyError("a plain sentence"), tmp_path) == "a plain sentence"
    assert explain(KeyError("k"), tmp_path) == "KeyError: 'k'"


def test_progress_is_told_in_words(tmp_path: Path) -> None:
    cell = next(prepared(tmp_path).cells())
    event = Event("epoch", cell, "", 3, 6, 2, 5, 4000.0)
    assert describe(event) == "[3/6] yolo11n, seed 0: epoch 2/5, about 67 min left"
    assert [duration(s) for s in (40, 600, 11_100)] == ["40 s", "10 min", "3 h 05 min"]
