"""``detgraft check``: runs the checks and prints a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from detgraft.cli.arguments import check_keys, image_size, parse_pairs
from detgraft.errors import ArgumentError
from detgraft.verify.check import check
from detgraft.verify.result import CheckResult, Report

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
    check_keys(pairs, ("data", "imgsz", "nc", "plugins", "only", "trust"))
    nc = pairs.get("nc")
    if nc is not None and (not isinstance(nc, int) or isinstance(nc, bool) or nc < 1):
        raise ArgumentError(f"nc must be a number of classes, found {nc!r:.80}")
    names = [name.strip() for name in (only or str(pairs.get("only", ""))).split(",") if name.strip()]
    console = Console(stderr=True)
    words_of: dict[str, Any] = {"data": pairs.get("data"), "imgsz": image_size(pairs.get("imgsz")), "nc": nc}
    words_of["trust"] = pairs.get("trust") is True
    plugins = str(pairs.get("plugins", ""))
    if as_json:
        report = check(model, only=names, plugins=plugins, **words_of)
        print(json.dumps(report.to_dict(), ensure_ascii=False, default=str))
        return report.passed
    with console.status(f"checking {model}") as status:

        def progress(name: str, text: str, result: CheckResult | None) -> None:
            if result is None:
                status.update(f"{name}: {text}" if text else name)
            else:
                console.print(Text(f"{result.status:<8}", _STYLE[result.status]), f"{name} ({result.seconds:.1f} s)")

        report = check(model, only=names, plugins=plugins, progress=progress, **words_of)
    print_report(report, Console())
    return report.passed


def print_report(report: Report, console: Console) -> None:
    """Print a report as a table."""
    height, width = report.imgsz
    table = Table(title=f"{report.model} at {height}x{width}")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("figures", overflow="fold")
    table.add_column("reason", overflow="fold")
    for result in report.results:
        table.add_row(
            result.name,
            Text(result.status, _STYLE[result.status]),
            Text(_shown(result.figures)),
            Text(result.reason),
        )
    console.print(table)
    packages = ("ultralytics", "torch", "timm", "onnxruntime")
    console.print(", ".join(f"{name} {report.versions[name]}" for name in packages if name in report.versions))


def _shown(figures: dict[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {_value(value)}" for name, value in figures.items())


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
