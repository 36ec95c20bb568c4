"""Fixtures of the foundation tests: the tutorials' YAMLs, a small made set, and one tiny training per system."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seed_yamls import write_seed_yamls
from support import BY_KEY, TINY, Answer, Run, go_on_in_new_process


class Interrupted(Exception):
    """Raised in the middle of a training, as a power cut would end it."""


@pytest.fixture(scope="session")
def seeds(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tutorials' six YAMLs."""
    return write_seed_yamls(shared / "seeds", tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="session")
def reference(shared: Path) -> Callable[[str], dict[str, Any]]:
    """Reads a table of ``reference/models``."""

    def read(name: str) -> dict[str, Any]:
        table: dict[str, Any] = json.loads((shared / "reference" / "models" / f"{name}.json").read_text("utf-8"))
        return table

    return read


@pytest.fixture(scope="session")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data YAML of a made set of a few small pictures."""
    from detgraft.demo.made import make_shapes

    data: Path = make_shapes(tmp_path_factory.mktemp("made") / "set", train=4, val=3, imgsz=96, seed=1)
    return data


@pytest.fixture(scope="session")
def other_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second made set, for continuing a training elsewhere."""
    from detgraft.demo.made import make_shapes

    data: Path = make_shapes(tmp_path_factory.mktemp("other") / "set", train=4, val=2, imgsz=64, seed=2)
    return data


@pytest.fixture(scope="session")
def interrupted(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Trains a system for two epochs and breaks off after the first; at most once per system."""
    from detgraft import YOLO

    runs: dict[str, Run] = {}

    def stop(_trainer: Any) -> None:
        raise Interrupted

    def train(key: str) -> Run:
        if key not in runs:
            system, folder = BY_KEY[key], tmp_path_factory.mktemp(key)
            model = YOLO(system.zoo)
            model.add_callback("on_model_save", stop)
            with pytest.raises(Interrupted):
                model.train(data=str(made_set), epochs=2, project=str(folder), name="run", imgsz=system.imgsz, **TINY)
            runs[key] = Run(system, folder / "run")
            shutil.copy(folder / "run" / "weights" / "last.pt", runs[key].last)  # resuming goes on writing last.pt
        return runs[key]

    return train


@pytest.fixture(scope="session")
def reopened(
    interrupted: Callable[[str], Run], made_set: Path, other_set: Path
) -> Callable[[str], tuple[Run, dict[str, Any]]]:
    """Goes on in a new process that imports Ultralytics only: resume, predict, validate, export, train elsewhere."""
    results: dict[str, tuple[Run, dict[str, Any]]] = {}

    def go_on(key: str) -> tuple[Run, dict[str, Any]]:
        if key not in results:
            run = interrupted(key)
            results[key] = (run, go_on_in_new_process(run, made_set, other_set))
        return results[key]

    return go_on


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs the command line in this process."""
    from detgraft.cli.main import main

    def run(*words: str) -> Answer:
        monkeypatch.setattr("sys.argv", ["detgraft", *words])
        capfd.readouterr()
        status: object = 0
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code
        out, err = capfd.readouterr()
        return Answer(int(status) if isinstance(status, int) else 0, out, err)

    return run
