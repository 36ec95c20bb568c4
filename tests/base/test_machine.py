"""What a result is said to come from: processors that may be used, versions, optional packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detgraft._version import __version__
from detgraft.base import extras
from detgraft.base.extras import OPTIONAL, missing, require
from detgraft.base.processors import available_cpus
from detgraft.base.provenance import EXPORTERS, versions
from detgraft.errors import MissingExtraError

PROJECT = Path(__file__).resolve().parents[2]


def group(root: Path, lines: str, **content: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, text in content.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_processors_without_groups_are_those_of_the_affinity_mask(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from detgraft.base.processors import available_cpus; print(available_cpus())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_containers_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    # Version 2: the least of the group and those around it.
    two = group(
        tmp_path / "two", "0::/user/job\n", user__job__cpu_max="800000 100000\n", user__cpu_max="250000 100000\n"
    )
    assert available_cpus(two) == 2
    free = group(tmp_path / "free", "0::/job\n", job__cpu_max="max 100000\n")
    assert available_cpus(free) == 64
    # In a container the path is the host's, and the own group is mounted at the top.
    inside = group(tmp_path / "inside", "0::/../docker/x\n", cpu_max="350000 100000\n")
    assert available_cpus(inside) == 3
    small = group(tmp_path / "small", "0::/\n", cpu_max="50000 100000\n")
    assert available_cpus(small) == 1
    one = group(
        tmp_path / "one",
        "5:memory:/job\n4:cpu,cpuacct:/job\n",
        **{
            "cpu,cpuacct__job__cpu_cfs_quota_us": "400000\n",
            "cpu,cpuacct__job__cpu_cfs_period_us": "100000\n",
            "cpu,cpuacct__cpu_cfs_quota_us": "-1\n",
            "cpu,cpuacct__cpu_cfs_period_us": "100000\n",
        },
    )
    assert available_cpus(one) == 4


def test_versions_come_from_one_list() -> None:
    found = versions()
    assert found["detgraft"] == __version__
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert set(found) <= set(versions(*EXPORTERS))
    lists = [
        path.name
        for path in (PROJECT / "src").rglob("*.py")
        if re.search(r"importlib(\.metadata)? import .*\b(version|metadata)\b", path.read_text("utf-8"))
    ]
    assert lists == ["provenance.py"]


def test_the_named_extra_brings_the_package() -> None:
    text = (PROJECT / "pyproject.toml").read_text("utf-8")
    for package, extra in OPTIONAL.values():
        listed = re.search(rf"^{extra} = \[(.*?)\]$", text, re.DOTALL | re.MULTILINE)
        assert listed is not None
        assert re.search(rf'"{re.escape(package)}\b', listed[1]), f"{package} is not in the extra {extra}"


def test_a_missing_package_is_named_with_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingExtraError) as caught:
        require("plotly.offline")
    text = str(caught.value)
    assert f'pip install -e "{PROJECT}[study]"' in text  # the tests run in a source tree
    assert 'pip install "detgraft[study]"' in text
    monkeypatch.setattr(extras, "_checkout", lambda: "")
    assert str(missing("tensorboard", "pretrain")).endswith('Install it with: pip install "detgraft[pretrain]"')


def test_optional_packages_are_asked_for_in_one_place() -> None:
    words = re.compile(r"MissingExtraError\(|importlib\.util\.find_spec\(\"(onnx|plotly|ray|mlflow|tensorboard)\"")
    found = [
        path.name
        for path in (PROJECT / "src").rglob("*.py")
        if path.name not in ("extras.py", "errors.py") and words.search(path.read_text("utf-8"))
    ]
    assert found == []
