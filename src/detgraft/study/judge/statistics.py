"""Does a variant help? Paired statistics over seeds, and the verdict that they allow.

Legend of the shape suffixes: V variants, N seeds (pairs), B bootstrap draws; ``...`` any leading axes.

Every function works on a whole stack of studies at once, so that the very code that judges a study is the code whose
error rates ``benchmarks/study_simulation.py`` measures.

How a verdict is reached, for the differences "variant minus base" of the runs that share a seed:

1. *helps* / *hurts*: the paired t test, raised where the arms scatter unlike each other (``scatter.py``) and
   Holm-adjusted over the variants of the study, falls to ``alpha`` or below.
   Over all variants together, at most ``alpha`` of studies in which nothing differs get such a verdict.
2. *no measurable difference*: not (1), and the whole 95 % interval of the mean difference lies within +- ``margin``;
   it is widened like the p value where unlike scatter was measured.
   A p value over ``alpha`` never shows equality; an interval that excludes every difference worth having does
   (interval inclusion, stricter than two one-sided tests at the same level).
3. *cannot tell (too few seeds)*: everything else. The interval still holds differences that would matter.

Sources: S. Holm, A simple sequentially rejective multiple test procedure (1979); R. A. Fisher, The design of
experiments (1935) for the sign-flip test; D. J. Schuirmann (1987) for equivalence by intervals.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from detgraft.errors import ArgumentError
from detgraft.study.design.terms import ALPHA, MARGIN
from detgraft.study.design.words import NOTHING, Said, in_a_row, say
from detgraft.study.judge.scatter import LOPSIDED, UNLIKE, Scatter, raised_by_chance, scatter_of

Array = NDArray[np.float64]

POWER = 0.8
_EXACT_UP_TO = 15  # 2^15 sign patterns take half a second; beyond that they are drawn.
_DRAWN_FLIPS = 200_000
_FLIPS_AT_ONCE = 20_000
_MOST_SEEDS = 1000
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(400)
_QUANTILES, _WEIGHTS = (_NODES + 1) / 2, _NODE_WEIGHTS / 2


class Verdict(Enum):
    """What a study may say about one variant."""

    HELPS = "helps"
    HURTS = "hurts"
    SAME = "no measurable difference"
    UNKNOWN = "cannot tell (too few seeds)"


@dataclass(frozen=True)
class PairedT:
    """The paired t test of a stack of difference vectors; every field has the leading axes of its input.

    Attributes:
        mean: Mean difference.
        sd: Standard deviation of the differences (n - 1), NaN with one pair.
        low: Lower end of the two-sided interval of the mean.
        high: Upper end of it.
        p: Two-sided p value; 1 where the differences do not vary at all, because nothing can be concluded then.
    """

    mean: Array
    sd: Array
    low: Array
    high: Array
    p: Array


@dataclass(frozen=True)
class Comparison:
    """One variant against the base. Differences are in the metric's own unit (AP: 0 to 1).

    Attributes:
        variant: Name of the variant.
        pairs: Number of seeds that both arms finished.
        difference: Mean of variant minus base.
        low: Lower end of the 95 % paired t interval.
        high: Upper end of it.
        sd: Standard deviation of the paired differences.
        p: Two-sided p value of the paired t test.
        p_holm: The same, raised for unlike scatter and Holm-adjusted over the variants of the study; this one decides.
        scatter_ratio: Standard deviation of the variant over that of the base.
        skew: Skewness of the differences.
        raised: Factor by which the p value was raised because of these two; 1 where nothing speaks against the t test.
        flip_p: Two-sided p value of the sign-flip test.
        flip_holm: The same, Holm-adjusted.
        flip_floor: The smallest value that ``flip_holm`` can take for the leading variant: 2 * variants / 2^pairs.
        detectable: Smallest true difference found with 80 % power, at alpha / variants (Holm's first step).
        seeds_needed: Seeds with which a difference of ``margin`` would be found with 80 % power, None over 1000.
        verdict: What the study says.
        reason: Why, in one sentence.
    """

    variant: str
    pairs: int
    difference: float
    low: float
    high: float
    sd: float
    p: float
    p_holm: float
    scatter_ratio: float
    skew: float
    raised: float
    flip_p: float
    flip_holm: float
    flip_floor: float
    detectable: float
    seeds_needed: int | None
    verdict: Verdict
    reason: str

    @property
    def finds_any(self) -> bool:
        """Whether there is a difference that so many seeds find with 80 % power; no two figures are further apart."""
        return self.detectable < 1


def paired_t(differences_N: Any, alpha: float | Array = ALPHA) -> PairedT:
    """Paired t test along the last axis.

    Args:
        differences_N: Differences, shape (..., N).
        alpha: One minus the confidence of the interval, one number or one for each vector.
    """
    d_N = np.asarray(differences_N, dtype=np.float64)
    n = d_N.shape[-1]
    mean = d_N.mean(axis=-1)
    if n < 2:
        nothing = np.full(mean.shape, np.nan)
        return PairedT(mean, nothing, nothing, nothing, np.ones(mean.shape))
    sd = d_N.std(axis=-1, ddof=1)
    # Rounding alone scatters equal differences by about 1e-17; that is no evidence of anything.
    constant = sd <= 1e-12 * np.maximum(np.abs(d_N).max(axis=-1), 1e-300)
    sd = np.where(constant, 0.0, sd)
    half = stats.t.ppf(1 - alpha / 2, n - 1) * sd / math.sqrt(n)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # about the constant ones, which get no p value below 1
        found = np.asarray(stats.ttest_1samp(d_N, 0.0, axis=-1).pvalue)
    p = np.where(constant, 1.0, found)
    return PairedT(mean, sd, mean - half, mean + half, p)


def holm(p_V: Any) -> Array:
    """Holm-adjusted p values along the last axis (step-down, capped at 1).

    Args:
        p_V: Unadjusted p values, shape (..., V).
    """
    p = np.asarray(p_V, dtype=np.float64)
    count = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    stepped = np.take_along_axis(p, order, axis=-1) * np.arange(count, 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    result = np.empty_like(p)
    np.put_along_axis(result, order, adjusted, axis=-1)
    return result


def sign_flip(differences_N: Any) -> float:
    """Two-sided sign-flip p value of one vector of paired differences.

    Exact up to 15 pairs (all 2^N sign patterns); beyond that 200,000 patterns are drawn from a fixed generator and
    the observed one is counted among them, which keeps the test valid.

    Args:
        differences_N: Differences, shape (N,).
    """
    d_N = np.asarray(differences_N, dtype=np.float64)
    if d_N.size < 2 or not d_N.any():
        return 1.0  # one pair has two patterns, both as far from 0
    # scipy takes values for ties by a tolerance relative to the observed one; the constant keeps that from being zero.
    total = np.abs(d_N).sum()

    def distance(values: Array, axis: int) -> Array:
        return np.asarray(np.abs(values.sum(axis=axis)) + total)

    found = stats.permutation_test(
        (d_N,),
        distance,
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=2**d_N.size if d_N.size <= _EXACT_UP_TO else _DRAWN_FLIPS,
        batch=_FLIPS_AT_ONCE,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def sign_flip_floor(variants: int, pairs: int) -> float:
    """Smallest Holm-adjusted p value that the sign-flip test can give to the leading one of ``variants``."""
    return min(1.0, 2.0 * variants / 2.0**pairs)


def _power(effect: float, pairs: int, alpha: float, cautious: bool = False) -> float:
    """Power of the two-sided paired t test against a difference of ``effect`` standard deviations.

    With ``cautious`` that of the test which decides, for arms of equal normal scatter: they raise their p values, too.

    The tails of the noncentral t, as the mean over the chi-square spread of the estimated standard deviation of the
    normal tails given it. (scipy's own noncentral t returns NaN in far tails.)
    """
    df, shift = pairs - 1, effect * math.sqrt(pairs)
    raised_L = raised_by_chance(pairs) if cautious else np.zeros(1)
    critical_L1 = stats.t.ppf(1 - alpha * np.exp(-raised_L) / 2, df)[:, None]
    spread = np.sqrt(stats.chi2.ppf(_QUANTILES, df) / df)
    tails = stats.norm.sf(critical_L1 * spread - shift) + stats.norm.cdf(-critical_L1 * spread - shift)
    return float((tails @ _WEIGHTS).mean())


def detectable(
    sd: float, pairs: int, variants: int = 1, alpha: float = ALPHA, power: float = POWER, cautious: bool = False
) -> float:
    """Smallest true mean difference that this many pairs find with the given power, for normal scatter.

    Args:
        sd: Standard deviation of the paired differences, in the metric's unit.
        pairs: Number of pairs.
        variants: Number of variants; the test is taken at ``alpha / variants``, Holm's first step.
        alpha: Family-wise error rate.
        power: Wanted probability of finding it.
        cautious: Count with the test that decides, which raises its p value for unlike scatter, not with the plain one.

    Returns:
        The difference in the metric's unit; infinity with fewer than two pairs.
    """
    if pairs < 2 or not math.isfinite(sd):
        return math.inf
    return sd * _detectable_effect(pairs, alpha / variants, power, cautious)


@lru_cache(maxsize=4096)
def _detectable_effect(pairs: int, level: float, power: float, cautious: bool) -> float:
    """The same in standard deviations, which is all of it that costs time and is alike for all variants."""
    high = 1.0
    while _power(high, pairs, level, cautious) < power:
        high *= 2
    return float(optimize.brentq(lambda e: _power(e, pairs, level, cautious) - power, 0.0, high, xtol=1e-6))


def seeds_needed(
    sd: float, difference: float, variants: int = 1, alpha: float = ALPHA, cautious: bool = False
) -> int | None:
    """Number of seeds with which ``difference`` is found with 80 % power, or None when over 1000.

    Args:
        sd: Standard deviation of the paired differences, in the metric's unit.
        difference: True difference that should be found, in the metric's unit.
        variants: Number of variants.
        alpha: Family-wise error rate.
        cautious: As in :func:`detectable`.
    """
    if not math.isfinite(sd) or difference <= 0:
        return None
    low, high = 2, _MOST_SEEDS
    effect = difference / sd if sd > 0 else math.inf
    if math.isinf(effect):
        return low
    if effect < _detectable_effect(high, alpha / variants, POWER, cautious):
        return None
    while low < high:
        middle = (low + high) // 2
        if effect >= _detectable_effect(middle, alpha / variants, POWER, cautious):
            high = middle
        else:
            low = middle + 1
    return low


def cautious_t(base_N: Any, variant_N: Any, alpha: float = ALPHA) -> tuple[PairedT, Scatter]:
    """The paired t test with the p value raised for arms that may scatter unlike each other.

    The interval is widened to the same level where unlike scatter was measured; otherwise it is the plain one.

    Args:
        base_N: Figures of the base, shape (..., N).
        variant_N: Figures of the variant with the same seeds, shape (..., N).
        alpha: One minus the confidence of the interval where nothing is raised.

    Returns:
        The test that decides, and what was measured of the scatter.
    """
    scatter = scatter_of(base_N, variant_N)
    level = alpha * np.exp(-np.where(scatter.unlike, scatter.raised, 0.0))
    test = paired_t(np.asarray(variant_N, np.float64) - np.asarray(base_N, np.float64), level)
    raised = np.minimum(test.p * np.exp(scatter.raised), 1.0)
    return dataclasses.replace(test, p=raised), scatter


def decide(test: PairedT, p_holm: Array, margin: float = MARGIN, alpha: float = ALPHA) -> NDArray[np.object_]:
    """Verdicts for a stack of tests by the rule on top of this file.

    Args:
        test: Tests of :func:`cautious_t`, fields of shape (...).
        p_holm: Its p values, Holm-adjusted p values, shape (...).
        margin: Differences up to this size count as none.
        alpha: Family-wise error rate.
    """
    found = np.asarray(p_holm) <= alpha
    within = (test.low >= -margin) & (test.high <= margin) & (test.sd > 0)
    verdicts = np.full(np.shape(test.mean), Verdict.UNKNOWN, dtype=object)
    verdicts[within] = Verdict.SAME
    verdicts[found & (test.mean > 0)] = Verdict.HELPS
    verdicts[found & (test.mean < 0)] = Verdict.HURTS
    return verdicts


def compare(
    base: Mapping[int, float],
    variants: Mapping[str, Mapping[int, float]],
    margin: float = MARGIN,
    alpha: float = ALPHA,
    figure: str = "AP",
) -> list[Comparison]:
    """Compare every variant with the base, paired by seed.

    Args:
        base: Metric of the base by seed.
        variants: Metric of each variant by seed; seeds that only one of the two arms finished are left out.
        margin: Differences up to this size count as none, in the metric's unit.
        alpha: Family-wise error rate.
        figure: Name of the metric, for the sentences.

    Raises:
        ArgumentError: If ``margin`` is not positive or ``alpha`` is not between 0 and 1.
    """
    pairs = {name: [seed for seed in sorted(base) if seed in runs] for name, runs in variants.items()}
    runs = {
        name: (np.array([base[s] for s in pairs[name]]), np.array([own[s] for s in pairs[name]]))
        for name, own in variants.items()
    }
    return compare_pairs(runs, margin, alpha, figure)


def compare_pairs(
    runs: Mapping[str, tuple[Array, Array]],
    margin: float = MARGIN,
    alpha: float = ALPHA,
    figure: str = "AP",
    sides: tuple[str, str] = ("the base", ""),
) -> list[Comparison]:
    """Compare two vectors of figures for every name, paired by place; see :func:`compare`.

    Args:
        runs: Figures before and after, shapes (N,) both, by name.
        margin: Differences up to this size count as none.
        alpha: Error rate over all names.
        figure: Name of the metric, for the sentences.
        sides: What the two vectors are, for the sentences; an empty text for the name.

    Raises:
        ArgumentError: As :func:`compare`.
    """
    if not margin > 0:
        raise ArgumentError(f"margin: expected a positive number, found {margin!r}.")
    if not 0 < alpha < 1:
        raise ArgumentError(f"alpha: expected a number between 0 and 1, found {alpha!r}.")
    if not runs:
        return []
    # A variant without a single pair stays in the family: dropping it would adjust for fewer looks than were planned.
    nothing = (np.zeros(1), np.full(1, np.nan))
    decisive = {name: cautious_t(*(pair if pair[0].size else nothing)) for name, pair in runs.items()}
    flips = {name: sign_flip(after - before) for name, (before, after) in runs.items()}
    p_holm = dict(zip(runs, holm([float(decisive[name][0].p) for name in runs]), strict=True))
    flip_holm = dict(zip(runs, holm([flips[name] for name in runs]), strict=True))
    result = []
    for name, (cautious, scatter) in decisive.items():
        before, after = runs[name]
        count, sd = before.size, float(cautious.sd)
        test = paired_t(after - before) if count else cautious
        verdict = decide(cautious, np.asarray(p_holm[name]), margin, alpha).item()
        partial = Comparison(
            variant=name,
            pairs=count,
            difference=float(test.mean),
            low=float(test.low),
            high=float(test.high),
            sd=sd,
            p=float(test.p),
            p_holm=float(p_holm[name]),
            scatter_ratio=float(scatter.ratio),
            skew=float(scatter.skew),
            raised=math.exp(float(scatter.raised)),
            flip_p=flips[name],
            flip_holm=float(flip_holm[name]),
            flip_floor=sign_flip_floor(len(runs), count),
            detectable=detectable(sd, count, len(runs), alpha, cautious=True),
            seeds_needed=seeds_needed(sd, margin, len(runs), alpha, cautious=True) if count > 1 else None,
            verdict=verdict,
            reason="",
        )
        named = (say(sides[0]), say(sides[1]) if sides[1] else name)
        zero = [arm for arm, values in zip(named, (before, after), strict=True) if count and not values.any()]
        scattered = (sides[0], sides[1] or "the variant")
        result.append(_with_reason(partial, margin, alpha, _nothing_learned(zero, figure), scattered))
    return result


def points(value: float, signed: bool = True) -> str:
    """Write a difference of AP (0 to 1) in AP points (0 to 100), for example ``+1.24``."""
    return f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"


def _nothing_learned(zero: Sequence[str], figure: str) -> Said:
    """What to say of the arms of a pair that scored 0 in every run; an empty text when there are none."""
    if len(zero) == 2:
        return say("{figure} is 0 everywhere: nothing was learned.", figure=figure)
    return in_a_row(
        *(say(" {figure} of {arm} is 0 in every run: it learned nothing.", figure=figure, arm=arm) for arm in zero)
    )


def _scatter_warning(found: Comparison, sides: tuple[str, str]) -> Said:
    """A sentence on arms that scatter unlike each other, or lopsided; an empty text when neither was measured."""
    wide = max(found.scatter_ratio, 1 / found.scatter_ratio) if found.scatter_ratio > 0 else math.inf
    if found.pairs < 3 or found.raised <= 1:
        return NOTHING
    unlike = lopsided = NOTHING
    if wide >= UNLIKE:
        side = say(sides[found.scatter_ratio > 1])
        finite = math.isfinite(wide)
        unlike = (
            say("{side} scatters {times} times as much", side=side, times=f"{wide:.2g}")
            if finite
            else say("one arm does not vary")
        )
    if abs(found.skew) * math.sqrt(found.pairs / 6) >= LOPSIDED:
        lopsided = say("the differences are skewed ({skew})", skew=f"{found.skew:+.1f}")
    if not unlike and not lopsided:
        return NOTHING
    seen = say("{one} and {other}", one=unlike, other=lopsided) if unlike and lopsided else unlike or lopsided
    return say(
        " Mind that {seen}: the t test is wrong too often then, so its p value was raised {raised} times.",
        seen=seen,
        raised=f"{found.raised:.2g}",
    )


def _with_reason(
    found: Comparison, margin: float, alpha: float, nothing_learned: Said, sides: tuple[str, str]
) -> Comparison:
    """The same comparison with the sentence that explains its verdict."""
    row = {
        "difference": points(found.difference),
        "seeds": found.pairs,
        "low": points(found.low),
        "high": points(found.high),
        "margin": points(margin, False),
    }
    if nothing_learned and found.difference == 0:
        return dataclasses.replace(found, reason=nothing_learned)
    if found.pairs < 2:
        parts = [
            say(
                "Only {seeds} seed(s) finished in both arms; scatter needs at least two, a verdict needs more.",
                seeds=found.pairs,
            )
        ]
    elif found.sd == 0:
        parts = [
            say(
                "All {seeds} seeds give the same difference, so the runs did not vary and nothing follows.",
                seeds=found.pairs,
            )
        ]
    elif found.verdict in (Verdict.HELPS, Verdict.HURTS):
        parts = [
            say(
                "{difference} points over {seeds} seeds (95 % interval {low} to {high}), Holm-adjusted p {p} is at most"
                " {alpha}",
                **row,
                p=f"{found.p_holm:.2g}",
                alpha=f"{alpha:g}",
            )
        ]
        if found.flip_floor > alpha:
            parts.append(
                say(
                    "; this rests on normal scatter, the exact test cannot go below {floor} here",
                    floor=f"{found.flip_floor:.2g}",
                )
            )
        if abs(found.difference) < margin:
            parts.append(say("; real but smaller than the {margin} points that this study calls a difference", **row))
        parts += [say("."), _scatter_warning(found, sides)]
    elif found.verdict is Verdict.SAME:
        parts = [
            say(
                "{difference} points over {seeds} seeds, and the whole 95 % interval {low} to {high} lies within"
                " ±{margin} points.",
                **row,
            ),
            _scatter_warning(found, sides),
        ]
    else:
        needed = found.seeds_needed
        more = say("about {count} seeds", count=needed) if needed else say("over 1000 seeds")
        if found.finds_any:
            finds = say(
                "; this study finds only differences from {detectable} points up (80 % power), and {more} would be"
                " needed for {margin}.",
                **row,
                detectable=points(found.detectable, False),
                more=more,
            )
        else:
            finds = say(
                "; so few seeds find no difference with 80 % power, however large, and {more} would be needed for"
                " {margin}.",
                **row,
                more=more,
            )
        parts = [say("{difference} points over {seeds} seeds (95 % interval {low} to {high})", **row), finds]
        leaves_out_zero = found.low > 0 or found.high < 0  # beside it a p value that was raised reads like a mistake
        within = -margin <= found.low and found.high <= margin
        if found.raised > 1 and (found.p_holm / found.raised <= alpha or leaves_out_zero or within):
            parts.append(
                _scatter_warning(found, sides)
                or say(
                    " With {seeds} seeds unlike scatter cannot be excluded, so the p value was raised {raised} times;"
                    " more seeds settle it.",
                    seeds=found.pairs,
                    raised=f"{found.raised:.2g}",
                )
            )
    return dataclasses.replace(found, reason=in_a_row(*parts, nothing_learned))
