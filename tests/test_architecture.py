"""The rooms: only upstream/ knows Ultralytics, blocks/ and pretraining/ live without it, inner packages are empty."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import deque
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

import pytest

import detgraft
from detgraft.catalog.registry import catalogue
from detgraft.catalog.spec import Graft

LICENCES = ("Apache-2.0", "MIT", "BSD", "AGPL-3.0", "GPL-3.0", "CC-BY-NC", "research only", "no licence")
PACKAGE = Path(detgraft.__file__).resolve().parent
FILES = sorted(PACKAGE.rglob("*.py"))
ALONE = (
    "base",
    "blocks",
    "pretraining",
    "kernels",
    "plan",
    "catalog",
    "weights",
    "datasets",
)  # rooms that need no Ultralytics


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, inside functions too, with the line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                yield str(node.args[0].value), node.lineno


def test_only_upstream_imports_ultralytics() -> None:
    strangers = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in FILES
        for name, line in imported(path)
        if name.split(".")[0] == "ultralytics" and path.relative_to(PACKAGE).parts[0] != "upstream"
    ]
    assert strangers == [], "put a function into upstream/ and call that"


def test_upstream_does_import_it() -> None:
    names = {name for path in (PACKAGE / "upstream").rglob("*.py") for name, _ in imported(path)}
    assert "ultralytics" in {name.split(".")[0] for name in names}


# detgraft.testing is a public name of its own, for authors of plug-ins.
@pytest.mark.parametrize(
    "room", sorted({path.parent for path in FILES} - {PACKAGE, PACKAGE / "testing"}), ids=lambda p: p.name
)
def test_inner_packages_are_empty(room: Path) -> None:
    init = room / "__init__.py"
    if not init.is_file():
        pytest.skip("holds templates, not modules")
    assert init.read_text("utf-8").strip() == "", "import from the defining module"


_BLOCKED = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ultralytics":
            raise ImportError(f"{name} is blocked by this test")

sys.meta_path.insert(0, Blocker())
for room in sys.argv[1:]:
    package = importlib.import_module(f"detgraft.{room}")
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(info.name)
        except ImportError:
            raise
        except ValueError as error:
            if type(error).__name__ != "MissingExtraError":  # an optional package that is not installed here
                raise
assert "ultralytics" not in sys.modules
print(len([name for name in sys.modules if name.startswith("detgraft.")]))
"""


def test_these_rooms_import_without_ultralytics() -> None:
    found = subprocess.run([sys.executable, "-c", _BLOCKED, *ALONE], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 30


def test_plan_and_catalog_import_without_torch() -> None:
    code = _BLOCKED.replace('"ultralytics"', '"torch"')
    found = subprocess.run([sys.executable, "-c", code, "plan", "catalog"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


ENTRIES = list({entry.name: entry for name in catalogue.names() if (entry := catalogue.find(name))}.values())
HEADERS = {
    path: " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split())
    for path in sorted((PACKAGE / "blocks").rglob("*.py"))
    if path.name != "__init__.py"
}


def test_blocks_name_their_paper_or_say_that_there_is_none() -> None:
    assert [path.name for path, header in HEADERS.items() if "paper" not in header.lower()] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_blocks_header_and_its_entry_agree(entry: Graft) -> None:
    """Paper, source, licence and the weights' licence stand in two places: on top of the file and in the catalogue."""
    if entry.origin != "detgraft":
        pytest.skip(f"'{entry.name}' comes from {entry.origin}")
    if entry.channels == "structure":
        pytest.skip(f"'{entry.name}' arranges Ultralytics' own modules; there is no block")
    if str(entry.target).startswith("ultralytics."):
        pytest.skip(f"'{entry.name}' is a stock module under a default site")
    module = str(entry.target).partition(":")[0].removeprefix("detgraft.").replace(".", "/")
    header = HEADERS[PACKAGE / f"{module}.py"]
    provenance = entry.provenance
    for field in ("paper", "source", "licence"):
        assert getattr(provenance, field), f"the entry names no {field}"
    repository = provenance.source.split("github.com/")[-1].split()[0].rstrip(",.;/")
    assert repository.lower() in header.lower(), f"{module}: the header does not name {repository}"
    licence = provenance.licence.lower().replace("none stated", "no licence")
    named = [word for word in LICENCES if word.lower() in licence]
    assert named, f"'{provenance.licence}' names none of {LICENCES}"
    assert [word for word in named if word.lower() not in header.lower()] == [], module
    for word in (word for word in LICENCES if word.lower() in provenance.weights_licence.lower()):
        assert re.search(r"weights\b", header, re.I), f"{module}: the header is silent about weights"
        assert word.lower() in header.lower(), f"{module}: the header does not name the weights' licence {word}"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Everything below a node but what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from at_run_time(other)
            continue
        yield child
        yield from at_run_time(child)


def imports_of(source: str, known: Container[str]) -> set[str]:
    """The modules among ``known`` that a file imports, inside functions and by ``import_module`` too."""
    found: set[str] = set()
    for node in at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {whole if whole in known else node.module for whole in names.values()}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                found.add(str(node.args[0].value))
    return {name for name in found if name in known}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """One shortest path back to itself for every module that lies on a circle, each circle once."""
    found: dict[frozenset[str], list[str]] = {}
    for start in graph:
        paths = deque([[start]])
        seen: set[str] = set()
        while paths:
            path = paths.popleft()
            for following in sorted(graph[path[-1]]):
                if following == start:
                    found.setdefault(frozenset(path), [*path, start])
                    paths.clear()
                    break
                if following not in seen:
                    seen.add(following)
                    paths.append([*path, following])
    return list(found.values())


def test_circles_are_found() -> None:
    files = {
        "p.a": "def f():\n    from p import b",
        "p.b": "from p.c import x",
        "p.c": "import importlib\nimportlib.import_module('p.a')",
        "p.d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.e\nelse:\n    import p.a",
        "p.e": "import p.d",
    }
    graph = {name: imports_of(source, files) for name, source in files.items()}
    assert graph == {"p.a": {"p.b"}, "p.b": {"p.c"}, "p.c": {"p.a"}, "p.d": {"p.a"}, "p.e": {"p.d"}}
    assert circles(graph) == [["p.a", "p.b", "p.c", "p.a"]]


def test_no_import_circles_inside_functions_either() -> None:
    names = {module_name(path): path for path in FILES}
    graph = {name: imports_of(path.read_text("utf-8"), names) - {name} for name, path in names.items()}
    assert sum(map(len, graph.values())) > 300
    found = circles(graph)
    assert not found, f"{len(found)} circles:\n" + "\n".join(" -> ".join(path) for path in found)


def test_the_table_of_rooms_is_complete() -> None:
    page = PACKAGE.parents[1] / "docs" / "architecture.md"
    if not page.is_file():
        pytest.skip("installed without its documents")
    rows = [line.split("|")[1:3] for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    named, room = set(), ""
    for cells in rows:
        first, second = (cell.strip().strip("`/") for cell in cells)
        room = first or room
        named.add(f"{room}/{second}" if second else room)
    folders = {str(path.parent.relative_to(PACKAGE)) for path in FILES} - {"."}
    assert folders - named == set(), "rooms that docs/architecture.md does not name"
    assert {name for name in named if (PACKAGE / name).is_dir()} == named - {"room/sub-room"}
