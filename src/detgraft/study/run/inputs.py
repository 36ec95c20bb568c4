"""What the runs of a study read is what was announced before the first one: pictures, labels, weights, plug-ins.

Everything is hashed once, before anything is trained, and written down. Each run compares it before it trains, when it
is resumed, and before its result counts. Hashing again is spared where size, time of the last change and time of the
last status change are those of the first time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detgraft.base.files import read_json, write_json
from detgraft.base.processors import available_cpus
from detgraft.datasets.labels import list_images
from detgraft.errors import Location
from detgraft.study.design.config import CellConfig
from detgraft.study.design.errors import DamagedError, InputsChangedError, StudyError
from detgraft.study.design.seal import read_sealed, seal
from detgraft.study.judge.verification import INPUTS, RACY_NS, file_digest
from detgraft.study.run.store import StudyFolder

FORMAT = 1
NAMED = 5  # files that a message names

Say = Callable[[str], None]


@dataclass(frozen=True)
class Split:
    """The pictures and labels of one split.

    Args:
        sources: Folders and lists of pictures that the data YAML names.
        entries: SHA-256 of each file by its name below its source.
    """

    sources: tuple[str, ...]
    entries: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of names and contents; where the files lie is left out, so a moved data set stays the same."""
        found = hashlib.sha256()
        for name, value in sorted(self.entries.items()):
            found.update(f"{name}\0{value}\n".encode("utf-8", "surrogateescape"))
        return found.hexdigest()


class Digests:
    """SHA-256 of files, remembered by their size and times.

    Args:
        path: Where they are kept between processes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._known: dict[str, Any] = read_sealed(path)["digests"]
        except DamagedError:
            self._known = {}  # everything is hashed again
        self._changed = False

    def of(self, files: Iterable[Path]) -> dict[Path, str]:
        """Digests of files; those that do not exist are left out."""
        wanted = list(files)
        with ThreadPoolExecutor(min(8, available_cpus() + 4)) as pool:
            found = pool.map(self._one, wanted)
            return {path: value for path, value in zip(wanted, found, strict=True) if value is not None}

    def _one(self, path: Path) -> str | None:
        try:
            stat = path.stat()
            look = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            known = self._known.get(str(path))
            if isinstance(known, list) and known[:-1] == look:
                return str(known[-1])
            value = file_digest(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StudyError(f"cannot be read: {error.strerror or error}.", Location(str(path))) from error
        if time.time_ns() - max(look[1:]) > RACY_NS:
            self._known[str(path)], self._changed = [*look, value], True
        return value

    def keep(self) -> None:
        """Write down what was learned, for the next process."""
        if self._changed:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, seal({"digests": self._known}))
            self._changed = False


def read_split(sources: Sequence[str], digests: Digests) -> Split:
    """Find and hash the pictures of a split and the label files that belong to them.

    Args:
        sources: Folders of pictures, or text files that list pictures.
        digests: Where digests are looked up and kept.

    Raises:
        StudyError: A file cannot be read.
    """
    names: dict[Path, str] = {}
    for number, source in enumerate(sources):
        path = Path(source)
        if path.is_dir():
            pictures = {picture: picture.relative_to(path).as_posix() for picture in list_images(path)}
        else:
            pictures = {picture: picture.name for picture in _listed(path)}
            names[path] = f"{number}/{path.name}"
        for picture, name in pictures.items():
            names[picture] = f"{number}/{name}"
            names[label_of(picture)] = f"{number}/{name} (label)"
    found = digests.of(names)
    return Split(tuple(sources), {names[path]: value for path, value in found.items()})


def _listed(path: Path) -> list[Path]:
    """Pictures of a text file as Ultralytics reads it: ``./`` means beside the file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    texts = [line.strip() for line in lines if line.strip()]
    return [path.parent / text[2:] if text.startswith("./") else Path(text) for text in texts]


def label_of(picture: Path) -> Path:
    """Where Ultralytics looks for a picture's labels: the last ``/images/`` of its path becomes ``/labels/``."""
    head, found, tail = str(picture).rpartition(f"{os.sep}images{os.sep}")
    return (Path(f"{head}{os.sep}labels{os.sep}{tail}") if found else picture).with_suffix(".txt")


def announce(folder: StudyFolder, say: Say) -> None:
    """Hash what the runs will read and write it down; refuse it when it is not what the finished runs have read.

    Args:
        folder: The study's folder, opened, with the preflight done.
        say: Called with a line where something was done that a person should know.

    Raises:
        InputsChangedError: Runs were started with other files; says which.
    """
    found = _preflight(folder)
    sources: Mapping[str, Sequence[str]] = next((raw["sources"] for raw in found if raw.get("sources")), {})
    digests = Digests(folder.path / "inputs" / "digests.json")
    splits = {
        split: read_split(names, digests) for split, names in sources.items() if all(Path(n).exists() for n in names)
    }
    weights = {str(raw["weights"]["name"]): dict(raw["weights"]) for raw in found if raw.get("weights")}
    lost = _compare(folder, splits, weights)
    for split in splits.values():
        _drop_stale_caches(split, say)
    (folder.path / "inputs").mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        write_json(folder.path / "inputs" / f"{name}.json", seal({"entries": split.entries}))
    digests.keep()
    content = {
        "format": FORMAT,
        "splits": {name: {"digest": s.digest, "sources": list(s.sources)} for name, s in splits.items()},
        "weights": weights,
    }
    if lost:
        say(f"{lost} It was made again: the files are those that the started runs were given.")
    write_json(folder.path / INPUTS, seal(content))


def _preflight(folder: StudyFolder) -> list[dict[str, Any]]:
    found = []
    for arm in folder.spec.arms:
        try:
            found.append(read_sealed(folder.arm_file(arm)))
        except DamagedError:
            continue
    return found


def forget_replaced_weights(folder: StudyFolder) -> None:
    """Let the preflight look again at arms whose initial checkpoint is another file than it found before."""
    digests = Digests(folder.path / "inputs" / "digests.json")
    for arm in folder.spec.arms:
        raw = read_json(folder.arm_file(arm))
        weights = raw.get("weights") if isinstance(raw, dict) else None
        if isinstance(weights, dict):
            path = Path(str(weights.get("path")))
            if digests.of([path]).get(path) != weights.get("digest"):
                folder.arm_file(arm).unlink(missing_ok=True)


def _compare(folder: StudyFolder, splits: Mapping[str, Split], weights: Mapping[str, Mapping[str, str]]) -> str:
    """Refuse what differs from what was announced; return why the announcement cannot be read, where it cannot."""
    if not folder.results_exist:
        return ""
    try:
        before = read_sealed(folder.path / INPUTS)
        old_splits = {name: str(item["digest"]) for name, item in before["splits"].items()}
        old_weights = {name: str(item["digest"]) for name, item in before["weights"].items()}
        lost = ""
    except DamagedError as error:
        old_splits, old_weights = folder.begun_inputs()
        lost = str(error) if old_splits or old_weights else ""
    lines = []
    for name in sorted(set(old_splits) & set(splits)):
        if old_splits[name] != splits[name].digest:
            lines.append(f"{name}: {changes_of(folder.path, name, splits[name].entries)}")
    if old_splits:
        lines += [f"{name}: its pictures are gone" for name in sorted(set(old_splits) - set(splits))]
        lines += [f"{name}: its pictures were not there" for name in sorted(set(splits) - set(old_splits))]
    for name in sorted(set(old_weights) & set(weights)):
        if old_weights[name] != weights[name]["digest"]:
            lines.append(f"{name}: the initial checkpoint is another file ({weights[name]['path']})")
    if lines:
        listing = "".join(f"\n  {line}" for line in lines)
        raise InputsChangedError(
            f"the runs in {folder.path} were started with other files:{listing}\n"
            "Restore them, or give this study another folder with out=.",
            Location(folder.spec.source),
        )
    return lost


def changes_of(study: Path, split: str, entries: Mapping[str, str]) -> str:
    """Which files of a split are not those that were announced, in words.

    Args:
        study: The study's folder.
        split: Name of the split.
        entries: What is there now.
    """
    try:
        before: Mapping[str, str] = read_sealed(study / "inputs" / f"{split}.json")["entries"]
    except DamagedError:
        return "its pictures or labels have changed"
    groups = {
        "changed": [name for name in before if name in entries and before[name] != entries[name]],
        "added": [name for name in entries if name not in before],
        "removed": [name for name in before if name not in entries],
    }
    parts = []
    for word, names in groups.items():
        if names:
            shown = ", ".join(name.partition("/")[2] for name in sorted(names)[:NAMED])
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            parts.append(f"{len(names)} {word}: {shown}{more}")
    return "; ".join(parts) or "its pictures or labels have changed"


def check_inputs(config: CellConfig, study: Path, when: str) -> None:
    """Make sure that what a run reads is what was announced.

    Args:
        config: The run.
        study: The study's folder.
        when: For the message: ``before it trained``, ``while it trained``.

    Raises:
        InputsChangedError: Something changed; says what.
    """
    digests = Digests(study / "inputs" / "digests.json")
    lines = []
    for name, value in config.files.items():
        path = Path(config.paths.get(name, name))
        if path.is_dir():
            continue  # a data folder, whose files are compared one by one below
        found = digests.of([path]).get(path)
        if found is None:
            lines.append(f"{name}: it is absent ({path})")
        elif found != value:
            lines.append(f"{name}: its content is another one ({path})")
    if config.inputs:
        announced = read_sealed(study / INPUTS)
        for split, value in config.inputs.items():
            now = read_split(announced["splits"][split]["sources"], digests)
            if now.digest != value:
                lines.append(f"{split}: {changes_of(study, split, now.entries)}")
    if lines:
        raise InputsChangedError(
            f"what this run reads was changed {when}: {'; '.join(lines)}. Restore it and run with retry, or give the"
            " study another folder with out=."
        )


def _drop_stale_caches(split: Split, say: Say) -> None:
    """Remove Ultralytics' label caches that are older than a label.

    Ultralytics tells a cache by the sizes and names of the files, so it would go on training on labels of before.
    """
    newest: dict[Path, float] = {}
    for source in split.sources:
        path = Path(source)
        for picture in list_images(path) if path.is_dir() else _listed(path):
            label = label_of(picture)
            try:
                newest[label.parent] = max(newest.get(label.parent, 0.0), label.stat().st_mtime)
            except OSError:
                continue
    caches = {folder.with_suffix(".cache"): when for folder, when in newest.items()}
    for cache, when in caches.items():
        try:
            if cache.stat().st_mtime < when:
                cache.unlink()
                say(f"Removed {cache}: it is older than the labels, and Ultralytics might have gone on reading it.")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StudyError(
                "is older than the labels, so that Ultralytics might go on training on labels of before, and cannot be"
                f" removed ({error.strerror or error}): delete it.",
                Location(str(cache)),
            ) from error
