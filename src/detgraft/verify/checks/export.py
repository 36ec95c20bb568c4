"""Check 7: do exported models answer like the model itself, also for other batches and sizes than they were made with?

Ultralytics' own exporter makes the files. The answers are compared with the PyTorch model exactly as the exporter
prepared it, in float32: boxes in pixels, scores, and every further output.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detgraft.base.extras import has
from detgraft.measure.watch import tensors_in
from detgraft.upstream.model.marks import is_stock
from detgraft.upstream.release.capabilities import onnx_export_misses
from detgraft.upstream.service.checkpoints import save_checkpoint
from detgraft.upstream.service.exports import export_file
from detgraft.upstream.service.models import fused_copy
from detgraft.verify.onnx_session import open_onnx
from detgraft.verify.parity import BOX_TOLERANCE, SCORE_TOLERANCE, Drift, Form, compare
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject, form_of, preserved_random

NAME = "export"
BATCHES = (1, 2, 5)
FORMATS = ("torchscript", "onnx", "onnx-dynamic", "openvino")

Run = Callable[[Tensor], list[Tensor]]
"""Runs an exported model."""


def check(subject: Subject, formats: Sequence[str] = FORMATS) -> CheckResult:
    """Export to every format whose tools are installed, and compare.

    Args:
        subject: The model under check.
        formats: Which of ``torchscript``, ``onnx``, ``onnx-dynamic`` and ``openvino``.
    """
    if subject.model is None:
        return skipped(NAME, "the model cannot be built")
    checkpoint = subject.folder / "export.pt"
    try:
        save_checkpoint(subject.woken(), checkpoint)
    except Exception as error:  # pickling may raise anything; the check of portability names the layer
        return skipped(NAME, f"the model cannot be saved: {type(error).__name__}")
    figures: dict[str, Any] = {
        "imgsz": subject.small,
        "tolerance": f"{BOX_TOLERANCE} px, scores {SCORE_TOLERANCE}",
        "formats": {},
    }
    problems, notes = [], []
    for form in formats:
        missing = missing_tools(form)
        if missing:
            figures["formats"][form] = f"skipped: {missing}"
            notes.append(f"{form} skipped: {missing}")
            continue
        subject.say(form)
        with preserved_random():
            outcome = _one(subject, checkpoint, form)
        if isinstance(outcome, ModuleNotFoundError):
            note = f"this release of Ultralytics needs the package '{outcome.name}' for it"
            figures["formats"][form] = f"skipped: {note}"
            notes.append(f"{form} skipped: {note}")
        elif isinstance(outcome, str):
            problems.append(f"{form}: {outcome}")
            figures["formats"][form] = f"fails: {outcome}"
        else:
            figures["formats"][form] = {"boxes_px": outcome.boxes, "scores": outcome.scores, "others": outcome.others}
    return verdict(NAME, problems, figures, notes)


def missing_tools(form: str) -> str:
    """Return what has to be installed for a format, or an empty text."""
    needed = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}.get(form.partition("-")[0], ())
    missing = [name for name in needed if not has(name)]
    if missing:
        return f"{' and '.join(missing)} not installed"
    package = onnx_export_misses() if form.startswith("onnx") else ""
    return f"this release of Ultralytics needs the package '{package}' for it" if package else ""


def _one(subject: Subject, checkpoint: Path, form: str) -> Drift | str | ModuleNotFoundError:
    """Export to one format and compare; return the largest drift, the sentence of a failure, or what is missing."""
    kind, _, dynamic = form.partition("-")
    size = subject.small
    try:
        file, traced = export_file(checkpoint, kind, size, dynamic=bool(dynamic))
        run = _opened(file, kind)
    except ModuleNotFoundError as error:
        return error
    except Exception as error:  # exporters raise whatever they like
        lines = str(error).strip().splitlines()
        text = f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
        return f"the export fails: {text}{_culprit(subject, kind, bool(dynamic))}"
    worst = Drift()
    for count, height, width in _shapes(subject, bool(dynamic)):
        pictures = subject.pictures(count, height, width, seed=count)
        with torch.no_grad():
            reference = list(tensors_in(traced(pictures)))
        label = f"batch {count} of {height}x{width}"
        try:
            found = run(pictures)
        except Exception as error:
            lines = str(error).strip().splitlines()
            text = f"{label} cannot be run: {lines[-1][:300] if lines else type(error).__name__}"
            return text + _culprit(subject, kind, bool(dynamic))
        drift = compare(reference, found, max(height, width), form_of(traced))
        if not drift.fine:
            return f"{label}: {drift}{_culprit(subject, kind, bool(dynamic))}"
        worst = worst.worst_of(drift)
    return worst


def _shapes(subject: Subject, dynamic: bool) -> list[tuple[int, int, int]]:
    """Batch, height and width of every comparison."""
    size = subject.small
    shapes = [(1, size, size)]
    if dynamic:
        other = size + subject.stride
        shapes += [(count, size, size) for count in BATCHES if count > 1] + [(2, size, other)]
    return shapes


def _opened(file: Path, kind: str) -> Run:
    """Open an exported file."""
    if kind == "torchscript":
        script = torch.jit.load(str(file))  # type: ignore[no-untyped-call]

        def run_script(pictures: Tensor) -> list[Tensor]:
            with torch.no_grad():
                return list(tensors_in(script(pictures)))

        return run_script
    if kind == "onnx":
        return open_onnx(file)
    return _open_openvino(file)


def _open_openvino(folder: Path) -> Run:
    import openvino  # type: ignore[import-not-found, unused-ignore]

    core = openvino.Core()
    # The default would compute in the processor's favourite precision, which is half of float32 on some.
    compiled = core.compile_model(str(next(folder.glob("*.xml"))), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(pictures: Tensor) -> list[Tensor]:
        return [torch.from_numpy(value) for value in compiled(pictures.numpy()).values()]

    return run


def _culprit(subject: Subject, kind: str, dynamic: bool) -> str:
    """Name the layer that does not survive the export, by exporting every layer alone."""
    model = fused_copy(subject.woken())
    stack = list(model.model)
    outputs: dict[int, tuple[Any, Any]] = {}

    def keep(index: int) -> Callable[..., None]:
        return lambda _module, inputs, output: outputs.__setitem__(index, (inputs, output))

    handles = [layer.register_forward_hook(keep(index)) for index, layer in enumerate(stack[:-1])]
    with torch.no_grad():
        model(subject.pictures(2, subject.small, subject.small))
    for handle in handles:
        handle.remove()
    ours = [index for index in outputs if not is_stock(stack[index])]
    for index in dict.fromkeys([*ours, *outputs]):
        found = _layer_alone(subject, stack[index], outputs[index], kind, dynamic)
        if found:
            return f"; by itself, {subject.layer(index)} {found}"
    return f"; every layer by itself is exported well, except perhaps the head, {subject.layer(len(stack) - 1)}"


class _Flat(torch.nn.Module):
    """A layer whose inputs and outputs are plain tensors, as exporters want them."""

    def __init__(self, layer: Any, is_list: bool) -> None:
        super().__init__()
        self.layer = layer
        self.is_list = is_list

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors_in(self.layer(list(inputs) if self.is_list else inputs[0])))


def _layer_alone(subject: Subject, layer: Any, seen: tuple[Any, Any], kind: str, dynamic: bool) -> str:
    """Export one layer with a batch of one; run it with that or, where dynamic, with two. Say what goes wrong."""
    inputs = list(tensors_in(seen[0]))
    flat = _Flat(layer, isinstance(seen[0][0], (list, tuple))).eval()
    example = tuple(tensor[:1].clone() for tensor in inputs)
    given = inputs if dynamic else list(example)
    try:
        with torch.no_grad():
            reference = flat(*given)
            if kind == "torchscript":
                found = list(tensors_in(torch.jit.trace(flat, example, check_trace=False)(*given)))  # type: ignore[no-untyped-call]
            else:
                found = _onnx_alone(subject, flat, example, given, dynamic)
    except Exception as error:
        lines = str(error).strip().splitlines()
        return f"cannot be exported or run: {type(error).__name__}: {lines[0][:200] if lines else ''}"
    drift = compare(reference, found, 1, Form(1)) if len(found) == len(reference) else None
    if drift is None or drift.note:
        return f"returns something else: {drift.note if drift else 'another number of outputs'}"
    worst = max(_relative(a, b) for a, b in zip(reference, found, strict=True))
    return f"answers differently (by {worst:.2g} of its magnitude)" if worst > SCORE_TOLERANCE else ""


def _relative(a: Tensor, b: Tensor) -> float:
    magnitude = float(a.abs().max()) or 1.0
    return float((a - b).abs().max()) / magnitude


def _onnx_alone(
    subject: Subject, flat: _Flat, example: tuple[Tensor, ...], given: Sequence[Tensor], dynamic: bool
) -> list[Tensor]:
    from torch.onnx import export

    file = subject.folder / "layer.onnx"
    names = [f"x{position}" for position in range(len(example))]
    axes = {name: {0: "batch"} for name in names} if dynamic else None
    words: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(export).parameters else {}
    export(flat, example, str(file), input_names=names, dynamic_axes=axes, opset_version=17, **words)
    return open_onnx(file, names)(*given)
