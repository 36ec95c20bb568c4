"""Fixtures of the foundation tests: the tutorials' YAMLs, a small made set, and one tiny training per system."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from seed_yamls import write_seed_yamls
from support import BY_KEY, Answer, System, answer, run_python

TINY = {"batch": 4, "workers": 0, "plots": False, "device": "cpu", "verbose": False, "exist_ok": True}


class Interrupted(Exception):
    """Raised in the middle of a training, as a power cut would end it."""


@dataclass(frozen=True)
class Run:
    """A tiny training.

    Args:
        system: Which model.
        folder: The run's folder.
    """

    system: System
    folder: Path

    @property
    def last(self) -> Path:
        """The checkpoint of the interruption."""
        return self.folder / "interrupted.pt"

    @property
    def best(self) -> Path:
        return self.folder / "weights" / "best.pt"


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
    from detgraft.datasets.made import make_shapes

    return make_shapes(tmp_path_factory.mktemp("made") / "set", train=4, val=3, imgsz=96, seed=1)


@pytest.fixture(scope="session")
def other_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second made set, for continuing a training elsewhere."""
    from detgraft.datasets.made import make_shapes

    return make_shapes(tmp_path_factory.mktemp("other") / "set", train=4, val=2, imgsz=64, seed=2)


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


_REOPEN = """
import json, sys
words = json.loads(sys.argv[1])
if words["detgraft_first"]:
    import detgraft
from ultralytics import RTDETR, YOLO
Model = RTDETR if words["rtdetr"] else YOLO
tiny = words["tiny"]
found = {}
imgsz = words["imgsz"]

model = Model(words["last"])
model.train(resume=True)
found["epoch"] = model.trainer.epoch
found["best"] = str(model.trainer.best)

model = Model(found["best"])
found["classes"] = [f"{type(m).__module__}.{type(m).__name__}" for m in model.model.model]
results = model.predict(words["picture"], imgsz=words["odd"], conf=0.0, max_det=5, verbose=False)
found["boxes"] = [list(r.boxes.data.shape) for r in results]
metrics = model.val(data=words["data"], imgsz=imgsz, **words["val"])
found["map"] = metrics.results_dict["metrics/mAP50(B)"]
found["exports"] = {f: str(Model(found["best"]).export(format=f, imgsz=imgsz, device="cpu")) for f in words["formats"]}

model = Model(found["best"])
model.train(data=words["other"], epochs=1, imgsz=imgsz, project=words["project"], name="elsewhere", **tiny)
found["elsewhere"] = str(model.trainer.best)
found["detgraft"] = "detgraft" in sys.modules
print()
print(json.dumps(found))
"""


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


def go_on_in_new_process(
    run: Run, data: Path, other: Path, *, detgraft_first: bool = False, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run every step of a checkpoint's life in a new process and return what was found."""
    try:
        import onnx  # noqa: F401

        formats = ["torchscript", "onnx"]
    except ImportError:
        formats = ["torchscript"]
    words = {
        "detgraft_first": detgraft_first,
        "rtdetr": run.system.is_rtdetr,
        "last": str(run.last),
        "data": str(data),
        "other": str(other),
        "picture": str(next((data.parent / "images" / "val").iterdir())),
        "imgsz": run.system.imgsz,
        "odd": [96, 160],
        "val": {"batch": 2, "workers": 0, "plots": False, "device": "cpu", "verbose": False},
        "project": str(run.folder.parent / ("safe" if detgraft_first else "plain")),
        "formats": formats,
        "tiny": TINY,
    }
    found: dict[str, Any] = answer(run_python(_REOPEN, json.dumps(words), cwd=run.folder.parent, env=env))
    return found


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
