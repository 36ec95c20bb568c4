"""What each graft of a factorial study does, and whether grafts work together: effects and interactions over seeds.

Legend of the shape suffixes: A arms, F factors, E effects, N seeds.

With factors coded as minus and plus a half, the figure of an arm is modelled as a sum of products of the codes of the
factors in each effect. An effect of one factor is then the change from without it to with it, averaged over all
settings of the others; an interaction of two is how much more one changes where the other is present than where it is
absent. Each seed gives one estimate of every effect, so that the tests of ``statistics.py`` hold as for a variant.

A study that trains main effects and pairs only assumes that no three grafts interact; its effects rest on that.

Source: R. A. Fisher, The design of experiments (1935), for factorial designs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from detgraft.study.design.terms import ALPHA, MARGIN
from detgraft.study.judge.statistics import Comparison, compare_pairs

Array = NDArray[np.float64]


def weights_of(settings: Sequence[frozenset[str]], factors: Sequence[str], order: int) -> dict[tuple[str, ...], Array]:
    """Weights of the arms in each effect.

    Args:
        settings: The factors that each arm has, one set for each arm.
        factors: All factors, in their order.
        order: Most factors of one effect: the number of factors, or 2 for main effects and pairs.

    Returns:
        Weights of shape (A,) by the factors of an effect, main effects first; they sum to 0.

    Raises:
        numpy.linalg.LinAlgError: The arms do not tell the effects apart.
    """
    terms = [term for size in range(order + 1) for term in itertools.combinations(factors, size)]
    codes_AF = np.array([[0.5 if factor in chosen else -0.5 for factor in factors] for chosen in settings])
    column = {factor: codes_AF[:, f] for f, factor in enumerate(factors)}
    design = np.stack(
        [np.prod([column[factor] for factor in term], axis=0) if term else np.ones(len(settings)) for term in terms],
        axis=1,
    )
    if np.linalg.matrix_rank(design) < len(terms):
        raise np.linalg.LinAlgError("the arms do not tell the effects apart")
    return {term: row for term, row in zip(terms, np.linalg.pinv(design), strict=True) if term}


def effects(
    arms: Mapping[frozenset[str], Mapping[int, float]],
    factors: Sequence[str],
    order: int,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    figure: str = "AP",
) -> list[Comparison]:
    """Judge every effect and interaction over the seeds that all arms finished.

    Args:
        arms: Figures by seed of each arm, by the factors that it has; the base has none.
        factors: All factors, in their order.
        order: Most factors of one effect.
        margin: Effects up to this size count as none.
        alpha: Error rate over all effects of the study.
        figure: Name of the metric, for the sentences.

    Returns:
        One comparison for each effect, named by its factors, such as ``carafe`` and ``carafe x dysample``.
    """
    seeds = sorted(set.intersection(*(set(runs) for runs in arms.values())))
    figures_AN = np.array([[runs[seed] for seed in seeds] for runs in arms.values()])
    pairs = {}
    for term, weights_A in weights_of(list(arms), factors, order).items():
        without, having = np.minimum(weights_A, 0.0), np.maximum(weights_A, 0.0)
        pairs[" x ".join(term)] = (-without @ figures_AN, having @ figures_AN)
    return compare_pairs(pairs, margin, alpha, figure, ("the side without it", "the side with it"))
