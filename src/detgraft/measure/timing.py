"""Measures latency, everywhere in detgraft: warm-up first, then the median of several passes, with the load beside it.

There is one loop, :func:`in_turns`. ``check``, a study's prices and the benchmarks differ in how often they go through
it, and in how many forms of the same work take turns in it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from detgraft.measure.load import OtherLoad

WARM_UP = 2
PASSES = 5
SETTLED = 1.25
"""Largest ratio of the medians of two halves of the passes that counts as one and the same duration."""
_REPEATS = 5
_PATIENCE = 5.0  # seconds after which passes are not made again: on a busy processor they may never settle
_CUDA_WARM_UP = 1.0  # seconds: a GPU that was idle runs at a fraction of its clock at first, an H200 at a sixth


@dataclass(frozen=True)
class Latency:
    """How long something takes.

    Args:
        median_ms: Median duration in milliseconds.
        passes: How many passes it is the median of.
        load: Share of the machine's processors that other processes used meanwhile, 0 to 1; None where the system
            does not tell.
        steady: Whether both halves of the passes took as long, up to :data:`SETTLED`; None for a single pass.
    """

    median_ms: float
    passes: int
    load: float | None
    steady: bool | None


def in_turns(
    works: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    device: str = "cpu",
    seconds: float | None = None,
    least: int = 1,
    clock: Callable[[], Any] | None = None,
) -> dict[str, list[Any]]:
    """Time pieces of work in turns, so that a change in the machine's load meets all of them.

    Args:
        works: The work by name; every second round goes through it backwards.
        rounds: How many rounds.
        device: Where the work runs; a CUDA device is waited for before the clock is read again.
        seconds: No further round starts after this long.
        least: Rounds that are made in any case.
        clock: Read before and after each piece of work; wall time in seconds by default.

    Returns:
        What passed on the clock, by name, round by round.
    """
    clock = clock or time.perf_counter
    times: dict[str, list[Any]] = {name: [] for name in works}
    end = None if seconds is None else time.perf_counter() + seconds
    for turn in range(rounds):
        if end is not None and turn >= least and time.perf_counter() > end:
            break
        for name in list(works) if turn % 2 else reversed(list(works)):
            start = clock()
            works[name]()
            _wait_for(device)
            times[name].append(clock() - start)
    return times


def latencies_of(
    works: Mapping[str, Callable[[], object]],
    *,
    warm_up: int = WARM_UP,
    passes: int = PASSES,
    seconds: float | None = None,
    device: str = "cpu",
) -> dict[str, Latency]:
    """Measure how long pieces of work take in turns, once none of them changes any more.

    Where the second half of the passes of one is faster or slower than the first, all are made again, five times at
    most and for a few seconds; the last ones count.

    Args:
        works: The work by name.
        warm_up: Calls of each before anything is measured; on a CUDA device they go on for a second at least.
        passes: Number of measured calls of each.
        seconds: No further call starts after this long, warm-up included; one of each is measured in any case.
        device: Where the work runs.
    """
    begin = time.perf_counter()
    warmed = begin + (_CUDA_WARM_UP if device.startswith("cuda") else 0.0)
    end = math.inf if seconds is None else begin + seconds
    done = 0
    while (done < warm_up or time.perf_counter() < warmed) and time.perf_counter() <= end:
        for run in works.values():
            run()
        _wait_for(device)
        done += 1
    others = OtherLoad()
    for _ in range(_REPEATS):
        left = None if seconds is None else end - time.perf_counter()
        times = in_turns(works, passes, device=device, seconds=left)
        steady = {name: _is_steady(each) for name, each in times.items()}
        if False not in steady.values() or time.perf_counter() > min(end, begin + _PATIENCE):
            break
    load = others.share()
    return {
        name: Latency(1000 * statistics.median(each), len(each), load, steady[name]) for name, each in times.items()
    }


def latency_of(run: Callable[[], object], **how: Any) -> Latency:
    """Measure how long a function takes, once that does not change any more.

    Args:
        run: The work.
        **how: See :func:`latencies_of`.
    """
    return latencies_of({"": run}, **how)[""]


def _is_steady(times: Sequence[float]) -> bool | None:
    half = len(times) // 2
    if not half:
        return None
    first, second = statistics.median(times[:half]), statistics.median(times[-half:])
    return max(first, second) <= SETTLED * min(first, second)


def forward_latencies(models: Mapping[str, Any], pictures: Tensor, **how: Any) -> dict[str, Latency]:
    """Measure forward passes in turns, in evaluation mode as the models are set up.

    Args:
        models: The models by name.
        pictures: Their input, on the models' device.
        **how: See :func:`latencies_of`.
    """

    def run(model: Any) -> None:
        with torch.inference_mode():
            model(pictures)

    works = {name: partial(run, model) for name, model in models.items()}
    return latencies_of(works, device=str(pictures.device), **how)


def forward_latency(model: Any, pictures: Tensor, **how: Any) -> Latency:
    """Measure a forward pass, in evaluation mode as the model is set up; see :func:`forward_latencies`."""
    return forward_latencies({"": model}, pictures, **how)[""]


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
