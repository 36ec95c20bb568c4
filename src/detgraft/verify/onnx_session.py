"""Runs an ONNX file in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor


def open_onnx(file: Path, names: Sequence[str] = ()) -> Callable[..., list[Tensor]]:
    """Open an ONNX file and return a function from its inputs to its outputs, on the CPU in float32.

    Args:
        file: The file. onnxruntime must be installed.
        names: Names of the inputs in the order in which they will be given, where some may have become unnecessary; the
            file's own order by default.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # warnings about dynamic shapes are expected here
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    needed = [entry.name for entry in session.get_inputs()]
    order = list(names) or needed

    def run(*inputs: Tensor) -> list[Tensor]:
        feed = {name: tensor.contiguous().numpy() for name, tensor in zip(order, inputs, strict=True)}
        found = session.run(None, {name: value for name, value in feed.items() if name in needed})
        return [torch.from_numpy(value) for value in found]

    return run
