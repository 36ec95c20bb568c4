"""What a large study costs: nothing is asked of all cells for one event, and nothing is read twice for nothing."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from made_up import SMALL_STUDY, finish, finished_study, make_spec, write_preflight

from detgraft.study.api import report, status
from detgraft.study.judge.statistics import _power, detectable, seeds_needed
from detgraft.study.run import remembered, store
from detgraft.study.run.executor import Engine, Event
from detgraft.study.run.store import Cell, State, StudyFolder


class Nowhere:
    """A pool that runs nothing."""

    capacity = 1

    def begin(self, cell: Cell) -> None: ...

    def ended(self) -> list[tuple[Cell, int]]:
        return []

    def end(self, cell: Cell) -> None: ...

    def close(self) -> None: ...


def test_an_event_asks_no_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = finished_study(tmp_path, pictures=False)
    events: list[Event] = []
    engine = Engine(study, Nowhere(), events.append)
    engine.run()
    asked: Counter[str] = Counter()
    honest = Cell.state
    monkeypatch.setattr(Cell, "state", lambda self: (asked.update(["state"]), honest(self))[1])
    engine._tell("epoch", engine.cells[0])
    assert asked["state"] == 0
    assert (events[-1].finished, events[-1].total) == (30, 30)


def test_the_epochs_left_are_counted_as_they_pass(tmp_path: Path) -> None:
    study = StudyFolder(make_spec(tmp_path, SMALL_STUDY))
    study.open()
    write_preflight(study)
    engine = Engine(study, Nowhere(), lambda event: None)
    first = engine.cells[0]
    finish(study, first, 0.5)
    assert len(engine._todo(False, False)) == 3
    assert (len(engine._finished), engine._epochs_left) == (1, 3 * 4)
    cell = engine.cells[1]
    cell.folder.mkdir(parents=True)
    (cell.folder / "progress.json").write_text(json.dumps({"epoch": 3, "epochs": 4, "seconds": 1.0}))
    assert engine._count_epochs(cell)
    assert engine._epochs_left == 2 * 4 + 1
    engine._note(cell, State.FAILED)
    assert engine._epochs_left == 2 * 4


def test_status_after_a_report_reads_no_result_again_unless_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    monkeypatch.setattr(remembered, "RACY_NS", 0)
    study = finished_study(tmp_path, pictures=False)
    report(study.spec)
    read: list[Path] = []
    honest = store.verify
    monkeypatch.setattr(store, "verify", lambda folder, *rest: (read.append(folder), honest(folder, *rest))[1])
    before = status(study.spec)
    assert before.complete
    assert read == []
    victim = next(study.cells()).folder
    raw = (victim / "result.json").read_bytes()
    stat = (victim / "result.json").stat()
    (victim / "result.json").write_bytes(raw.replace(b'"epochs": 4', b'"epochs": 3'))
    os.utime(victim / "result.json", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a change that hides its time
    after = status(study.spec)
    assert read == [victim]
    assert after.states["damaged"] == 1
    # A report reads everything, whatever was remembered.
    read.clear()
    (victim / "result.json").write_bytes(raw)
    report(study.spec)
    assert len(set(read)) == 30


def test_what_was_remembered_of_another_study_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    monkeypatch.setattr(remembered, "RACY_NS", 0)
    study = finished_study(tmp_path, pictures=False)
    report(study.spec)
    path = study.path / remembered.REMEMBERED
    path.write_bytes(path.read_bytes().replace(b'"digest": "', b'"digest": "0'))
    read: list[Path] = []
    honest = store.verify
    monkeypatch.setattr(store, "verify", lambda folder, *rest: (read.append(folder), honest(folder, *rest))[1])
    assert status(study.spec).complete
    assert len(read) == 30


def test_the_seeds_needed_are_the_least_that_have_the_power() -> None:
    for effect in (0.6, 1.0, 2.5):
        for variants in (1, 7):
            count = seeds_needed(1.0, effect, variants, cautious=True)
            assert count is not None
            assert _power(effect, count, 0.05 / variants, True) >= 0.8 - 1e-5
            assert count == 2 or _power(effect, count - 1, 0.05 / variants, True) < 0.8
            assert detectable(2.0, count, variants, cautious=True) <= 2 * effect + 1e-5
