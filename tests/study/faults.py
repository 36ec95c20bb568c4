"""The table of faults that studies are tried with, as data: tests run it, docs/trust.md is generated from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, and what a person is then told.

    Args:
        group: ``damaged file``, ``changed input``, ``lock`` or ``kill``.
        what: What was done, in words.
        outcome: What becomes of it, in words.
        sentence: Regular expression that the sentence shown must match; empty where the outcome is seen in the files.
        key: What the test needs to do it again.
    """

    group: str
    what: str
    outcome: str
    sentence: str
    key: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join(self.key).replace("/", ".") or self.what


def _bit(data: bytes) -> bytes:
    """One bit flipped in the middle, where a JSON file has a letter or digit."""
    at = len(data) // 2
    while data[at : at + 1].isspace():
        at += 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty": ("zero bytes", lambda data: b""),
    "half": ("only its first half", lambda data: data[: len(data) // 2]),
    "bit": ("one bit flipped", _bit),
    "zeros": ("as long as before, but all zeros", lambda data: bytes(len(data))),
}
"""Name, words, and what becomes of the content; beside them ``absent`` and ``foreign``, another run's file."""


def damage(path: Path, kind: str, foreign: Path | None = None) -> None:
    """Damage a file in one of the ways of the table."""
    if kind == "absent":
        path.unlink()
    elif kind == "foreign":
        assert foreign is not None
        assert foreign.read_bytes() != path.read_bytes()
        path.write_bytes(foreign.read_bytes())
    else:
        before = path.read_bytes()
        path.write_bytes(DAMAGES[kind][1](before))
        assert path.read_bytes() != before


WORDS = {name: words for name, (words, _) in DAMAGES.items()} | {
    "absent": "deleted",
    "foreign": "another run's file in its place",
}

_NOT_JUDGED = "the run is shown as damaged with the reason, is not judged, and `retry` trains it again"
_JSON = {
    "empty": "is empty",
    "half": "is not JSON: it was cut off or overwritten",
    "bit": "does not agree with its own checksum|is not JSON|of another run|is no complete|expected",
    "zeros": "is empty",
}


def _run_files() -> list[Fault]:
    faults = []
    for kind in ("empty", "half", "bit", "zeros", "foreign"):
        own = {**_JSON, "foreign": "result of another run: yolo11n, seed 1"}[kind]
        faults.append(Fault("damaged file", "", _NOT_JUDGED, rf"^result\.json.*({own})", ("result.json", kind)))
    faults.append(
        Fault("damaged file", "", "the run counts as broken off and is trained again", "", ("result.json", "absent"))
    )
    for kind in ("empty", "half", "bit", "zeros", "absent", "foreign"):
        own = {**_JSON, "absent": "is absent", "foreign": "is of another run: arm was 'yolo11n', is 'carafe'"}[kind]
        faults.append(Fault("damaged file", "", _NOT_JUDGED, rf"^cell\.json.*({own})", ("cell.json", kind)))
    for name in ("curve.json", "detections_test.npz", "bootstrap_test.npy"):
        for kind in ("empty", "half", "bit", "zeros", "absent", "foreign"):
            own = {
                "empty": r"has 0 bytes instead of \d+",
                "half": r"has \d+ bytes instead of \d+",
                "absent": "is absent",
                "foreign": r"is not the file that was written with the result|bytes instead of",
            }.get(kind, "is not the file that was written with the result")
            faults.append(Fault("damaged file", "", _NOT_JUDGED, rf"^{name}.*({own})", (name, kind)))
    return faults


RUN_FILES = tuple(_run_files())
"""Files of a finished run."""

CLAIMS = tuple(
    Fault("damaged file", f"result.json, rewritten with a fitting checksum: {what}", _NOT_JUDGED, sentence, (key,))
    for key, what, sentence in (
        ("arm", "another arm", "result of another run: convnextv2_atto, seed 0"),
        ("seed", "another seed", "result of another run: carafe, seed 1"),
        ("config", "another configuration", "made with another configuration"),
        ("study", "another study", "belongs to another study"),
        ("epochs", "one epoch instead of four", "1 epochs instead of 4, which early stopping does not explain"),
        ("more epochs", "more epochs than asked for", "claims 9 epochs, the study asks for 4"),
        ("best_epoch", "a best epoch that never was", "names epoch 7 of 4 as the best"),
        ("high", "AP 9e9", r"AP on test is 9000000000\.0, expected 0 to 1"),
        ("negative", "AP -0.1", r"AP on test is -0\.1, expected 0 to 1"),
        ("nan", "AP NaN", r"AP on test is nan, expected 0 to 1"),
        ("class", "AP of a class above 1", r"AP of leaf on test is 1\.5, expected 0 to 1"),
        ("seconds", "a negative duration", "training took -3 seconds"),
        ("transferred", "more than everything transferred", r"the transferred share is 2\.0"),
        ("params", "a model without parameters", "the model has 0 parameters"),
        ("nothing", "no figures", "holds no figures"),
        ("format", "a format of the future", "expected a result of format 1 or 2, found 3"),
    )
)
"""Contents of result.json that a checksum does not show."""

STUDY_FILE = tuple(
    Fault(
        "damaged file",
        "",
        "the identity is made again from the runs' own cell.json; another study in the same folder is still refused",
        sentence,
        ("study.json", kind),
    )
    for kind, sentence in (
        ("empty", r"study\.json is empty"),
        ("half", r"study\.json is not JSON"),
        ("bit", r"study\.json (does not agree with its own checksum|is not JSON|expected format)"),
        ("zeros", r"study\.json is empty"),
        ("absent", r"study\.json is absent"),
    )
)


def title(fault: Fault) -> str:
    """What was done, for a table."""
    return fault.what or f"{fault.key[0]}: {WORDS[fault.key[1]]}"


LOCKS = (
    Fault("lock", "two containers with one host name on one disk", "the second one is refused", "", ("space", "held")),
    Fault("lock", "the same, the first one silent for minutes", "the second one takes over", "", ("space", "free")),
    Fault("lock", "another machine, working", "refused", "", ("host", "held")),
    Fault("lock", "another machine, silent for minutes", "taken over", "", ("host", "free")),
    Fault("lock", "another boot of a machine of this name, working", "refused", "", ("boot", "held")),
    Fault("lock", "the boot before this one, silent for minutes", "taken over", "", ("boot", "free")),
    Fault("lock", "the clock set forward by an hour under a living holder", "refused", "", ("clock", "held")),
    Fault("lock", "the holder's process number given to another process", "taken over", "", ("ticks", "free")),
    Fault("lock", "the holder dead", "taken over", "", ("pid", "free")),
    Fault("lock", "the holder's file cut off", "taken over; the holder writes nothing more", "", ("half", "free")),
    Fault(
        "lock",
        "a holder that slept, was taken over, and wakes up",
        "its states, its result and its error are not written; it ends, and the new holder's lock stays",
        "was silent for more than 120 s and its lock now belongs to process",
        ("late",),
    ),
    Fault(
        "lock",
        "a process that hangs while it takes the lock",
        "the next one waits half a minute, then says which file it waits for",
        "another process has held this lock's guard for more than",
        ("guard",),
    ),
    Fault(
        "lock",
        "a file system without locks (ENOLCK)",
        "refused in one sentence, before anything is trained",
        "this file system keeps no locks .* put the study's out: on another disk",
        ("enolck",),
    ),
    Fault("lock", "a folder that cannot be written", "refused in one sentence", "cannot be locked: ", ("readonly",)),
)
"""Situations of two processes that want the same run."""

STATES = tuple(
    Fault(
        "damaged file",
        f"checkpoints/epoch_N/{name}: {WORDS[kind]}",
        "the run goes on from the state before and says so",
        sentence,
        (name, kind),
    )
    for name, kinds in (
        ("state.json", {**_JSON, "absent": "is absent", "foreign": "belongs to a run with another configuration"}),
        *(
            (name, dict.fromkeys((*DAMAGES, "foreign"), "is not the file that was published") | {"absent": "is absent"})
            for name in ("last.pt", "best.pt")
        ),
    )
    for kind, sentence in kinds.items()
)
"""Files of a broken-off run."""

_REFUSED = "refused before anything more is trained, with the names of the files; the finished runs stay"
CHANGES = tuple(
    Fault("changed input", what, _REFUSED, sentence, (key,))
    for key, what, sentence in (
        ("label", "a training label edited, its size kept", r"train: 1 changed: p0\.jpg \(label\)"),
        ("label times", "the same, with the time of the file set back", r"train: 1 changed: p0\.jpg \(label\)"),
        ("label gone", "a training label deleted", r"train: 1 removed: p1\.jpg \(label\)"),
        ("label new", "a label written for a background picture", r"train: 1 added: p7\.jpg \(label\)"),
        ("picture", "a training picture replaced under its name", r"train: 1 changed: p2\.jpg"),
        ("picture new", "a training picture added", r"train: 1 added: p8\.jpg"),
        ("picture gone", "a training picture removed", r"train: 1 removed: p7\.jpg"),
        ("renamed", "a training picture and its label renamed", r"train: 2 added: q\.jpg, .*; 2 removed: p3\.jpg"),
        ("many", "all training labels edited", r"train: 7 changed: p0\.jpg .* and 2 more"),
        ("val", "a validation label edited", r"val: 1 changed: v0\.jpg \(label\)"),
        ("test", "a test picture replaced", r"test: 1 changed: t0\.jpg"),
        ("no test", "the test split deleted", r"test: (its pictures are gone|\d+ removed)"),
        ("data", "the data YAML edited", r"data\.yaml: (the content of this file|its content) is another one"),
        ("plugin", "a plug-in edited", r"plug\.py: (the content of this file|its content) is another one"),
        ("model", "a model YAML edited", r"other\.yaml: (the content of this file|its content) is another one"),
        ("own", "a weights file inside an expression replaced", r"own\.safetensors: .*content.* is another one"),
        ("start", "the initial checkpoint replaced between two sittings", r"start\.pt: .* another (file|one)"),
    )
)
"""What the runs read, changed after the first run finished."""
