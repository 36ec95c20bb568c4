"""Turns what a user gives as ``data=`` into a data YAML that stock Ultralytics reads as it was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.utils import LOGGER, RUNS_DIR, SETTINGS

from detgraft.datasets.folder import load_data_yaml, normalise_data_yaml, resolve_data
from detgraft.errors import DataError, Location

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
    if data is None or isinstance(data, dict):
        return data
    if isinstance(data, (list, tuple)):
        return [prepare_data(each, task, project, download=download) for each in data]
    if not isinstance(data, (str, Path)):
        raise DataError(f"data= is a data YAML or a folder, found {data!r:.60}")
    if task == "classify" or _is_upstream_own(str(data)):
        return data
    path = Path(data)
    beside = Path(project) if project else Path(RUNS_DIR) / task
    known = [p.name for p in DATASETS_FOLDER.glob("*.yaml")]
    if path.is_dir() or path.suffix.lower() == ".json":
        checked = resolve_data(
            path, beside / f"data-{path.resolve().name}", known=known, download=download, tell=LOGGER.info
        )
        _refuse_other_task(checked, path, task)
        out_dir = beside / f"data-{path.resolve().name}"
    else:
        checked = resolve_data(path, known=known, download=download)
        out_dir = beside / f"data-{path.stem}"
    folder = Path(SETTINGS["datasets_dir"])
    return str(normalise_data_yaml(checked, out_dir, datasets_dir=folder, download=download))


def _refuse_other_task(checked: Path, path: Path, task: str) -> None:
    """COCO JSON and VOC XML are read for their boxes."""
    if task != "detect" and checked.parent.name.startswith(("coco-json-", "voc-xml-")):
        raise DataError(
            f"COCO JSON and VOC XML are read for boxes, and task={task} needs more; convert them first with "
            "ultralytics.data.converter.convert_coco",
            Location(str(path)),
        )


def check_classes(classes: Any, data: Any) -> None:
    """Refuse classes that a prepared data YAML does not have; Ultralytics would keep no label and train on nothing.

    Raises:
        DataError: Names the classes that there are.
    """
    if classes is None or not isinstance(data, (str, Path)) or Path(data).suffix not in (".yaml", ".yml"):
        return
    path = Path(data) if Path(data).is_file() else DATASETS_FOLDER / str(data)
    if not path.is_file():
        return
    names = load_data_yaml(path, needed=(), datasets_dir=Path(SETTINGS["datasets_dir"]))["names"]
    wrong = [number for number in (classes if isinstance(classes, (list, tuple)) else [classes]) if number not in names]
    if wrong:
        shown = ", ".join(f"{number} {name}" for number, name in list(names.items())[:10])
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise DataError(
            f"classes={classes}: the data has no class {wrong[0]}; it has {shown}{more}", Location(str(data))
        )


def _is_upstream_own(name: str) -> bool:
    """Data sets that Ultralytics brings or fetches itself, and formats that it reads itself."""
    if Path(name).exists():
        return Path(name).suffix.lower() in (".zip", ".tar", ".gz", ".ndjson")
    return (DATASETS_FOLDER / name).is_file() or "://" in name
