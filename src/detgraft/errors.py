"""Every error that detgraft raises on purpose.

One family, so that the command line can tell "you asked for something impossible" (exit status 2) from a defect.
Messages are for people: what is wrong, where (file, line, row), what was expected, and the nearest valid name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Location:
    """Where something was written: a file (or an expression) and, where known, a line and a row.

    Args:
        source: File path as the user gave it, or the text of a graft expression.
        line: 1-based line in the file.
        row: 0-based layer index that the row has in the built model.
    """

    source: str = ""
    line: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        parts = [self.source] if self.source else []
        if self.line is not None:
            parts.append(f"line {self.line}")
        if self.row is not None:
            parts.append(f"layer {self.row}")
        return ", ".join(parts)


class DetgraftError(ValueError):
    """Base of all detgraft errors; ``location`` says where the cause was written.

    Args:
        message: What is wrong and what was expected.
        location: Where it was written, if known; it is put in front of the message.
    """

    def __init__(self, message: str, location: Location | None = None) -> None:
        self.location = location
        where = str(location) if location else ""
        super().__init__(f"{where}: {message}" if where else message)


class PlanError(DetgraftError):
    """A model YAML or graft expression that cannot become a model."""


class CatalogError(DetgraftError):
    """A name that the catalogue does not know, or a registration that it refuses."""


class ArgumentError(DetgraftError):
    """A wrong argument: count, type or value."""


class SizeError(DetgraftError):
    """An image size that the model's strides do not divide."""


class DataError(DetgraftError):
    """A data set that is missing or not laid out as a detector needs it."""


class WeightsError(DetgraftError):
    """A weights file that is missing, unreadable or made for another architecture."""


class UpstreamError(DetgraftError):
    """The installed Ultralytics does not offer what a graft needs."""


class MissingExtraError(DetgraftError):
    """An optional dependency is not installed; the message names the extra that brings it.

    Args:
        package: What is missing.
        extra: The extra of detgraft that brings it.
        checkout: Folder of the source tree that detgraft is imported from, if it is.
    """

    def __init__(self, package: str, extra: str, checkout: str = "") -> None:
        command = f'pip install "detgraft[{extra}]"'
        if checkout:
            command = f'pip install -e "{checkout}[{extra}]" (this source tree; elsewhere {command})'
        super().__init__(f"this needs the package '{package}'. Install it with: {command}")


def nearest(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.6) -> str:
    """Return a "did you mean" sentence for ``name``, or an empty string when nothing is close.

    Args:
        name: The name that was not found.
        known: The valid names.
        count: How many to propose at most.
        cutoff: How alike a name must be, 0 to 1.
    """
    return proposed(nearest_names(name, known, count, cutoff))


def proposed(names: Iterable[str]) -> str:
    """Return the sentence that proposes names, or an empty string when there are none."""
    shown = " or ".join(map(repr, names))
    return f" Did you mean {shown}?" if shown else ""


def nearest_names(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return the valid names that are most like ``name``, the nearest first; arguments as of :func:`nearest`."""
    by_lower: dict[str, str] = {}
    for candidate in known:
        by_lower.setdefault(candidate.lower(), candidate)  # an own spelling comes before its lower-case form
    wanted = name.lower()
    found = difflib.get_close_matches(wanted, by_lower, n=count, cutoff=cutoff)
    return [by_lower[match] for match in found if not _alike_by_ending_only(wanted, match, cutoff - 0.1)]


def _alike_by_ending_only(name: str, other: str, cutoff: float) -> bool:
    """Whether two file names share little but their ending: 'a.pt' is no misspelt 'fake.pt'."""
    stem, dot, ending = name.rpartition(".")
    if not stem or not other.endswith(dot + ending):
        return False
    return difflib.SequenceMatcher(None, stem, other[: -len(dot + ending)]).ratio() < cutoff
