"""Checkpoints as Ultralytics' trainer writes them, and a script that opens one as a user's would."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT

from detgraft.upstream.release.capabilities import ULTRALYTICS_VERSION

SCRIPT_REOPEN = """
import sys
import numpy
import torch
if "detgraft" in sys.argv[4:]:
    import detgraft
from ultralytics import YOLO
weights, pictures, answers = sys.argv[1:4]
if weights.endswith(".safetensors"):
    from detgraft import YOLO
model = YOLO(weights).model.float().eval()
with torch.no_grad():
    output = model(torch.from_numpy(numpy.load(pictures)))
while not isinstance(output, torch.Tensor):
    output = output[0]
numpy.save(answers, output.numpy())
"""
"""A user's script that opens a checkpoint: weights, pictures (.npy), answers (.npy), further packages to import."""


def save_checkpoint(model: nn.Module, path: Path) -> None:
    """Save a model as Ultralytics' trainer does, in float32 so that nothing is rounded.

    Args:
        model: An Ultralytics model; not changed.
        path: The new ``.pt`` file.
    """
    saved: Any = copy.deepcopy(model).float()
    saved.criterion = None
    args = getattr(saved, "args", None)
    known = args if isinstance(args, dict) else vars(args) if hasattr(args, "__dict__") else {}
    task = tasks.guess_model_task(saved)
    train_args = {**DEFAULT_CFG_DICT, **known, "task": task, "imgsz": known.get("imgsz") or 640}
    saved.args, saved.task = train_args, task
    torch.save(
        {
            "epoch": -1,
            "model": saved,
            "ema": None,
            "optimizer": None,
            "train_args": train_args,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "version": ULTRALYTICS_VERSION,
        },
        path,
    )
