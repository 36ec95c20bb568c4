"""What a release needs: one version, licences as the catalogue has them, a wheel that works alone."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detgraft._version import __version__

ROOT = Path(__file__).resolve().parent.parent


def test_the_table_of_licences_is_the_catalogues(tmp_path: Path) -> None:
    # In a process of its own: other tests register blocks.
    written = tmp_path / "licences.md"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_licences.py"), str(written)], check=True)
    assert written.read_text("utf-8") == (ROOT / "docs" / "licences.md").read_text("utf-8")


def test_every_graft_says_where_it_comes_from() -> None:
    from detgraft.catalog.registry import catalogue

    # `neck` has rows of the user's own file, so nothing of its own comes from anywhere.
    entries = [e for e in catalogue if e.origin == "detgraft" and e.name != "neck"]
    assert [e.name for e in entries if not (e.provenance.paper and e.provenance.licence)] == []


def test_the_citation_has_the_packages_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == __version__


def _constraints() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []
    return dict(line.split("==") for line in lines)


def test_the_constraints_name_every_requirement_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tomllib", reason="Python 3.11")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    direct = importlib.import_module("make_constraints").direct()
    pinned = _constraints()
    assert {"ultralytics", "torch", "onnx", "openpyxl", "lightning-fabric", "faster-coco-eval"} <= direct.keys()
    assert direct.keys() - pinned.keys() == set()
    assert [name for name, needed in direct.items() if not needed.specifier.contains(pinned[name])] == []


def test_the_bound_on_ultralytics_is_what_was_tried() -> None:
    from packaging.requirements import Requirement

    from detgraft.upstream.release.capabilities import TRIED

    text = re.search(r'"(ultralytics[^"]*)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert text is not None
    allowed = Requirement(text[1]).specifier
    major, minor, _ = map(int, TRIED[-1].split("."))
    assert [version for version in TRIED if not allowed.contains(version)] == []
    assert not allowed.contains("8.2.103")
    assert not allowed.contains(f"{major}.{minor + 1}.0"), "a release line that nobody tried"
    assert _constraints()["ultralytics"] == TRIED[-1]


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_workflows_and_templates_are_yaml_and_run_what_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    assert isinstance(yaml.safe_load(text), dict)
    for named in re.findall(r"(?:scripts|tests)/[\w./]+|\.ci/run", text):
        assert (ROOT / named).exists(), named


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_alone_runs_the_demonstration(tmp_path: Path) -> None:
    missing = [name for name in ("build", "twine") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} (pip install build twine)")
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".*_cache", ".hypothesis", "__pycache__", "runs")
    )
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(tmp_path / "dist"), str(source)], check=True)
    made = sorted((tmp_path / "dist").iterdir())
    assert [p.name for p in made] == [f"detgraft-{__version__}-py3-none-any.whl", f"detgraft-{__version__}.tar.gz"]
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, made)], check=True)
    empty = tmp_path / "empty"
    # pip would take what lies on PYTHONPATH for installed
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-m", "venv", str(empty)], check=True, env=environment)
    binaries = empty / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([str(binaries / "pip"), "install", "--quiet", str(made[0])], check=True, env=environment)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([str(binaries / "detgraft"), "demo"], check=True, cwd=elsewhere, env=environment)
    assert list(elsewhere.rglob("predictions.png"))
