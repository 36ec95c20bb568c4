"""A lock file that says which process holds it and that a dead process cannot hold.

The holder is known by host, process number and start time, so that a process number that the system gave away again is
not mistaken for it. Its own thread touches the file while it lives; that is what counts on another machine, where
processes cannot be asked for.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import filelock
import psutil

from detgraft.base.files import read_json, write_json

BEAT = 10.0  # seconds between two touches
SILENT = 120.0  # seconds without a touch after which a holder on another machine counts as dead


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: host name, process number, and its start time in seconds since 1970."""

    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Holder:
    """The running process as a holder."""
    return Holder(socket.gethostname(), os.getpid(), psutil.Process().create_time())


def holder_of(path: Path) -> Holder | None:
    """The living process that holds the lock file, or None."""
    raw = read_json(path)
    if not isinstance(raw, dict):
        return None
    try:
        holder = Holder(str(raw["host"]), int(raw["pid"]), float(raw["started"]))
    except (KeyError, TypeError, ValueError):
        return None
    if holder.host != socket.gethostname():
        return holder if _age(path) < SILENT else None
    try:
        process = psutil.Process(holder.pid)
        alive = process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - holder.started) < 2
    except psutil.NoSuchProcess:
        alive = False
    return holder if alive else None


def _age(path: Path) -> float:
    """Seconds since the file was touched, by the clock of the machine that keeps the files."""
    probe = path.with_name(f".{path.name}.{os.getpid()}.clock")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


class Lock:
    """Holds ``path`` for the running process; usable in a ``with`` statement.

    Args:
        path: The lock file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> Holder | None:
        """Take the lock.

        Returns:
            None on success, otherwise the living process that holds it.
        """
        # The guard is an operating-system lock, released by the system whatever happens: it keeps two processes from
        # both finding the same dead holder and both taking over.
        with filelock.FileLock(str(self.path) + ".guard"):
            holder = holder_of(self.path)
            if holder is not None:
                return holder
            write_json(self.path, asdict(this_process()))
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return None

    def release(self) -> None:
        """Give the lock back."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def __enter__(self) -> Lock:
        holder = self.acquire()
        if holder is not None:
            raise BlockingIOError(f"{self.path} is held by {holder}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def wait_until_free(path: Path, seconds: float) -> Holder | None:
    """Wait for a dying holder to let go; return whoever still holds the lock afterwards."""
    end = time.monotonic() + seconds
    while (holder := holder_of(path)) is not None and time.monotonic() < end:
        time.sleep(0.1)
    return holder
