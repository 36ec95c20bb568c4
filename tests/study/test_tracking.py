"""Trackers are off unless asked for, and then hold the curves and the final figures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from made_up import SMALL_STUDY, finish, make_spec

from detgraft.errors import MissingExtraError
from detgraft.study.api import run
from detgraft.study.run.cell import without_trackers
from detgraft.study.run.store import StudyFolder
from detgraft.study.run.tracking import check_trackers, track


def finished(folder: Path, text: str) -> StudyFolder:
    study = StudyFolder(make_spec(folder, text))
    study.open()
    for cell in list(study.cells())[:2]:
        finish(study, cell, 0.5)
        track(study, cell)
    return study


def test_nothing_is_tracked_unless_asked(tmp_path: Path) -> None:
    study = finished(tmp_path, SMALL_STUDY)
    assert sorted(p.name for p in study.path.iterdir()) == ["cells", "study.json", "study.yaml"]


def test_an_absent_tracker_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"detgraft\[mlflow\]"):
        check_trackers(("mlflow",))
    with pytest.raises(MissingExtraError, match=r"detgraft\[tensorboard\]"):
        check_trackers(("tensorboard",))
    check_trackers(())


def test_installed_trackers_are_hidden_from_ultralytics(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "clearml", "comet_ml", "dvclive", "neptune", "ray", "wandb", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name))
    without_trackers()
    with pytest.raises(ImportError):
        import mlflow  # noqa: F401


def test_tensorboard_holds_curve_and_result(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    study = finished(tmp_path, SMALL_STUDY + "track: [tensorboard]\n")
    events = EventAccumulator(str(study.path / "tensorboard" / "carafe" / "seed_0"))
    events.Reload()
    curve = events.Scalars("metrics/mAP50-95_B")
    assert [(e.step, round(e.value, 4)) for e in curve] == [(1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)]
    assert events.Scalars("final/test/AP")[0].value == pytest.approx(0.5)


@pytest.mark.slow
def test_mlflow_holds_curve_and_result(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    study = finished(tmp_path, SMALL_STUDY + "track: [mlflow]\n")
    client = MlflowClient(tracking_uri=f"sqlite:///{study.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study.spec.name)
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {"yolo11n, seed 0", "carafe, seed 0"}
    assert all(run.data.metrics["final/test/AP"] == pytest.approx(0.5) for run in runs)
    history = client.get_metric_history(runs[0].info.run_id, "metrics/mAP50-95_B")
    assert [(m.step, m.value) for m in history] == [(1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "study.yaml"]


def test_a_study_without_its_extra_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path, SMALL_STUDY)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"faster-coco-eval.*detgraft\[study\]"):
        run(spec)
    assert not spec.out.exists()
