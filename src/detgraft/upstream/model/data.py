"""Turns what a user gives as ``data=`` into a data YAML that stock Ultralytics reads as it was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.utils import RUNS_DIR, SETTINGS

from detgraft.datasets.folder import normalise_data_yaml, resolve_data

DATASETS_FOLDER = Path(ultralytics.__file__).parent / "cfg" / "datasets"


def prepare_data(data: Any, task: str, project: str | Path | None = None, *, download: bool = False) -> Any:
    """Check ``data=`` and derive or correct its YAML where needed.

    Args:
        data: A data YAML, a folder laid out in splits, a list of these (a training goes through them in turn), or
            anything else that Ultralytics takes (returned as it is).
        task: The model's task; classification data has no YAML.
        project: Folder of the runs; a derived or corrected YAML is written beside the run.
        download: Let a data YAML fetch missing pictures or run its ``download:`` script. Otherwise Ultralytics gets a
            copy without that entry, which it would run, even offline, as soon as a split is missing.

    Returns:
        What to give to Ultralytics.

    Raises:
        DataError: The data set is missing or not laid out as a detector needs it.
    """
    if isinstance(data, (list, tuple)):
        return [prepare_data(each, task, project, download=download) for each in data]
    if not isinstance(data, (str, Path)) or task == "classify" or _is_upstream_own(str(data)):
        return data
    path = Path(data)
    beside = Path(project) if project else Path(RUNS_DIR) / task
    known = [p.name for p in DATASETS_FOLDER.glob("*.yaml")]
    if path.is_dir():
        checked = resolve_data(path, beside / f"data-{path.resolve().name}", download=download)
        out_dir = beside / f"data-{path.resolve().name}"
    else:
        checked = resolve_data(path, known=known, download=download)
        out_dir = beside / f"data-{path.stem}"
    folder = Path(SETTINGS["datasets_dir"])
    return str(normalise_data_yaml(checked, out_dir, datasets_dir=folder, download=download))


def _is_upstream_own(name: str) -> bool:
    """Data sets that Ultralytics brings or fetches itself, and formats that it reads itself."""
    is_file = Path(name).exists()
    return not is_file and (
        (DATASETS_FOLDER / name).is_file()
        or "://" in name
        or Path(name).suffix.lower() in (".zip", ".tar", ".gz", ".ndjson")
    )
