"""Writes measured outcomes into benchmarks/RESULTS.md, between its markers; the prose around them is by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Outcome

RESULTS = Path(__file__).with_name("RESULTS.md")
ORDER = ("carafe", "convnextv2", "dynamicconv", "repvit", "onnx", "models", "imports", "layouts", "losses", "cuda")
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


def marker_of(device: str, clock: str, threads: int) -> str:
    """Return which table of RESULTS.md a figure belongs to."""
    return device if device == "cuda" else f"{clock}-{threads}"


def place_of(marker: str, text: str | None = None) -> re.Match[str]:
    """Find a table's place, also to say before anything is measured that there is none.

    Raises:
        SystemExit: RESULTS.md has no such place.
    """
    found = _section(marker).search(RESULTS.read_text(encoding="utf-8") if text is None else text)
    if found is None:
        raise SystemExit(
            f"{RESULTS.name} has no place for these figures; add the lines <!-- results:{marker} --> and "
            f"<!-- /results:{marker} --> where the table shall stand"
        )
    return found


def write(outcomes: Sequence[Outcome], about: Mapping[str, object]) -> None:
    """Put the outcomes into the table of this clock and number of threads, or of CUDA; rows of other cases stay."""
    for device in sorted({outcome.device for outcome in outcomes}):
        marker = marker_of(device, str(about["clock"]), int(str(about["threads"])))
        _write_table(marker, [outcome for outcome in outcomes if outcome.device == device], about)


def _write_table(marker: str, outcomes: Sequence[Outcome], about: Mapping[str, object]) -> None:
    text = RESULTS.read_text(encoding="utf-8")
    found = place_of(marker, text)
    rows = {_key(row): row for row in found[2].splitlines() if row.startswith("| ") and not row.startswith("| work")}
    rows.update({_key(row): row for row in map(line, outcomes)})
    order = {name: i for i, name in enumerate(ORDER)}
    ordered = sorted(rows.values(), key=lambda row: order.get(_key(row)[0].split("/")[0], len(order)))
    facts = ", ".join(f"{key} {value}" for key, value in about.items() if key != "command")
    body = f"Last run: `{about['command']}` ({facts})\n\n{HEAD}" + "\n".join(ordered) + "\n"
    RESULTS.write_text(text[: found.start(2)] + body + text[found.end(2) :], encoding="utf-8")


def write_readme(path: Path, marker: str) -> None:
    """Copy the rows that have a target, shortened, between ``<!-- table:speed -->`` and ``<!-- /table:speed -->``.

    Args:
        path: The document that holds the place.
        marker: Which table of RESULTS.md, for example ``wall-2``.
    """
    found = _section(marker).search(RESULTS.read_text(encoding="utf-8"))
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in (found[2] if found else "").splitlines()]
    rows = [row for row in cells if len(row) == 8 and row[3].startswith(">=")]
    head = "| work | rival | rival / ours | target |\n|---|---|---:|---:|\n"
    table = head + "".join(f"| {' | '.join(row[:4])} |\n" for row in rows)
    text = path.read_text(encoding="utf-8")
    place = re.compile(r"(<!-- table:speed -->\n).*?(<!-- /table:speed -->)", re.DOTALL)
    if not rows or not place.search(text):
        raise SystemExit(f"{path} has no place for table:speed, or {RESULTS.name} no rows in results:{marker}")
    path.write_text(place.sub(lambda match: match[1] + table + match[2], text), encoding="utf-8")


def _section(marker: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- results:{marker} -->\n)(.*?)(<!-- /results:{marker} -->)", re.DOTALL)


def _key(row: str) -> tuple[str, str]:
    work, rival = row.strip("| ").split(" | ")[:2]
    return work.strip(), rival.strip()
