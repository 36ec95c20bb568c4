"""Builds every arm once before anything is trained: ``python -m detgraft.study.run.preflight FOLDER``.

Finds what would make a run fail hours later (a graft that does not build, a missing picture folder, a mistyped training
argument), and measures what each arm costs while nothing else keeps the machine busy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detgraft.base.files import read_json, write_json
from detgraft.base.provenance import hardware, versions
from detgraft.errors import DetgraftError, Location
from detgraft.study.design.config import CellConfig, config_of
from detgraft.study.design.errors import StudyError
from detgraft.study.design.fields import check_train_keys
from detgraft.study.design.seal import is_sealed, seal
from detgraft.study.design.spec import StudySpec, digest_of
from detgraft.study.design.terms import Arm
from detgraft.study.run.cell import WATCH, end_with_parent, without_trackers
from detgraft.study.run.launch import PREFLIGHT, Slot, start, stop
from detgraft.study.run.store import StudyFolder

Say = Callable[[str], None]


def preflight(folder: StudyFolder, slot: Slot, say: Say, command: Sequence[str] = PREFLIGHT) -> None:
    """Build and price every arm in a child process.

    Args:
        folder: The study's folder, opened.
        slot: Where the child runs.
        say: Called with a line before each arm.
        command: What to start; the working folder is added.

    Raises:
        StudyError: An arm does not build, or data or training arguments are wrong; lists all of them.
    """
    from detgraft.upstream.service.arms import training_arguments

    spec = folder.spec
    check_train_keys(spec.located, training_arguments())
    work = folder.path / "arms"
    work.mkdir(parents=True, exist_ok=True)
    todo = [arm for arm in spec.arms if not _is_current(folder, arm)]
    if not todo:
        return
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


def _config(spec: StudySpec, arm: Arm) -> CellConfig:
    return config_of(spec, arm, 0)


def _key(spec: StudySpec, arm: Arm) -> str:
    """What an arm's price depends on, beside the machine."""
    return digest_of([_config(spec, arm).digest(), versions()])


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
        Plain JSON: ``data``, ``sources`` of its splits, ``classes``, ``cost``, ``weights`` (name, path and digest),
        ``hardware``, ``versions``.
    """
    import torch

    from detgraft.measure.price import measure
    from detgraft.upstream.service.arms import built_arm, class_names, data_sources, prepared_data

    data = prepared_data(config.data, project)
    names = class_names(data)
    torch.manual_seed(0)
    config, found = _fetch_weights(config)
    imgsz = int(config.train["imgsz"])
    built = built_arm(config.model, names, imgsz, config.weights, config.transfer_min, config.plugins)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    return {
        "data": data,
        "sources": data_sources(data),
        "weights": found,
        "classes": len(names),
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
