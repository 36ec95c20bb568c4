"""A run's folder is its own, its pictures are what they were, and its model is what `list` shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
from pretrain_support import SMALL, image_folder, small_run

from detgraft.errors import ArgumentError, CatalogError, DataError
from detgraft.pretraining import contents
from detgraft.pretraining.api import pretrain
from detgraft.pretraining.backbones import build_backbone, known_names
from detgraft.pretraining.loop import _LOOK_EVERY, Trainer
from detgraft.pretraining.settings import Options

pytestmark = pytest.mark.trust

RACE = """
import json, sys, time
from pathlib import Path
from detgraft.errors import DetgraftError
from detgraft.pretraining.api import pretrain
words = json.loads(sys.argv[1])
Path(words.pop("ready")).touch()
while not Path(words["data"], "..", "go").exists():
    time.sleep(0.002)
try:
    print("FOLDER", pretrain("convnextv2_atto", **words).save_dir)
except DetgraftError as error:
    print("REFUSED", error)
"""


def race(tmp_path: Path, **places: str) -> list[str]:
    """Two runs of different seeds that begin at the same moment; what each printed last."""
    data = image_folder(tmp_path / "set", 4)
    running = []
    for seed in (0, 1):
        words = {**SMALL, "epochs": 1, "seed": seed, "data": str(data), "ready": str(tmp_path / f"{seed}"), **places}
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", RACE, json.dumps(words)], stdout=subprocess.PIPE, text=True, env={**os.environ}
            )
        )
    while not all((tmp_path / f"{seed}").exists() for seed in (0, 1)):
        assert all(process.poll() is None for process in running)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    return [process.communicate(timeout=300)[0].strip().splitlines()[-1] for process in running]


@pytest.mark.slow
def test_two_runs_at_once_take_two_folders(tmp_path: Path) -> None:
    said = race(tmp_path, project=str(tmp_path / "runs"))
    assert sorted(line.split()[-1] for line in said) == [
        str(tmp_path / "runs" / name) for name in ("convnextv2_atto", "convnextv2_atto2")
    ]
    for line, seed in zip(said, (0, 1), strict=True):
        stored = torch.load(Path(line.split()[-1]) / "last.pt", weights_only=True)
        assert stored["settings"]["seed"] == seed


@pytest.mark.slow
def test_two_runs_at_once_do_not_share_a_named_folder(tmp_path: Path) -> None:
    said = race(tmp_path, save_dir=str(tmp_path / "run"))
    assert sorted(line.split()[0] for line in said) == ["FOLDER", "REFUSED"]
    refused = next(line for line in said if line.startswith("REFUSED"))
    assert "another pretraining writes to" in refused or "holds a run" in refused


CHOOSE = """
import sys, time
from pathlib import Path
from detgraft.pretraining.api import _Folder
Path(sys.argv[2]).touch()
while not Path(sys.argv[1], "go").exists():
    time.sleep(0.001)
for _ in range(20):
    print(_Folder("model", Path(sys.argv[1], "runs"), None, None, False).choose(), flush=True)
"""


def test_no_folder_is_chosen_twice(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CHOOSE, str(tmp_path), str(tmp_path / f"{number}")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    while not all((tmp_path / f"{number}").exists() for number in range(2)):
        assert all(process.poll() is None for process in running)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    chosen = [line for process in running for line in process.communicate(timeout=120)[0].split()]
    assert len(chosen) == 40
    assert len(set(chosen)) == 40


def test_a_run_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    words = {**SMALL, "width": 1.0, "imgsz": 64, "data": image_folder(tmp_path / "set", 2)}
    with pytest.raises(CatalogError, match="cannot be pretrained with masks"):
        pretrain("timm/poolformer_s12", project=tmp_path / "runs", **words)
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("table", ["there", "lost"])
def test_a_changed_picture_is_refused_on_resume(tmp_path: Path, table: str) -> None:
    data = image_folder(tmp_path / "set", 6)
    small_run(data, tmp_path / "run", max_steps=1, epochs=2)
    before = (data / "picture_03.png").read_bytes()
    status = (data / "picture_03.png").stat()
    (data / "picture_03.png").write_bytes((data / "picture_00.png").read_bytes())
    if table == "lost":
        (tmp_path / "run" / contents.TABLE).unlink()
    with pytest.raises(DataError, match=r"'picture_03\.png'" if table == "there" else "which ones cannot be said"):
        small_run(data, tmp_path / "run", epochs=2, resume=True)
    (data / "picture_03.png").write_bytes(before)
    assert (data / "picture_03.png").stat().st_mtime_ns != status.st_mtime_ns
    assert small_run(data, tmp_path / "run", epochs=2, resume=True).completed


def test_pictures_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = image_folder(tmp_path / "set", 4)
    small_run(data, tmp_path / "run", max_steps=1, epochs=2)
    hashed: list[str] = []
    original = contents._hash
    monkeypatch.setattr(contents, "_hash", lambda path: hashed.append(path.name) or original(path))
    os.utime(data / "picture_02.png")
    small_run(data, tmp_path / "run", epochs=2, resume=True)
    assert hashed == ["picture_02.png"]


def test_a_checkpoint_that_knows_names_only_goes_on(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "set", 4)
    small_run(data, tmp_path / "run", max_steps=1, epochs=2)
    stored = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    del stored["identity"]["contents"]
    torch.save(stored, tmp_path / "run" / "last.pt")
    (tmp_path / "run" / contents.TABLE).unlink()
    assert small_run(data, tmp_path / "run", epochs=2, resume=True).completed


def test_an_alias_of_the_catalogue_is_a_name(tmp_path: Path) -> None:
    assert build_backbone("convnext_pico", 0.2).channels == build_backbone("convnextv2_pico", 0.2).channels
    assert "convnext_pico" not in known_names()
    result = small_run(image_folder(tmp_path / "set", 4), tmp_path / "run", model="convnext_pico", epochs=1)
    assert torch.load(result.checkpoint, weights_only=True)["settings"]["model"] == "convnextv2_pico"


def test_the_wish_to_stop_is_exchanged_at_a_look_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(dist, "all_reduce", lambda value, op: asked.append(value))
    trainer: Any = Trainer.__new__(Trainer)
    trainer.options = Options()
    trainer.progress = SimpleNamespace(step=1)
    trainer.fabric = SimpleNamespace(world_size=2, device=torch.device("cpu"))
    trainer.stop = SimpleNamespace(signal=15)
    assert trainer._must_stop(exchange=False) is False
    assert not asked
    assert trainer._must_stop(exchange=True) is True
    assert len(asked) == 1
    trainer.fabric.world_size = 1
    assert trainer._must_stop(exchange=False) is True  # alone there is nobody to wait for
    assert _LOOK_EVERY == 20


def test_sixteen_bits_reach_pretraining(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    random = np.random.default_rng(0)
    for number in range(4):
        pixels = random.integers(300, 4000, (96, 96), dtype=np.uint16)
        ok, encoded = cv2.imencode(".tif", pixels)
        assert ok
        (tmp_path / "set" / f"{number}.tif").write_bytes(encoded.tobytes())
    from detgraft.pretraining.views import Views

    view = Views(sorted((tmp_path / "set").iterdir()), 64, 0.6, seed=0)[0, 0, 0]
    assert view.picture.float().std() > 1  # it was 255 everywhere
    assert view.picture.max() <= 20  # 4000 / 256, and what the resampling adds
    pages = tmp_path / "pages"
    pages.mkdir()
    ok, encoded = cv2.imencodemulti(".tif", [random.integers(0, 256, (96, 96), dtype=np.uint8) for _ in range(4)])
    assert ok
    (pages / "scan.tif").write_bytes(encoded.tobytes())
    with pytest.raises(DataError, match=r"scan\.tif.* 4 pages"):
        small_run(pages, tmp_path / "run")
    with pytest.raises(ArgumentError, match="no run with a checkpoint"):
        pretrain("convnextv2_atto", pages, project=tmp_path / "none", resume=True)
