"""Check 5: does the saved model open elsewhere: in stock Ultralytics, under restricted loading, and without pickle?"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from detgraft.measure.watch import main_output
from detgraft.upstream.model.safetensors import write_safetensors
from detgraft.upstream.release.capabilities import HAS_SAFE_LOAD, ULTRALYTICS_VERSION
from detgraft.upstream.service.checkpoints import SCRIPT_REOPEN, save_checkpoint
from detgraft.verify.parity import compare
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject, form_of

NAME = "portability"
TIMEOUT = 600
"""Seconds for one new process; opening a model takes some seconds."""

PARALLEL = 2
"""How many of the new processes run at a time."""


def check(subject: Subject) -> CheckResult:
    """Save, reopen in new processes, and compare the answers."""
    if subject.model is None:
        return skipped(NAME, "the model cannot be built")
    model = subject.woken()
    pictures = subject.pictures(1, subject.small, subject.small)
    expected = main_output(model, pictures)
    numpy.save(subject.folder / "pictures.npy", pictures.numpy())
    checkpoint = subject.folder / "portable.pt"
    try:
        save_checkpoint(model, checkpoint)
    except Exception as error:  # pickling may raise anything
        return verdict(NAME, [_unpicklable(subject, model, error)], {})
    figures: dict[str, Any] = {"checkpoint_bytes": checkpoint.stat().st_size}
    problems: list[str] = []
    notes: list[str] = []
    ways: list[tuple[str, Path, dict[str, str], list[str]]] = [("stock Ultralytics", checkpoint, {}, [])]
    if HAS_SAFE_LOAD:
        ways.append(("restricted loading", checkpoint, {"ULTRALYTICS_SAFE_LOAD": "1"}, ["detgraft"]))
    else:
        notes.append(f"ultralytics {ULTRALYTICS_VERSION} has no restricted loading")
    tensors = subject.folder / "portable.safetensors"
    try:
        write_safetensors(model, tensors)
        figures["safetensors_bytes"] = tensors.stat().st_size
        ways.append(("safetensors", tensors, {}, ["detgraft"]))
    except (ValueError, TypeError, RuntimeError) as error:
        problems.append(f"safetensors: {error}")
    subject.say(f"new processes open it: {', '.join(way for way, *_ in ways)}")
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = list(pool.map(lambda way: _reopen(subject, *way[1:]), ways))
    for (way, *_), answer in zip(ways, answers, strict=True):
        if isinstance(answer, str):
            problems.append(f"{way}: {answer}")
            continue
        drift = compare([expected], [answer], subject.small, form_of(model))
        figures[f"{way} equal"] = bool(torch.equal(expected, answer))
        if not drift.fine:
            problems.append(f"{way}: the reopened model answers differently: {drift}")
    return verdict(NAME, problems, figures, notes)


def _reopen(subject: Subject, file: Path, environment: dict[str, str], packages: list[str]) -> Tensor | str:
    """Open a file in a new process; return its answer, or why there is none."""
    answers = subject.folder / f"{file.suffix[1:]}-{len(environment)}.npy"
    # Nothing is installed on behalf of a file; one thread, so that sums are taken in the same order.
    quiet = {"YOLO_AUTOINSTALL": "0", "YOLO_OFFLINE": "1", "YOLO_VERBOSE": "false", "PYTHONIOENCODING": "utf-8"}
    words = [str(file), str(subject.folder / "pictures.npy"), str(answers), *packages]
    try:
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT_REOPEN, *words],
            env={**os.environ, **quiet, **environment},
            cwd=subject.folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT} s"
    if process.returncode or not answers.is_file():
        lines = [line for line in process.stderr.strip().splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"the process ended with status {process.returncode}"
    return torch.from_numpy(numpy.load(answers))


def _unpicklable(subject: Subject, model: Any, error: Exception) -> str:
    """Name the layer that cannot be pickled, by pickling each one alone."""
    for index, layer in enumerate(model.model):
        try:
            torch.save(layer, io.BytesIO())
        except Exception as own:
            return f"{subject.layer(index)} cannot be pickled, so no checkpoint can hold it: {_text(own)}"
    return f"the model cannot be pickled: {_text(error)}"


def _text(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
