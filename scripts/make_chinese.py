"""Writes the Chinese form of every page that a script makes: ``python scripts/make_chinese.py [--check]``.

A page that is generated in English, wholly or in part, has a frame ``scripts/chinese/NAME.md``: its Chinese text, with
places for what the English page has. Nothing is measured or built here; run it after any script that writes a page.

- ``<!-- table 2: HEADING | HEADING -->``: the second table of the English page under these headings
- ``<!-- section: TITLE -->``: what stands below that heading of the English page, up to the next one of its level
- ``{0}``, ``{1}``: the first, the second number (or date) of the English page's prose
- below ``=== words ===``: ``english = 中文`` for whole cells, or parts of cells behind a colon or between semicolons;
  ``~english = 中文`` for pieces of lines in what is taken over. ``{}`` in a cell stands for anything.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRAMES = ROOT / "scripts" / "chinese"
DOCS = ROOT / "docs"
WORDS = "\n=== words ===\n"
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FIGURE = re.compile(r"\d{4}-\d\d-\d\d|(?<![A-Za-z_\d.])[+-]?\d(?:[\d,.]*\d)?(?![A-Za-z_\d])")


class FrameError(Exception):
    """A frame that does not fit its English page."""


def tables(text: str) -> list[str]:
    """Return the tables of a page outside of its fenced blocks, as they stand there."""
    return TABLE.findall(FENCE.sub("", text))


def prose_figures(text: str) -> list[str]:
    """Return the numbers of a page outside of tables, fenced blocks and comments, in order."""
    bare = re.sub(r"<!--.*?-->", "", TABLE.sub("", FENCE.sub("", text)), flags=re.DOTALL)
    return [found.rstrip(".,") for found in FIGURE.findall(bare)]


def section(text: str, title: str) -> str:
    """Return what stands below a heading.

    Raises:
        FrameError: There is no such heading.
    """
    fenced = [(found.start(), found.end()) for found in FENCE.finditer(text)]
    heads = [
        (found.start(), found.end(), len(found[1]), found[2])
        for found in re.finditer(r"^(#+) (.*)$", text, re.MULTILINE)
        if not any(start < found.start() < end for start, end in fenced)
    ]
    for number, (_, end, level, name) in enumerate(heads):
        if name == title:
            after = [start for start, _, deep, _ in heads[number + 1 :] if deep <= level]
            return re.sub(r"<!--.*?-->", "", text[end : after[0] if after else None], flags=re.DOTALL).strip("\n")
    raise FrameError(f"the English page has no heading {title!r}")


def translator(words: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Return what translates a cell, and what translates a line outside of tables."""
    whole: list[tuple[re.Pattern[str], str]] = []
    pieces: list[tuple[str, str]] = []
    for line in filter(None, words.splitlines()):
        english, _, chinese = line.partition(" = ")
        if english.startswith("~"):
            pieces.append((english[1:], chinese))
        else:
            whole.append((re.compile(re.escape(english).replace(r"\{\}", "(.+)")), chinese))

    def one(text: str) -> str | None:
        for pattern, chinese in whole:
            found = pattern.fullmatch(text)
            if found:
                return chinese.format(*found.groups())
        return None

    def cell(text: str) -> str:
        known = one(text)
        if known is not None:
            return known
        for mark, other in ((": ", "："), ("; ", "；")):
            parts = text.split(mark)
            if len(parts) > 1 and any(one(part) for part in parts):
                return other.join(one(part) or cell(part) for part in parts)
        return text

    def line(text: str) -> str:
        for english, chinese in pieces:
            text = text.replace(english, chinese)
        return text

    return cell, line


def page(frame: str, english: str) -> str:
    """Return a Chinese page.

    Args:
        frame: The frame's text.
        english: The English page.

    Raises:
        FrameError: The frame names a table, section or number that the English page does not have.
    """
    text, _, words = frame.partition(WORDS)
    cell, line = translator(words)
    have, numbers = tables(english), prose_figures(english)

    def cells(row: str) -> list[str]:
        return [part.strip() for part in re.split(r"(?<!\\)\|", row.strip().strip("|"))]

    def translated(table: str, heads: list[str] | None) -> str:
        first, rule, *rows = table.rstrip("\n").splitlines()
        if heads is not None and len(heads) != len(cells(first)):
            raise FrameError(f"{len(heads)} headings for the {len(cells(first))} columns of {first}")
        body = [f"| {' | '.join(cell(part) for part in cells(row))} |" for row in rows]
        return "\n".join([f"| {' | '.join(heads or cells(first))} |", rule, *body])

    def table(found: re.Match[str]) -> str:
        number = int(found[1])
        if number > len(have):
            raise FrameError(f"there is no table {number}")
        return translated(have[number - 1], [head.strip() for head in found[2].split(" | ")])

    def taken(found: re.Match[str]) -> str:
        parts = re.split(r"(^```.*?^```$)", section(english, found[1]), flags=re.DOTALL | re.MULTILINE)
        out = []
        for part in parts:
            if part.startswith("```"):
                out.append(part)
                continue
            kept = TABLE.sub(lambda t: translated(t[0], None) + "\n", part)
            out.append("\n".join(text if text.startswith("|") else line(text) for text in kept.split("\n")))
        return "".join(out)

    def number(found: re.Match[str]) -> str:
        if int(found[1]) >= len(numbers):
            raise FrameError(f"there is no number {found[0]}")
        return numbers[int(found[1])]

    text = re.sub(r"\{(\d+)\}", number, text)
    text = re.sub(r"<!-- table (\d+): (.*?) -->", table, text)
    text = re.sub(r"<!-- section: (.*?) -->", taken, text)
    note = "<!-- Made by scripts/make_chinese.py from the English page and scripts/chinese/{name}; do not edit. -->\n\n"
    return note + text.rstrip("\n") + "\n"


def pages() -> dict[Path, str]:
    """Return every page that has a frame, with what should stand in it.

    Raises:
        FrameError: A frame does not fit its English page.
    """
    made = {}
    for path in sorted(FRAMES.rglob("*.md")):
        name = path.relative_to(FRAMES)
        try:
            text = page(path.read_text("utf-8"), (DOCS / name).read_text("utf-8"))
        except FrameError as error:
            raise FrameError(f"scripts/chinese/{name.as_posix()}: {error}") from None
        made[(DOCS / name).with_suffix(".zh.md")] = text.replace("{name}", name.as_posix(), 1)
    return made


def main() -> int:
    """Write the pages, or say which differ."""
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text("utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for path, text in pages().items():
            path.write_text(text, "utf-8")
    print(f"differ: {', '.join(path.name for path in stale)}" if stale else "as the English pages have it")
    return int("--check" in sys.argv[1:] and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
