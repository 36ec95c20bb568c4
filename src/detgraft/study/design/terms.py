"""The words of a study file: its keys, its arms, and what decides."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from detgraft.errors import PlanError
from detgraft.plan.expression import is_expression, parse_expression

ALPHA = 0.05
"""Family-wise error rate of the verdicts "helps" and "hurts"."""
STALL = 10.0
"""How many times the slowest epoch so far a run may take for one before it counts as hanging."""
MARGIN = 0.01
"""Differences of AP (0 to 1) up to this size are called "no difference": 1 AP point."""

MOST_MARGIN = 0.2
"""Largest margin; a larger one was meant in points, or calls everything "no difference"."""

SEQUENTIAL = "sequential"
LOOKS = (5, 6, 7, 8, 9, 10, 11, 12)
"""Numbers of seeds after which a sequential study looks, unless its file says otherwise."""
SPENDING = ("power", 2.0)
"""How a sequential study spends its error: after a fraction t of the seeds, t to this power; chosen by simulation."""
HOPELESS = (0.05, 4)
"""Conditional power under which an arm of a sequential study stops, and from how many seeds on it may."""
PRIMARY = ("AP", "AP50", "AP75", "top1")
MEASURED = {
    "detect": "AP of boxes, by faster-coco-eval",
    "segment": "AP of masks, by faster-coco-eval",
    "pose": "AP of key points (OKS), by faster-coco-eval",
    "obb": "AP of rotated boxes, by Ultralytics' own matching",
    "classify": "top-1 accuracy",
}
"""What decides for each task that a study measures."""
INITS = ("scratch", "transfer", "pretrained")
EXECUTORS = ("local", "ray")
TRACKERS = ("mlflow", "tensorboard")
SPLITS = ("auto", "val", "test")
MODEL_SUFFIXES = (".yaml", ".yml", ".pt", ".safetensors")

# Lower case only: some file systems take Carafe and carafe for the same folder.
_PLAIN_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,59}")
# Windows keeps these for devices, with any ending.
_RESERVED_NAMES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}

# Ladders of stock scales, smallest first; the letter stands right after the family's number.
_LADDERS = {
    r"yolov9": "tsmce",
    r"yolov10": "nsmblx",
    r"rtdetr-": "lx",
    r"yolo(?:v3u?-|v5|v6-|v8|11|12|26|v11|v12)": "nsmlx",
}


@dataclass(frozen=True)
class Arm:
    """One thing that is trained with every seed.

    Args:
        name: As written in the study file; the report uses it.
        model: What ``detgraft.YOLO`` is given: an expression, YAML or checkpoint.
        role: ``base``, ``variant`` or ``control``.
    """

    name: str
    model: str
    role: str

    @property
    def slug(self) -> str:
        """The name as a folder name."""
        return slug_of(self.name)


@dataclass(frozen=True)
class Metrics:
    """What decides.

    Args:
        primary: ``AP``, ``AP50`` or ``AP75``; for classification always ``top1``.
        split: ``test``, ``val``, or ``auto`` for test where the data has one.
        margin: Differences up to this size (AP from 0 to 1) count as none.
        alpha: Family-wise error rate.
        bootstrap: Number of resamplings of the pictures; 0 leaves the second view out.
    """

    primary: str = "AP"
    split: str = "auto"
    margin: float = MARGIN
    alpha: float = ALPHA
    bootstrap: int = 1000


def deciding(primary: str, task: str) -> str:
    """Name of the figure that decides: the study's, and for classification its accuracy.

    Args:
        primary: ``primary:`` of the study file.
        task: What the arms are for.
    """
    return "top1" if task == "classify" else primary


def next_scale(base: str) -> str | None:
    """The next larger stock scale of a model name, for example ``yolo11s-seg`` for ``yolo11n-seg``.

    Args:
        base: A stock name with its scale letter, with or without ``.yaml`` or ``.pt``.

    Returns:
        The name without a suffix, or None when the name is no stock name or already the largest.
    """
    stem = Path(base).name
    for suffix in MODEL_SUFFIXES:
        stem = stem.removesuffix(suffix)
    for family, ladder in _LADDERS.items():
        match = re.fullmatch(rf"({family})([{ladder}])((?:-(?:seg|pose|obb|cls|sem|p2|p6))*)", stem)
        if match and match[2] != ladder[-1]:
            return f"{match[1]}{ladder[ladder.index(match[2]) + 1]}{match[3]}"
    return None


def asks_for_weights(model: str) -> bool:
    """Whether a graft expression names weights of its own; what a YAML names is seen when it is read."""
    if not is_expression(model):
        return False
    try:
        grafts = parse_expression(model).grafts
    except PlanError:  # told with its place when the arm is built
        return False
    return any(graft.keywords.get("weights") not in (None, "") for graft in grafts)


def slug_of(name: str) -> str:
    """A folder name for an arm, made from its whole name alone.

    A name that every file system keeps as it is stays as it is; any other is shortened, cleaned, and marked with a part
    of its SHA-256. So no two names share a folder, and neither the order in the study file nor the other arms matter.
    """
    reserved = name.lower().split(".")[0] in _RESERVED_NAMES
    if _PLAIN_NAME.fullmatch(name) and not name.endswith(".") and not reserved:
        return name
    return marked_slug_of(name)


def marked_slug_of(name: str) -> str:
    """A folder name with a part of the name's SHA-256, which no unmarked one can be."""
    reserved = name.lower().split(".")[0] in _RESERVED_NAMES
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", f"arm-{name}" if reserved else name)[:48].strip("-.") or "arm"
    return f"{readable}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
