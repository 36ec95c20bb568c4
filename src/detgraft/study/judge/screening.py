"""Which of many variants are worth a study: successive halving over few runs, then a verdict on fresh seeds alone.

Legend of the shape suffixes: V variants, N seeds; ``...`` any leading axes.

Each round trains what is left with a few more seeds and keeps the better half by the mean of all its seeds so far. What
is left at the end is compared with the base on seeds that the screen has not seen, by the rules of ``statistics.py``,
adjusted for the survivors only. The best of many is lucky, too (the winner's curse): its mean in the screen is too
high, so nothing of the screen enters the verdict; and since the fresh runs know nothing of the choice, the error rate
is that of a study of the survivors.

Source: Z. Karnin, T. Koren and O. Somekh, Almost optimal exploration in multi-armed bandits (2013), for sequential
halving; K. Jamieson and A. Talwalkar (2016) for its use on trainings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detgraft.errors import ArgumentError

Array = NDArray[np.float64]

CONFIRM = 12
"""Fresh seeds of the confirmation, unless the study says otherwise; chosen by simulation, like :data:`KEPT`."""
KEPT = 13
"""One variant in so many is confirmed, at least two."""
USUAL = 10
"""Seeds of the full study that a screen is compared with."""


@dataclass(frozen=True)
class Round:
    """One round of a screen.

    Args:
        arms: Number of variants that it trains; the base is trained beside them.
        seeds: New seeds of each.
        keep: Number of variants that go on.
    """

    arms: int
    seeds: int
    keep: int


@dataclass(frozen=True)
class Plan:
    """What a screen and its confirmation cost.

    Args:
        rounds: The rounds of the screen.
        confirm: Fresh seeds of the confirmation.
        controls: Arms of the confirmation beside base and survivors.
        share: Length of a run of the screen in that of a whole one, up to 1.
    """

    rounds: tuple[Round, ...]
    confirm: int
    controls: int
    share: float

    @property
    def seeds(self) -> int:
        """Seeds of the whole screen."""
        return sum(one.seeds for one in self.rounds)

    @property
    def runs(self) -> float:
        """Cost of everything, in whole runs."""
        screen = sum((one.arms + 1) * one.seeds for one in self.rounds)
        return screen * self.share + (self.rounds[-1].keep + 1 + self.controls) * self.confirm

    @property
    def full(self) -> int:
        """Cost of a study of all variants with 10 seeds."""
        return (self.rounds[0].arms + 1 + self.controls) * USUAL


def plan_of(
    variants: int,
    confirm: int = CONFIRM,
    keep: int | None = None,
    share: float = 1.0,
    controls: int = 0,
    budget: float | None = None,
) -> Plan:
    """Plan the rounds: each about halves the variants and doubles the seeds that those have which are left.

    Args:
        variants: Number of variants.
        confirm: Fresh seeds of the confirmation.
        keep: Number of variants that are confirmed; one in thirteen, at least two, by default.
        share: Length of a run of the screen in that of a whole one.
        controls: Arms of the confirmation beside base and survivors.
        budget: Most whole runs that everything may cost; what is left over becomes more seeds of each round. By default
            the first round has one seed.

    Raises:
        ArgumentError: Nothing is left to screen, or the budget is too small; says what would do.
    """
    kept = max(2, round(variants / KEPT)) if keep is None else keep
    if not 1 <= kept < variants:
        raise ArgumentError(
            f"screen: {variants} variants, of which {kept} are to be kept, need no screen; use study run"
        )
    sizes = [variants]
    while sizes[-1] > 4 * kept:
        sizes.append(math.ceil(sizes[-1] / 2))

    def with_copies(copies: int) -> Plan:
        rounds = [
            Round(size, copies * (1 if r == 0 else 2 ** (r - 1)), after)
            for r, (size, after) in enumerate(zip(sizes, [*sizes[1:], kept], strict=True))
        ]
        return Plan(tuple(rounds), confirm, controls, share)

    least = with_copies(1)
    if budget is None:
        return least
    if least.runs > budget:
        raise ArgumentError(
            f"screen: {variants} variants, {kept} of them confirmed with {confirm} seeds, cost at least"
            f" {least.runs:.0f} whole runs, and the budget is {budget:g}; a full study would cost {least.full}."
            " Keep fewer (keep=), screen with shorter runs (short=), or give fewer variants"
        )
    copies = 1
    while with_copies(copies + 1).runs <= budget:
        copies += 1
    return with_copies(copies)


def leading(means_V: Any, alive_V: Any, keep: int) -> NDArray[np.bool_]:
    """The variants that go on: the best of those that are left.

    Args:
        means_V: Mean figure of each variant over its seeds so far, shape (..., V); those that are out may be anything.
        alive_V: Which variants are left, shape (..., V).
        keep: Number that goes on.

    Returns:
        Which ones go on, shape (..., V); of equal ones those that come first.
    """
    values = np.where(alive_V, np.asarray(means_V, dtype=np.float64), -np.inf)
    order = np.argsort(-values, axis=-1, kind="stable")[..., :keep]
    result = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(result, order, True, axis=-1)
    return np.asarray(result & np.asarray(alive_V, dtype=bool))


def boundary(figures_VN: Any, keep: int) -> tuple[float, float] | None:
    """How clear it was in a round which variants go on.

    Args:
        figures_VN: Figures of the variants with all their seeds so far, shape (V, N).
        keep: Number that goes on.

    Returns:
        How far the mean of the last that goes on is ahead of that of the first that does not, and the standard error of
        a difference of two means, with what a seed lifts in all variants taken out; None for a single seed.
    """
    figures = np.asarray(figures_VN, dtype=np.float64)
    variants, seeds = figures.shape
    if seeds < 2 or not 1 <= keep < variants:
        return None
    means_V = figures.mean(axis=1)
    rest_VN = figures - means_V[:, None] - figures.mean(axis=0) + figures.mean()
    variance = np.sum(rest_VN**2) / ((variants - 1) * (seeds - 1))
    first, following = np.sort(means_V)[::-1][keep - 1 : keep + 1]
    return float(first - following), math.sqrt(2 * variance / seeds)


def is_clear(edge: tuple[float, float] | None) -> bool:
    """Whether a lead (:func:`boundary`) is twice its standard error; True where that is not known."""
    return edge is None or edge[0] >= 2 * edge[1]


def screened(figures_VN: Any, plan: Plan) -> NDArray[np.bool_]:
    """The variants that a whole screen leaves, for a stack of studies at once.

    Args:
        figures_VN: Figures of all variants with all seeds of the screen, shape (..., V, N).
        plan: The rounds.
    """
    figures = np.asarray(figures_VN, dtype=np.float64)
    alive = np.ones(figures.shape[:-1], dtype=bool)
    seeds = 0
    for one in plan.rounds:
        seeds += one.seeds
        alive = leading(figures[..., :seeds].mean(axis=-1), alive, one.keep)
    return alive
