"""A lock file that says which process holds it, that a dead process cannot hold, and that a late one cannot abuse.

A holder on this machine is known by the machine's boot, the process namespace, the process number and its start in
clock ticks since the boot: neither a number that the system gave away again nor a step of the clock is mistaken. A
holder elsewhere (another machine, another container on the same disk) cannot be asked for; its own thread touches the
file while it lives, and a file that was not touched for long counts as given up.

Such a holder may only have slept. So each lock has a token, and what only its holder may write is written under
:meth:`Lock.permit`, which a holder whose token is no longer in the file does not pass.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from detgraft.base.files import read_json, write_json
from detgraft.errors import Location
from detgraft.study.design.errors import StudyBusyError, StudyError

BEAT = 10.0  # seconds between two touches
SILENT = 120.0  # seconds without a touch after which a holder that cannot be asked for counts as dead
PATIENCE = 30.0  # seconds to wait for another process that is just taking or giving back the same lock
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class LostLockError(StudyBusyError):
    """The lock was given up for dead and taken over by another process; nothing more may be written."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        host: Host name.
        pid: Process number.
        started: Start time in seconds since 1970.
        boot: What tells this boot of the machine from any other; empty where the system does not say.
        space: Process namespace; empty where there are none.
        ticks: Start of the process in clock ticks since the boot; None where the system does not say.
        token: Different for every time that a lock is taken.
    """

    host: str
    pid: int
    started: float
    boot: str = ""
    space: str = ""
    ticks: int | None = None
    token: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def can_be_asked_for(self) -> bool:
        """Whether its process number means the same here."""
        return (self.host, self.boot, self.space) == (socket.gethostname(), _boot(), _space())


def this_process() -> Holder:
    """The running process as a holder, with a token of its own."""
    pid = os.getpid()
    started = psutil.Process().create_time()
    return Holder(socket.gethostname(), pid, started, _boot(), _space(), _ticks(pid), uuid.uuid4().hex)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _ticks(pid: int) -> int | None:
    """Field 22 of ``/proc/PID/stat``; the command before it may hold blanks and brackets."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _read(path: Path) -> Holder | None:
    raw = read_json(path)
    if not isinstance(raw, dict):
        return None
    try:
        ticks = raw.get("ticks")
        return Holder(
            str(raw["host"]),
            int(raw["pid"]),
            float(raw["started"]),
            str(raw.get("boot", "")),
            str(raw.get("space", "")),
            None if ticks is None else int(ticks),
            str(raw.get("token", "")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def holder_of(path: Path) -> Holder | None:
    """The living process that holds the lock file, or None."""
    holder = _read(path)
    return holder if holder is not None and _lives(holder, path) else None


def _lives(holder: Holder, path: Path) -> bool:
    if not holder.can_be_asked_for:
        return _age(path) < SILENT
    try:
        process = psutil.Process(holder.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if holder.ticks is not None:
            return _ticks(holder.pid) == holder.ticks
        # Without ticks a step of the clock moves the start time; a living holder is then known by its touches.
        return abs(process.create_time() - holder.started) < 2 or _age(path) < SILENT
    except psutil.NoSuchProcess:
        return False


def _age(path: Path) -> float:
    """Seconds since the file was touched, by the clock of the machine that keeps the files."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}.clock")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


@contextlib.contextmanager
def guard(path: Path, seconds: float | None = None) -> Iterator[None]:
    """Be the only process that looks at and changes a lock file; the system ends this with the process.

    It keeps two processes from both finding the same dead holder and both taking over.

    Args:
        path: The lock file; its folder must exist.
        seconds: How long to wait for another process.

    Raises:
        StudyError: The file system keeps no locks, or the file cannot be written.
        StudyBusyError: Another process did not let go in time.
    """
    file = path.with_name(f"{path.name}.guard")
    patience = PATIENCE if seconds is None else seconds
    end = time.monotonic() + patience
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StudyError(f"cannot be locked: {error.strerror or error}.", Location(str(path))) from error
    try:
        while not _try_lock(handle, path):
            if time.monotonic() >= end:
                raise StudyBusyError(
                    f"another process has held this lock's guard for more than {patience:.0f} s, which takes a moment"
                    " when all is well; see which process hangs on this disk and end it.",
                    Location(str(file)),
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int, path: Path) -> bool:
    """Ask the system for the lock of an open file once."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK, errno.EINTR):
            return False
        why = "this file system keeps no locks" if error.errno in _NO_LOCKS else "the file system refused a lock"
        raise StudyError(
            f"{why} ({error.strerror or error}), so that two processes could train the same run: put the study's out:"
            " on another disk, or mount this one with locks.",
            Location(str(path)),
        ) from error
    return True


class Lock:
    """Holds ``path`` for the running process; usable in a ``with`` statement.

    Args:
        path: The lock file; its folder must exist.
        on_lost: Called once, from another thread, when another process has taken the lock over.
    """

    def __init__(self, path: Path, on_lost: Callable[[], Any] | None = None) -> None:
        self.path = path
        self.lost = threading.Event()
        self._on_lost = on_lost
        self._token = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> Holder | None:
        """Take the lock.

        Returns:
            None on success, otherwise the living process that holds it.

        Raises:
            StudyError: See :func:`guard`.
        """
        with guard(self.path):
            holder = holder_of(self.path)
            if holder is not None:
                return holder
            own = this_process()
            self._token = own.token
            write_json(self.path, asdict(own))
        self._stop.clear()
        self.lost.clear()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return None

    def release(self) -> None:
        """Give the lock back; a lock that another process has taken over is left to it."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        with contextlib.suppress(StudyError, OSError), guard(self.path):
            if self._is_own():
                self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def permit(self) -> Iterator[None]:
        """Write what only the holder may write: nobody can take the lock over meanwhile.

        Raises:
            LostLockError: Another process has taken it over.
            StudyError: See :func:`guard`.
        """
        with guard(self.path):
            if not self._is_own():
                self.lost.set()
                raise LostLockError(
                    f"this process was silent for more than {SILENT:.0f} s and its lock now belongs to"
                    f" {_read(self.path) or 'nobody'}; nothing more is written by it.",
                    Location(str(self.path)),
                )
            yield

    def _is_own(self) -> bool:
        holder = _read(self.path)
        return holder is not None and holder.token == self._token

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                self.path.stat()
            except FileNotFoundError:
                pass
            except OSError:
                continue  # a disk that is away for a moment says nothing about the lock
            if self._is_own():
                with contextlib.suppress(OSError):
                    os.utime(self.path)
                continue
            self.lost.set()
            if self._on_lost is not None:
                self._on_lost()
            return

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


def advice(holder: Holder) -> str:
    """What to do about a lock that somebody holds."""
    if holder.can_be_asked_for:
        return "wait for it or stop it first."
    return (
        f"wait for it or stop it first. It runs on another machine or in another container; if it is dead, its lock"
        f" runs out {SILENT:.0f} s after its last sign of life."
    )
