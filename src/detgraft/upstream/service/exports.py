"""Exports by Ultralytics' own exporter."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from detgraft.base.extras import has
from detgraft.upstream.release.quiet import quiet


def export_file(checkpoint: Path, kind: str, imgsz: int, *, dynamic: bool, batch: int = 1) -> tuple[Path, Any]:
    """Export a checkpoint with Ultralytics' own exporter; the file lands beside it.

    Args:
        checkpoint: A ``.pt`` file.
        kind: ``torchscript``, ``onnx`` or ``openvino``.
        imgsz: Height and width in pixels.
        dynamic: Leave batch, height and width free; has no meaning for TorchScript.
        batch: Batch size of a static export.

    Returns:
        The file (or folder), and the PyTorch model exactly as the exporter prepared and traced it.
    """
    import ultralytics

    words: dict[str, Any] = {"format": kind, "imgsz": imgsz, "device": "cpu", "batch": batch, "verbose": False}
    if kind != "torchscript":
        words["dynamic"] = dynamic
    if kind == "onnx":
        words["simplify"] = has("onnxslim")
    traced: list[Any] = []
    with quiet(logging.CRITICAL):  # a failure comes back as an exception and needs no second telling
        wrapper = ultralytics.YOLO(str(checkpoint))
        wrapper.add_callback("on_export_end", lambda exporter: traced.append(exporter.model))
        path = Path(wrapper.export(**words))
    return path, traced[0]
