"""Works through the cells of a study, on this machine or wherever a pool puts them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from detgraft.base.files import read_json, write_json
from detgraft.base.processors import available_cpus
from detgraft.errors import Location
from detgraft.study.design.config import config_of
from detgraft.study.design.errors import DamagedError, StudyBusyError, StudyError
from detgraft.study.design.seal import read_sealed, seal
from detgraft.study.judge.analysis import progress
from detgraft.study.judge.evidence import State
from detgraft.study.run.checkpoints import Checkpoints
from detgraft.study.run.failures import EXIT_BUSY, EXIT_UNRECORDED, explain
from detgraft.study.run.launch import CELL, Slot, kill, start, stop
from detgraft.study.run.lock import advice, wait_until_free
from detgraft.study.run.remembered import remember
from detgraft.study.run.stall import StallWatch
from detgraft.study.run.store import Cell, StudyFolder, now

POLL = 0.2  # seconds
DEATHS = 3  # times that a run may die without finishing another epoch before it counts as failed
_REMEMBER = 60.0
"""Seconds between two writings of which results were verified, so that `status` need not verify them again."""
_DYING = 15.0  # seconds that a child whose parent was killed may take to end


@dataclass(frozen=True)
class Event:
    """Something to tell the person who waits.

    Args:
        kind: ``started``, ``resumed``, ``epoch``, ``done``, ``failed``, ``damaged``, ``stalled`` or ``died``.
        cell: Which run.
        message: The error of a failed run, otherwise what is worth knowing; may be empty.
        finished: Number of cells with a result.
        total: Number of cells.
        epoch: Finished epochs of this run.
        epochs: Its planned epochs.
        seconds_left: Estimate for the whole study; None until an epoch has finished.
    """

    kind: str
    cell: Cell
    message: str
    finished: int
    total: int
    epoch: int
    epochs: int
    seconds_left: float | None


Listener = Callable[[Event], None]


class Pool(Protocol):
    """Where runs are executed."""

    @property
    def capacity(self) -> int:
        """How many runs fit at once."""

    def begin(self, cell: Cell) -> None:
        """Start a run."""

    def ended(self) -> list[tuple[Cell, int]]:
        """Runs that ended since the last call, with their exit status; negative for a signal."""

    def end(self, cell: Cell) -> None:
        """End a run by force; :meth:`ended` tells of it like of any other."""

    def close(self) -> None:
        """End everything that still runs."""


class LocalPool:
    """Child processes of this process.

    Args:
        slots: One for each run that fits.
        command: What to start for a cell, its folder is added.
    """

    def __init__(self, slots: Sequence[Slot], command: Sequence[str] = CELL) -> None:
        self._free = deque(slots)
        self._command = command
        self._running: list[tuple[Cell, Slot, subprocess.Popen[bytes]]] = []
        self._capacity = len(slots)

    @property
    def capacity(self) -> int:
        """Number of slots."""
        return self._capacity

    def begin(self, cell: Cell) -> None:
        """Start a run in a free slot."""
        slot = self._free.popleft()
        self._running.append((cell, slot, start(self._command, cell.folder, slot)))

    def ended(self) -> list[tuple[Cell, int]]:
        """See :class:`Pool`."""
        over = [entry for entry in self._running if entry[2].poll() is not None]
        self._running = [entry for entry in self._running if entry not in over]
        self._free.extend(slot for _, slot, _ in over)
        stop([process for *_, process in over])  # closes their pipes
        return [(cell, int(process.returncode)) for cell, _, process in over]

    def end(self, cell: Cell) -> None:
        """See :class:`Pool`."""
        for running, _, process in self._running:
            if running == cell:
                kill(process)

    def close(self) -> None:
        """See :class:`Pool`."""
        stop([process for *_, process in self._running])
        self._running = []


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as entries for CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


def local_slots(workers: int | None, device: Sequence[str] = ()) -> list[Slot]:
    """Slots of this machine.

    Args:
        workers: Runs at once; as many as GPUs by default, one without a GPU.
        device: ``("cpu",)``, or the numbers of the GPUs to use; all by default.

    Raises:
        StudyError: A GPU that is not there.
    """
    if tuple(device) == ("cpu",):
        count = workers or 1
        return [Slot("", max(available_cpus() // count, 1))] * count
    gpus = visible_gpus()
    for number in device:
        if int(number) >= len(gpus):
            there = f"0 to {len(gpus) - 1}" if gpus else "none"
            raise StudyError(f"device: there is no GPU {number} on this machine; there are: {there}.")
    gpus = [gpus[int(number)] for number in device] or gpus
    count = workers or max(len(gpus), 1)
    threads = max(available_cpus() // count, 1)
    return [Slot(gpus[i % len(gpus)] if gpus else None, threads) for i in range(count)]


class Engine:
    """Runs what is left of a study.

    Args:
        folder: The study's folder, opened and locked.
        pool: Where runs are executed.
        listen: Called with everything worth telling.
        on_done: Called with each cell whose result has just been written.
    """

    def __init__(
        self, folder: StudyFolder, pool: Pool, listen: Listener, on_done: Callable[[Cell], None] = lambda cell: None
    ) -> None:
        self.folder, self.pool, self.listen, self.on_done = folder, pool, listen, on_done
        self.cells = list(folder.cells())
        self._place = {seed: place for place, seed in enumerate(folder.spec.seeds)}
        self.epochs = int(folder.spec.train["epochs"])
        self._watcher = StallWatch(folder.spec.stall)
        self._hung: dict[Cell, float] = {}
        self._deaths: dict[Cell, tuple[int, int]] = {}
        self._progress: dict[Cell, int] = {}
        self._begin = time.monotonic()
        self._trained = 0
        # Kept from event to event: asking every cell anew would make each event of a large study cost a scan of it.
        self._left: dict[Cell, int] = {}
        self._finished: set[Cell] = set()
        self._epochs_left = 0

    def run(self, retry: bool = False, restart: bool = False) -> None:
        """Work until every cell is done or failed.

        Args:
            retry: Also take up cells that failed before or are damaged, the latter from scratch.
            restart: Start broken-off cells from scratch instead of resuming them.

        Raises:
            StudyBusyError: Another living process works on one of the cells, or has taken the study over.
        """
        waiting = self._todo(retry, restart)
        todo = set(waiting)
        for cell in self.cells:
            if cell not in todo:
                curve = read_json(cell.folder / "curve.json")
                rows = curve if isinstance(curve, list) else []
                self._watcher.learn(cell.arm.name, [row for row in rows if isinstance(row, dict)])
        queue = deque(self._due(waiting))
        running: set[Cell] = set()
        remembered = time.monotonic()
        try:
            while queue or running:
                while queue and len(running) < self.pool.capacity:
                    cell = queue.popleft()
                    if self._start(cell):
                        running.add(cell)
                ended = self.pool.ended()
                for cell, status in ended:
                    running.discard(cell)
                    if self._settle(cell, status):
                        queue.appendleft(cell)
                if not queue and (ended or not running):
                    queue.extend(self._due(waiting))
                self._watch(running)
                self._check_lease()
                if ended and time.monotonic() - remembered > _REMEMBER:
                    remember(self.folder)
                    remembered = time.monotonic()
                time.sleep(POLL)
        finally:
            self.pool.close()
            remember(self.folder)

    def _due(self, waiting: list[Cell]) -> list[Cell]:
        """Take the cells out of ``waiting`` that are to run now: all, or those up to the next look of their arm."""
        due = progress(self.folder)
        chosen = [cell for cell in waiting if due is None or due.needs(cell.arm.name, self._place[cell.seed])]
        taken = set(chosen)
        waiting[:] = [cell for cell in waiting if cell not in taken]
        return chosen

    def _check_lease(self) -> None:
        lease = self.folder.lease
        if lease is not None and lease.lost.is_set():
            raise StudyBusyError(
                "this process was silent for too long, and another one runs this study now; its runs were ended here.",
                Location(str(self.folder.path)),
            )

    def _todo(self, retry: bool, restart: bool) -> list[Cell]:
        chosen = []
        for cell in self.cells:
            if cell.state() is State.RUNNING:
                # Most likely the orphan of a killed study, which ends by itself within moments.
                holder = wait_until_free(cell.folder / "cell.lock", _DYING)
                if holder is not None:
                    raise StudyBusyError(f"{cell.label} is being trained by {holder}; {advice(holder)}")
            state = cell.state()
            self._note(cell, state)
            if state is State.DAMAGED and not retry:
                self._tell("damaged", cell, f"{cell.damage()} It is not judged; retry trains it again.")
                continue
            if state is State.DONE or (state is State.FAILED and not retry):
                continue
            if state is State.DAMAGED or (restart and state in (State.BROKEN_OFF, State.FAILED)):
                cell.clear()
                self._forget(cell)
                cell = self._moved(cell)
                self._note(cell, State.PENDING)
            chosen.append(cell)
        return chosen

    def _note(self, cell: Cell, state: State) -> None:
        """Keep a cell's state for what is told with every event."""
        self._forget(cell)
        if state is State.DONE:
            self._finished.add(cell)
        elif state in (State.PENDING, State.RUNNING, State.BROKEN_OFF):
            self._left[cell] = max(self.epochs - int(cell.progress().get("epoch", 0)), 0)
            self._epochs_left += self._left[cell]

    def _forget(self, cell: Cell) -> None:
        self._finished.discard(cell)
        self._epochs_left -= self._left.pop(cell, 0)

    def _moved(self, cleared: Cell) -> Cell:
        """The cell where it lies now that its old folder is gone, which may have been one of an earlier version."""
        self.cells = list(self.folder.cells())
        return next(cell for cell in self.cells if (cell.arm, cell.seed) == (cleared.arm, cleared.seed))

    def _start(self, cell: Cell) -> bool:
        """Write down what the run is to do and start it; False when even that is impossible."""
        try:
            cell.folder.mkdir(parents=True, exist_ok=True)
            (cell.folder / "error.json").unlink(missing_ok=True)
            preflight = read_sealed(self.folder.arm_file(cell.arm))
            found = {**preflight, "inputs": self.folder.announced()}
            config = config_of(self.folder.spec, cell.arm, cell.seed, found)
            write_json(cell.folder / "cell.json", config.to_json())
            write_json(cell.folder / "cost.json", seal(preflight["cost"]))
            self._progress[cell] = int(cell.progress().get("epoch", 0))
            book = Checkpoints(cell.folder / "checkpoints", config.digest())
            resumes = book.newest() is not None
            if book.rejected:
                self._tell("damaged", cell, f"{' '.join(book.rejected)} {_instead(book)}")
            self._watcher.begin(cell)
            self.pool.begin(cell)
        except (OSError, DamagedError) as error:
            self._forget(cell)
            self._tell("failed", cell, explain(error, self.folder.path))
            return False
        self._note(cell, State.RUNNING)
        self._tell("resumed" if resumes else "started", cell)
        return True

    def _settle(self, cell: Cell, status: int) -> bool:
        """Decide what the end of a run means; True puts it back at the head of the queue."""
        self._count_epochs(cell)
        self._watcher.end(cell)
        hung = self._hung.pop(cell, None)
        state = cell.state()
        self._note(cell, state)
        if state is State.DONE:
            self._tell("done", cell)
            self.on_done(cell)
        elif state is State.FAILED:
            self._tell("failed", cell, cell.error())
        elif state is State.DAMAGED:
            self._tell("damaged", cell, f"{cell.damage()} It is not judged; retry trains it again.")
        elif status == EXIT_UNRECORDED:
            self._tell("failed", cell, "The disk is full, so that not even the error could be written: make room.")
        elif status == EXIT_BUSY:
            holder = wait_until_free(cell.folder / "cell.lock", _DYING)
            if holder is None:
                return True
            self._tell("failed", cell, f"It is being trained by {holder}, which does not belong to this study's run.")
        else:
            return self._died(cell, status, hung)
        return False

    def _died(self, cell: Cell, status: int, hung: float | None) -> bool:
        """A run ended without a word: try again, unless it keeps dying at the same place."""
        epoch = int(cell.progress().get("epoch", 0))
        deaths, last = self._deaths.get(cell, (0, -1))
        deaths = deaths + 1 if epoch == last else 1
        self._deaths[cell] = (deaths, epoch)
        how = f"ended by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
        if hung is not None:
            how = f"hung (nothing for {duration(hung)}) and was ended"
        if deaths < DEATHS:
            self._tell("died", cell, f"{how}; it is taken up again from its last complete epoch")
            return True
        hint = " The machine may have run out of memory." if status == -9 and hung is None else ""
        message = (
            f"The run {how} {deaths} times without finishing another epoch.{hint}"
            f" The end of its output is in {cell.folder / 'log.txt'}."
        )
        content = {"message": message, "type": "Died", "traceback": "", "time": now()}
        with contextlib.suppress(OSError):
            write_json(cell.folder / "error.json", content)
        self._forget(cell)
        self._tell("failed", cell, message)
        return False

    def _watch(self, running: set[Cell]) -> None:
        for cell in running:
            if self._count_epochs(cell):
                self._watcher.epoch(cell, cell.arm.name)
                self._tell("epoch", cell)
            if cell.progress().get("measuring"):
                self._watcher.measure(cell)
            silent = self._watcher.stalled(cell, cell.arm.name)
            if silent is not None and cell not in self._hung:
                self._hung[cell] = silent
                limit = duration(self._watcher.limit(cell, cell.arm.name))
                self._tell(
                    "stalled",
                    cell,
                    f"nothing for {duration(silent)}, and {limit} is the limit (stall: in the study file); it is ended",
                )
                self.pool.end(cell)

    def _count_epochs(self, cell: Cell) -> bool:
        epoch, before = int(cell.progress().get("epoch", 0)), self._progress.get(cell, 0)
        self._progress[cell] = epoch
        self._trained += max(epoch - before, 0)
        if cell in self._left:
            self._epochs_left -= self._left[cell]
            self._left[cell] = max(self.epochs - epoch, 0)
            self._epochs_left += self._left[cell]
        return epoch > before

    def _tell(self, kind: str, cell: Cell, message: str = "") -> None:
        self.listen(
            Event(
                kind=kind,
                cell=cell,
                message=message,
                finished=len(self._finished),
                total=len(self.cells),
                epoch=self._progress.get(cell, 0),
                epochs=self.epochs,
                seconds_left=self._seconds_left(),
            )
        )

    def _seconds_left(self) -> float | None:
        """Epochs still to train, at the pace of this sitting so far."""
        if not self._trained:
            return None
        return self._epochs_left * (time.monotonic() - self._begin) / self._trained


def _instead(book: Checkpoints) -> str:
    state = book.newest()
    return "It starts from scratch." if state is None else f"It goes on after epoch {state.epoch + 1} instead."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe(event: Event) -> str:
    """One line for a terminal or a log."""
    left = "" if event.seconds_left is None else f", about {duration(event.seconds_left)} left"
    head = f"[{event.finished}/{event.total}] {event.cell.label}: "
    if event.kind == "epoch":
        return f"{head}epoch {event.epoch}/{event.epochs}{left}"
    text = {"started": "starts", "resumed": f"goes on after epoch {event.epoch}", "done": "done", "failed": "failed"}
    body = text.get(event.kind, event.kind)
    return f"{head}{body}{': ' + event.message if event.message else ''}{left if event.kind == 'done' else ''}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``40 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
