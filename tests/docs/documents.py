"""Reads the documents for the tests of this folder: pages, fenced blocks, commands, headings, figures."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CHINESE = ".zh.md"
GENERATED = re.compile(r"(Generated|Made) by `")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
REPORT = re.compile(r"report(-\d+)?\.md|claims\.md")
"""What `detgraft study report` writes, and what it reads; as they are."""

FIGURE = re.compile(r"(?<![A-Za-z_\d.])[+-]?\d(?:[\d,.]*\d)?(?![A-Za-z_\d])")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the page that it stands on."""

    language: str
    text: str
    page: str


def pages() -> list[Path]:
    """Every written page of the site in its default language: results' own reports and generated tables left out."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if not path.name.endswith(CHINESE)]
    own = [path for path in found if "results" not in path.relative_to(DOCS).parts[:-1] or path.name == "index.md"]
    return [path for path in own if not is_generated(path)]


def is_generated(path: Path) -> bool:
    """Whether a page is made by a script, by what its beginning says."""
    return bool(GENERATED.search(path.read_text("utf-8")[:600]))


def chinese(path: Path) -> Path:
    """The Chinese form of a page."""
    return ROOT / "README.zh-CN.md" if path == ROOT / "README.md" else path.with_suffix("").with_suffix(CHINESE)


def every_page() -> list[Path]:
    """Every page of the site in its default language, generated tables and results' own pages too, without reports."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if not path.name.endswith(CHINESE)]
    return [path for path in found if not REPORT.fullmatch(path.name)]


def twins() -> list[tuple[Path, Path]]:
    """Every page with its Chinese one, which may be missing."""
    return [(path, chinese(path)) for path in [ROOT / "README.md", *every_page()]]


def headings(path: Path) -> list[int]:
    """The levels of a page's headings, in order."""
    return [len(mark) for mark in re.findall(r"^(#+) ", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)]


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    name = path.relative_to(ROOT).as_posix()
    return [Block(language, text, name) for language, text in FENCE.findall(path.read_text("utf-8"))]


def commands(text: str) -> list[list[str]]:
    """The ``detgraft`` commands in a shell block, as words, without comments; ``&&`` separates commands."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if "detgraft " in line else []
        while words:
            cut = words.index("&&") if "&&" in words else len(words)
            if words[:1] == ["detgraft"]:
                found.append(words[1:cut])
            words = words[cut + 1 :]
    return found


def prose(path: Path) -> str:
    """A page without its fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", FENCE.sub("", path.read_text("utf-8")), flags=re.DOTALL)


def figures(path: Path) -> Counter[str]:
    """The numbers of a page's prose, each with how often it stands there."""
    return Counter(found.rstrip(".,") for found in FIGURE.findall(prose(path)))
