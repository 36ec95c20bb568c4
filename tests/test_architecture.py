"""The rooms: only upstream/ knows Ultralytics, blocks/ and pretraining/ live without it, inner packages are empty."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import detgraft

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


def test_blocks_name_their_source_and_licence() -> None:
    for path in sorted((PACKAGE / "blocks").rglob("*.py")):
        if path.name == "__init__.py":
            continue
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        assert "paper" in text.lower(), f"{path.name}: the docstring on top names the paper, or says that there is none"
