"""Counts the package as it stood at some revisions: files, lines of code, functions, how long they are, import circles.

    python scripts/count_code.py 6d1dcf1 HEAD

A line of code is one that holds a token other than a comment or a docstring. Circles count imports inside functions,
too, but not those for type checkers only.
"""

from __future__ import annotations

import ast
import io
import statistics
import subprocess
import sys
import tarfile
import tokenize
from pathlib import Path

PACKAGE = "src/detgraft"
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def files_at(revision: str) -> dict[str, str]:
    """Return the package's Python files at a revision, by path."""
    done = subprocess.run(["git", "archive", revision, PACKAGE], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = [member for member in archive.getmembers() if member.isfile() and member.name.endswith(".py")]
        return {m.name.removeprefix("src/"): archive.extractfile(m).read().decode() for m in members}  # type: ignore[union-attr]


def lines_of_code(source: str) -> int:
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            for one in body:  # docstrings of modules, classes, functions and attributes
                if (
                    isinstance(one, ast.Expr)
                    and isinstance(one.value, ast.Constant)
                    and isinstance(one.value.value, str)
                ):
                    docstrings.update(range(one.lineno, (one.end_lineno or one.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SKIPPED:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def main(revisions: list[str]) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from test_architecture import circles, imports_of

    rows = ("files", "folders", "most files in a folder", "lines of code", "functions", "median lines of a function")
    rows = (*rows, "99th percentile", "import circles")
    columns = []
    for revision in revisions:
        files = files_at(revision)
        lengths = [
            (node.end_lineno or node.lineno) - node.lineno + 1
            for source in files.values()
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        folders = [path.rpartition("/")[0] for path in files if not path.endswith("__init__.py")]
        names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): s for path, s in files.items()}
        graph = {name: imports_of(source, names) - {name} for name, source in names.items()}
        columns.append(
            (
                len(files),
                len(set(folders)),
                max(map(folders.count, folders)),
                sum(map(lines_of_code, files.values())),
                len(lengths),
                statistics.median(lengths),
                statistics.quantiles(lengths, n=100)[98],
                len(circles(graph)),
            )
        )
    print(f"| | {' | '.join(revisions)} |\n|---|{'---:|' * len(revisions)}")
    for name, *values in zip(rows, *columns, strict=True):
        print(f"| {name} | {' | '.join(f'{value:,.0f}' for value in values)} |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["HEAD"])
