"""Check 9: does the data set fit the model: classes, sane boxes, labelled pictures, no picture in two splits?"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from detgraft.datasets.folder import load_data_yaml
from detgraft.datasets.labels import label_file, list_images, row_fault
from detgraft.datasets.text import read_text
from detgraft.errors import DataError, DetgraftError
from detgraft.upstream.model.data import prepare_data
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject

NAME = "data"
SPLITS = ("train", "val", "test")


def check(subject: Subject) -> CheckResult:
    """Read every label file and hash every picture."""
    if subject.data is None:
        return skipped(NAME, "no data= given")
    subject.say("reading labels and pictures")
    try:
        yaml = Path(str(prepare_data(subject.data, "detect", subject.folder)))
        data = load_data_yaml(yaml)
        problems, notes, figures = _scan(subject, data)
    except DetgraftError as error:
        return verdict(NAME, [str(error)], {})
    classes = int(subject.mapping.get("nc") or 0)
    figures["classes"], figures["classes_of_model"] = data["nc"], classes
    if classes and classes != data["nc"]:
        text = f"the model has {classes} classes and the data set {data['nc']}"
        if str(subject.name).lower().endswith((".pt", ".safetensors")):
            problems.insert(0, text)
        else:
            notes.insert(0, f"{text}; training sets the model's number")
    return verdict(NAME, problems, figures, notes)


def _pictures(value: Any) -> list[Path]:
    found: list[Path] = []
    for entry in value if isinstance(value, list) else [value]:
        path = Path(str(entry))
        if path.is_dir():
            found += list_images(path)
        elif path.suffix == ".txt" and path.is_file():
            lines = [line.strip() for line in read_text(path)[0].splitlines() if line.strip()]
            found += [path.parent / line if line.startswith("./") else Path(line) for line in lines]
    return found


def _scan(subject: Subject, data: dict[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    problems: list[str] = []
    notes: list[str] = []
    figures: dict[str, Any] = {}
    where: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    total = Counter[str]()
    for split in (name for name in SPLITS if data.get(name)):
        pictures = _pictures(data[split])
        subject.say(f"{split}: {len(pictures)} pictures")
        found = Counter[str](pictures=len(pictures))
        for picture in pictures:
            where[_hash(picture)].append((split, picture))
            _labels(picture, int(data["nc"]), data.get("kpt_shape"), found, problems)
        figures[split] = dict(found)
        total += found
        if pictures and not found["boxes"]:
            problems.append(f"{split}: none of {len(pictures)} pictures has a labelled box")
    for copies in where.values():
        splits = {split for split, _ in copies}
        if len(splits) > 1:
            named = " and ".join(f"{split}: {path.name}" for split, path in copies[:3])
            problems.append(f"the same picture is in {' and '.join(sorted(splits))} ({named})")
        elif len(copies) > 1:
            total["double pictures"] += len(copies) - 1
    for key, text in (
        ("without labels", "pictures have no labels and count as background"),
        ("double rows", "label rows are doubled; Ultralytics drops the copies"),
        ("double pictures", "pictures are copies of another one in the same split"),
    ):
        if total[key]:
            notes.append(f"{total[key]} {text}")
    return problems, notes, figures


def _hash(picture: Path) -> str:
    try:
        return hashlib.sha256(picture.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"the picture cannot be read: {error.strerror or error} ({picture})") from error


def _labels(picture: Path, classes: int, kpt_shape: Any, found: Counter[str], problems: list[str]) -> None:
    """Check the rows of one picture's labels."""
    path = label_file(picture.resolve())
    rows = read_text(path)[0].splitlines() if path.is_file() else []
    if not any(row.strip() for row in rows):
        found["without labels"] += 1
        return
    seen: set[tuple[float, ...]] = set()
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        fault = row_fault(row, classes, kpt_shape)
        if fault is not None:
            found["bad rows"] += 1
            problems.append(f"{path} line {number}: {fault.text}")
            continue
        values = tuple(float(word) for word in row.split())
        if values in seen:
            found["double rows"] += 1
        seen.add(values)
        found["boxes"] += 1
