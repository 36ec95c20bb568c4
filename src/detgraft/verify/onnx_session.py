"""Runs an ONNX file in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


def open_onnx(file: Path) -> Callable[..., list[Tensor]]:
    """Open an ONNX file and return a function from its inputs to its outputs, on the CPU in float32.

    Args:
        file: The file. onnxruntime must be installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # warnings about dynamic shapes are expected here
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        feed = {name: tensor.contiguous().numpy() for name, tensor in zip(names, inputs, strict=False)}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return run
