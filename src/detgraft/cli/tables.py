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
        title: Stands above; left out where it is empty.
        columns: The columns; the first two name a row in the list.
        rows: The cells.
        least: Characters that a column of sentences needs at least.
    """
    needed = _width(columns, rows, least)
    if needed + 2 * len(columns) > console.width:
        _print_list(console, title, columns, rows)
        return
    bordered = needed + 3 * len(columns) + 1 <= console.width
    heading = Text(title) if title else None
    if bordered:
        table = Table(title=heading, box=box.HEAVY_HEAD)
    else:
        table = Table(title=heading, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=not column.prose,
            overflow="fold",
            min_width=_needed(number, column, rows, least) if column.prose else None,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def fits(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], least: int = 24) -> bool:
    """Say whether :func:`print_table` prints a table and no list."""
    return _width(columns, rows, least) + 2 * len(columns) <= console.width


def print_prose(console: Console, text: str, indent: str = "", style: str = "") -> None:
    """Print sentences, parted between words only; what is longer than a line stays whole."""
    line = indent
    for word in text.split():
        if line.strip() and cell_len(line) + cell_len(word) + 1 > console.width:
            console.print(Text(line, style), soft_wrap=True)
            line = indent
        line = f"{line} {word}" if line.strip() else f"{line}{word}"
    if line.strip():
        console.print(Text(line, style), soft_wrap=True)


def print_pieces(console: Console, pieces: Sequence[str], indent: str = "  ") -> None:
    """Print names and figures with commas between; lines end behind a comma only."""
    line = ""
    for number, piece in enumerate(pieces):
        text = piece if number == len(pieces) - 1 else f"{piece},"
        if line and len(indent) + cell_len(line) + cell_len(text) + 1 > console.width:
            console.print(Text(f"{indent}{line}"), soft_wrap=True)
            line = text
        else:
            line = f"{line} {text}" if line else text
    if line:
        console.print(Text(f"{indent}{line}"), soft_wrap=True)


def _width(columns: Sequence[Column], rows: Sequence[Sequence[str]], least: int) -> int:
    return sum(_needed(number, column, rows, least) for number, column in enumerate(columns))


def _needed(number: int, column: Column, rows: Sequence[Sequence[str]], least: int) -> int:
    """The characters in which a column breaks no name."""
    cells = [column.heading, *(row[number] for row in rows)]
    if column.prose:
        longest = max(cell_len(word) for cell in cells for word in [*cell.split(), ""])
        return max(longest, min(least, max(map(cell_len, cells))))
    return max(cell_len(line) for cell in cells for line in cell.split("\n"))


def _print_list(console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    if title:
        console.print(Text(title, "bold"), soft_wrap=True)
    for row in rows:
        console.print(Text(f"{row[0]} {row[1]}".strip(), "bold"), soft_wrap=True)
        pieces: list[str] = []
        for column, cell in zip(columns[2:], row[2:], strict=True):
            if column.prose:
                print_pieces(console, pieces)
                pieces = []
                print_prose(console, cell, "  ")
            elif cell:
                first, *more = cell.split("\n")
                pieces += [f"{column.heading} {first}", *more]
        print_pieces(console, pieces)
