"""``detgraft check``: runs the checks and prints a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from detgraft.base.values import read_size
from detgraft.cli.arguments import flag, parse_pairs
from detgraft.cli.keys import check_keys
from detgraft.cli.tables import print_pieces, print_prose
from detgraft.errors import ArgumentError
from detgraft.verify.check import CHECKS, check
from detgraft.verify.result import CheckResult, Report, written

_STYLE = {"pass": "green", "fail": "bold red", "skipped": "yellow"}


def command(model: str, words: Sequence[str], only: str, as_json: bool) -> bool:
    """Check a model and print the report.

    Args:
        model: The model.
        words: ``key=value`` words: ``data``, ``imgsz``, ``nc``, ``plugins``, ``trust``.
        only: Names of checks with commas between; all when empty.
        as_json: Print the report as JSON instead of a table.

    Returns:
        Whether no check failed.

    Raises:
        DetgraftError: Wrong arguments, or no such model.
    """
    pairs = parse_pairs(words, ("trust",))
    check_keys("check", pairs)
    nc = pairs.get("nc")
    if nc is not None and (not isinstance(nc, int) or isinstance(nc, bool) or nc < 1):
        raise ArgumentError(f"nc must be a number of classes, found {nc!r:.80}")
    names = [name.strip() for name in (only or str(pairs.get("only", ""))).split(",") if name.strip()]
    console = Console(stderr=True)
    words_of: dict[str, Any] = {"data": pairs.get("data"), "imgsz": read_size(pairs.get("imgsz")), "nc": nc}
    words_of["trust"] = flag(pairs, "trust")
    plugins = str(pairs.get("plugins", ""))
    if as_json:
        report = check(model, only=names, plugins=plugins, **words_of)
        print(json.dumps(report.to_dict(), ensure_ascii=False, default=str))
        return report.passed
    course = _Course(names or list(CHECKS))
    with console.status(f"checking {model}") as status:

        def progress(name: str, text: str, result: CheckResult | None) -> None:
            if result is None:
                status.update(course.line(name, text))
            else:
                course.done(name, result.seconds, result.status == "skipped")
                console.print(Text(f"{result.status:<8}", _STYLE[result.status]), f"{name} ({result.seconds:.1f} s)")

        report = check(model, only=names, plugins=plugins, progress=progress, **words_of)
    print_report(report, Console())
    return report.passed


_SHARES = {
    "shapes": 6,
    "gradients": 10,
    "losses": 10,
    "seeds": 6,
    "fuse": 3,
    "portability": 40,
    "ddp": 40,
    "export": 50,
    "cost": 310,
    "data": 2,
}
"""Seconds that each check took on two shared cores, mean of yolo11n and yolo11n+carafe (benchmarks/RESULTS.md); only
their proportions are used, for saying how long the rest will take."""


class _Course:
    """How far the checks are, and how long the rest will take at the pace so far."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [name for name in CHECKS if name in names]
        self._all = len(self._names)
        self._passed = 0
        self._seconds: dict[str, float] = {}

    def done(self, name: str, seconds: float, skipped: bool = False) -> None:
        """Note a check; one that was skipped took no time, which says nothing about the pace."""
        if skipped:
            self._names = [other for other in self._names if other != name]
            self._passed += 1
        else:
            self._seconds[name] = seconds

    def left(self) -> float | None:
        """Seconds that are left, None before anything is known."""
        known = sum(_SHARES.get(name, 5) for name in self._seconds)
        spent = sum(self._seconds.values())
        waiting = sum(_SHARES.get(name, 5) for name in self._names if name not in self._seconds)
        return spent / known * waiting if known and spent else None

    def line(self, name: str, text: str) -> str:
        place = len(self._seconds) + self._passed + 1
        left = self.left()
        rest = (
            "" if left is None else f", about {left:.0f} s left" if left < 100 else f", about {left / 60:.0f} min left"
        )
        return f"{place} of {self._all}, {name}{': ' + text if text else ''}{rest}"


def print_report(report: Report, console: Console) -> None:
    """Print a report, check by check, with a rule between them."""
    height, width = report.imgsz
    print_prose(console, f"{report.model} at {height}x{width}", style="bold")
    for result in report.results:
        console.rule(style="dim", characters="-")
        console.print(Text.assemble((f"{result.status:<8}", _STYLE[result.status]), (result.name, "bold")))
        if result.reason:
            print_prose(console, result.reason, "  ")
        for line in written(result.figures):
            print_prose(console, line, "  ")
    console.rule(style="dim", characters="-")
    packages = ("ultralytics", "torch", "timm", "onnxruntime")
    print_pieces(console, [f"{name} {report.versions[name]}" for name in packages if name in report.versions], "")
