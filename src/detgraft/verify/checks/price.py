"""Check 8: what does the model cost, measured, and how much more or less than the stock model that it stands on?"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from detgraft.base.extras import has
from detgraft.measure.cost import Summary, show
from detgraft.measure.load import LOADED, OtherLoad
from detgraft.measure.memory import peak_bytes
from detgraft.measure.timing import Latency, forward_latencies, forward_latency, latency_of
from detgraft.upstream.service.batches import training_batch
from detgraft.upstream.service.checkpoints import save_checkpoint
from detgraft.upstream.service.descriptions import base_of, description_of
from detgraft.upstream.service.exports import export_file
from detgraft.upstream.service.losses import loss_of, ready_for_loss
from detgraft.upstream.service.models import build_seeded, fused_copy
from detgraft.verify.onnx_session import open_onnx
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject, preserved_random

NAME = "cost"
BATCHES = (1, 16)
TRAINING_BATCH = 2


def check(subject: Subject) -> CheckResult:
    """Measure parameters, operations, training memory and latency; fails only when nothing could be counted."""
    if subject.model is None:
        return skipped(NAME, "the model cannot be built")
    subject.say("parameters and operations")
    summary = show(subject.model, imgsz=subject.imgsz)
    figures: dict[str, Any] = {
        "params": summary.params,
        "gflops": summary.gflops,
        "gflops_thop": summary.gflops_thop,
        "uncounted_layers": _uncounted(summary),
    }
    with preserved_random():
        subject.say("memory of a training step")
        figures["training_memory_mb"] = _training_memory(subject) / 1e6
        figures["training_batch"] = TRAINING_BATCH
        others = OtherLoad()
        figures["latency_ms"], unsettled = _latencies(subject)
        base = base_of(subject.mapping)
        if base is not None:
            figures["base"] = base
            figures["difference"], unlike = _difference(subject, base, summary)
            unsettled += unlike
        figures["load"] = others.share()
    notes = []
    if unsettled:
        notes.append(f"latencies that had not settled when they were taken, and say little: {', '.join(unsettled)}")
    if (figures["load"] or 0.0) > LOADED:
        notes.append(
            f"other processes used {figures['load']:.0%} of the processors while latency was measured; measure again "
            "on a machine that has nothing else to do"
        )
    thop, counted = summary.gflops_thop, summary.gflops
    if thop is not None and abs(thop - counted) > 0.02 * counted and f"{thop:.2f}" != f"{counted:.2f}":
        notes.append(f"thop's figure ({thop:.2f}) differs from the counted one ({counted:.2f})")
    if base is None:
        notes.append("the stock model behind it is not known, so there is no difference to show")
    problems = [] if summary.gflops > 0 else ["no operation could be counted"]
    return verdict(NAME, problems, figures, notes)


def _device() -> str:
    """Where memory and latency are measured."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _uncounted(summary: Summary) -> list[int]:
    """Layers with parameters in which no operation was counted."""
    return [layer.index for layer in summary.layers if layer.params and not layer.gflops]


def _training_memory(subject: Subject) -> int:
    device = _device()
    model = ready_for_loss(subject.copy().to(device))
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    size = max(subject.imgsz)
    batch = {k: v.to(device) for k, v in training_batch(model, TRAINING_BATCH, size, seed=1).items()}

    def step() -> None:
        loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    present = [*model.parameters(), *model.buffers(), *batch.values()]
    return peak_bytes(step, present, device)


def _latencies(subject: Subject) -> tuple[dict[str, Any], list[str]]:
    """Milliseconds by what was measured, beside device and threads; and the names of those that did not settle."""
    device = _device()
    height, width = subject.imgsz
    found: dict[str, Latency] = {}
    for name, model in (("eager", subject.copy().eval().to(device)), ("fused", fused_copy(subject.model).to(device))):
        for count in BATCHES:
            subject.say(f"latency, {name}, batch {count}")
            pictures = subject.pictures(count, height, width).to(device)
            found[f"{name} batch {count}"] = forward_latency(model, pictures)
    failed = {}
    if has("onnx") and has("onnxruntime") and height == width:
        subject.say("latency, ONNX Runtime")
        try:
            found |= _onnx_latencies(subject)
        except Exception as error:  # a model that does not export is for the check of exports to report
            failed["ONNX Runtime"] = f"no export: {type(error).__name__}"
    figures = {name: latency.median_ms for name, latency in found.items()}
    unsettled = [name for name, latency in found.items() if latency.steady is False]
    return {"device": device, "threads": torch.get_num_threads(), **figures, **failed}, unsettled


def _onnx_latencies(subject: Subject) -> dict[str, Latency]:
    checkpoint = subject.folder / "latency.pt"
    save_checkpoint(subject.model, checkpoint)
    found = {}
    size = subject.imgsz[0]
    for count in BATCHES:
        file, _ = export_file(checkpoint, "onnx", size, dynamic=False, batch=count)
        run = open_onnx(file)
        pictures = subject.pictures(count, size, size)
        found[f"ONNX Runtime batch {count}"] = latency_of(partial(run, pictures))
    return found


def _difference(subject: Subject, base: str, summary: Summary) -> tuple[dict[str, float], list[str]]:
    """Grafted minus stock, with the same classes at the same size; and the names of latencies that did not settle.

    The latencies are those of both fused models in turns, on the device of all other latencies.
    """
    subject.say(f"the same for {base}")
    description = description_of(base) | {"nc": subject.mapping.get("nc")}
    device = _device()
    stock = build_seeded(description, 0, subject.channels)
    cost = show(stock, imgsz=subject.imgsz)
    models = {base: fused_copy(stock).to(device), "grafted": fused_copy(subject.model).to(device)}
    found = forward_latencies(models, subject.pictures(1, *subject.imgsz).to(device))
    difference = {
        "params": summary.params - cost.params,
        "gflops": summary.gflops - cost.gflops,
        "fused_ms_batch_1": found["grafted"].median_ms - found[base].median_ms,
    }
    return difference, [f"{name}, in turns" for name, latency in found.items() if latency.steady is False]
