"""What the foundation tests share: the six systems, fresh processes, and looking at what was built."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

NC = 3  # classes of the made set
TINY = {"batch": 4, "workers": 0, "plots": False, "device": "cpu", "verbose": False, "exist_ok": True}


@dataclass(frozen=True)
class System:
    """One of the tutorials' systems.

    Args:
        key: Short name.
        zoo: Its ready YAML, with scale letter.
        graft: The YAML name of its graft.
        stock: The stock model that it is grafted onto.
    """

    key: str
    zoo: str
    graft: str
    stock: str = "yolo11n.yaml"

    @property
    def is_rtdetr(self) -> bool:
        return self.key == "rtdetr"

    @property
    def imgsz(self) -> int:
        """A small size to train at; RT-DETR picks 300 of its features' pixels, which a smaller picture lacks."""
        return 128 if self.is_rtdetr else 64


SYSTEMS = (
    System("convnextv2", "yolo11n-convnextv2.yaml", "convnextv2_atto"),
    System("repvit", "yolo11n-repvit.yaml", "repvit_m0_6"),
    System("carafe", "yolo11n-carafe.yaml", "CARAFE"),
    System("dynamicconv", "yolo11n-dynamicconv.yaml", "DynamicConv"),
    System("c3k2_dynamicconv", "yolo11n-c3k2-dynamicconv.yaml", "C3k2_DynamicConv"),
    System("rtdetr", "rtdetr-l-convnextv2.yaml", "convnextv2_atto", "rtdetr-l.yaml"),
)
BY_KEY = {system.key: system for system in SYSTEMS}
KEYS = tuple(BY_KEY)


def run_python(
    code: str, *words: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: int = 600
) -> subprocess.CompletedProcess[str]:
    """Run code in a new process, as the user would: nothing of this test session is imported there."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})}
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        env=environment,
        timeout=timeout,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def answer(process: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON on the last line of a process's output; fail with its errors when there is none."""
    lines = process.stdout.strip().splitlines()
    assert process.returncode == 0, f"{process.stdout[-2000:]}\n{process.stderr[-4000:]}"
    assert lines, process.stderr[-4000:]
    return json.loads(lines[-1])


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below ``folder`` with size and time of change, to see whether anything was written."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Go through all tensors of a nested output."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from tensors_in(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from tensors_in(entry)


def main_output(model: nn.Module, x: Tensor) -> Tensor:
    """The predictions of a model in evaluation mode."""
    with torch.no_grad():
        return next(tensors_in(model(x)))


@contextmanager
def sizes_seen() -> Iterator[set[tuple[int, int]]]:
    """Collect height and width of every batch that a whole Ultralytics model is given."""
    sizes: set[tuple[int, int]] = set()

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if hasattr(module, "yaml") and inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4:
            sizes.add((inputs[0].shape[-2], inputs[0].shape[-1]))

    handle = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield sizes
    finally:
        handle.remove()


@contextmanager
def ultralytics_log() -> Iterator[list[str]]:
    """Collect what Ultralytics logs."""
    from ultralytics.utils import LOGGER

    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    collector, level = Collector(), LOGGER.level
    LOGGER.addHandler(collector)
    LOGGER.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        LOGGER.removeHandler(collector)
        LOGGER.setLevel(level)


def batch_of(pictures: int, size: int, boxes: int = 4) -> dict[str, Tensor]:
    """A training batch as Ultralytics' loaders make it, with random pictures and boxes."""
    random = torch.Generator().manual_seed(5)
    count = pictures * boxes
    centre = 0.3 + 0.4 * torch.rand(count, 2, generator=random)
    extent = 0.2 + 0.3 * torch.rand(count, 2, generator=random)
    return {
        "img": torch.rand(pictures, 3, size, size, generator=random),
        "batch_idx": torch.arange(pictures).repeat_interleave(boxes).float(),
        "cls": torch.arange(count).remainder(NC).float()[:, None],
        "bboxes": torch.cat((centre, extent), 1),
    }


def randomise_norms(model: nn.Module) -> None:
    """Give every batch norm statistics and weights as after a training, so that folding them has work to do."""
    random = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            size = module.num_features
            module.running_mean.copy_(0.1 * torch.randn(size, generator=random))
            module.running_var.copy_(0.5 + torch.rand(size, generator=random))
            module.weight.data.copy_(0.5 + torch.rand(size, generator=random))
            module.bias.data.copy_(0.1 * torch.randn(size, generator=random))


def changed_row(text: str, old: str, new: str) -> tuple[str, int]:
    """Replace one row of a YAML's text; return the new text and the row's 1-based line."""
    lines = text.splitlines()
    number = next(index for index, line in enumerate(lines) if old in line)
    lines[number] = lines[number].replace(old, new)
    return "\n".join(lines) + "\n", number + 1


def words_of(message: str, wanted: Sequence[str]) -> list[str]:
    """The wanted words that a message lacks."""
    return [word for word in wanted if word not in message]


@dataclass(frozen=True)
class Answer:
    """What a command of the command line did.

    Args:
        status: Exit status.
        out: Standard output.
        err: Standard error.
    """

    status: int
    out: str
    err: str


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


def go_on_in_new_process(
    run: Run, data: Path, other: Path, *, detgraft_first: bool = False, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run every step of a checkpoint's life in a new process and return what was found."""
    from detgraft.verify.checks.export import missing_tools

    formats = ["torchscript"] if missing_tools("onnx") else ["torchscript", "onnx"]
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


OFFICIAL = {
    "carafe": ("CARAFE,", "CARAFE_official,"),
    "dynamicconv": ("DynamicConv,", "DynamicConv_official,"),
    "c3k2_dynamicconv": ("C3k2_DynamicConv,", "C3k2_DynamicConv_official,"),
}


def official_form(key: str, folder: Any) -> Any:
    """Write the zoo's YAML with the graft's official form; return its path."""
    from detgraft.upstream.describe.resolve import ZOO, without_scale

    name = without_scale(BY_KEY[key].zoo)
    path = folder / f"official-{name}"
    path.write_text((ZOO / name).read_text("utf-8").replace(*OFFICIAL[key]), "utf-8")
    return folder / f"official-{BY_KEY[key].zoo}"


@dataclass(frozen=True)
class Wrong:
    """One mistake in a row.

    Args:
        base: The YAML of the zoo, or of stock Ultralytics, that is spoiled.
        old: What stands in the row.
        new: What is written instead.
        error: The error that must come.
        says: Words that its message must have, besides file and line.
    """

    base: str
    old: str
    new: str
    error: type[Exception]
    says: tuple[str, ...]
    above: int = 0  # lines between the named key and the mistake


def spoiled(wrong: Wrong, folder: Path) -> tuple[Path, int]:
    """Write the spoiled YAML; return the name to load it by and the line of the mistake."""
    text, line = changed_row(yaml_of(wrong.base).read_text("utf-8"), wrong.old, wrong.new)
    (folder / "yolo11-错 误.yaml").write_text(text, "utf-8")
    return folder / "yolo11n-错 误.yaml", line - wrong.above


def yaml_of(name: str) -> Path:
    """A YAML of the zoo, or of stock Ultralytics."""
    from detgraft.upstream.describe.resolve import ZOO
    from detgraft.upstream.release.capabilities import stock_yamls

    return ZOO / name if (ZOO / name).is_file() else stock_yamls()[name]
