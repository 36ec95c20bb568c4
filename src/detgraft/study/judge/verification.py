"""Whether the files of a run are that run's: read again and compared each time, never believed."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detgraft.base.files import read_json
from detgraft.study.design.config import CellConfig, differences
from detgraft.study.design.errors import DamagedError, StudyError
from detgraft.study.judge.result import Result, SplitMetrics

RESULT, CONFIG, CURVE = "result.json", "cell.json", "curve.json"
STUDY, INPUTS = "study.json", "inputs.json"
RACY_NS = 2_000_000_000
"""A file this young may change again without its times showing it."""

_BESIDE = (CURVE, "detections_*.npz", "bootstrap_*.npy")
_LOOKED_AT = frozenset((RESULT, CONFIG, STUDY, INPUTS, CURVE))
_BEGINNINGS = ("detections_", "bootstrap_")
_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            found.update(piece)
    return found.hexdigest()


def marks_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of the files that belong to the result in a folder: curve, detections and bootstrap draws."""
    files = sorted(path for pattern in _BESIDE for path in folder.glob(pattern))
    return {path.name: {"size": path.stat().st_size, "sha256": file_digest(path)} for path in files}


def look_of(folder: Path) -> tuple[Any, ...]:
    """What changes when a file in a run's or a study's folder that :func:`verify` depends on is written or replaced."""
    # The time of the last status change cannot be set back by a program, unlike the time of the last change.
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name not in _LOOKED_AT and not name.startswith(_BEGINNINGS):
                    continue
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                found.append((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted(found))


def verify(folder: Path, expected: CellConfig, studies: Collection[str] | None) -> Result:
    """Read the result in a folder and make sure that it is the expected run's, whole and unchanged.

    Args:
        folder: The run's folder.
        expected: The run, from the study file.
        studies: Digests of the study and of what it was before it was extended; None when these are not known.

    Raises:
        StudyError: It is not; the sentence says in what.
    """
    result = Result.read(folder / RESULT)
    if (result.arm, result.seed) != (expected.arm, expected.seed):
        raise DamagedError(f"result.json is the result of another run: {result.arm}, seed {result.seed}.")
    config = verify_config(folder, expected, studies)
    if result.config != config.digest():
        raise DamagedError("result.json was made with another configuration than the one in cell.json.")
    if result.study != config.study:
        raise DamagedError("result.json belongs to another study than cell.json.")
    _check_budget(result, config)
    _check_ranges(result)
    if result.format == 1:
        _check_unmarked(folder, result, config)
    else:
        _check_marked(folder, result)
    return result


def verify_config(folder: Path, expected: CellConfig, studies: Collection[str] | None) -> CellConfig:
    """Read ``cell.json`` and make sure that it is the expected run's; see :func:`verify`."""
    config = CellConfig.read(folder / CONFIG)
    found = differences(expected, config)
    if found:
        raise DamagedError(f"cell.json is of another run: {'; '.join(found)}.")
    if studies is not None and config.study not in studies:
        raise DamagedError("cell.json belongs to another study.")
    return config


def _check_budget(result: Result, config: CellConfig) -> None:
    planned = int(config.train["epochs"])
    if not _is_whole(result.epochs) or not 1 <= result.epochs <= planned:
        raise DamagedError(f"result.json claims {result.epochs!r} epochs, the study asks for {planned}.")
    # Ultralytics stops early when the best epoch is `patience` epochs ago, so never before that many and one.
    patience = float(config.train.get("patience", 100) or math.inf)
    if result.epochs < planned and not result.epochs > patience:
        raise DamagedError(
            f"result.json has {result.epochs} epochs instead of {planned}, which early stopping does not explain."
        )
    if not _is_whole(result.best_epoch) or not 1 <= result.best_epoch <= result.epochs:
        raise DamagedError(f"result.json names epoch {result.best_epoch!r} of {result.epochs} as the best.")


def _check_ranges(result: Result) -> None:
    for split, metrics in result.metrics.items():
        groups: tuple[tuple[str, Mapping[str, Any]], ...] = (
            ("", metrics.coco),
            ("AP of ", metrics.per_class),
            ("", metrics.best),
        )
        for word, values in groups:
            for name, value in values.items():
                if value is not None and not _is_number(value, 0.0, 1.0 + 1e-9):
                    raise DamagedError(f"result.json: {word}{name} on {split} is {value!r}, expected 0 to 1.")
        if not _is_whole(metrics.images) or metrics.images < 0:
            raise DamagedError(f"result.json: {split} has {metrics.images!r} pictures.")
    if not result.metrics:
        raise DamagedError("result.json holds no figures.")
    if not _is_number(result.seconds, 0.0, math.inf):
        raise DamagedError(f"result.json: training took {result.seconds!r} seconds.")
    if result.transferred is not None and not _is_number(result.transferred, 0.0, 1.0):
        raise DamagedError(f"result.json: the transferred share is {result.transferred!r}, expected 0 to 1.")
    if not all(_is_whole(epoch) and 0 <= epoch <= result.epochs for epoch in result.resumed_at):
        raise DamagedError(f"result.json: it was resumed at epochs {list(result.resumed_at)} of {result.epochs}.")
    if not _is_whole(result.cost.params) or result.cost.params < 1:
        raise DamagedError(f"result.json: the model has {result.cost.params!r} parameters.")
    for name in ("gflops", "latency_ms"):
        value = getattr(result.cost, name)
        if value is not None and not _is_number(value, 0.0, math.inf):
            raise DamagedError(f"result.json: {name} is {value!r}.")


def _check_marked(folder: Path, result: Result) -> None:
    """Compare the files beside the result with what it says of them."""
    if CURVE not in result.files:
        raise DamagedError("result.json does not vouch for its curve.json.")
    for name, mark in result.files.items():
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"{name} is absent.")
        size = path.stat().st_size
        if size != mark.get("size"):
            raise DamagedError(f"{name} has {size} bytes instead of {mark.get('size')}.")
        if file_digest(path) != mark.get("sha256"):
            raise DamagedError(f"{name} is not the file that was written with the result.")


def _check_unmarked(folder: Path, result: Result, config: CellConfig) -> None:
    """What can be said of a result of format 1, which has no checksums: its files are readable and fit together."""
    curve = read_json(folder / CURVE)
    rows = [row.get("epoch") for row in curve if isinstance(row, dict)] if isinstance(curve, list) else None
    if rows != list(range(result.epochs)):
        raise DamagedError(f"curve.json does not hold the {result.epochs} epochs of the result.")
    for split, metrics in result.metrics.items():
        _check_mean(split, metrics)
        try:
            with np.load(folder / f"detections_{split}.npz", allow_pickle=False) as raw:
                files = [raw[name] for name in raw.files]  # each is checked against the archive's own checksum
                pictures = len(raw["files"])
        except Exception as error:  # a damaged archive raises whatever its damage leads to
            raise DamagedError(f"detections_{split}.npz is absent or damaged ({error}).") from error
        if not files or pictures != metrics.images:
            raise DamagedError(f"detections_{split}.npz holds {pictures} pictures instead of {metrics.images}.")
        if config.bootstrap and metrics.images:
            try:
                draws = np.load(folder / f"bootstrap_{split}.npy", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DamagedError(f"bootstrap_{split}.npy is absent or damaged ({error}).") from error
            known = draws[np.isfinite(draws)] if draws.dtype.kind == "f" else draws[:0]
            if draws.shape != (config.bootstrap,) or (known.size and not (known >= 0).all() & (known <= 1).all()):
                raise DamagedError(f"bootstrap_{split}.npy does not hold {config.bootstrap} figures from 0 to 1.")


def _check_mean(split: str, metrics: SplitMetrics) -> None:
    """AP is the mean over the classes that have labels."""
    known = [value for value in metrics.per_class.values() if value is not None]
    ap = metrics.coco.get("AP")
    if (ap is None) != (not known) or (ap is not None and abs(ap - float(np.mean(known))) > 1e-6):
        raise DamagedError(f"result.json: AP on {split} is {ap!r}, which is not the mean of its classes.")


def reason_of(error: StudyError) -> str:
    """The sentence of an error without the folder it lies in, which the label of the run already tells."""
    source = error.location.source if error.location is not None else ""
    return str(error).replace(f"{source}: ", f"{Path(source).name} ", 1) if source else str(error)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and low <= value <= high and value != math.inf
