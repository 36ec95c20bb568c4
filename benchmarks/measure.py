"""Timing in turns, agreement, and peak memory: what every benchmark of this folder is made of.

A case holds the same work in several forms. Before anything is timed, their results (outputs, and gradients where the
work has them) are compared. The forms then run in turns, so that a change in the machine's load meets all of them; the
figure is the median over the rounds of rival / ours, with the quartiles beside it.
"""

from __future__ import annotations

import functools
import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from detgraft.measure.timing import in_turns

Work = Callable[[], "Sequence[Tensor] | None"]


@dataclass(frozen=True)
class Case:
    """One piece of work in several forms.

    Args:
        name: Unique, ``benchmark/shape/direction``.
        build: Makes the forms by name, ours first. Each returns its results for the comparison, or None.
        targets: For a rival, the least acceptable rival / ours.
        tolerance: Largest acceptable difference between results, relative to the largest value.
        rounds: How many turns.
        seconds: No further round starts after this long.
        memory_target: For a rival, the largest acceptable ours / rival of peak memory; measured when any is given.
        device: Where the work runs, ``cpu`` or ``cuda``.
        warmups: Calls of each form before the timing; what is compiled can compile again at the second.
    """

    name: str
    build: Callable[[], Mapping[str, Work]]
    targets: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 1e-5
    rounds: int = 15
    seconds: float = 20.0
    memory_target: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"
    warmups: int = 1


@dataclass
class Outcome:
    """What was measured for one rival of one case; ratios are rival / ours."""

    case: str
    rival: str
    ratio: float
    low: float
    high: float
    ours_ms: float
    rival_ms: float
    rounds: int
    difference: float | None
    target: float | None
    memory_ratio: float | None = None
    ours_mb: float | None = None
    rival_mb: float | None = None
    memory_target: float | None = None
    device: str = "cpu"


def run(case: Case, clock: Callable[[], float]) -> list[Outcome]:
    """Compare, time and, where asked for, weigh the forms of a case."""
    forms = case.build()
    ours = next(iter(forms))
    rivals = [name for name in forms if name != ours]
    differences = agree(case, forms, ours)
    times = in_turns(forms, case.rounds, device=case.device, seconds=case.seconds, least=3, clock=clock)
    found = []
    for rival in rivals:
        ratios = [r / o for r, o in zip(times[rival], times[ours], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        found.append(
            Outcome(
                case.name, rival, statistics.median(ratios), low, high,
                1e3 * statistics.median(times[ours]), 1e3 * statistics.median(times[rival]), len(ratios),
                differences.get(rival), case.targets.get(rival), device=case.device,
            )
        )  # fmt: skip
    if case.memory_target and case.device == "cuda":
        _compare_memory(case, found, ours, {name: allocator_peak(work) for name, work in forms.items()}.__getitem__)
    del forms
    gc.collect()
    if case.memory_target and case.device == "cpu":
        _compare_memory(case, found, ours, functools.partial(child_peak, case.name))
    return found


def agree(case: Case, forms: Mapping[str, Work], ours: str) -> dict[str, float]:
    """Return each rival's largest difference from ours; this also warms everything up.

    Raises:
        SystemExit: A result differs by more than the case allows.
    """
    expected = forms[ours]()
    differences: dict[str, float] = {}
    for name, form in forms.items():
        for _ in range(case.warmups):
            results = form()
        if name == ours or results is None or expected is None:
            continue
        differences[name] = largest_difference(expected, results)
        if not differences[name] <= case.tolerance:
            raise SystemExit(f"{case.name}: {ours} and {name} differ by {differences[name]:.2e} of the largest value")
    return differences


def largest_difference(a: Iterable[Tensor], b: Iterable[Tensor]) -> float:
    return max(
        float((x.double() - y.double().reshape(x.shape)).abs().max() / y.double().abs().max().clamp_min(1e-30))
        for x, y in zip(a, b, strict=True)
    )


def _compare_memory(case: Case, found: list[Outcome], ours: str, peak: Callable[[str], float]) -> None:
    mine = peak(ours)
    for outcome in found:
        theirs = peak(outcome.rival)
        if theirs <= 0 and outcome.rival not in case.memory_target:
            continue  # a floor, which moves bytes between tensors that are there already
        outcome.ours_mb, outcome.rival_mb, outcome.memory_ratio = mine, theirs, mine / max(theirs, 1e-9)
        outcome.memory_target = case.memory_target.get(outcome.rival)


def allocator_peak(work: Work) -> float:
    """Return by how many MB one call raises the peak of PyTorch's CUDA allocator; needs no process of its own."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def child_peak(case: str, form: str) -> float:
    """Return by how many MB one form raises the peak memory of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--weigh", case, form, "--threads", str(torch.get_num_threads())],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{case}: measuring the memory of {form} failed\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def weigh(case: Case, form: str) -> float:
    """Run one form once in this process and return by how many MB it raised the peak."""
    work = case.build()[form]
    gc.collect()
    before = _reset_peak()
    work()
    return _status("VmHWM") - before


def _reset_peak() -> float:
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is in use
    return _status("VmRSS")


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {key}")


def training_step(call: Callable[[], Sequence[Tensor]], inputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> Work:
    """Return the work of one forward and backward pass that yields the outputs and the gradients of the inputs."""

    def work() -> Sequence[Tensor]:
        outputs = call()
        return [y.detach() for y in outputs] + list(torch.autograd.grad(outputs, inputs, cotangents))

    return work


def unchecked(work: Callable[[], object]) -> Work:
    """Return the same work without results, for what has nothing to be compared with."""

    def run() -> None:
        work()

    return run


def within(context: Callable[[], AbstractContextManager[object]], work: Work) -> Work:
    """Return the same work, each call inside a context of its own."""

    def run() -> Sequence[Tensor] | None:
        with context():
            return work()

    return run


def without_gradients(call: Callable[[], Sequence[Tensor]]) -> Work:
    def work() -> Sequence[Tensor]:
        with torch.no_grad():
            return call()

    return work
