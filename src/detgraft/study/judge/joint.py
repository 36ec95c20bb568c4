"""Would the difference hold for other test pictures? Intervals over pictures, and over seeds and pictures together.

Legend of the shape suffixes: N seeds (pairs), B bootstrap draws of the pictures; ``...`` any leading axes.

The interval over seeds takes the test pictures as they are: with other pictures of the same kind all seeds may move
together. Two parts make up the variance of the mean difference then: that of the seeds, from the differences
themselves, and that of the pictures, from the bootstrap over pictures, which every run stored. The second is free of
what a seed and a picture make only together, because the first holds it already.

Source: F. E. Satterthwaite, An approximate distribution of estimates of variance components (1946), for the degrees of
freedom of a sum of variances.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from detgraft.errors import ArgumentError
from detgraft.study.design.terms import ALPHA
from detgraft.study.design.words import say

Array = NDArray[np.float64]


def bootstrap_interval(base_NB: Any, variant_NB: Any, alpha: float = ALPHA) -> tuple[float, float]:
    """Percentile interval of the mean difference under resampled pictures, the trained models held fixed.

    Draw b must hold the same resampled pictures in every run of both arms, which pairs the comparison by picture.

    Args:
        base_NB: Metric of each base run under each draw, shape (N, B).
        variant_NB: The same for the variant, in the same order of seeds.
        alpha: One minus the confidence.

    Returns:
        Lower and upper end; NaN twice when there are no draws.
    """
    base, variant = _draws(base_NB, variant_NB)
    if base.size == 0:
        return math.nan, math.nan
    mean_B = (variant - base).mean(axis=0)
    low, high = np.quantile(mean_B, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def joint_interval(
    difference_N: Any, base_NB: Any, variant_NB: Any, pictures: int, alpha: float = ALPHA
) -> tuple[Array, Array]:
    """Interval of the mean difference over seeds and pictures together.

    Args:
        difference_N: Differences "variant minus base" on all pictures, shape (..., N).
        base_NB: Metric of each base run under each draw, shape (..., N, B), in the same order of seeds.
        variant_NB: The same for the variant.
        pictures: Number of pictures that were drawn from.
        alpha: One minus the confidence.

    Returns:
        Lower and upper ends, shape (...); NaN without draws, with fewer than two seeds or fewer than two pictures.
    """
    d_N = np.asarray(difference_N, dtype=np.float64)
    base, variant = _draws(base_NB, variant_NB)
    n, mean = d_N.shape[-1], d_N.mean(axis=-1)
    d_NB = variant - base
    d_NB = d_NB[..., np.isfinite(d_NB).all(axis=tuple(range(d_NB.ndim - 1)))]  # a draw without any labelled box
    draws = d_NB.shape[-1]
    if n < 2 or pictures < 2 or draws < 2:
        return np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    shift_NB = d_NB - d_NB.mean(axis=-1, keepdims=True)
    common_B = shift_NB.mean(axis=-2)
    own = ((shift_NB - common_B[..., None, :]) ** 2).sum(axis=(-2, -1)) / ((n - 1) * (draws - 1))
    of_pictures = np.maximum((common_B**2).sum(axis=-1) / (draws - 1) - own / n, 0.0) * pictures / (pictures - 1)
    of_seeds = d_N.var(axis=-1, ddof=1) / n
    total = of_seeds + of_pictures
    weight = of_seeds**2 / (n - 1) + of_pictures**2 / (pictures - 1)
    freedom = np.divide(total**2, weight, out=np.full(mean.shape, float(n - 1)), where=weight > 0)
    half = stats.t.ppf(1 - alpha / 2, freedom) * np.sqrt(total)
    return mean - half, mean + half


def only_for_these_pictures(seeds: tuple[float, float], joint: tuple[float, float]) -> str:
    """A sentence where the interval over seeds excludes 0 and the one over seeds and pictures does not.

    Args:
        seeds: Interval over seeds.
        joint: Interval over seeds and pictures together.

    Returns:
        The sentence; an empty text where there is nothing to say.
    """
    if not (seeds[0] > 0 or seeds[1] < 0) or not joint[0] <= 0 <= joint[1]:
        return ""
    return say(
        "This holds for these test pictures only: over seeds and pictures together the 95 % interval is {low} to {high}"
        " points, so other pictures of the same kind may show nothing or the opposite.",
        low=f"{100 * joint[0]:+.2f}",
        high=f"{100 * joint[1]:+.2f}",
    )


def _draws(base_NB: Any, variant_NB: Any) -> tuple[Array, Array]:
    base, variant = np.asarray(base_NB, dtype=np.float64), np.asarray(variant_NB, dtype=np.float64)
    if base.shape != variant.shape:
        raise ArgumentError(f"bootstrap: the draws of the two arms differ in shape, {base.shape} and {variant.shape}.")
    return base, variant
