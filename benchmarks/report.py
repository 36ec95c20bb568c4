"""Writes measured outcomes into benchmarks/RESULTS.md, between its markers; the prose around them is by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Outcome

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = (
    "| work | rival | rival / ours (quartiles) | target | ours | rival | difference | peak memory ours / rival |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|\n"
)


def line(outcome: Outcome) -> str:
    """One row of the table."""
    target = "-" if outcome.target is None else f">= {outcome.target:.2f}"
    memory = "-"
    if outcome.memory_ratio is not None:
        memory = f"{outcome.memory_ratio:.3f} ({outcome.ours_mb:.0f} / {outcome.rival_mb:.0f} MB)"
        if outcome.memory_target is not None:
            memory += f", target <= {outcome.memory_target:.3f}"
    difference = "-" if outcome.difference is None else f"{outcome.difference:.0e}"
    mark = " **missed**" if missed(outcome) else ""
    return (
        f"| {outcome.case} | {outcome.rival} | {outcome.ratio:.2f} ({outcome.low:.2f} to {outcome.high:.2f}){mark} "
        f"| {target} | {outcome.ours_ms:.1f} ms | {outcome.rival_ms:.1f} ms | {difference} | {memory} |"
    )


def missed(outcome: Outcome) -> bool:
    """Whether a target for time or memory was not reached."""
    slow = outcome.target is not None and outcome.ratio < outcome.target
    ratio, most = outcome.memory_ratio, outcome.memory_target
    return slow or (ratio is not None and most is not None and ratio > most)


def write(outcomes: Sequence[Outcome], about: Mapping[str, object]) -> None:
    """Replace the table of this clock and number of threads."""
    marker = f"{about['clock']}-{about['threads']}"
    facts = ", ".join(f"{key} {value}" for key, value in about.items() if key != "command")
    body = f"`{about['command']}`: {facts}\n\n{HEAD}" + "\n".join(map(line, outcomes)) + "\n"
    pattern = re.compile(rf"(<!-- results:{marker} -->\n).*?(<!-- /results:{marker} -->)", re.DOTALL)
    text = RESULTS.read_text(encoding="utf-8")
    if not pattern.search(text):
        raise SystemExit(f"{RESULTS.name} has no place for results:{marker}")
    RESULTS.write_text(pattern.sub(lambda found: found[1] + body + found[2], text), encoding="utf-8")
