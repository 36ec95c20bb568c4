"""Opening a checkpoint without running what is in it.

A checkpoint is a pickle, and a pickle can call any function. What detgraft opens is read with torch's restricted
loader, which makes tensors, plain data, and the layers of PyTorch, Ultralytics, detgraft and the loaded plug-ins only.
A file that needs more is refused by name; ``trust=True``, or ``DETGRAFT_TRUST_FILES=1`` for a whole process, lets it
run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import torch
from ultralytics.nn import tasks

from detgraft.base.sentences import sentence
from detgraft.base.values import is_on
from detgraft.errors import DetgraftError, Location, WeightsError
from detgraft.upstream.release.capabilities import HAS_SAFE_LOAD, ULTRALYTICS_VERSION
from detgraft.weights.archive import refuse_bomb

SWITCH = "DETGRAFT_TRUST_FILES"
"""Environment variable that lets every file run its code, as ``trust=True`` does for one call."""

_trusted: ContextVar[bool] = ContextVar("detgraft_trusted", default=False)
_restricted: ContextVar[bool] = ContextVar("detgraft_restricted", default=False)


@contextlib.contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Let the files that are opened inside run their code, where ``trust`` says so."""
    token = _trusted.set(trust or _trusted.get())
    try:
        yield
    finally:
        _trusted.reset(token)


@contextlib.contextmanager
def trusting_workers(trust: bool) -> Iterator[None]:
    """Let the processes that are started inside trust files, where ``trust`` says so.

    A training on several GPUs opens its files in processes of its own, which inherit the environment and no more.
    """
    if not trust:
        yield
        return
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


@contextlib.contextmanager
def restricted() -> Iterator[None]:
    """Open checkpoints inside without running their code, unless the caller trusts them."""
    trust = _trusted.get() or is_on(os.environ.get(SWITCH))
    token = _restricted.set(not trust)
    try:
        yield
    finally:
        _restricted.reset(token)


def is_restricted() -> bool:
    """Say whether detgraft is opening a file that may not run code."""
    return _restricted.get()


def load_arguments(weight: object) -> dict[str, bool]:
    """Return what the release's loader is called with, after a look at the file's size.

    Args:
        weight: The checkpoint.

    Raises:
        WeightsError: A file that would fill the memory.
    """
    if not is_restricted():
        return {}
    if isinstance(weight, (str, Path)):
        refuse_bomb(weight)
    if HAS_SAFE_LOAD:
        return {"safe_only": True}
    tasks.LOGGER.warning(
        f"{weight}: torch {torch.__version__} with ultralytics {ULTRALYTICS_VERSION} cannot open a checkpoint without "
        "running the code in it"
    )
    return {}


def opening_error(weight: object, error: Exception) -> DetgraftError:
    """Put into one sentence why a checkpoint was not opened.

    Args:
        weight: The checkpoint.
        error: What the loader raised.
    """
    where = Location(str(weight))
    needed = _unknown(weight)
    if needed:
        names = ", ".join(needed[:3]) + (f" and {len(needed) - 3} more" if len(needed) > 3 else "")
        return WeightsError(
            f"opening it would run code: it needs {names}, which is no layer of PyTorch, Ultralytics, detgraft or a "
            f"loaded plug-in. If you know where the file comes from, give trust=True or set {SWITCH}=1",
            where,
        )
    return WeightsError(opening_text(weight, error), where)


def opening_text(weight: object, error: Exception) -> str:
    """Say in one sentence why a file is no checkpoint: by its first bytes, else with the loader's words.

    Args:
        weight: The file.
        error: What the loader raised.
    """
    return f"cannot be opened as a checkpoint of Ultralytics: {_reason(weight, error):.300}"


def _reason(weight: object, error: Exception) -> str:
    start = b""
    with contextlib.suppress(OSError), Path(str(weight)).open("rb") as file:
        start = file.read(512)
    if not start:
        return "the file is empty; copy or download it again"
    if start.lstrip()[:1] == b"<":
        return "it is a web page; download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; fetch the file with `git lfs pull`"
    if not start.startswith((b"PK", b"\x80")):
        return "it is another kind of file"
    text = sentence(error)
    if start.startswith(b"PK") and "central directory" in text:
        return "the file is truncated; copy or download it again"
    return text


def _unknown(weight: object) -> list[str]:
    """The functions and classes that a checkpoint refers to and that restricted loading does not make."""
    needed = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if needed is None or not isinstance(weight, (str, Path)) or not Path(weight).is_file():
        return []
    try:
        return sorted(map(str, needed(str(weight))))  # the loader has registered what it knows before it failed
    except Exception:  # no readable checkpoint: whatever the loader has said about it holds
        return []
