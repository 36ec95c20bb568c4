"""Tables that lose no figure and break no name, however narrow the window is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        heading: Its heading.
        right: Whether its cells stand to the right, as figures do.
        prose: Whether its cells are sentences, which may go on in the next line between two words.
    """

    heading: str
    right: bool = False
    prose: bool = False


def print_table(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], least: int = 24
) -> None:
    """Print a table with lines where the window is wide enough, without them, or as a list.

    Args:
        console: Where to.
        title: Stands above.
        columns: The columns; the first two name a row in the list.
        rows: The cells.
        least: Characters that a column of sentences needs at least.
    """
    needed = [_needed(number, column, rows, least) for number, column in enumerate(columns)]
    bordered = sum(needed) + 3 * len(columns) + 1
    if min(bordered, sum(needed) + 2 * len(columns)) > console.width:
        _print_list(console, title, columns, rows)
        return
    table = Table(title=title, box=box.HEAVY_HEAD if bordered <= console.width else box.SIMPLE_HEAD, pad_edge=False)
    if bordered <= console.width:
        table.pad_edge = True
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=not column.prose,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _needed(number: int, column: Column, rows: Sequence[Sequence[str]], least: int) -> int:
    cells = [column.heading, *(row[number] for row in rows)]
    if column.prose:
        return min(least, max(map(cell_len, cells)))
    return max(cell_len(line) for cell in cells for line in cell.split("\n"))


def _print_list(console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    console.print(Text(title, "bold"), soft_wrap=True)
    for row in rows:
        console.print(Text(f"{row[0]} {row[1]}".strip(), "bold"), soft_wrap=True)
        line = " "
        for column, cell in zip(columns[2:], row[2:], strict=True):
            if not cell:
                continue
            piece = cell if column.prose else f"{column.heading} {cell}"
            if column.prose:
                if line.strip():
                    console.print(line, highlight=False, markup=False, soft_wrap=True)
                    line = " "
                _print_prose(console, piece)
            elif line.strip() and cell_len(line) + cell_len(piece) + 3 > console.width:
                console.print(line, highlight=False, markup=False, soft_wrap=True)
                line = f"  {piece}"
            else:
                line = f"{line}, {piece}" if line.strip() else f"  {piece}"
        if line.strip():
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_prose(console: Console, text: str) -> None:
    """Print sentences, parted between words only."""
    line = " "
    for word in text.split():
        if line.strip() and cell_len(line) + cell_len(word) + 1 > console.width:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
            line = " "
        line = f"{line} {word}"
    if line.strip():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
