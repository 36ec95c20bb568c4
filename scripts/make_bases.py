"""Writes docs/bases.md: every stock model with every kind of graft, what works and why what does not.

``python scripts/make_bases.py [FILE]``, docs/bases.md by default. Each model is composed and its layers are built and
run up to the head on the meta device; that costs a second, where training would cost hours.
"""

from __future__ import annotations

import logging
import platform
import sys
from pathlib import Path

import torch
import ultralytics
from ultralytics.utils import LOGGER

from detgraft import __version__
from detgraft.errors import DetgraftError
from detgraft.upstream.describe.expressions import compose_mapping
from detgraft.upstream.describe.layers import run_on_meta
from detgraft.upstream.release.capabilities import stock_yamls

KINDS = {
    "backbone": "repvit_m0_6",
    "upsampling": "carafe",
    "downsampling": "spdconv",
    "stage attention": "simam",
    "level P2": "p2",
    "level P6": "p6",
    "refiner": "asff",
}
SIDE = 256


def models() -> list[str]:
    """Every stock model, without its ending and without a scale's letter."""
    return sorted(name.removesuffix(".yaml") for name in stock_yamls())


def outcome(expression: str) -> str:
    """Compose a model and run it up to its head; return an empty text, or why it cannot be had."""
    try:
        for run in run_on_meta(compose_mapping(expression), 3, SIDE, SIDE):
            problem = run.problem()
            if problem:
                return f"layer {run.index} ({run.module}) {problem}"
    except DetgraftError as error:
        text = error.message if hasattr(error, "message") else str(error)
        return text.partition(": ")[2] or text
    return ""


def table() -> str:
    """The document."""
    reasons: dict[str, int] = {}
    lines = [
        "| model | " + " | ".join(f"{kind} (`+{graft}`)" for kind, graft in KINDS.items()) + " |",
        "|---" * (len(KINDS) + 1) + "|",
    ]
    counts = dict.fromkeys(KINDS, 0)
    for name in models():
        cells = []
        for kind, graft in KINDS.items():
            reason = outcome(f"{name}+{graft}").replace(name, "it").replace("|", "/")
            counts[kind] += not reason
            cells.append("yes" if not reason else f"[{reasons.setdefault(reason, len(reasons) + 1)}]")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    total = len(models())
    summary = ", ".join(f"{kind} {count} of {total}" for kind, count in counts.items())
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join(
        [
            "# Stock models and kinds of graft",
            "",
            "Which of Ultralytics' own models take which kind of graft. `yes`: the expression composes, and its layers "
            "build and run up to the head at 256x256. A number is the reason below, which is what the error says, too.",
            "",
            f"Works: {summary}.",
            "",
            *lines,
            "",
            "## Reasons",
            "",
            *notes,
            "",
            f"Made by `python scripts/make_bases.py`: detgraft {__version__}, ultralytics {ultralytics.__version__}, "
            f"torch {torch.__version__}, Python {platform.python_version()}, on the CPU.",
            "",
        ]
    )


def main() -> None:
    """Write the document."""
    LOGGER.setLevel(logging.ERROR)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "docs" / "bases.md"
    target.write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    main()
