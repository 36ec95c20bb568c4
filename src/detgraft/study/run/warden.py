"""Ends what a killed study would leave behind: ``python -m detgraft.study.run.warden FOLDER``.

A Ray that was started for one study lives in processes of its own, which a study that is killed with SIGKILL cannot
end. All of them name Ray's temporary folder on their command line, and no other process does. The warden waits until
its standard input closes, which happens when the study ends in whatever way, then ends these processes and their
children, and removes the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

SECONDS = 30.0  # how long to look for processes that are still being started


def post(folder: Path) -> subprocess.Popen[bytes]:
    """Start the warden of a folder; closing its standard input, or dying, makes it clear the folder.

    Args:
        folder: A folder that was made for this purpose alone.
    """
    command = [sys.executable, "-m", "detgraft.study.run.warden", str(folder)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)


def dismiss(warden: subprocess.Popen[bytes], seconds: float = SECONDS + 10) -> None:
    """Let the warden clear its folder now, and wait for it."""
    if warden.stdin is not None:
        warden.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        warden.wait(seconds)


def inhabitants(folder: Path) -> list[psutil.Process]:
    """Processes that name a folder, or something in it, on their command line, and their children."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(_names(word, str(folder)) for word in process.cmdline()):
                for each in (process, *process.children(recursive=True)):
                    found[each.pid] = each
    found.pop(os.getpid(), None)
    return list(found.values())


def _names(word: str, folder: str) -> bool:
    at = word.find(folder)
    return at >= 0 and word[at - 1 : at] in ("", "=", ":", ",", '"') and word[at + len(folder) :][:1] in ("", "/", '"')


def clear(folder: Path, seconds: float = SECONDS) -> None:
    """End the processes of a folder and remove it.

    Args:
        folder: The folder.
        seconds: How long at most.
    """
    end = time.monotonic() + seconds
    while (processes := inhabitants(folder)) and time.monotonic() < end:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, 1.0)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Wait for the end of standard input, then clear the folder that is the only argument."""
    while os.read(0, 1024):
        pass
    clear(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
