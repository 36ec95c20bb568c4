"""``detgraft demo``: shows on made pictures that a graft trains and detects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from detgraft.cli.arguments import parse_pairs
from detgraft.cli.keys import check_keys
from detgraft.cli.tables import Column, print_prose, print_table
from detgraft.demo.demonstration import GRAFT, STOCK, DemoResult, run_demo
from detgraft.errors import ArgumentError


def command(words: Sequence[str]) -> None:
    """Run the demonstration and print the comparison.

    Raises:
        DetgraftError: Wrong arguments, or a model that cannot be built.
    """
    pairs = {"out": "detgraft-demo", "graft": GRAFT, "epochs": 30, **parse_pairs(words)}
    check_keys("demo", pairs)
    if not isinstance(pairs["epochs"], int) or isinstance(pairs["epochs"], bool) or pairs["epochs"] < 1:
        raise ArgumentError(f"epochs must be a whole number above 0, found {pairs['epochs']!r}")
    console = Console()
    console.print(
        f"Training stock [b]{STOCK}[/b] and [b]{pairs['graft']}[/b] from scratch on made pictures, on the CPU.\n"
        "This takes some minutes; nothing is downloaded.",
        highlight=False,
    )
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as bars:
        tasks: dict[str, object] = {}

        def progress(name: str, done: int, total: int) -> None:
            task = tasks.setdefault(name, bars.add_task(name, total=total) if name not in tasks else None)
            bars.update(task, completed=done, total=total)  # type: ignore[arg-type]

        result = run_demo(Path(str(pairs["out"])), graft=str(pairs["graft"]), epochs=pairs["epochs"], progress=progress)
    _print(console, result)


def _print(console: Console, result: DemoResult) -> None:
    headings = ("parameters", "GFLOPs (640)", "mAP50", "mAP50-95", "training")
    columns = [Column("model"), *(Column(heading, right=True) for heading in headings)]
    rows = [
        (
            model.model,
            f"{model.params:,}",
            f"{model.gflops:.2f}",
            f"{model.map50:.3f}",
            f"{model.map50_95:.3f}",
            f"{model.seconds:.0f} s",
        )
        for model in result.models
    ]
    print_table(console, "Validation on made pictures", columns, rows)
    print_prose(console, f"The truth and what both models found: {result.picture}")
    print_prose(console, f"Checkpoint: {result.models[-1].weights}")
    text = "One run of each, one seed, a made data set: this shows that the graft works, not that it is better."
    print_prose(console, text)
