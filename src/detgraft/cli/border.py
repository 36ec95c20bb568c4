"""Where a person's words come in and a sentence goes out: whatever a command comes upon ends in one line and a status.

Exit status: 1 the answer is no, 2 wrong input or a command that could not be carried out, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from detgraft.base.extras import OPTIONAL, missing
from detgraft.base.sentences import sentence
from detgraft.base.values import is_on
from detgraft.errors import ArgumentError, DetgraftError, nearest
from detgraft.plan.typed import PLAIN

TRACE = "DETGRAFT_TRACE"
"""Environment variable that shows the trace behind a sentence."""

MODES = ("train", "val", "predict", "track", "export", "benchmark")
TASKS = ("detect", "segment", "classify", "pose", "obb")
_NO_MODEL = (".html", ".htm", ".svg", ".drawio", ".xml", ".csv", ".tsv", ".tex", ".latex", ".pdf", ".png", ".txt")
"""Endings of files that are no model."""

_ELSEWHERE = {"checks": "env", "validate": "val", "detect": "predict", "test": "val", "info": "show", "graph": "show"}


class Stopped(KeyboardInterrupt):
    """Ctrl-C in a command that can say how to go on."""


class Border(TyperGroup):
    """The group of all commands; an exception of a command ends here."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; end the process with a sentence and a status when it raises."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, Exception) as error:
            if is_exit(error):
                raise
            raise SystemExit(give_answer(error)) from None


def is_exit(error: BaseException) -> bool:
    """Say whether an exception is how a command ends on purpose."""
    return isinstance(error, typer.Exit)


def give_answer(error: BaseException) -> int:
    """Print the sentence about an exception, with its trace where that is asked for; return the exit status."""
    text, status = answer(error)
    try:
        if is_on(os.environ.get(TRACE)):
            traceback.print_exception(error, file=sys.stderr)
        typer.echo(f"detgraft: {text}", err=True)
    except OSError:  # the standard error is closed as well
        pass
    if isinstance(error, BrokenPipeError):  # so that Python does not complain at its end
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return status


def answer(error: BaseException) -> tuple[str, int]:
    """Return what to say about an exception, and the exit status."""
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, DetgraftError):
        cause = cause.__cause__
    if isinstance(cause, DetgraftError):  # Ultralytics wraps what it comes upon
        return str(cause), 2
    if isinstance(error, Stopped):
        return str(error), 130
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return "stopped. What was saved is kept", 130
    if hasattr(error, "format_message"):
        return _usage(error), 2
    if isinstance(error, BrokenPipeError):
        return "whoever read the output has closed it; the rest was not printed", 2
    if _is_memory(error):
        return f"the memory does not suffice ({sentence(error):.160}); write a smaller batch= or imgsz=", 2
    if isinstance(error, OSError) and not isinstance(error, ConnectionError) and error.errno is not None:
        return _system(error), 2
    if isinstance(error, ImportError):
        return _package(error), 2
    if _is_network(error):
        return f"{sentence(error):.250}; check the address or camera, or bring the file here and name it", 2
    if _is_upstream(error):
        return f"Ultralytics refuses this: {sentence(error)}. {TRACE}=1 shows where", 2
    return (
        f"{type(error).__name__}: {sentence(error)}. This is a fault and no wrong input that detgraft knows: {TRACE}=1 "
        "shows where it is, `detgraft env` prints what a report needs",
        2,
    )


def _usage(error: Any) -> str:
    text = str(error.format_message()).rstrip(".")
    parameter = getattr(error, "param", None)
    if parameter is not None and "Missing" in text:
        text = f"{getattr(parameter, 'metavar', None) or parameter.name} is missing"
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "detgraft") or "detgraft"
    return f"{text}. `{command} --help` shows what it takes"


def _is_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(word in text for word in ("out of memory", "insufficient memory", "can't allocate memory"))
        or getattr(error, "errno", None) == errno.ENOMEM
    )


def _is_network(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ConnectionError", "URLError", "HTTPError", "Timeout", "gaierror"}) or (
        "download failure" in str(error).lower()
    )


def _is_upstream(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any("ultralytics" in Path(frame.filename).parts for frame in frames)


def _system(error: OSError) -> str:
    where = str(error.filename or error.filename2 or "").strip()
    reason = error.strerror or str(error)
    advice = {
        errno.ENOSPC: "free some space, or write elsewhere with project= or out=",
        errno.EDQUOT: "free some space, or write elsewhere with project= or out=",
        errno.EACCES: "write elsewhere with project= or out=, or change the permissions",
        errno.EPERM: "write elsewhere with project= or out=, or change the permissions",
        errno.EROFS: "write elsewhere with project= or out=",
        errno.ENOENT: "check the name",
        errno.ENOTDIR: "a file stands where a folder is needed; give another project= or out=",
        errno.EISDIR: "give a file's name",
        errno.EMFILE: "too many open files; write workers=0",
        errno.ENAMETOOLONG: "give a shorter name",
    }.get(error.errno or 0, f"{TRACE}=1 shows where")
    return f"{where + ': ' if where else ''}{reason}; {advice}"


def _package(error: ImportError) -> str:
    module = (error.name or "").partition(".")[0]
    if module in OPTIONAL:
        return str(missing(module))
    if module and isinstance(error, ModuleNotFoundError):
        return f"this needs the package '{module}'. Install it with: pip install {module}"
    return f"a package cannot be imported: {sentence(error)}. {TRACE}=1 shows where"


def tidy(
    words: Sequence[str],
    options: Mapping[str, Sequence[str]],
    files: Mapping[str, Mapping[str, tuple[str, ...]]],
) -> list[str]:
    """Bring what people type into the form ``COMMAND key=value ...``.

    Args:
        words: The command line without the program's name.
        options: The options of every command.
        files: Options of a command that may be followed by a file's name, with the endings of such names.

    Returns:
        The words that the commands read.

    Raises:
        ArgumentError: Something that has to be written otherwise; says how.
    """
    found = list(words)
    if found[:1] == ["yolo"]:
        found = found[1:]
    if found[:1] in (["help"], ["version"]):
        return [*found[1:2], "--help"] if found[0] == "help" else ["--version"]
    if len(found) > 1 and found[0] in TASKS and found[1] in MODES:
        found = [found[1], f"task={found[0]}", *found[2:]]
    elif len(found) > 1 and found[0] in MODES and found[1] in TASKS:
        found = [found[0], f"task={found[1]}", *found[2:]]
    if found and "=" in found[0] and not found[0].startswith("-"):
        mode = next((word for word in found if word.startswith("mode=") and word[5:] in MODES), None)
        if mode is None:
            raise ArgumentError(f"a command comes first, such as `detgraft train {' '.join(found)}`")
        found = [mode[5:], *(word for word in found if word != mode)]
    if not found or found[0].startswith("-"):
        return found
    command, rest = found[0], found[1:]
    if command not in options:
        if command == "resume":
            last = next((word for word in rest if "=" not in word), "runs/detect/train/weights/last.pt")
            raise ArgumentError(
                f"a run goes on with `detgraft train resume={last}`, a study with `detgraft study run FOLDER`; there is"
                " no command 'resume'"
            )
        meant = _ELSEWHERE.get(command)
        hint = f" Did you mean '{meant}'?" if meant else nearest(command, options)
        raise ArgumentError(f"there is no command '{command}'.{hint} The commands are {', '.join(options)}")
    return [command, *_tidy_rest(command, _with_files(rest, files.get(command, {})), options[command])]


def _with_files(words: list[str], files: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Write ``--html FILE`` as ``html=FILE`` and a lone ``--html`` as ``html=True``."""
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        before = found[-1] if found else ""
        if name in files:
            found.append(f"{name[2:]}={value if equals and value else True}")
        elif before.endswith("=True") and word.lower().endswith(files.get(f"--{before[:-5]}", ("\0",))):
            found[-1] = f"{before[:-5]}={word}"
        elif before.endswith("=True") and f"--{before[:-5]}" in files and word.lower().endswith(_NO_MODEL):
            endings = " or ".join(files[f"--{before[:-5]}"])
            raise ArgumentError(f"--{before[:-5]} writes a file whose name ends with {endings}, found '{word}'")
        else:
            found.append(word)
    return found


def _tidy_rest(command: str, words: list[str], options: Sequence[str]) -> list[str]:
    found: list[str] = []
    skip = False
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else None
        if skip or word in options or word.partition("=")[0] in options:
            skip = not skip and word in ("--only",)
            found.append(word)
            continue
        if word.startswith("-") and len(word) > 1 and not word[1:2].isdigit():
            raise ArgumentError(_option(command, word, following, options))
        if word == "=" or (word.endswith("=") and following is not None and "=" not in following and word != "="):
            key, value = (found[-1] if word == "=" and found else word[:-1]), following or "VALUE"
            raise ArgumentError(f"write {key}={value}, without a space around '='")
        if following is not None and following.startswith("=") and "=" not in word:
            value = following[1:] or (words[number + 2] if number + 2 < len(words) else "VALUE")
            raise ArgumentError(f"write {word}={value}, without a space around '='")
        if word.endswith(",") and following is not None:
            raise ArgumentError(f"'{word}' ends with a comma; spaces part the arguments: write {word.rstrip(',')}")
        found.append(_equals(word))
    return found


def _equals(word: str) -> str:
    """Read an input method's equals sign behind a key as the plain one."""
    key, wide, value = word.partition("\uff1d")
    if not wide or "=" in key or not key.translate(PLAIN).isidentifier():
        return word
    typer.echo(f"detgraft: '{word}' is read as '{key.translate(PLAIN)}={value}'", err=True)
    return f"{key.translate(PLAIN)}={value}"


def _option(command: str, word: str, following: str | None, options: Sequence[str]) -> str:
    name, equals, value = word.partition("=")
    alike = nearest(name, options, 1, cutoff=0.75)
    if alike and not equals:
        return f"`detgraft {command}` has no option {name}.{alike}"
    key = name.lstrip("-").replace("-", "_") or "key"
    if not equals:
        value = following if following and "=" not in following and not following.startswith("-") else "VALUE"
    typed = word if equals or value == "VALUE" else f"{word} {value}"
    return f"arguments are key=value: write {key}={value} in place of {typed}"
