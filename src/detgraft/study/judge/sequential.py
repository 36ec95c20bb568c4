"""When may a study stop? Group-sequential paired t tests, with the error spent over looks that are fixed beforehand.

Legend of the shape suffixes: V variants, N seeds (pairs); ``...`` any leading axes.

Looking at a t test after 3, 4, 6, ... seeds and stopping at the first p value of 5 % gives far more than 5 % of false
verdicts. Here each look has a bound of its own (``bounds.py``). The verdicts are those of ``statistics.py`` with the
adjusted p values:

1. *helps* / *hurts*: the adjusted p value, raised for unlike scatter and Holm-adjusted over the variants, is at most
   ``alpha``. Holm over sequential p values holds the family-wise error whichever arms stop and why.
2. *no measurable difference*: the repeated confidence interval lies within the margin.
3. *hopeless*: neither, and the chance that the remaining looks find a difference, if the difference seen so far is the
   true one, is under 5 %. The verdict is "cannot tell". It is not binding: going on costs no error.

Sources: C. Jennison and B. W. Turnbull, Group sequential methods (1999) for repeated confidence intervals; W. Maurer
and F. Bretz, Multiple testing in group sequential trials using graphical approaches (2013) for Holm over them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detgraft.study.design.terms import ALPHA, MARGIN
from detgraft.study.design.words import NOTHING, Said, in_a_row, say
from detgraft.study.judge.bounds import RULE, Rule, bounds, conditional_power, sequential_p
from detgraft.study.judge.scatter import scatter_of
from detgraft.study.judge.statistics import Comparison, PairedT, Verdict, compare, holm, paired_t, points

Array = NDArray[np.float64]


class Stop(Enum):
    """Why an arm needs no further seeds, or that it does."""

    GOES_ON = "goes on"
    FOUND = "difference found"
    SAME = "no measurable difference"
    HOPELESS = "hopeless"
    LAST = "last look"


@dataclass(frozen=True)
class Course:
    """Where a stack of arms stands after some looks; every field has shape (..., V).

    Attributes:
        seeds: Number of seeds at the arm's last look; 0 before the first.
        test: Paired t tests of that look with the repeated confidence interval, and the smallest sequential p value of
            all looks so far, not Holm-adjusted.
        p_holm: The p values, Holm-adjusted over the variants.
        conditional_power: Chance that the last look finds a difference, if the one seen so far is the true one.
        stop: Whether and why each arm stops, members of :class:`Stop`.
    """

    seeds: NDArray[np.int64]
    test: PairedT
    p_holm: Array
    conditional_power: Array
    stop: NDArray[np.object_]

    @property
    def goes_on(self) -> NDArray[np.bool_]:
        """Which arms need more seeds."""
        return np.asarray(self.stop == Stop.GOES_ON)


def begin(shape: tuple[int, ...]) -> Course:
    """The course before the first look, for arms of shape (..., V)."""
    nothing = np.full(shape, np.nan)
    test = PairedT(nothing, nothing, nothing, nothing, np.ones(shape))
    stop = np.full(shape, Stop.GOES_ON, dtype=object)
    return Course(np.zeros(shape, dtype=np.int64), test, np.ones(shape), np.ones(shape), stop)


def advance(
    course: Course,
    base_N: Any,
    variants_VN: Any,
    looks: Sequence[int],
    margin: float = MARGIN,
    alpha: float = ALPHA,
    ready: Any = True,
    rule: Rule = RULE,
) -> Course:
    """Take the next look; pure, so that what is simulated is what decides.

    Args:
        course: The course after the looks before.
        base_N: Figures of the base, shape (..., N), where N is the number of seeds of this look.
        variants_VN: Figures of the variants with the same seeds, shape (..., V, N); those of arms that had stopped are
            not looked at and may be anything finite.
        looks: Numbers of seeds of all looks, as fixed before the first run.
        margin: Differences up to this size count as none.
        alpha: Family-wise error rate.
        ready: Which arms have all figures of this look, shape (..., V); the others are not looked at either.
        rule: How the error is spent, and when an arm is hopeless.
    """
    planned = tuple(looks)
    after = np.asarray(variants_VN, dtype=np.float64)
    before = np.broadcast_to(np.asarray(base_N, dtype=np.float64)[..., None, :], after.shape)
    look = planned.index(after.shape[-1])
    scatter = scatter_of(before, after)
    level = bounds(planned, alpha, rule)[look]
    test = paired_t(after - before, level * np.exp(-np.where(scatter.unlike, scatter.raised, 0.0)))
    raised = np.minimum(test.p * np.exp(scatter.raised), 1.0)
    goes_on = course.goes_on & ready
    p = np.where(goes_on, np.minimum(course.test.p, sequential_p(raised, planned, look, rule)), course.test.p)
    p_holm = holm(p)
    found = p_holm <= alpha
    left = np.maximum(after.shape[-2] - found.sum(axis=-1, keepdims=True), 1)
    power = conditional_power(test.p, planned, look, alpha, np.broadcast_to(left, raised.shape), rule)
    stop = course.stop.copy()
    if planned[look] >= rule.hopeless_from:
        stop[goes_on & (power < rule.hopeless)] = Stop.HOPELESS
    stop[goes_on & (test.low >= -margin) & (test.high <= margin) & (test.sd > 0)] = Stop.SAME
    if look + 1 == len(planned):
        stop[goes_on & (stop != Stop.SAME)] = Stop.LAST
    stop[found] = Stop.FOUND  # also of an arm that had stopped: another one that was found leaves it more of the error
    kept = {
        name: np.where(goes_on, getattr(test, name), getattr(course.test, name))
        for name in ("mean", "sd", "low", "high")
    }
    return Course(
        seeds=np.where(goes_on, planned[look], course.seeds),
        test=PairedT(p=p, **kept),
        p_holm=p_holm,
        conditional_power=np.where(goes_on, power, course.conditional_power),
        stop=stop,
    )


def verdicts(course: Course) -> NDArray[np.object_]:
    """What may be said of each arm, shape (..., V)."""
    result = np.full(course.stop.shape, Verdict.UNKNOWN, dtype=object)
    result[course.stop == Stop.SAME] = Verdict.SAME
    found = course.stop == Stop.FOUND
    result[found & (course.test.mean > 0)] = Verdict.HELPS
    result[found & (course.test.mean < 0)] = Verdict.HURTS
    return result


@dataclass(frozen=True)
class Progress:
    """Where a sequential study stands.

    Args:
        course: The course of the variants, fields of shape (V,).
        due: Number of seeds that each variant needs up to its next look, by name; what it had at its last look where
            it has stopped.
    """

    course: Course
    due: Mapping[str, int]

    @property
    def most(self) -> int:
        """Number of seeds that base and controls need."""
        return max(self.due.values(), default=0)

    def needs(self, arm: str, place: int) -> bool:
        """Whether an arm needs the seed at this place of the study's list now; base and controls need what any does."""
        return place < self.due.get(arm, self.most)

    @property
    def ended(self) -> bool:
        """Whether every variant has stopped."""
        return not self.course.goes_on.any()


def follow(
    base: Mapping[int, float],
    variants: Mapping[str, Mapping[int, float]],
    seeds: Sequence[int],
    looks: Sequence[int],
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> Progress:
    """Take every look that the figures so far allow, in the order of the looks.

    Args:
        base: Figures of the base by seed.
        variants: Figures of each variant by seed.
        seeds: The planned seeds in their order; a look takes the first of them.
        looks: Numbers of seeds of all looks.
        margin: Differences up to this size count as none.
        alpha: Family-wise error rate.
    """
    course = begin((len(variants),))
    for n in looks:
        first = seeds[:n]
        if not all(seed in base for seed in first):
            break
        ready = np.array([all(seed in runs for seed in first) for runs in variants.values()])
        before = [base[seed] for seed in first]
        after = [
            [runs[seed] for seed in first] if there else before
            for runs, there in zip(variants.values(), ready, strict=True)
        ]
        course = advance(course, before, after, looks, margin, alpha, ready)
    following = {int(n): after for n, after in zip((0, *looks), looks, strict=False)}
    due = {
        name: following.get(int(had), int(had)) if on else int(had)
        for name, had, on in zip(variants, course.seeds, course.goes_on, strict=True)
    }
    return Progress(course, due)


def compare_sequentially(
    base: Mapping[int, float],
    variants: Mapping[str, Mapping[int, float]],
    seeds: Sequence[int],
    looks: Sequence[int],
    margin: float = MARGIN,
    alpha: float = ALPHA,
    figure: str = "AP",
) -> list[Comparison]:
    """Compare every variant with the base at its last look; p values and intervals are the adjusted ones.

    Args:
        base: Figures of the base by seed.
        variants: Figures of each variant by seed.
        seeds: The planned seeds in their order.
        looks: Numbers of seeds of all looks.
        margin: Differences up to this size count as none.
        alpha: Family-wise error rate.
        figure: Name of the metric, for the sentences.
    """
    progress = follow(base, variants, seeds, looks, margin, alpha)
    course, said = progress.course, verdicts(progress.course)
    seen = {
        name: {seed: runs[seed] for seed in (seeds[: int(had)] if had else seeds) if seed in runs}
        for (name, runs), had in zip(variants.items(), course.seeds, strict=True)
    }
    result = []
    for v, found in enumerate(compare(base, seen, margin, alpha, figure)):
        looked = int(course.seeds[v]) > 0
        adjusted = dataclasses.replace(
            found,
            low=float(course.test.low[v]) if looked else math.nan,
            high=float(course.test.high[v]) if looked else math.nan,
            p=float(course.test.p[v]),
            p_holm=float(course.p_holm[v]),
            verdict=said[v],
        )
        following = progress.due[found.variant]
        power = float(course.conditional_power[v])
        reason = _reason(adjusted, course.stop[v], looked, following, looks, power, margin, alpha)
        # What the plain comparison says of the runs themselves stands whatever the looks say.
        said_plainly = found.reason.parts if isinstance(found.reason, Said) else ()
        warning = next((part for part in said_plainly if part.startswith(" Mind that")), NOTHING)
        learned = found.reason != f"{figure} is 0 everywhere: nothing was learned."
        result.append(dataclasses.replace(adjusted, reason=in_a_row(reason, warning) if learned else found.reason))
    return result


def _reason(
    found: Comparison,
    stop: Stop,
    looked: bool,
    following: int,
    looks: Sequence[int],
    power: float,
    margin: float,
    alpha: float,
) -> Said:
    """The sentence that explains where an arm stands."""
    if not looked:
        return say(
            "The first look is after {first} seeds; {seeds} finished in both arms so far.",
            first=looks[0],
            seeds=found.pairs,
        )
    row = {
        "difference": points(found.difference),
        "seeds": found.pairs,
        "most": looks[-1],
        "low": points(found.low),
        "high": points(found.high),
    }
    of = say("{difference} points over {seeds} of at most {most} seeds (repeated 95 % interval {low} to {high})", **row)
    p = f"{found.p_holm:.2g}"
    if stop is Stop.FOUND:
        small = (
            say(
                "; real but smaller than the {margin} points that this study calls a difference",
                margin=points(margin, False),
            )
            if abs(found.difference) < margin
            else NOTHING
        )
        return in_a_row(
            of,
            say("; the sequential p value, Holm-adjusted, {p} is at most {alpha}", p=p, alpha=f"{alpha:g}"),
            small,
            say("."),
        )
    if stop is Stop.SAME:
        return in_a_row(of, say(", and the whole interval lies within ±{margin} points.", margin=points(margin, False)))
    if stop is Stop.HOPELESS:
        return in_a_row(
            of,
            say(
                "; stopped as hopeless: if the difference so far is the true one, all {most} seeds would show it with a"
                " chance of {power} only.",
                most=looks[-1],
                power=f"{power:.0%}",
            ),
        )
    if stop is Stop.LAST:
        return in_a_row(of, say("; all seeds have run, the sequential p value, Holm-adjusted, is {p}.", p=p))
    return in_a_row(of, say("; nothing is decided yet, the next look is after {following} seeds.", following=following))
