"""``detgraft check``: proof that a grafted model is sound, portable and honestly priced."""

from __future__ import annotations

import contextlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from detgraft.base.provenance import EXPORTERS, versions
from detgraft.base.values import read_size
from detgraft.catalog.plugins import load_plugins
from detgraft.errors import ArgumentError, nearest
from detgraft.measure.watch import LayerError
from detgraft.upstream.model.sizes import check_size
from detgraft.upstream.release.quiet import quiet
from detgraft.verify.checks import data as data_check
from detgraft.verify.checks import ddp, export, fusing, gradients, losses, portability, price, seeds, shapes
from detgraft.verify.result import CheckResult, Report
from detgraft.verify.subject import Subject, open_subject

CHECKS: dict[str, Callable[[Subject], CheckResult]] = {
    shapes.NAME: shapes.check,
    gradients.NAME: gradients.check,
    losses.NAME: losses.check,
    seeds.NAME: seeds.check,
    fusing.NAME: fusing.check,
    portability.NAME: portability.check,
    ddp.NAME: ddp.check,
    export.NAME: export.check,
    price.NAME: price.check,
    data_check.NAME: data_check.check,
}
"""All checks in the order in which they run."""

Progress = Callable[[str, str, CheckResult | None], None]
"""Called with a check's name, what it is doing, and its result once it has one."""


def check(
    model: str | Path | nn.Module | dict[str, Any],
    data: str | Path | None = None,
    imgsz: int | tuple[int, int] = 640,
    only: str | Sequence[str] = (),
    nc: int | None = None,
    plugins: str | Path | Sequence[str | Path] = (),
    progress: Progress | None = None,
    trust: bool = False,
) -> Report:
    """Check a model: shapes, gradients, losses, seeds, fusing, portability, DDP, exports, cost, and its data.

    Nothing is written but temporary files; the model and the global random numbers stay as they are.

    Args:
        model: A graft expression, a model YAML, a checkpoint, or a model object.
        data: A data YAML or folder, to check it too.
        imgsz: Image size in pixels: one number, or height and width.
        only: Names of the checks to run, as a list or with commas between; all by default.
        nc: Number of classes, where a description is given.
        plugins: Python file(s) with own blocks.
        progress: Called while checks run.
        trust: Let a checkpoint run the code that it holds.

    Returns:
        The report; ``report.passed`` says whether no check failed.

    Raises:
        DetgraftError: There is no such model or check, or the size is no multiple of the model's stride.
    """
    chosen = _chosen([name.strip() for name in only.split(",") if name.strip()] if isinstance(only, str) else only)
    read_size(imgsz)
    load_plugins(plugins)
    with tempfile.TemporaryDirectory(prefix="detgraft-check-", ignore_cleanup_errors=True) as folder, _hushed():
        subject = open_subject(model, imgsz, nc, Path(folder), data, trust=trust)
        check_size(subject.imgsz, subject.stride)
        results = tuple(_run(name, subject, progress) for name in chosen)
    return Report(subject.name, subject.imgsz, results, versions(*EXPORTERS))


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep other packages' remarks away from the report, which tells all that matters."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _chosen(only: Sequence[str]) -> list[str]:
    for name in only:
        if name not in CHECKS:
            raise ArgumentError(
                f"there is no check '{name}'.{nearest(name, CHECKS)} The checks are {', '.join(CHECKS)}"
            )
    return [name for name in CHECKS if not only or name in only]


def _run(name: str, subject: Subject, progress: Progress | None) -> CheckResult:
    """Run one check; whatever it raises is a failure of the model, never of the report."""

    def say(text: str) -> None:
        if progress is not None:
            progress(name, text, None)

    subject.say = say
    say("")
    start = time.perf_counter()
    try:
        result = CHECKS[name](subject)
    except LayerError as error:
        result = CheckResult(name, "fail", f"{subject.layer(error.index)} fails: {error.text}")
    except Exception as error:
        result = CheckResult(name, "fail", f"{type(error).__name__}: {str(error).strip()[:500]}")
    seconds = time.perf_counter() - start
    result = CheckResult(result.name, result.status, result.reason, result.figures, round(seconds, 2))
    if progress is not None:
        progress(name, "", result)
    return result
