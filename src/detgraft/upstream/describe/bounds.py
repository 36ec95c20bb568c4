"""Refuses descriptions of absurd size before anything of that size is allocated."""

from __future__ import annotations

import math
from typing import Any

from detgraft.errors import Location, PlanError
from detgraft.plan.rows import Plan, Row
from detgraft.upstream.describe.load import read_once
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.describe.resolve import locate
from detgraft.upstream.describe.rough import numbers, rough_sizes
from detgraft.upstream.parser.lower import MAX_CHANNELS
from detgraft.upstream.release.capabilities import stock_yamls

MAX_PARAMETERS = 2_000_000_000
"""The largest stock model has 0.2e9 parameters, the catalogue's largest backbone 0.66e9."""

MAX_LAYERS = 1000
"""Repeats of all rows together, scaled; the largest stock model has less than 100."""

MAX_OPERATIONS = 1e12
"""Of the forward pass at 256x256 with which a build finds strides; the largest stock model needs 0.05e12."""

MAX_ROW_OPERATIONS = 2e11
"""Of one layer that is no backbone; all layers of the largest stock model together need 0.05e12."""

MAX_HUGE_OPERATIONS = 5e9
"""Of one layer with a kernel above ``LARGEST_KERNEL``, which PyTorch computes on the CPU at less than 1e9 a second."""

MAX_ELEMENTS = 2**31
"""Of one layer's output in that pass: 8 GiB in float32."""

MOST_REPEATS = 12
"""Of one row, scaled, in stock models."""

LARGEST_KERNEL = 63
"""Beyond any published convolution; RepLKNet's has 31."""

MAX_CLASSES = 100_000
"""As many as a model YAML may have."""

HARMLESS = 1_000_000_000
"""A rough bound of the parameters of ordinary rows below which nothing is estimated: no stock detector reaches it."""


def refuse_absurd(mapping: dict[str, Any], ch: int) -> None:
    """Raise for a description whose numbers cannot belong to a model that anyone can run.

    The cheap rough bound costs nothing for ordinary models; only above it the layers are built on the meta device and
    their parameters counted.

    Args:
        mapping: A model description.
        ch: Image channels.

    Raises:
        PlanError: Too many channels, repeats or parameters; names the row.
    """
    if _is_stock(mapping):
        return  # what Ultralytics ships is built exactly as without detgraft
    plan = plan_of(mapping)
    repeats = 0
    for row in plan.rows:
        _refuse_numbers(plan, row)
        repeats += plan.scaling.repeats(row.repeats)
        if repeats > MAX_LAYERS:
            raise PlanError(
                f"the rows up to here repeat {repeats} modules at depth {plan.scaling.depth:g}; at most {MAX_LAYERS} "
                "are built",
                row.location,
            )
    for key, value in mapping.items():
        if key not in ("backbone", "head", "nc") and any(abs(n) > MAX_CHANNELS for n in numbers(value)):
            raise PlanError(f"'{key}:' has a number above {MAX_CHANNELS}", Location(plan.source))
    if not _is_harmless(mapping, plan, ch):
        _refuse_parameters(mapping, plan, ch)
        _refuse_operations(mapping, plan, ch)


def _is_stock(mapping: dict[str, Any]) -> bool:
    """Say whether a description is what Ultralytics ships, in content and not in name only."""
    path = locate(str(mapping.get("yaml_file") or ""))
    nc = mapping.get("nc")
    if path is None or path not in stock_yamls().values() or not isinstance(nc, int) or not 0 < nc <= MAX_CLASSES:
        return False
    shipped = read_once(path, str(mapping["yaml_file"])).mapping  # under the name that it was read by before
    return all(mapping.get(key) == value for key, value in shipped.items() if key not in ("nc", "scale"))


def _refuse_numbers(plan: Plan, row: Row) -> None:
    limit = max(MAX_CHANNELS, plan.nc or 0)
    for number in numbers([*row.args, *row.inner_options]):
        if not math.isfinite(number) or abs(number) > limit:
            raise PlanError(
                f"'{row.module}' has the argument {number!r:.40}; numbers up to {limit} are possible", row.location
            )
    first = row.args[0] if row.args else None
    if isinstance(first, int) and not isinstance(first, bool) and first > 0:
        channels = plan.scaling.channels(first)
        if channels > limit:
            raise PlanError(
                f"'{row.module}' would have {channels} channels at width {plan.scaling.width:g}; at most {limit} are "
                "possible",
                row.location,
            )


def _is_harmless(mapping: dict[str, Any], plan: Plan, ch: int) -> bool:
    """Say whether the numbers alone prove that the model can be built, so that nothing has to be estimated."""
    sizes = rough_sizes(plan, ch)
    keys = [abs(n) for key, v in mapping.items() if key not in ("backbone", "head", "scales") for n in numbers(v)]
    factor = max([1.0, *(n / 1000 for n in keys)])
    work = [size.operations for size in sizes]
    return (
        factor * sum(size.parameters for size in sizes if size.plain) <= HARMLESS
        and factor * sum(size.parameters for size in sizes) <= MAX_PARAMETERS
        and max(work, default=0.0) <= MAX_ROW_OPERATIONS
        and sum(work) <= MAX_OPERATIONS
        and not _is_unusual(plan)
    )


def _is_unusual(plan: Plan) -> bool:
    """Say whether a row repeats more than any stock row does, repeats what may enlarge, or has a huge kernel."""
    for row in plan.rows:
        if _has_huge_kernel(row):
            return True
        repeats = plan.scaling.repeats(row.repeats)
        if repeats > MOST_REPEATS or (repeats > 1 and (row.module.startswith("nn.") or "Transpose" in row.module)):
            return True
    return False


def _has_huge_kernel(row: Row) -> bool:
    kernels = [*(row.args[1:] if "Conv" in row.written_like else ()), *row.inner_options]
    return any(abs(number) > LARGEST_KERNEL for number in numbers(kernels))


def _refuse_parameters(mapping: dict[str, Any], plan: Plan, ch: int) -> None:
    from detgraft.upstream.describe.layers import layers_on_meta

    total = 0
    for layer in layers_on_meta(mapping, ch):
        total += sum(p.numel() for p in layer.parameters())
        if total > MAX_PARAMETERS:
            raise PlanError(
                f"the layers up to here have {total:,} parameters; at most {MAX_PARAMETERS:,} are built",
                plan.row_of_layer(int(layer.i)).location,
            )


def _refuse_operations(mapping: dict[str, Any], plan: Plan, ch: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode  # this, too, is slow to import, and seldom wanted

    from detgraft.upstream.describe.layers import run_on_meta

    before = 0
    with FlopCounterMode(display=False) as counter:
        for run in run_on_meta(mapping, ch, 256, 256):
            row = plan.row_of_layer(run.index)
            where, huge = row.location, _has_huge_kernel(row)
            if "overflow" in run.error:  # more values than a 64-bit number counts, somewhere inside the layer
                raise PlanError(
                    f"returns too many values to count for two pictures of 256x256: {run.error:.120}", where
                )
            if run.error:  # a layer with inputs of its own (text, say) or without a meta form: nothing to estimate
                return
            total = counter.get_total_flops()
            spent, before = total - before, total
            limit = MAX_HUGE_OPERATIONS if huge else MAX_ROW_OPERATIONS if row.span == 1 else MAX_OPERATIONS
            why = f" with a kernel of more than {LARGEST_KERNEL} pixels" if huge else ""
            _refuse_work("this layer needs", spent, limit, where, why)
            _refuse_work("the layers up to here need", total, MAX_OPERATIONS, where)
            largest = max((math.prod(shape) for shape in run.outputs), default=0)
            if largest > MAX_ELEMENTS:
                raise PlanError(
                    f"returns {largest:,} values for two pictures of 256x256; at most {MAX_ELEMENTS:,}", where
                )


def _refuse_work(subject: str, needed: float, most: float, where: Location, why: str = "") -> None:
    if needed > most:
        raise PlanError(
            f"{subject} {needed:.1e} operations for two pictures of 256x256; at most {most:.0e} are built{why}", where
        )
