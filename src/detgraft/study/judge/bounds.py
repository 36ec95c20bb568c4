"""Where a group-sequential paired t test draws its bounds: the error spent over looks, and what a p value then weighs.

Legend of the shape suffixes: K looks, M bins of the grid.

The error is spent over the looks by the fraction of seeds that each has seen, and the bound of each look is the one
that spends its share. The bounds are exact for normal scatter up to the grid. Under no difference sqrt(n) times the
cosine between the vector of n differences and the vector of ones, which is a function of the t value, forms a Markov
chain over the looks (what was seen is a direction, and directions are independent of lengths), so its distribution is
carried from look to look.

Sources: K. K. G. Lan and D. L. DeMets, Discrete sequential boundaries for clinical trials (1983); C. Jennison and
B. W. Turnbull, Group sequential methods (1999) for conditional power.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from detgraft.study.design.terms import HOPELESS, SPENDING

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """How the error is spent and when an arm is hopeless; the default was chosen by simulation among many.

    Attributes:
        spending: Kind of spending function: ``power``; ``hsd`` by Hwang, Shih and DeCani; ``obf`` and ``pocock``, Lan
            and DeMets' approximations of O'Brien and Fleming's and of Pocock's bounds, which have no parameter.
        parameter: Of that function.
        hopeless: Conditional power under which an arm stops.
        hopeless_from: Least number of seeds at which it may.
    """

    spending: str = SPENDING[0]
    parameter: float = SPENDING[1]
    hopeless: float = HOPELESS[0]
    hopeless_from: int = HOPELESS[1]

    def spent(self, fraction: float, alpha: float) -> float:
        """The error spent after a fraction of the seeds, of ``alpha`` over all of them."""
        if fraction >= 1:
            return alpha
        if self.spending == "power":
            return float(alpha * fraction**self.parameter)
        if self.spending == "hsd":
            return alpha * math.expm1(-self.parameter * fraction) / math.expm1(-self.parameter)
        if self.spending == "obf":
            return float(2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(fraction)))
        if self.spending == "pocock":
            return alpha * math.log1p((math.e - 1) * fraction)
        raise ValueError(f"spending: expected power, hsd, obf or pocock, found {self.spending!r}.")


RULE = Rule()

_BINS, _NODES = 400, 12
_ALPHAS = np.concatenate([np.geomspace(1e-7, 0.5, 60), [0.7, 0.9, 1.0]])


@lru_cache(maxsize=32)
def _chain(looks: tuple[int, ...]) -> tuple[Array, tuple[Array, ...]]:
    """Share of each bin at the first look, shape (M,), and the transitions between looks, shapes (M, M).

    Bins are equal steps of the angle between the differences and the vector of ones, from 0 to pi.
    """
    edges = np.linspace(0, math.pi, _BINS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    first = np.diff(_angle_cdf(edges, looks[0]))
    steps = []
    for n, after in itertools.pairwise(looks):
        more = after - n
        if more > 1:
            nodes, weights = special.roots_jacobi(_NODES, (more - 1) / 2 - 1, n / 2 - 1)
            kept, weights = (nodes + 1) / 2, weights / weights.sum()
        else:
            kept, weights = np.ones(1), np.ones(1)
        freedom = after - 1
        fine = np.linspace(-math.pi / 2, math.pi / 2, 4001)
        shares = stats.t.cdf(np.tan(fine) * math.sqrt(freedom), freedom)
        shares[0], shares[-1] = 0.0, 1.0
        beyond = np.zeros((_BINS, _BINS + 1))
        value = math.sqrt(after) * np.cos(edges)[None]
        for share, weight in zip(kept, weights, strict=True):
            old = math.sqrt(n) * np.cos(middle)[:, None] * math.sqrt(share)
            centre, length = np.arctan2(math.sqrt(more), old), np.hypot(old, math.sqrt(more))
            half = np.arccos(np.clip(value / length, -1, 1))
            beyond += weight * (np.interp(centre + half, fine, shares) - np.interp(centre - half, fine, shares))
        beyond[:, 0], beyond[:, -1] = 0.0, 1.0
        steps.append(np.diff(beyond, axis=1))
    return first, tuple(steps)


def _angle_cdf(angle: Array, n: int) -> Array:
    """Share of directions within ``angle`` of the vector of ones, for n independent normal values."""
    with np.errstate(divide="ignore"):
        return np.asarray(stats.t.sf(math.sqrt(n - 1) / np.tan(np.clip(angle, 0, math.pi)), n - 1))


@lru_cache(maxsize=4096)
def bounds(looks: tuple[int, ...], alpha: float, rule: Rule = RULE) -> tuple[float, ...]:
    """Largest two-sided p value of the plain t test that counts as found at each look.

    Args:
        looks: Numbers of seeds, rising; the first at least 2.
        alpha: Error spent over all looks.
        rule: How it is spent.
    """
    mass, steps = _chain(looks)
    edges = np.linspace(0, math.pi, _BINS + 1)[1 : _BINS // 2 + 1]
    spent, result = 0.0, []
    for k, n in enumerate(looks):
        target = rule.spent(n / looks[-1], alpha)
        share = min(target - spent, 1.0) / 2  # of each side; the two are alike
        spent = target
        inside = np.cumsum(mass[: _BINS // 2])
        if k == 0:
            limit = _angle_of(2 * share, n)
        else:
            # A cumulative share grows with a power of the angle, so that it is straight between logarithms.
            limit = float(
                np.exp(np.interp(math.log(max(share, 1e-300)), np.log(np.maximum(inside, 1e-300)), np.log(edges)))
            )
            if share < inside[0]:
                limit = float(edges[0] * (share / inside[0]) ** (1 / (n - 1)))
        result.append(float(2 * _angle_cdf(np.array(limit), n)))
        if k + 1 == len(looks):
            break
        kept = mass.copy()
        j = int(np.searchsorted(edges, limit))
        kept[:j] = 0.0
        kept[j] = max(inside[j] - share, 0.0) if j < _BINS // 2 else 0.0
        kept[_BINS // 2 :] = kept[: _BINS // 2][::-1]
        mass = kept @ steps[k]
    return tuple(result)


def _angle_of(p: float, n: int) -> float:
    """The angle at which the plain two-sided p value is ``p``."""
    return float(np.arctan2(math.sqrt(n - 1), stats.t.isf(p / 2, n - 1)))


@lru_cache(maxsize=64)
def _table(looks: tuple[int, ...], rule: Rule) -> Array:
    """Bounds of every error level of the grid, shape (levels, K)."""
    return np.array([bounds(looks, float(alpha), rule) for alpha in _ALPHAS])


def sequential_p(p: Any, looks: tuple[int, ...], look: int, rule: Rule = RULE) -> Array:
    """Smallest error level at which a plain p value at this look counts as found.

    Args:
        p: Plain two-sided p values.
        looks: Numbers of seeds of all looks.
        look: Index of this look.
        rule: How the error is spent.
    """
    column = np.maximum.accumulate(_table(looks, rule)[:, look])
    plain = np.maximum(np.asarray(p, dtype=np.float64), 1e-300)
    found = np.exp(np.interp(np.log(plain), np.log(column), np.log(_ALPHAS), left=-np.inf, right=0.0))
    tail = plain / column[0] * _ALPHAS[0]  # below the grid both fall alike
    return np.asarray(np.minimum(np.where(plain < column[0], tail, found), 1.0))


def conditional_power(
    p: Any, looks: tuple[int, ...], look: int, alpha: float, left: NDArray[np.int64], rule: Rule = RULE
) -> Array:
    """Chance that the last look finds a difference, if the difference seen so far is the true one.

    In the normal approximation: the p values are turned into normal deviates, whose trend goes on.

    Args:
        p: Plain two-sided p values at this look.
        looks: Numbers of seeds of all looks.
        look: Index of this look.
        alpha: Family-wise error rate.
        left: Number of variants of which nothing was found yet, which share that rate.
        rule: How the error is spent.
    """
    fraction = looks[look] / looks[-1]
    z = stats.norm.isf(np.asarray(p, dtype=np.float64) / 2)
    if fraction == 1:
        return np.zeros(np.shape(z))
    limits = np.array(
        [stats.norm.isf(bounds(looks, alpha / count, rule)[-1] / 2) for count in range(1, int(left.max()) + 1)]
    )
    limit = limits[left - 1]
    end, spread = z / math.sqrt(fraction), math.sqrt(1 - fraction)
    return np.asarray(stats.norm.sf((limit - end) / spread) + stats.norm.cdf((-limit - end) / spread))
