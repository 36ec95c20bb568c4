"""A study knows nothing of Ultralytics: with a stand-in for ``upstream/service/`` it runs from preflight to report."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import detgraft

FAKE = Path(__file__).with_name("fake")
STUDY = """
data: data.yaml
base: yolo11n
variants: [carafe]
seeds: 1
train: {epochs: 2, imgsz: 64, batch: 4}
controls: none
metrics: {bootstrap: 20}
out: out
"""
DRIVER = """
import sys
from detgraft.study.api import report, run
lines = []
done = run("study.yaml", say=lines.append)
assert done.complete, (done.failed, lines)
found = report("study.yaml")
assert found.html.is_file()
assert not any(name.split(".")[0] == "ultralytics" for name in sys.modules)
"""


def test_a_study_runs_from_preflight_to_report_without_ultralytics(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")
    pytest.importorskip("plotly", reason="the extra study is not installed")
    (tmp_path / "study.yaml").write_text(STUDY, "utf-8")
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
    (tmp_path / "data.yaml").write_text(
        f"path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: [cell, leaf]\n", "utf-8"
    )
    source = Path(detgraft.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(FAKE), str(source)))},
        capture_output=True,
        text=True,
        check=False,
    )
    logs = "".join(path.read_text("utf-8")[-2000:] for path in tmp_path.rglob("log.txt"))
    assert done.returncode == 0, done.stderr + logs
    results = [json.loads(path.read_text("utf-8")) for path in sorted(tmp_path.rglob("result.json"))]
    assert len(results) == 2
    assert all(0 < result["metrics"]["val"]["coco"]["AP"] < 1 for result in results)
    arm = {result["arm"]: result for result in results}
    assert arm["carafe"]["cost"]["params"] > arm["yolo11n"]["cost"]["params"] > 0
    assert arm["carafe"]["metrics"]["val"]["coco"]["AP"] > arm["yolo11n"]["metrics"]["val"]["coco"]["AP"]
    assert (tmp_path / "out" / "report" / "report.html").is_file()


def stand_in() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_service", FAKE / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def asked() -> dict[str, set[str]]:
    """What the study, and the pricing that it calls, take from each module of the service."""
    package = Path(detgraft.__file__).parent
    found: dict[str, set[str]] = {}
    for path in [*(package / "study").rglob("*.py"), package / "measure" / "price.py"]:
        tree = ast.parse(path.read_text("utf-8"))
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "detgraft.upstream.service":
                modules |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("detgraft.upstream.service."):
                module = str(node.module).rpartition(".")[2]
                found.setdefault(module, set()).update(alias.name for alias in node.names)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                found.setdefault(modules[node.value.id], set()).add(node.attr)
    return found


def test_the_stand_in_answers_what_the_service_answers() -> None:
    """Same names, same parameters in the same order, same fields: otherwise the test above would prove nothing."""
    fake, names = stand_in(), asked()
    assert {"training", "validation", "arms"} <= set(names)
    for module, wanted in names.items():
        real: Any = importlib.import_module(f"detgraft.upstream.service.{module}")
        for name in wanted:
            expected, found = (list(inspect.signature(getattr(m, name)).parameters) for m in (real, fake))
            assert found == expected, f"{module}.{name}"


def test_a_study_meets_upstream_only_through_the_service() -> None:
    package = Path(detgraft.__file__).parent
    strangers = []
    for path in (package / "study").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            strangers += [
                f"{path.relative_to(package)}:{node.lineno}: {name}"
                for name in names
                if name.startswith("detgraft.upstream") and not name.startswith("detgraft.upstream.service")
            ]
    assert strangers == []
