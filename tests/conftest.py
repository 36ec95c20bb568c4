"""Shared fixtures: an offline, quiet, isolated process for every test."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

# Set before ultralytics is imported anywhere: it reads these at import time.
_CONFIG_DIR = tempfile.mkdtemp(prefix="detgraft-tests-")
os.environ["YOLO_CONFIG_DIR"] = _CONFIG_DIR
os.environ["YOLO_OFFLINE"] = "1"
os.environ["YOLO_AUTOINSTALL"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the reference material; tests that need it are skipped where it is absent."""
    if not (SHARED / "REFERENCE.md").is_file():
        pytest.skip("the folder shared/ with the reference material is not beside this checkout")
    return SHARED


@pytest.fixture(autouse=True)
def _inside_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in its own temporary folder, so that nothing lands in the checkout."""
    monkeypatch.chdir(tmp_path)
