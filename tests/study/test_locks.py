"""Two processes never work on one run, and one that comes late writes nothing."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from faults import LOCKS, STATES, Fault, damage
from made_up import checkpoint, make_spec, stand_in_evaluator, stand_in_trainer, write_preflight
from test_engine import SMALL, STAND_IN, TINY, prepared

from detgraft.base.files import read_json, write_json
from detgraft.study.design.config import CellConfig, config_of
from detgraft.study.design.errors import StudyBusyError, StudyError
from detgraft.study.design.seal import seal
from detgraft.study.judge.evidence import State
from detgraft.study.run import lock as locks
from detgraft.study.run.cell import run_cell
from detgraft.study.run.checkpoints import Checkpoints
from detgraft.study.run.executor import Engine, Event, LocalPool
from detgraft.study.run.failures import EXIT_BUSY
from detgraft.study.run.launch import Slot
from detgraft.study.run.lock import Lock, LostLockError, guard, holder_of, this_process
from detgraft.study.run.store import Cell, StudyFolder

pytestmark = pytest.mark.trust
BY_KEY = {fault.key: fault for fault in LOCKS}
SITUATIONS = [fault for fault in LOCKS if len(fault.key) == 2]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("fault", SITUATIONS, ids=str)
def test_who_holds_a_lock(fault: Fault, tmp_path: Path) -> None:
    what, expected = fault.key
    path = tmp_path / "a.lock"
    raw = asdict(this_process())
    parent = os.getppid()
    other = raw | {"pid": parent, "ticks": locks._ticks(parent)}
    if what in ("space", "host", "boot"):
        # A number that no process here has: asking for it would say that the holder is dead.
        raw |= {what: "another", "pid": 2**22 + 17}
    elif what == "clock":
        raw = other | {"started": raw["started"] + 3600}
    elif what == "ticks":
        raw = other | {"ticks": raw["ticks"] - 1}
    elif what == "pid":
        raw |= {"pid": 2**22 + 17}
    text = json.dumps(raw)
    path.write_text(text[:40] if what == "half" else text)
    if expected == "free" and what in ("space", "host", "boot"):
        assert holder_of(path) is not None
        os.utime(path, (time.time() - 500, time.time() - 500))
    assert (holder_of(path) is not None) == (expected == "held")
    lock = Lock(path)
    refused = lock.acquire()
    lock.release()
    assert (refused is not None) == (expected == "held")
    assert path.exists() == (expected == "held"), "a lock of another holder is left to it"


def take_over(path: Path) -> str:
    """What another machine does when the holder was silent for too long."""
    write_json(path, asdict(dataclasses.replace(this_process(), host="elsewhere", pid=77)))
    return path.read_text()


def test_a_late_holder_neither_publishes_nor_gives_back_nor_touches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.05)
    path = tmp_path / "a.lock"
    told: list[int] = []
    lock = Lock(path, lambda: told.append(1))
    assert lock.acquire() is None
    with lock.permit():
        pass
    theirs = take_over(path)
    os.utime(path, (1, 1))
    end = time.monotonic() + 5
    while not told and time.monotonic() < end:
        time.sleep(0.02)
    assert told == [1]
    assert path.stat().st_mtime == 1, "the lock of another process was touched"
    with pytest.raises(LostLockError, match=BY_KEY["late",].sentence), lock.permit():
        raise AssertionError("a late holder was let through")
    lock.release()
    assert path.read_text() == theirs


def a_cell(folder: Path) -> Cell:
    study = prepared(folder, TINY)
    cell = next(study.cells())
    cell.folder.mkdir(parents=True)
    write_json(cell.folder / "cell.json", config_of(study.spec, cell.arm, cell.seed).to_json())
    write_json(cell.folder / "cost.json", seal(read_json(study.arm_file(cell.arm))["cost"]))
    return cell


@pytest.mark.parametrize("when", ["training", "measuring", "failing"])
def test_a_run_that_was_taken_over_leaves_nothing(when: str, tmp_path: Path) -> None:
    cell = a_cell(tmp_path)
    theirs = ""

    def trainer(config: CellConfig, folder: Path, book: Checkpoints) -> Path:
        nonlocal theirs
        if when == "training":
            theirs = take_over(folder / "cell.lock")
        best = stand_in_trainer(config, folder, book)
        if when == "failing":
            theirs = take_over(folder / "cell.lock")
            with book.permit():
                pass
        return best

    def evaluator(config: CellConfig, folder: Path) -> Any:
        nonlocal theirs
        theirs = take_over(folder / "cell.lock")
        return stand_in_evaluator(config, folder)

    assert run_cell(cell.folder, trainer, evaluator) == EXIT_BUSY
    assert not (cell.folder / "result.json").exists()
    assert not (cell.folder / "error.json").exists()
    assert (cell.folder / "cell.lock").read_text() == theirs
    published = len(list((cell.folder / "checkpoints").glob("epoch_*")))
    assert published == (0 if when == "training" else 2)
    assert cell.state() is State.RUNNING
    os.utime(cell.folder / "cell.lock", (1, 1))
    assert run_cell(cell.folder, stand_in_trainer, stand_in_evaluator) == 0
    assert cell.state() is State.DONE


def test_a_process_that_sleeps_ends_itself_when_it_wakes_up(tmp_path: Path) -> None:
    """The real thing: SIGSTOP for longer than a lock lives, another holder, SIGCONT."""
    cell = a_cell(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from detgraft.study.run import lock;"
        "lock.BEAT = 0.2; import os; from made_up import *; from detgraft.study.run.failures import EXIT_BUSY;"
        "cell = Path(sys.argv[1]);"
        "raise SystemExit(run_cell(cell, stand_in_trainer, stand_in_evaluator, lambda: os._exit(EXIT_BUSY)))"
    )
    env = os.environ | {"STAND_IN": json.dumps({"pause": 20.0})}
    command = [sys.executable, "-c", code, str(cell.folder), str(Path(__file__).parent)]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (cell.folder / "started.json").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(19)
        theirs = take_over(cell.folder / "cell.lock")
        process.send_signal(18)
        assert process.wait(10) == EXIT_BUSY, "it went on training for 20 s"
    finally:
        process.kill()
        process.wait()
    assert (cell.folder / "cell.lock").read_text() == theirs


def test_a_study_that_was_taken_over_ends_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN", json.dumps({"pause": 30.0}))
    monkeypatch.setattr(locks, "BEAT", 0.1)
    study = StudyFolder(make_spec(tmp_path, TINY))
    lock = study.lock()
    study.open()
    write_preflight(study)
    theirs = []

    def listen(event: Event) -> None:
        if not theirs:
            theirs.append(take_over(study.path / "study.lock"))

    with pytest.raises(StudyBusyError, match="another one runs this study now"):
        Engine(study, LocalPool([Slot(None, 1)], STAND_IN), listen).run()
    lock.release()
    assert (study.path / "study.lock").read_text() == theirs[0]
    assert State.RUNNING not in {cell.state() for cell in study.cells()}


HOLD = """
import sys, time
from pathlib import Path
from detgraft.study.run.lock import guard
with guard(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_hanging_guard_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        begin = time.monotonic()
        with pytest.raises(StudyBusyError, match=BY_KEY["guard",].sentence) as caught, guard(path, 0.3):
            pass
        assert time.monotonic() - begin < 5
        assert "a.lock.guard" in str(caught.value)
        assert str(caught.value).count("\n") == 0
        monkeypatch.setattr(locks, "PATIENCE", 0.2)
        with pytest.raises(StudyBusyError, match="guard"):
            Lock(path).acquire()
    finally:
        process.kill()
        process.wait()
    with guard(path, 0.3):
        pass


def refuse(number: int) -> Any:
    def flock(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_a_file_system_without_locks_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    study = prepared(tmp_path, TINY)
    cell = a_cell(tmp_path / "one")
    for number in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
        monkeypatch.setattr(fcntl, "flock", refuse(number))
        with pytest.raises(StudyError, match=BY_KEY["enolck",].sentence) as caught:
            study.lock()
        assert str(caught.value).count("\n") == 0
    assert run_cell(cell.folder, stand_in_trainer, stand_in_evaluator) == 1
    assert "keeps no locks" in cell.error()
    monkeypatch.setattr(fcntl, "flock", refuse(errno.EIO))
    with pytest.raises(StudyError, match="refused a lock"):
        study.lock()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(tmp_path, SMALL)
    real = os.open

    def refuse_guard(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(".guard"):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse_guard)
    with pytest.raises(StudyError, match=BY_KEY["readonly",].sentence + "Read-only file system"):
        study.lock()


@pytest.mark.parametrize("fault", STATES, ids=str)
def test_a_damaged_state_is_passed_over_and_named(fault: Fault, tmp_path: Path) -> None:
    name, kind = fault.key
    book, other = Checkpoints(tmp_path / "states", "own"), Checkpoints(tmp_path / "others", "other")
    for each, word in ((book, "a"), (other, "b")):
        for epoch in range(3):
            for file in ("last.pt", "best.pt"):
                checkpoint(tmp_path / file, f"{word}{file} {epoch}")
            each.publish(tmp_path / "last.pt", tmp_path / "best.pt", epoch, epoch == 2, {"epoch": epoch})
    whole = book.newest()
    assert whole is not None
    assert whole.epoch == 2
    assert not book.rejected
    damage(whole.folder / name, kind, tmp_path / "others" / "epoch_00002" / name)
    before = book.newest()
    assert before is not None
    assert before.epoch == 1
    (sentence,) = book.rejected
    assert sentence.startswith(f"The state epoch_00002 is not taken up: {name}")
    with pytest.raises(StudyError, match=fault.sentence):
        raise StudyError(sentence)
    shutil.rmtree(before.folder)
    assert book.newest() is None


def test_the_engine_says_that_a_state_was_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN", json.dumps({"fail": {"carafe": "die"}}))
    study = prepared(tmp_path, TINY.replace("epochs: 3", "epochs: 5"))
    Engine(study, LocalPool([Slot(None, 1)] * 2, STAND_IN), lambda event: None).run()
    cell = next(cell for cell in study.cells() if cell.arm.name == "carafe")
    damage(cell.folder / "checkpoints" / "epoch_00000" / "last.pt", "bit")
    monkeypatch.setenv("STAND_IN", "{}")
    events: list[Event] = []
    Engine(study, LocalPool([Slot(None, 1)] * 2, STAND_IN), events.append).run(retry=True)
    kinds = [(event.kind, event.message) for event in events]
    assert kinds[0][0] == "damaged"
    assert "last.pt is not the file that was published. It starts from scratch." in kinds[0][1]
    assert kinds[1][0] == "started"
    assert cell.state() is State.DONE


def test_leaving_drafts_to_the_dead(tmp_path: Path) -> None:
    """A killed process leaves a draft; it is cleared by the next state that is published."""
    with ExitStack() as stack:
        lock = stack.enter_context(Lock(tmp_path / "a.lock"))
        book = Checkpoints(tmp_path / "states", "own", lock.permit)
        for name in ("last.pt", "best.pt"):
            checkpoint(tmp_path / name, "x")
        (tmp_path / "states").mkdir()
        (tmp_path / "states" / ".draft_00000_abc").mkdir()
        book.publish(tmp_path / "last.pt", tmp_path / "best.pt", 0, False, {})
        assert [path.name for path in (tmp_path / "states").iterdir()] == ["epoch_00000"]
