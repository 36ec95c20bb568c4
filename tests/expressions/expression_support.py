"""What the expression tests share: batches for every task, state-dict comparisons, fresh processes."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detgraft.upstream.release import capabilities

NEEDS = {"yolo12n": "HAS_YOLO12", "yolo26n": "HAS_YOLO26"}
"""The capability that a base model needs."""

TINY = {"batch": 4, "workers": 0, "plots": False, "device": "cpu", "verbose": False, "exist_ok": True, "imgsz": 64}


def needs_base(base: str) -> None:
    """Skip, by the capability's name, where the installed release lacks a base model."""
    capability = NEEDS.get(base.partition("-")[0])
    if capability is not None and not getattr(capabilities, capability):
        pytest.skip(f"{capability}: this release of Ultralytics has no {base}")


def task_batch(task: str, pictures: int, size: int, nc: int) -> dict[str, Tensor]:
    """A training batch as Ultralytics' loaders make it, with random pictures and labels."""
    random = torch.Generator().manual_seed(5)
    if task == "classify":
        return {
            "img": torch.rand(pictures, 3, size, size, generator=random),
            "cls": torch.arange(pictures).remainder(nc),
        }
    count = pictures * 4
    centre = 0.3 + 0.4 * torch.rand(count, 2, generator=random)
    extent = 0.2 + 0.3 * torch.rand(count, 2, generator=random)
    batch = {
        "img": torch.rand(pictures, 3, size, size, generator=random),
        "batch_idx": torch.arange(pictures).repeat_interleave(4).float(),
        "cls": torch.arange(count).remainder(nc).float()[:, None],
        "bboxes": torch.cat((centre, extent), 1),
    }
    if task == "segment":
        batch["masks"] = torch.randint(0, 5, (pictures, size // 4, size // 4), generator=random).float()
        batch["sem_masks"] = torch.randint(0, nc, (pictures, size // 4, size // 4), generator=random)
    if task == "pose":
        points = torch.rand(count, 17, 2, generator=random)
        batch["keypoints"] = torch.cat((points, torch.full((count, 17, 1), 2.0)), 2)
    if task == "obb":
        batch["bboxes"] = torch.cat((batch["bboxes"], torch.rand(count, 1, generator=random) - 0.5), 1)
    return batch


def one_step(model: Any, task: str, nc: int, size: int) -> list[str]:
    """Forward, backward and one step of an optimiser; return the names of the parameters without gradient."""
    from ultralytics.cfg import get_cfg

    model.args, model.nc = get_cfg(), nc  # as the trainer sets them
    model.train()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    loss, _ = model(task_batch(task, 2, size, nc))
    loss = loss.sum()
    assert torch.isfinite(loss)
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    optimizer.step()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    return without


def save_checkpoint(model: Any, path: Path) -> Path:
    """Save a wrapper's model as Ultralytics does; its own ``save`` of an untrained model fails in release 8.3.0."""
    torch.save({"epoch": -1, "model": copy.deepcopy(model.model).half(), "ema": None, "train_args": {}}, path)
    return path


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's state dict."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """Names under which two state dicts do not hold the same bits."""
    return [n for n in sorted(a.keys() | b.keys()) if n not in a or n not in b or not torch.equal(a[n], b[n])]


def run_python(code: str, *words: str, cwd: Path, env: Mapping[str, str] | None = None, check: bool = True) -> Any:
    """Run code in a new process; return the JSON of its last line, or with ``check=False`` the process."""
    process = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
        timeout=600,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if not check:
        return process
    assert process.returncode == 0, f"{process.stdout[-2000:]}\n{process.stderr[-4000:]}"
    return json.loads(process.stdout.strip().splitlines()[-1])


def beside(folder: Path) -> dict[str, str]:
    """The environment in which a folder is importable besides what is anyway."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def run_cli(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a new process."""
    code = "import sys; sys.argv = ['detgraft', *sys.argv[1:]]; from detgraft.cli.main import main; main()"
    process: subprocess.CompletedProcess[str] = run_python(code, *words, cwd=cwd, env=env, check=False)
    return process


def files_below(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
