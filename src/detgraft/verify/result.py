"""What a check answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from detgraft.base.notebook import html_table

Status = Literal["pass", "fail", "skipped"]


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The answer of one check.

    Args:
        name: Name of the check.
        status: ``pass``, ``fail`` or ``skipped``.
        reason: Why it failed or was skipped, with the layer; or what a reader should know although it passed.
        figures: What was measured, by name.
        seconds: How long it took.
    """

    name: str
    status: Status
    reason: str = ""
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Report:
    """All answers about one model.

    Args:
        model: The model as it was named.
        imgsz: Height and width in pixels.
        results: One per check, in the order in which they ran.
        versions: Releases of the packages that took part.
    """

    model: str
    imgsz: tuple[int, int]
    results: tuple[CheckResult, ...]
    versions: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(result.status != "fail" for result in self.results)

    def __getitem__(self, name: str) -> CheckResult:
        """Return the result of a check by name."""
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    def _repr_html_(self) -> str:
        """Show the answers as a table in a notebook."""
        height, width = self.imgsz
        rows = [(one.name, one.status, one.reason, "\n".join(written(one.figures))) for one in self.results]
        answer = "no check failed" if self.passed else "a check failed"
        title = f"{self.model} at {height}x{width}: {answer}"
        return html_table(title, ("check", "result", "reason", "figures"), rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"passed": self.passed, **dataclasses.asdict(self)}


def verdict(name: str, problems: Sequence[str], figures: dict[str, Any], notes: Sequence[str] = ()) -> CheckResult:
    """Return ``fail`` with the problems when there are any, else ``pass`` with the notes."""
    shown = [*problems[:5], *([f"and {len(problems) - 5} more"] if len(problems) > 5 else []), *notes]
    return CheckResult(name, "fail" if problems else "pass", "; ".join(shown), figures)


def skipped(name: str, reason: str) -> CheckResult:
    """Return a result for a check that could not or need not run."""
    return CheckResult(name, "skipped", reason)


def written(figures: dict[str, Any]) -> list[str]:
    """Write the figures of a check for people, one to a line."""
    return [f"{name.replace('_', ' ')}: {_value(value)}" for name, value in figures.items()]


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(entry) for entry in value) or "none"
    return str(value)
