"""What a study compares: the strict study file, its one-line form, and the fingerprint that guards old results."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from detgraft.base.files import read_json
from detgraft.base.located import Kind, Located, read_located
from detgraft.base.values import read_value
from detgraft.errors import Location, nearest
from detgraft.study.design.arguments import ADMITTED, DECIDED
from detgraft.study.design.errors import StudyError
from detgraft.study.design.factors import Factors, expand
from detgraft.study.design.fields import read_fields
from detgraft.study.design.file import MetricsKeys, StudyKeys
from detgraft.study.design.terms import HOPELESS, SPENDING, STALL, Arm, Metrics

STUDY_FILE = "study.yaml"
"""Name of a study's own copy of its file, in its folder."""
SCREEN_FILE = "screen.json"
"""Name of the file that makes a folder a screen's: its rounds and its confirmation are studies in folders below."""
WRITTEN = "# What this folder's runs were asked to do, written by detgraft. Go on with: detgraft study run FOLDER\n"
KIND = Kind("study file", most_values=20_000, most_depth=20, unique=True)
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "null": None, "~": None}

_ENDING = r"\.(?:pth|pt|safetensors|bin)"
_WEIGHTS_FILE = re.compile(rf"""'([^'\n]+{_ENDING})'|"([^"\n]+{_ENDING})"|([^\s,()\[\]{{}}='"]+{_ENDING})(?!\w)""")

_NECK_FILE = re.compile(r"""\bfrom\s*=\s*(?:'([^'\n]+)'|"([^"\n]+)"|([^\s,()'"]+))""")


@dataclass(frozen=True)
class StudySpec:
    """A checked study; see the template for what each field means.

    Args:
        located: The values as written and their lines.
        folder: Folder that relative paths in the file are taken from.
        fingerprints: SHA-256 of every file that the study names, by the name as written.
        factors: What a factorial study varies; its variants are the combinations. None otherwise.
        looks: Numbers of seeds after which a sequential study looks; empty where it runs all its seeds.
        device: ``("cpu",)``, or the GPUs over which the runs are spread, one GPU for each; empty for what is there.
        written: The values as they were written, before factors became variants.
    """

    name: str
    data: str
    base: Arm
    variants: tuple[Arm, ...]
    controls: tuple[Arm, ...]
    seeds: tuple[int, ...]
    train: Mapping[str, Any]
    init: str
    weights: str | None
    transfer_min: float
    metrics: Metrics
    plugins: tuple[str, ...]
    executor: str
    address: str | None
    workers: int | None
    track: tuple[str, ...]
    out: Path
    located: Located
    folder: Path
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    looks: tuple[int, ...] = ()
    factors: Factors | None = None
    stall: float | None = STALL
    device: tuple[str, ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The study file, or "command line"."""
        return self.located.source

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Base, variants and controls, in this order."""
        return (self.base, *self.variants, *self.controls)

    def resolve(self, name: str) -> str:
        """Absolute path of a file that the study names, or the name itself when it is no file (a stock or zoo name)."""
        path = Path(name)
        if not path.is_absolute() and (self.folder / path).exists():
            path = self.folder / path
        return str(path.resolve()) if path.exists() else name

    def where(self, arm: Arm) -> Location:
        """Where an arm is written."""
        if arm in self.variants:
            return self.located.at("variants", self.variants.index(arm))
        return self.located.at("base" if arm == self.base else "controls")

    def identity(self) -> dict[str, Any]:
        """Everything that a result depends on, as plain JSON; where and how the runs are executed is left out."""
        return {
            "data": self.data,
            "base": self.base.model,
            "variants": {arm.name: arm.model for arm in self.variants},
            "controls": {arm.name: arm.model for arm in self.controls},
            "seeds": list(self.seeds),
            "train": dict(sorted(self.train.items())),
            "init": self.init,
            "weights": self.weights,
            "transfer_min": self.transfer_min,
            "metrics": vars(self.metrics),
            "plugins": list(self.plugins),
            "files": dict(sorted(self.fingerprints.items())),
            # The rule is part of the promise as the looks are: a version with another one must not judge these runs.
            **({"looks": list(self.looks), "rule": [*SPENDING, *HOPELESS]} if self.looks else {}),
            **({"factors": [list(self.factors.names), self.factors.order]} if self.factors else {}),
            # Which of several GPUs made a run does not matter; whether one did, does.
            **({"device": "cpu" if self.device == ("cpu",) else "gpu"} if self.device else {}),
        }

    def digest(self) -> str:
        """SHA-256 of :meth:`identity`."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.identity())


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_spec(path: str | Path) -> StudySpec:
    """Read and check a study file.

    Args:
        path: The YAML file.

    Raises:
        StudyError: With the line, for anything that is unknown, missing, of the wrong type or contradictory.
    """
    path = Path(path)
    return build_spec(read_located(path, StudyError, KIND), path.resolve().parent, path.stem)


def spec_from_arguments(arguments: Mapping[str, str]) -> StudySpec:
    """Make a study from ``key=value`` arguments; what is no key of a study is a training argument.

    Args:
        arguments: For example ``{"data": "bccd.yaml", "base": "yolo11n", "variants": "carafe,repvit_m0_9",
            "seeds": "6", "epochs": "100"}``. Keys of ``metrics:`` stand on their own, as in ``margin=0.005``.

    Raises:
        StudyError: As :func:`read_spec`, without a line.
    """
    values: dict[str, Any] = {}
    own = {*StudyKeys.model_fields, *MetricsKeys.model_fields} - {"train", "metrics"}
    for key, text in arguments.items():
        hint = "" if key in own | DECIDED else nearest(key, [*sorted(own), *sorted(ADMITTED)])
        if hint:  # said before a key is missed that was only misspelt
            raise StudyError(f"{key!r} is no key of a study and no training argument.{hint}", Location("command line"))
        if key in ("variants", "factors", "controls", "plugins", "track"):
            values[key] = _split(text)
        elif key == "seeds" and "," in text:
            values[key] = [_scalar(part) for part in _split(text)]
        elif key in MetricsKeys.model_fields:
            values.setdefault("metrics", {})[key] = _scalar(text)
        elif key in own:
            values[key] = _scalar(text)
        else:
            values.setdefault("train", {})[key] = _scalar(text)
    return build_spec(Located("command line", values, error=StudyError), Path.cwd(), "study")


def study_text(spec: StudySpec) -> str:
    """A study as the text of a study file, for its own folder.

    Args:
        spec: The study; where its folder is stays out, because the file lies in it.
    """
    values = {"name": spec.name, **{key: value for key, value in spec.written.items() if key not in ("name", "out")}}
    return WRITTEN + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def relative(place: Path, start: Path) -> str:
    """A folder as seen from another, so that the two can be moved together; absolute on another drive."""
    try:
        return Path(os.path.relpath(place.resolve(), start)).as_posix()
    except ValueError:
        return str(place.resolve())


def is_own_copy(path: Path) -> bool:
    """Whether a file is the copy of a study file that detgraft keeps in the study's folder."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline() == WRITTEN
    except OSError:
        return False


def read_folder_spec(folder: Path) -> StudySpec:
    """The study that a study's folder holds.

    Args:
        folder: The folder, with ``study.yaml`` and ``study.json``.

    Raises:
        StudyError: It holds none.
    """
    path = folder / STUDY_FILE
    if (folder / SCREEN_FILE).is_file():
        parts = sorted(str(part.parent) for part in folder.glob(f"*/{STUDY_FILE}"))
        studies = f"; its studies are {', '.join(parts)}" if parts else ""
        raise StudyError(
            f"is a screen's folder. Go on with: detgraft study screen {shlex.quote(str(folder))}{studies}.",
            Location(str(folder)),
        )
    if not path.is_file():
        raise StudyError(
            f"is no study's folder: it holds no {STUDY_FILE}. Name the study file, or the folder that its out: names.",
            Location(str(folder)),
        )
    located = read_located(path, StudyError, KIND)
    raw = read_json(folder / "study.json")
    root = raw.get("root") if isinstance(raw, dict) else None
    # Without study.json nothing says what paths were relative to; the place that commands are given in is usual.
    base = (folder / root).resolve() if isinstance(root, str) else Path.cwd()
    return replace(build_spec(located, base, folder.resolve().name), out=folder)


def _scalar(text: str) -> Any:
    """Read one value of the command line with the words that a study file has; ``none`` is a text there, too."""
    return read_value(text.strip(), _WORDS)


def _split(text: str) -> list[str]:
    """Split at commas outside parentheses: ``a(x=1,y=2),b`` becomes two parts."""
    parts = re.split(r",(?![^(]*\))", text)
    return [part.strip() for part in parts if part.strip()]


def build_spec(located: Located, folder: Path, default_name: str) -> StudySpec:
    """Check the plain values of a study file; see :func:`read_spec`.

    Args:
        located: The values and their lines.
        folder: Folder that relative paths are taken from.
        default_name: Name of the study when the file gives none.
    """
    for key in located.values:
        block = "metrics" if key in MetricsKeys.model_fields else "train" if key in ADMITTED else ""
        if block and key not in StudyKeys.model_fields:
            raise located.fail(f"{key!r} belongs under '{block}:'.", key)
    located.check_keys(located.values, StudyKeys.model_fields, "key")
    written = dict(located.values)
    located, factors = expand(located)
    fields = read_fields(located, default_name)
    spec = StudySpec(located=located, folder=folder, factors=factors, written=written, **fields)
    return replace(spec, fingerprints=fingerprints(spec))


def fingerprints(spec: StudySpec) -> dict[str, str]:
    """SHA-256 of every file that the study names: data YAML, model YAMLs, weights files in models, and plug-ins.

    A data folder is fingerprinted by the names and sizes of its files, leaving out Ultralytics' own ``*.cache``.
    """
    # The initial checkpoint is not among them: it may be fetched only when the study first runs.
    names = {spec.data, *spec.plugins}
    for arm in spec.arms:
        names |= {arm.model, *weights_files(spec, arm.model)}
    found = {}
    for name in names:
        path = Path(spec.resolve(name))
        if path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".cache")
            found[name] = digest_of([[p.relative_to(path).as_posix(), p.stat().st_size] for p in files])
    return found


def weights_files(spec: StudySpec, model: str) -> set[str]:
    """Names of the files that a model asks for, as written: weights, and in an expression the file of a neck."""
    path = Path(spec.resolve(model))
    text = path.read_text("utf-8", "replace") if path.suffix in (".yaml", ".yml") and path.is_file() else model
    patterns = (_WEIGHTS_FILE,) if text != model else (_WEIGHTS_FILE, _NECK_FILE)
    found = {match[1] or match[2] or match[3] for pattern in patterns for match in pattern.finditer(text)}
    return {name for name in found if Path(spec.resolve(name)).is_file()}


def changes(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """Say what differs between two study identities, one line for each difference.

    Args:
        old: Identity that the results were made with.
        new: Identity of the file now.
        path: Key that leads here.
    """
    lines = []
    for key in sorted({*old, *new}, key=str):
        where = f"{path}.{key}" if path else str(key)
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += changes(before, after, where)
        elif path == "files" and before and after:
            lines.append(f"{key}: the content of this file is another one")
        else:
            lines.append(f"{where}: was {_show(before)}, is {_show(after)}")
    return lines


def only_adds(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the new identity only has more seeds, variants or controls than the old one."""
    grown = ("seeds", "variants", "controls", "files")
    if any(old.get(key) != new.get(key) for key in {*old, *new} if key not in grown):
        return False
    if not set(old["seeds"]) <= set(new["seeds"]):
        return False
    return all(new[key].get(name) == value for key in grown[1:] for name, value in old[key].items())


def _show(value: Any) -> str:
    return "absent" if value is None else json.dumps(value)
