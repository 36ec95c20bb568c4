"""Does the paired t test deserve trust here? What the scatter of two arms says about it, and what a p value costs then.

Legend of the shape suffixes: N seeds (pairs); ``...`` any leading axes.

The paired t test needs differences that scatter about alike to both sides. Two arms that scatter alike give that,
whatever the shape of their scatter: base and variant can then be swapped. Two arms that scatter unlike each other need
not: where one of them has a long tail, few seeds often miss the tail, agree with each other, and pass for proof. A
study with a base of sd 0.3 and a variant of log-normal scatter (sigma 1) says "helps" or "hurts" in 13 to 16 % of cases
in which nothing differs, instead of 5 %.

Two things are measured: the ratio of the arms' standard deviations, as the logarithm in units of its own scatter for
normal arms, and the skewness of the differences where its long tail points against the claim, in such units too. The p
value is raised by a factor that grows with both, up to 33. For normal noise that keeps every promise and costs power, a
little from 8 seeds on and much below: with few seeds nothing that was measured can exclude a tail, and the honest
verdict is "cannot tell". The factor's constants were chosen by simulation
(``benchmarks/study_simulation.py``, with the result in docs/study-simulation.md): they are the ones that cost least
power for normal noise among those with at most 5 % of false verdicts for the log-normal scatter above. Neither the
sign-flip test nor a skew-corrected t brings that: both see only the values that were drawn, not the tail that was not.

Source of the skewness of a sample and its scatter for normal noise: R. A. Fisher, The moments of the distribution for
normal samples of measures of departure from normality (1930).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNLIKE = 2.0
"""Ratio of standard deviations from which a report calls two arms' scatter unlike."""
LOPSIDED = 1.0
"""Skewness of the differences, in units of its scatter for normal noise, from which a report calls them lopsided."""

_RATIO_WEIGHT, _SKEW_WEIGHT, _MOST = 4.0, 1.0, 3.5
_FREE_SEEDS, _FREE = (
    (3, 4, 6, 8, 10),
    (0.25, 0.12, 0.2, 0.5, 1.1),
)  # part of the ratio that chance explains, by number of seeds
_PAIR = math.log(2)  # with two seeds, whatever they show: nothing of their scatter can be seen
_SAMPLE, _LEVELS = 20_000, 64


@dataclass(frozen=True)
class Scatter:
    """How two arms scatter; every field has the leading axes of its input.

    Attributes:
        ratio: Standard deviation of the variant over that of the base; NaN where both are zero.
        skew: Skewness of the differences (third standardised moment); positive for a long tail upwards.
        against: The part of it that speaks against the sign of the mean, in units of its scatter for normal noise.
        raised: Logarithm of the factor by which the p value is raised, from 0 up.
        unlike: Whether ratio or skewness are beyond what a report calls usual.
    """

    ratio: Array
    skew: Array
    against: Array
    raised: Array
    unlike: NDArray[np.bool_]


def scatter_of(base_N: Any, variant_N: Any) -> Scatter:
    """Measure the scatter of paired runs along the last axis.

    Args:
        base_N: Figures of the base, shape (..., N).
        variant_N: Figures of the variant with the same seeds, shape (..., N).
    """
    base_N, variant_N = np.broadcast_arrays(np.asarray(base_N, np.float64), np.asarray(variant_N, np.float64))
    n = base_N.shape[-1]
    difference_N = variant_N - base_N
    mean = difference_N.mean(axis=-1)
    if n < 3:  # two values have no skewness, and the ratio of two pairs says next to nothing
        nothing = np.zeros(mean.shape)
        raised = np.full(mean.shape, _PAIR if n == 2 else 0.0)
        return Scatter(np.full(mean.shape, np.nan), nothing, nothing, raised, np.zeros(mean.shape, dtype=bool))
    centred_N = difference_N - mean[..., None]
    spread = np.sqrt((centred_N**2).mean(axis=-1))
    third = (centred_N**3).mean(axis=-1)
    skew = np.divide(third, spread**3, out=np.zeros_like(third), where=spread > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = variant_N.std(axis=-1) / base_N.std(axis=-1)
        distance = np.abs(np.log(ratio)) * math.sqrt(n - 1)
    against = np.maximum(-np.sign(mean) * skew * math.sqrt(n / 6), 0.0)
    beyond = np.maximum(np.nan_to_num(distance, nan=0.0, posinf=np.inf) - np.interp(n, _FREE_SEEDS, _FREE), 0.0)
    raised = np.minimum(_RATIO_WEIGHT * beyond + _SKEW_WEIGHT * against, _MOST)
    unlike = (ratio >= UNLIKE) | (ratio <= 1 / UNLIKE) | (np.abs(skew) * math.sqrt(n / 6) >= LOPSIDED)
    return Scatter(ratio, skew, against, np.asarray(raised), unlike)


@lru_cache(maxsize=256)
def raised_by_chance(pairs: int) -> Array:
    """Logarithms of the factor for equal normal arms, as equally likely values, for computing power; shape (64,)."""
    if pairs < 3:
        return np.full(1, _PAIR if pairs == 2 else 0.0)
    random = np.random.default_rng(pairs)
    count = max(_SAMPLE // pairs, 500)
    raised = scatter_of(random.standard_normal((count, pairs)), random.standard_normal((count, pairs))).raised
    return np.quantile(raised, (np.arange(_LEVELS) + 0.5) / _LEVELS)
