"""docs/trust.md is what the tests try, and they try enough."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

pytestmark = pytest.mark.trust


def test_the_page_is_generated() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_trust.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_enough_is_tried() -> None:
    import make_trust

    text = make_trust.page()
    counts = {
        line.split(" (")[0][3:]: int(line.split(" (")[1][:-1])
        for line in text.splitlines()
        if line.startswith("## ") and "(" in line
    }
    assert counts["Damaged files of a study"] >= 44
    assert counts["Inputs that changed between two sittings"] >= 12
    assert counts["Two processes that want the same run"] >= 9
    assert counts["Hostile files"] >= 50
