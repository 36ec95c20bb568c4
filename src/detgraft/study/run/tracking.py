"""Optional copies of finished runs in MLflow and TensorBoard, written by the study itself, one run after the other.

Off unless the study file asks with ``track:``. Both write below the study's folder and use no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detgraft.base.extras import require
from detgraft.base.files import read_json
from detgraft.study.judge.result import Result
from detgraft.study.run.store import Cell, StudyFolder


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse a tracker whose package is absent, before anything is trained.

    Raises:
        MissingExtraError: Names the extra.
    """
    if "mlflow" in names:
        require("mlflow")
    if "tensorboard" in names:
        require("tensorboard")


def track(folder: StudyFolder, cell: Cell) -> None:
    """Copy a finished run into every tracker that the study asks for.

    Args:
        folder: The study's folder.
        cell: A cell with a result.
    """
    chosen = folder.spec.track
    if not chosen:
        return
    result, curve = cell.result(), read_json(cell.folder / "curve.json") or []
    if "mlflow" in chosen:
        _mlflow(folder, cell, result, curve)
    if "tensorboard" in chosen:
        _tensorboard(folder.path / "tensorboard" / cell.arm.slug / f"seed_{cell.seed}", result, curve)


def _points(curve: list[dict[str, Any]]) -> Iterator[tuple[str, float, int]]:
    """Name, value and 1-based epoch of everything in a learning curve."""
    for row in curve:
        for key, value in row.items():
            if key != "epoch" and value is not None:
                # Ultralytics' names hold brackets, which MLflow refuses.
                yield key.replace("(", "_").replace(")", ""), float(value), int(row["epoch"]) + 1


def _finals(result: Result) -> dict[str, float]:
    return {
        f"final/{split}/{key}": float(value)
        for split, metrics in result.metrics.items()
        for key, value in metrics.coco.items()
        if value is not None
    }


def _mlflow(folder: StudyFolder, cell: Cell, result: Result, curve: list[dict[str, Any]]) -> None:
    mlflow = require("mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{(folder.path / 'mlflow.db').as_posix()}")
    name = folder.spec.name
    experiment = client.get_experiment_by_name(name)
    artifacts = (folder.path / "mlflow-artifacts").as_uri()
    number = experiment.experiment_id if experiment else client.create_experiment(name, artifact_location=artifacts)
    run = client.create_run(number, run_name=cell.label, tags={"role": result.role, "study": result.study}).info.run_id
    for key, value in {"arm": result.arm, "model": result.model, "seed": result.seed, "config": result.config}.items():
        client.log_param(run, key, value)
    for key, value, epoch in _points(curve):
        client.log_metric(run, key, value, step=epoch)
    for key, value in _finals(result).items():
        client.log_metric(run, key, value)
    client.set_terminated(run)


def _tensorboard(target: Path, result: Result, curve: list[dict[str, Any]]) -> None:
    require("tensorboard")
    board = require("torch.utils.tensorboard")
    writer = board.SummaryWriter(str(target))
    for key, value, epoch in _points(curve):
        writer.add_scalar(key, value, epoch)
    for key, value in _finals(result).items():
        writer.add_scalar(key, value, result.epochs)
    writer.close()
