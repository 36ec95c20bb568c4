"""What detgraft adds to Ultralytics' import, and what `detgraft show` costs beside counting the stock model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from benchmarks.measure import Case, Work, unchecked

_IMPORT = "from ultralytics import YOLO"
_COUNT = """
import torch
from ultralytics.nn.tasks import DetectionModel
from torch.utils.flop_counter import FlopCounterMode
model = DetectionModel("yolo11n.yaml", verbose=False).eval()
with FlopCounterMode(display=False):
    model(torch.zeros(1, 3, 640, 640))
"""


def _process(*words: str) -> Work:
    def work() -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return work


def _import() -> Mapping[str, Work]:
    return {
        "ours": unchecked(_process("-c", f"import detgraft; {_IMPORT}")),
        "without detgraft": _process("-c", _IMPORT),
    }


def _show() -> Mapping[str, Work]:
    return {
        "ours": unchecked(_process("-m", "detgraft.cli.main", "show", "yolo11n+carafe")),
        "Ultralytics, the stock model, its operations once": _process("-c", _COUNT),
    }


def cases() -> list[Case]:
    return [
        Case("imports/from ultralytics import YOLO/process", _import, targets={"without detgraft": 1 / 1.15}, rounds=7),
        Case(
            "imports/detgraft show yolo11n+carafe/process",
            _show,
            targets={"Ultralytics, the stock model, its operations once": 1 / 1.15},
            rounds=7,
            seconds=120,
        ),
    ]
