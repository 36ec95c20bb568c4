"""Checkpoints of earlier versions open in a plain user's script, and answer as they did when they were written."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "checkpoints"
FILES = sorted(GOLDEN.glob("*/*.pt"))
FOLDERS = sorted({path.parent.name for path in FILES})

_OPEN = """
import sys
import numpy
import torch
import detgraft
from ultralytics import YOLO
picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    model = YOLO(source).model.float().eval()
    with torch.no_grad():
        answer = model(picture)
    while not isinstance(answer, torch.Tensor):
        answer = answer[0]
    numpy.save(target, answer.numpy())
"""


@pytest.mark.parametrize("restricted", ["0", "1"], ids=["usual", "restricted"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_they_open_and_answer_as_before(folder: str, restricted: str, tmp_path: Path) -> None:
    if restricted == "1":
        from detgraft.upstream.release.capabilities import HAS_SAFE_LOAD

        if not HAS_SAFE_LOAD:
            pytest.skip("this Ultralytics has no restricted loading")
    files = [path for path in FILES if path.parent.name == folder]
    words = [word for path in files for word in (str(path), str(tmp_path / f"{path.stem}.npy"))]
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, *words],
        env={**os.environ, "ULTRALYTICS_SAFE_LOAD": restricted},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for path in files:
        expected = np.load(path.with_suffix(".npz"))["answer"]
        found = np.load(tmp_path / f"{path.stem}.npy")
        # Boxes are in pixels of a picture of 64: another processor rounds differently, another model is far off.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3, err_msg=path.name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_class_paths_that_they_hold_are_there(path: Path) -> None:
    for name in np.load(path.with_suffix(".npz"))["classes"].tolist():
        module, _, attribute = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), attribute), type), name


def test_every_kind_of_graft_has_one() -> None:
    from detgraft.catalog.registry import catalogue
    from detgraft.catalog.spec import CHANNEL_RULES

    newest = [path for path in FILES if path.parent.name == FOLDERS[0]]
    rows = {name for path in newest for name in np.load(path.with_suffix(".npz"))["rows"].tolist()}
    kinds = {entry.channels for name in rows if (entry := catalogue.find(name)) is not None}
    assert set(CHANNEL_RULES) - {"fixed"} <= kinds, "no block of the catalogue has the rule 'fixed'"
