"""Exported models in ONNX Runtime, static batch 1 at 640, over the stock model (the rival is the faster one here)."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Case, Work

MODELS = {"yolo11n-carafe": 1.35, "yolo11n-dynamicconv": 1.25, "yolo11n-c3k2-dynamicconv": None}


def _session(name: str, folder: Path) -> Callable[[], None]:
    import onnxruntime

    from detgraft import YOLO
    from detgraft.upstream.release.quiet import quiet

    before = Path.cwd()
    try:
        os.chdir(folder)  # Ultralytics writes beside the model's name
        with quiet():
            path = YOLO(f"{name}.yaml").export(format="onnx", imgsz=640, opset=17, simplify=True)
    finally:
        os.chdir(before)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / path), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((1, 3, 640, 640), dtype=np.float32)

    def run() -> None:
        session.run(None, {"images": image})

    return run


def _build(name: str) -> Mapping[str, Work]:
    with tempfile.TemporaryDirectory() as folder:
        return {"ours": _session(name, Path(folder)), "stock yolo11n": _session("yolo11n", Path(folder))}


def cases() -> list[Case]:
    return [
        Case(
            f"onnx/{name} batch 1 at 640/inference",
            functools.partial(_build, name),
            targets={"stock yolo11n": 1 / most} if most else {},
            rounds=21,
        )
        for name, most in MODELS.items()
    ]
