"""One run as a process of its own: ``python -m detgraft.study.run.cell FOLDER``.

It can be killed at any moment: what it leaves is either a published state, from which the next sitting goes on, or the
complete result.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detgraft.base.files import copy_atomic, read_json, write_json
from detgraft.base.provenance import git_state, hardware, versions
from detgraft.measure.price import Cost
from detgraft.study.design.config import CellConfig
from detgraft.study.design.seal import read_sealed
from detgraft.study.judge.result import Result
from detgraft.study.judge.verification import marks_of
from detgraft.study.run.checkpoints import Checkpoints
from detgraft.study.run.evaluation import Evaluator, evaluate
from detgraft.study.run.failures import EXIT_BUSY, EXIT_FAILED, EXIT_ORPHAN, EXIT_UNRECORDED, record
from detgraft.study.run.inputs import check_inputs
from detgraft.study.run.lock import Lock
from detgraft.study.run.store import now
from detgraft.study.run.training import Trainer, train

WATCH = "DETGRAFT_STUDY_WATCH"
"""Set by the executor: standard input is a pipe whose end means that the executor is gone."""


def run_cell(
    folder: Path, trainer: Trainer = train, evaluator: Evaluator = evaluate, on_lost: Callable[[], Any] | None = None
) -> int:
    """Train and measure one cell.

    Args:
        folder: Its folder, with ``cell.json``.
        trainer: How to train.
        evaluator: How to measure.
        on_lost: Called when another process has taken the cell over because this one was silent for too long.

    Returns:
        0 when the result is written, 1 when it failed and said why in ``error.json``, 74 when not even that could be
        written, 75 when another living process has the cell.
    """
    folder = folder.resolve()
    lock = Lock(folder / "cell.lock", on_lost)
    try:
        holder = lock.acquire()
        if holder is not None:
            print(f"{folder} is being trained by {holder}", file=sys.stderr)
            return EXIT_BUSY
        _run(folder, trainer, evaluator, lock)
        return 0
    except Exception as error:
        if lock.lost.is_set():  # nothing here is this process's to write any more
            with contextlib.suppress(OSError):
                print(error, file=sys.stderr, flush=True)
            return EXIT_BUSY
        content = record(error, folder)
        with contextlib.suppress(OSError):  # the log may lie on the same full disk
            print(content["traceback"], content["message"], sep="\n", file=sys.stderr, flush=True)
        try:
            write_json(folder / "error.json", content)
        except OSError:
            return EXIT_UNRECORDED
        return EXIT_FAILED
    finally:
        lock.release()


def _run(folder: Path, trainer: Trainer, evaluator: Evaluator, lock: Lock) -> None:
    config = CellConfig.read(folder / "cell.json")
    started = _begin(folder / "started.json")
    study = folder.parents[2]
    check_inputs(config, study, "after it was announced")
    book = Checkpoints(folder / "checkpoints", config.digest(), lock.permit)
    best = trainer(config, folder, book)
    state = book.newest()
    if state is None or not state.finished:
        raise RuntimeError("training ended without a finished state")
    with lock.permit():
        copy_atomic(best, folder / "best.pt")
        write_json(folder / "curve.json", state.info["curve"])
    progress = read_json(folder / "progress.json")
    write_json(folder / "progress.json", {**(progress if isinstance(progress, dict) else {}), "measuring": True})
    metrics = evaluator(config, folder)
    check_inputs(config, study, "while the run was at work")
    result = Result(
        arm=config.arm,
        role=config.role,
        model=config.model,
        seed=config.seed,
        metrics=metrics,
        cost=_cost(folder),
        epochs=state.epoch + 1,
        best_epoch=int(state.info["best_epoch"]) + 1,
        seconds=float(state.info["seconds"]),
        resumed_at=tuple(state.info["resumed_at"]),
        transferred=state.info["transferred"],
        config=config.digest(),
        study=config.study,
        versions=started["versions"],
        hardware=hardware(),
        git=git_state(Path.cwd()),
        started=started["first"],
        finished=now(),
        files=marks_of(folder),
    )
    with lock.permit():
        (folder / "error.json").unlink(missing_ok=True)
        result.write(folder / "result.json")
        book.remove()
    shutil.rmtree(folder / "train" / "weights", ignore_errors=True)


def _begin(path: Path) -> dict[str, Any]:
    """Note one more sitting, and with which versions; a broken note of the earlier ones is begun anew."""
    raw = read_json(path)
    earlier = raw if isinstance(raw, dict) else {}
    first, sittings, made = earlier.get("first"), earlier.get("sittings"), earlier.get("versions")
    own = versions()
    before = {str(key): str(value) for key, value in made.items()} if isinstance(made, dict) else own
    started = {
        "first": first if isinstance(first, str) else now(),
        "last": now(),
        "sittings": sittings + 1 if isinstance(sittings, int) else 1,
        "versions": {key: _both(before.get(key), own.get(key)) for key in sorted({*before, *own})},
    }
    write_json(path, started)
    return started


def _both(before: str | None, after: str | None) -> str:
    """A version, or two where a run was resumed with another one, so that the report tells them apart."""
    old, new = before or "none", after or "none"
    return old if old.split(" then ")[-1] == new else f"{old} then {new}"


def without_trackers() -> None:
    """Hide experiment trackers from Ultralytics, which switches on every one that is installed."""
    for name in ("mlflow", "clearml", "comet_ml", "dvclive", "neptune", "ray", "wandb", "tensorboard"):
        # An entry of None makes every later import of the name fail as if it were not installed.
        sys.modules[name] = None  # type: ignore[assignment]


def _cost(folder: Path) -> Cost:
    """The arm's cost as the preflight measured it, on a machine that had nothing else to do."""
    return Cost.from_json(read_sealed(folder / "cost.json"))


def end_with_parent(leave: Callable[[int], Any] = os._exit) -> None:
    """End this process as soon as standard input closes, which happens when the executor dies, however it dies."""

    def watch() -> None:
        # The file descriptor itself: a buffered reader would hold a lock that interpreter exit waits for.
        while os.read(0, 1024):
            pass
        leave(EXIT_ORPHAN)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Run the cell whose folder is the only argument."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: python -m detgraft.study.run.cell FOLDER", file=sys.stderr)
        return 2
    if os.environ.get(WATCH):
        end_with_parent()
    without_trackers()
    return run_cell(Path(arguments[0]), on_lost=lambda: os._exit(EXIT_BUSY))


if __name__ == "__main__":
    raise SystemExit(main())
