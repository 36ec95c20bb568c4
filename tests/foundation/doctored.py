"""Makes other forms of the installed release's ``parse_model``, as its next release may have them.

The installed source is changed as a syntax tree and written as a module of its own; the package itself stays as it is.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ultralytics.nn import tasks

from detgraft.upstream.describe.layers import original_parser
from detgraft.upstream.hooks import tasks as hooks

_HEAD = """
from ultralytics.nn import tasks as _tasks

globals().update({name: value for name, value in vars(_tasks).items() if not name.startswith("__")})
"""


class _Constants(ast.NodeTransformer):
    """Refactor A: sets of classes become constants of the module, made when it is imported."""

    def __init__(self) -> None:
        self.made: list[ast.stmt] = []

    def _constant(self, node: ast.expr) -> ast.expr:
        name = f"_CLASSES_{len(self.made)}"
        self.made.append(ast.Assign([ast.Name(name, ast.Store())], node))
        return ast.Name(name, ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id == "frozenset" and isinstance(node.args[0], ast.Set):
            return self._constant(node)
        self.generic_visit(node)
        return node

    def visit_Set(self, node: ast.Set) -> ast.expr:
        classes = all(isinstance(e, (ast.Name, ast.Attribute)) for e in node.elts)
        return self._constant(node) if classes else node


class _Lookup(ast.NodeTransformer):
    """Refactor B: the module of a row is looked up by a helper function."""

    found: ast.expr | None = None

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id == "m" and "globals()" in ast.unparse(node.value):
            self.found = node.value
            node.value = ast.parse("_find_module(m)", mode="eval").body
        return node


def constants(module: ast.Module) -> None:
    """Refactor A."""
    change = _Constants()
    change.visit(module)
    assert len(change.made) > 2, "the installed parser keeps its sets of classes elsewhere already"
    module.body[:0] = change.made


def lookup(module: ast.Module) -> None:
    """Refactor B."""
    change = _Lookup()
    change.visit(module)
    assert change.found is not None, "the installed parser looks its modules up elsewhere already"
    module.body[:0] = ast.parse(f"def _find_module(m):\n    return {ast.unparse(change.found)}").body


def further_argument(module: ast.Module) -> None:
    """Refactor C: a further argument, before the last one, whose value has an effect."""
    function = next(f for f in module.body if isinstance(f, ast.FunctionDef) and f.name == "parse_model")
    function.args.args.insert(2, ast.arg("task"))
    function.args.defaults.insert(0, ast.Constant("detect"))
    function.args.kwonlyargs.append(ast.arg("strict"))
    function.args.kw_defaults.append(ast.Constant(False))
    function.body[1:1] = ast.parse("RECEIVED.append((task, strict))").body
    module.body[:0] = ast.parse("RECEIVED = []").body


def doctored_parser(folder: Path, changes: Sequence[Callable[[ast.Module], None]]) -> Any:
    """Write a changed copy of the installed parser and import it.

    Args:
        folder: Where the module is written.
        changes: What is changed, in order; each is given the module that holds the function alone.
    """
    module = ast.parse(inspect.getsource(original_parser()))
    for change in changes:
        change(module)
    return imported(folder, ast.unparse(ast.fix_missing_locations(module)))


def parser_text() -> str:
    """The installed parser's source in one spelling, whatever its layout."""
    return ast.unparse(ast.parse(inspect.getsource(original_parser())))


def imported(folder: Path, text: str) -> Any:
    """Write a parser's source as a module that knows the names of the real one, and import it."""
    path = folder / "doctored_tasks.py"
    path.write_text(_HEAD + text, "utf-8")
    spec = importlib.util.spec_from_file_location("doctored_tasks", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.parse_model


def installed(monkeypatch: pytest.MonkeyPatch, parser: Any) -> None:
    """Let a parser take the installed one's place behind detgraft's hook."""
    wrapper = functools.wraps(parser)(hooks._parse_model(parser))
    wrapper.__detgraft_original__ = parser  # type: ignore[attr-defined]
    monkeypatch.setattr(tasks, "parse_model", wrapper)
