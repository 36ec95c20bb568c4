"""The catalogue's page and its parameters are generated; they say what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detgraft.catalog.parameters import PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))


def test_parameters_are_those_of_the_modules() -> None:
    import make_catalogue

    entries = [entry for entry in make_catalogue.own_entries() if entry.channels != "structure"]
    assert [entry.name for entry in entries] == list(PARAMETERS)
    small = [entry for entry in entries if entry.channels != "pyramid"]
    found = {entry.name: sum(p.numel() for p in make_catalogue.built(entry).parameters()) for entry in small}
    assert found == {entry.name: PARAMETERS[entry.name] for entry in small}


def test_the_page_has_every_graft() -> None:
    text = (ROOT / "docs" / "catalogue.md").read_text("utf-8")
    missing = [name for name in PARAMETERS if f"### {name}\n" not in text and f"`{name}`" not in text]
    assert not missing


@pytest.mark.slow
def test_page_and_parameters_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_catalogue.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
