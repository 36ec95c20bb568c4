"""Builds every arm once before anything is trained: ``python -m detgraft.study.run.preflight FOLDER``.

Finds what would make a run fail hours later (a graft that does not build, a missing picture folder, a mistyped training
argument), and measures what each arm costs while nothing else keeps the machine busy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detgraft.base.files import read_json, write_atomic, write_json
from detgraft.base.provenance import hardware, versions
from detgraft.errors import DetgraftError, Location
from detgraft.study.design.arguments import OF_TASK
from detgraft.study.design.config import CellConfig, config_of
from detgraft.study.design.errors import StudyError
from detgraft.study.design.fields import check_train_keys
from detgraft.study.design.seal import is_sealed, seal
from detgraft.study.design.spec import StudySpec, digest_of
from detgraft.study.design.terms import MEASURED, Arm
from detgraft.study.judge.evidence import State
from detgraft.study.run.cell import WATCH, end_with_parent, without_trackers
from detgraft.study.run.launch import PREFLIGHT, Slot, start, stop
from detgraft.study.run.store import StudyFolder

Say = Callable[[str], None]

FORMAT = 3
"""Of an arm's file; a new number checks every arm again."""
PROBE = 1_000_000
"""Bytes that are written to see whether anything can be."""


def check_arguments(spec: StudySpec) -> None:
    """Refuse training arguments that Ultralytics does not take, or not with such a value; writes nothing.

    Raises:
        StudyError: Names the first one.
    """
    from detgraft.upstream.service.arms import training_arguments, wrong_arguments

    check_train_keys(spec.located, training_arguments())
    for key, text in wrong_arguments(spec.train).items():
        raise spec.located.fail(f"train: {text}", "train", key)


def preflight(folder: StudyFolder, slot: Slot, say: Say, command: Sequence[str] = PREFLIGHT) -> None:
    """Build and price every arm in a child process.

    Args:
        folder: The study's folder, opened.
        slot: Where the child runs.
        say: Called with a line before each arm.
        command: What to start; the working folder is added.

    Raises:
        StudyError: An arm does not build, or the data are wrong; lists all of them.
    """
    spec = folder.spec
    work = folder.path / "arms"
    work.mkdir(parents=True, exist_ok=True)
    todo = [arm for arm in spec.arms if not _is_current(folder, arm)]
    if todo:
        _check(folder, todo, slot, say, command)
    _compare_tasks(folder, say)


def _check(folder: StudyFolder, todo: Sequence[Arm], slot: Slot, say: Say, command: Sequence[str]) -> None:
    """Build and price these arms in a child process."""
    spec, work = folder.spec, folder.path / "arms"
    for arm in todo:
        folder.arm_file(arm).unlink(missing_ok=True)
    say(f"Checking {len(todo)} arm(s) before any training: {', '.join(arm.name for arm in todo)}")
    request = {
        "arms": [{"slug": arm.slug, "key": _key(spec, arm), "config": _config(spec, arm).to_json()} for arm in todo],
        "project": str(folder.path / "data"),
    }
    write_json(work / "request.json", request)
    process = start(command, work, slot)
    try:
        status = process.wait()
    finally:
        stop([process])
    problems = [(arm, text) for arm in todo if (text := _problem(folder, arm, status))]
    if problems:
        # The same cause (wrong data, say) stops every arm; it is told once.
        same = len(problems) == len(todo) > 1 and len({text for _, text in problems}) == 1
        lines = [problems[0][1]] if same else [f"{spec.where(arm)}: {arm.name}: {text}" for arm, text in problems]
        listing = "".join(f"\n  {line}" for line in lines)
        raise StudyError(
            f"nothing was trained, because the study cannot be carried out:{listing}", Location(spec.source)
        )


def _compare_tasks(folder: StudyFolder, say: Say) -> None:
    """Refuse arms that are made for different tasks, and say what is not measured of what they give."""
    spec = folder.spec
    tasks = {arm: str((read_json(folder.arm_file(arm)) or {}).get("task", "detect")) for arm in spec.arms}
    for arm, task in tasks.items():
        if task != tasks[spec.base]:
            raise StudyError(
                f"{arm.name!r} is made for the task {task}, the base {spec.base.name!r} for {tasks[spec.base]}; they"
                " learn from other labels, so that neither can be said to help.",
                spec.where(arm),
            )
    task = tasks[spec.base]
    if (spec.metrics.primary == "top1") != (task == "classify") and spec.metrics.primary != "AP":
        fits = "top1" if task == "classify" else "AP, AP50 or AP75"
        raise spec.located.fail(
            f"primary: {spec.metrics.primary} is no figure of the task {task}; write {fits}.", "metrics", "primary"
        )
    for key in spec.train:
        owner = next((kind for kind, keys in OF_TASK.items() if key in keys), task)
        if owner != task:
            raise spec.located.fail(
                f"'{key}' belongs to the task {owner} and would have no effect on {task}.", "train", key
            )
    if task == "classify" and "classes" in spec.train:
        raise spec.located.fail("'classes' chooses boxes; a folder of its own chooses classes.", "train", "classes")
    if task != "detect":
        say(f"Note: {spec.base.name!r} is made for the task {task}; {MEASURED[task]}, decides.")


def check_writable(folder: StudyFolder) -> None:
    """Refuse an output folder that cannot be made or written to.

    Raises:
        StudyError: Says why.
    """
    probe = folder.path / ".detgraft-probe"
    try:
        write_atomic(probe, b"\0" * PROBE)
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"out: nothing can be written into {str(folder.path)!r}: {error.strerror or error}.",
            folder.spec.located.at("out"),
        ) from error


def check_space(folder: StudyFolder, at_once: int) -> None:
    """Refuse to train when the disk cannot hold the checkpoints; called after the preflight.

    Args:
        folder: The study's folder.
        at_once: How many runs are trained at once.

    Raises:
        StudyError: Says how much is free and about how much is needed.
    """
    largest = max(_params(folder, arm) for arm in folder.spec.arms)
    left = sum(cell.state() is not State.DONE for cell in folder.cells())
    if not left:
        return
    # While training: the newest two states, one in the making, and Ultralytics' own, each with last.pt and best.pt of
    # at most 6 bytes a parameter (16-bit weights, two averages of the optimiser). When done: 16-bit weights.
    need = min(at_once, left) * 8 * 6 * largest + left * (2 * largest + 1_000_000)
    free = shutil.disk_usage(folder.path).free
    if free < need:
        raise StudyError(
            f"out: {free / 1e9:.2f} GB are free in {str(folder.path)!r}, and the checkpoints of {left} run(s),"
            f" {min(at_once, left)} at once, need about {need / 1e9:.2f} GB.",
            folder.spec.located.at("out"),
        )


def _params(folder: StudyFolder, arm: Arm) -> int:
    raw = read_json(folder.arm_file(arm))
    cost = raw.get("cost") if isinstance(raw, dict) else None
    return int(cost["params"]) if isinstance(cost, dict) else 0


def _config(spec: StudySpec, arm: Arm) -> CellConfig:
    return config_of(spec, arm, 0)


def _key(spec: StudySpec, arm: Arm) -> str:
    """What an arm's price depends on, beside the machine."""
    return digest_of([FORMAT, _config(spec, arm).digest(), versions()])


def _is_current(folder: StudyFolder, arm: Arm) -> bool:
    raw = read_json(folder.arm_file(arm))
    sound = isinstance(raw, dict) and is_sealed(raw)
    return sound and raw.get("key") == _key(folder.spec, arm) and not raw.get("error")


def _problem(folder: StudyFolder, arm: Arm, status: int) -> str:
    raw = read_json(folder.arm_file(arm))
    if isinstance(raw, dict):
        return str(raw.get("error") or "")
    return f"the check ended with status {status} before it came to this arm; see {folder.path / 'arms' / 'log.txt'}"


def check_folder(work: Path) -> None:
    """The child's part: check every arm of ``request.json`` and write ``SLUG.json`` for each.

    Args:
        work: Folder with ``request.json``.
    """
    request = read_json(work / "request.json")
    for item in request["arms"]:
        config = CellConfig.from_json(item["config"], "request.json")
        content: dict[str, Any] = {"key": item["key"], "arm": config.arm, "error": None}
        try:
            content |= check_arm(config, request["project"])
        except DetgraftError as error:
            content["error"] = str(error)
        except Exception as error:
            # Anything else that stops a build must stop the study too, whatever raised it.
            content["error"] = f"{type(error).__name__}: {error}"
        write_json(work / f"{item['slug']}.json", seal(content))


def check_arm(config: CellConfig, project: str) -> dict[str, Any]:
    """Check data, training arguments and model of one arm, and price it.

    Args:
        config: Any run of the arm.
        project: Folder for a data YAML that is derived from a folder.

    Returns:
        Plain JSON: ``data``, ``sources`` of its splits, ``classes``, ``task``, ``own_weights``, ``cost``, ``weights``
        (name, path and digest), ``hardware``, ``versions``.
    """
    import torch

    from detgraft.measure.price import measure
    from detgraft.upstream.service.arms import (
        built_arm,
        check_splits,
        class_names,
        data_sources,
        own_weights,
        prepared_data,
        task_named,
        task_of,
    )

    task = task_named(config.model, config.plugins)
    if task not in MEASURED:
        raise StudyError(f"it is made for the task {task}, which a study does not measure: {', '.join(MEASURED)}.")
    data = prepared_data(config.data, project, task)
    names = class_names(data)
    check_splits(data, config.split)
    strange = [number for number in config.train.get("classes", ()) if number not in names]
    if strange:
        raise StudyError(f"train: classes: the data has the classes 0 to {len(names) - 1}, found {strange[0]}")
    own = own_weights(config.model, config.plugins)
    if own and config.init != "pretrained":
        raise StudyError(
            f"it loads weights of its own ({'; '.join(own)}), but 'init: {config.init}' holds for every arm; take them"
            " out or write 'init: pretrained'."
        )
    torch.manual_seed(0)
    config, found = _fetch_weights(config)
    imgsz = int(config.train["imgsz"])
    built = built_arm(config.model, names, imgsz, config.weights, config.transfer_min, config.plugins)
    task = task_of(built)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    return {
        "data": data,
        "sources": data_sources(data),
        "weights": found,
        "classes": len(names),
        "task": task,
        "own_weights": own,
        "cost": dataclasses.asdict(measure(built, imgsz, device)),
        "hardware": hardware(),
        "versions": versions(),
    }


def _fetch_weights(config: CellConfig) -> tuple[CellConfig, dict[str, str] | None]:
    """Bring the initial checkpoint onto this machine once, so that the runs themselves need no network."""
    if config.weights is None:
        return config, None
    from detgraft.upstream.service.arms import fetched

    path = fetched(config.weights)
    found = {"name": config.weights, "path": str(path), "digest": hashlib.sha256(path.read_bytes()).hexdigest()}
    return dataclasses.replace(config, weights=str(path)), found


def main() -> int:
    """Check the study whose ``arms`` folder is the only argument."""
    if os.environ.get(WATCH):
        end_with_parent()
    without_trackers()
    check_folder(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
