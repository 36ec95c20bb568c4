"""What a run verified is not verified again by a mere question, and whatever was written since is."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import SMALL_STUDY, finish, make_spec, write_preflight
from test_scale import Nowhere

from detgraft.study.api import status
from detgraft.study.run import remembered, store
from detgraft.study.run.executor import Engine
from detgraft.study.run.store import StudyFolder


def test_status_after_a_run_without_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "RACY_NS", 0)
    study = StudyFolder(make_spec(tmp_path, SMALL_STUDY))
    study.open()
    write_preflight(study)
    for cell in study.cells():
        finish(study, cell, 0.5)
    Engine(study, Nowhere(), lambda event: None).run()
    read: list[Path] = []
    honest = store.verify
    monkeypatch.setattr(store, "verify", lambda folder, *rest: (read.append(folder), honest(folder, *rest))[1])
    assert status(study.spec).complete
    assert read == [], "the run verified them"
    victim = next(study.cells()).folder
    (victim / "curve.json").write_text("[]")
    assert status(study.spec).states["damaged"] == 1
    assert set(read) == {victim}
    moved = study.path.rename(tmp_path / "elsewhere")
    assert status(moved).states["damaged"] == 1
