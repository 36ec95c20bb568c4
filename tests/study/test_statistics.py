"""The statistics against brute force, against tables, and against the simulated truth."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from detgraft.errors import ArgumentError
from detgraft.study.judge.joint import bootstrap_interval, joint_interval, only_for_these_pictures
from detgraft.study.judge.scatter import scatter_of
from detgraft.study.judge.statistics import (
    Verdict,
    _power,
    cautious_t,
    compare,
    decide,
    detectable,
    holm,
    paired_t,
    seeds_needed,
    sign_flip,
    sign_flip_floor,
)


@pytest.mark.parametrize("count", [2, 3, 6, 10])
def test_paired_t_equals_scipy(count: int) -> None:
    random = np.random.default_rng(count)
    base, other = random.normal(0, 1, (2, 4, count))
    ours = paired_t(other - base)
    theirs = stats.ttest_rel(other, base, axis=-1)
    np.testing.assert_allclose(ours.p, theirs.pvalue, rtol=1e-9)
    interval = theirs.confidence_interval(0.95)
    np.testing.assert_allclose(ours.low, interval.low)
    np.testing.assert_allclose(ours.high, interval.high)


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])
    stack = np.random.default_rng(0).random((5, 3))
    np.testing.assert_allclose(holm(stack), [holm(row) for row in stack])


def test_sign_flip_equals_all_patterns() -> None:
    random = np.random.default_rng(0)
    for count in (1, 3, 6, 9):
        d = random.normal(0.5, 1, count)
        sums = [abs(np.dot(signs, d)) for signs in itertools.product([-1, 1], repeat=count)]
        assert sign_flip(d) == pytest.approx(np.mean(np.array(sums) >= abs(d.sum()) - 1e-9))


def test_sign_flip_reaches_its_floor_and_not_below() -> None:
    assert sign_flip(np.full(6, 0.3)) == pytest.approx(2 / 64)
    assert sign_flip_floor(3, 6) == pytest.approx(6 / 64)
    assert sign_flip_floor(5, 3) == 1.0
    assert sign_flip(np.zeros(5)) == 1.0
    many = np.random.default_rng(1).normal(0, 1, 40)
    assert sign_flip(many) == pytest.approx(float(stats.ttest_1samp(many, 0).pvalue), abs=0.05)


def test_detectable_difference_equals_the_tables() -> None:
    # Cohen's d of a one-sample t test at 80 % power, two-sided 5 %: G*Power gives 1.4349 (6) and 0.9960 (10).
    assert detectable(1.0, 6) == pytest.approx(1.4349, abs=2e-3)
    assert detectable(1.0, 10) == pytest.approx(0.9960, abs=2e-3)
    assert detectable(0.01, 10) == pytest.approx(0.00996, abs=2e-5)
    assert detectable(1.0, 10, variants=5) > detectable(1.0, 10)
    assert math.isinf(detectable(1.0, 1))


@pytest.mark.trust
def test_no_difference_is_promised_that_no_figures_could_have() -> None:
    """Two seeds of a screen were said to find "differences from 2133.14 points up", of 100 that there are."""
    (found,) = compare({0: 0.30, 1: 0.42}, {"a": {0: 0.36, 1: 0.37}})
    assert found.detectable > 1
    assert "; so few seeds find no difference with 80 % power, however large, and about" in found.reason
    (found,) = compare({k: 0.3 + 0.01 * (k % 2) for k in range(6)}, {"a": dict.fromkeys(range(6), 0.31)})
    assert "finds only differences from" in found.reason


def test_detectable_difference_is_found_in_80_percent() -> None:
    effect = detectable(1.0, 6)
    d = np.random.default_rng(0).normal(effect, 1, (20_000, 6))
    assert (paired_t(d).p <= 0.05).mean() == pytest.approx(0.8, abs=0.012)


def test_seeds_needed_is_the_smallest_number() -> None:
    needed = seeds_needed(0.01, 0.01)
    assert needed is not None
    assert detectable(0.01, needed) <= 0.01 < detectable(0.01, needed - 1)
    assert seeds_needed(1.0, 1e-4) is None


def runs(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_each_verdict_with_its_reason() -> None:
    base = runs([0.50, 0.51, 0.49, 0.50, 0.52, 0.51])
    up = runs([v + 0.03 + e for v, e in zip(base.values(), [0.002, -0.001, 0, 0.001, -0.002, 0.001], strict=True)])
    down = runs([v - 0.03 + e for v, e in zip(base.values(), [0.002, -0.001, 0, 0.001, -0.002, 0.001], strict=True)])
    same = runs([v + e for v, e in zip(base.values(), [0.002, -0.002, 0.001, -0.001, 0.0, 0.0], strict=True)])
    wild = runs([v + e for v, e in zip(base.values(), [0.05, -0.04, 0.03, -0.02, 0.04, -0.03], strict=True)])
    found = {c.variant: c for c in compare(base, {"up": up, "down": down, "same": same, "wild": wild})}
    assert [found[k].verdict for k in ("up", "down", "same", "wild")] == [
        Verdict.HELPS,
        Verdict.HURTS,
        Verdict.SAME,
        Verdict.UNKNOWN,
    ]
    assert "exact test cannot go below 0.12" in found["up"].reason
    assert "within ±1.00" in found["same"].reason
    assert f"about {found['wild'].seeds_needed} seeds" in found["wild"].reason
    assert found["up"].flip_floor == pytest.approx(8 / 64)


def test_a_real_but_tiny_difference_is_called_so() -> None:
    base = runs([0.50, 0.51, 0.49, 0.50, 0.52, 0.51])
    tiny = runs([v + 0.003 + e for v, e in zip(base.values(), [0.0002, -0.0001, 0, 0.0001, 0, -0.0002], strict=True)])
    found = compare(base, {"tiny": tiny})[0]
    assert found.verdict is Verdict.HELPS
    assert "smaller than the 1.00 points" in found.reason


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pairs_tell_nothing(count: int) -> None:
    found = compare(runs([0.5, 0.6, 0.7]), {"v": dict.fromkeys(range(count), 0.9)})[0]
    assert found.verdict is Verdict.UNKNOWN
    assert found.pairs == count
    assert math.isinf(found.detectable)


def test_differences_that_never_vary_tell_nothing() -> None:
    base = runs([0.5, 0.6, 0.7])
    equal = compare(base, {"v": base})[0]
    shifted = compare(base, {"v": {k: v + 0.1 for k, v in base.items()}})[0]
    assert equal.verdict is shifted.verdict is Verdict.UNKNOWN
    assert "did not vary" in shifted.reason


@pytest.mark.trust
def test_an_arm_that_learned_nothing_is_named() -> None:
    zero = dict.fromkeys(range(3), 0.0)
    assert compare(zero, {"v": zero}, figure="AP50")[0].reason == "AP50 is 0 everywhere: nothing was learned."
    found = compare(runs([0.5, 0.501, 0.499]), {"v": zero})[0]
    assert found.verdict is Verdict.HURTS
    assert found.reason.endswith(" AP of v is 0 in every run: it learned nothing.")


@pytest.mark.parametrize("count", [3, 14, 15, 16, 18])
def test_sign_flip_beyond_the_exact_patterns_stays_near_them(count: int) -> None:
    d = np.random.default_rng(count).normal(0.4, 1, count).round(1)  # rounded, so that there are ties
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    exact = float((np.abs(sums) >= abs(d.sum()) - 1e-9).mean())
    assert sign_flip(d) == pytest.approx(exact, abs=1e-12 if count < 16 else 0.004)


def test_only_common_seeds_are_paired() -> None:
    found = compare({0: 0.1, 1: 0.2, 2: 0.4}, {"v": {1: 0.3, 2: 0.6, 7: 0.9}})[0]
    assert found.pairs == 2
    assert found.difference == pytest.approx(0.15)


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="margin"):
        compare({}, {}, margin=0)
    with pytest.raises(ArgumentError, match="alpha"):
        compare({}, {}, alpha=1.5)
    with pytest.raises(ArgumentError, match="differ in shape"):
        bootstrap_interval(np.zeros((2, 5)), np.zeros((3, 5)))


def test_bootstrap_interval_of_known_draws() -> None:
    base = np.zeros((2, 1001))
    variant = np.stack([np.linspace(0, 1, 1001), np.linspace(0, 2, 1001)])
    assert bootstrap_interval(base, variant) == pytest.approx((0.0375, 1.4625))
    assert all(math.isnan(v) for v in bootstrap_interval(np.zeros((1, 0)), np.zeros((1, 0))))


PAGE = Path(__file__).resolve().parents[2] / "docs" / "study-simulation.md"


def designs_shown() -> str:
    """The part of the page that takes minutes to make."""
    page = PAGE.read_text("utf-8")
    return page[page.index("### Designs that were tried") : page.index("## Screens")]


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "study_simulation.py"
    spec = importlib.util.spec_from_file_location("study_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["study_simulation"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def simulated(simulation: ModuleType) -> list[Any]:
    return list(simulation.run_all())


@pytest.fixture(scope="module")
def sequential(simulation: ModuleType) -> list[Any]:
    return list(simulation.run_sequential())


def test_simulated_studies_keep_the_promises(simulation: ModuleType, simulated: list[Any]) -> None:
    rows = simulated
    assert simulation.failures(rows) == []
    assert len([r for r in rows if r.noise == "normal"]) == 18
    for row in rows:
        assert row.helps + row.hurts + row.same + row.unknown == pytest.approx(1)


def test_simulated_sequential_studies_keep_the_promises(simulation: ModuleType, sequential: list[Any]) -> None:
    assert simulation.failures_sequential(sequential) == []
    runs = {(row.effect, row.variants): row.runs for row in sequential if row.noise == "normal"}
    assert len(runs) == 8
    assert max(runs[0.0, 1], runs[0.0, 5]) < 0.75
    worse = dataclasses.replace(sequential[0], false_family=0.09)
    assert "false verdict" in simulation.failures_sequential([worse])[0]


def test_the_committed_table_is_the_one_that_the_script_makes(
    simulation: ModuleType, simulated: list[Any], sequential: list[Any]
) -> None:
    assert PAGE.read_text("utf-8") == simulation.document(simulated, sequential=sequential, designs=designs_shown())


@pytest.mark.slow
def test_the_committed_designs_are_those_that_the_script_tries(simulation: ModuleType) -> None:
    tried = simulation.run_designs()
    assert designs_shown() == simulation.designs_section(tried)
    assert simulation.keeps(tried[0]), "the chosen design keeps error and power"
    assert not any(simulation.keeps(row) and not simulation.missed(row) for row in tried)


def test_the_simulation_notices_a_broken_rule(simulation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "holm", lambda p: p)
    row = simulation.simulate("normal", simulation.normal, 0.0, 6, 5, np.random.default_rng(0))
    assert any("false verdict" in text for text in simulation.failures([row]))


@pytest.mark.trust
def test_an_interval_without_zero_beside_a_large_p_value_is_explained() -> None:
    """Box losses on BCCD (docs/results/losses-bccd): p is 0.03, raised nine times for scatter, doubled for two arms."""
    base = [0.448, 0.452, 0.414, 0.466, 0.432, 0.436]
    wiou, inner = [0.507, 0.475, 0.475, 0.487, 0.440, 0.445], [0.463, 0.451, 0.447, 0.455, 0.441, 0.427]
    sure, unsure = compare(runs(base), {"wiou": runs(wiou), "inner": runs(inner)})
    assert sure.low > 0
    assert sure.p_holm > 0.5
    assert f"the p value was raised {sure.raised:.2g} times" in sure.reason
    assert unsure.low < 0 < unsure.high
    assert "raised" not in unsure.reason


@pytest.mark.trust
def test_a_p_value_that_was_not_raised_is_not_called_so() -> None:
    """The interval leaves out zero, two arms double the p value, and the arms scatter alike over ten seeds."""
    base = [0.50, 0.53, 0.55, 0.51, 0.54, 0.56, 0.52, 0.57, 0.53, 0.54]
    moved = [0.016, -0.003, 0.009, 0.020, 0.001, 0.006, -0.007, 0.007, 0.012, 0.004]
    variant = [b + d for b, d in zip(base, moved, strict=True)]
    found = compare(runs(base), {"v": runs(variant), "w": runs(base[1:] + base[:1])})[0]
    assert (found.raised, found.verdict) == (1, Verdict.UNKNOWN)
    assert found.low > 0
    assert found.p < 0.05 < found.p_holm
    assert "raised" not in found.reason


@pytest.mark.trust
def test_a_variant_that_scatters_far_more_than_the_base_needs_more_than_a_t_test() -> None:
    base = [0.500, 0.502, 0.499, 0.501, 0.498, 0.500]
    variant = [0.452, 0.458, 0.449, 0.497, 0.455, 0.461]
    found = compare(runs(base), {"v": runs(variant)})[0]
    assert found.p < 0.005
    assert found.verdict is Verdict.UNKNOWN
    assert found.p_holm == pytest.approx(found.p * found.raised)
    ratio = np.std(variant) / np.std(base)
    assert f"the variant scatters {ratio:.2g} times as much and the differences are skewed" in found.reason
    shifted = [v - 0.038 + e for v, e in zip(base, [0.001, 0, -0.001, 0, 0, 0], strict=True)]
    alike = compare(runs(base), {"v": runs(shifted)})
    assert alike[0].verdict is Verdict.HURTS
    assert "Mind" not in alike[0].reason


@pytest.mark.trust
def test_lopsided_scatter_gives_no_more_false_verdicts_than_promised(
    simulation: ModuleType, simulated: list[Any]
) -> None:
    rows = [row for row in simulated if row.noise == simulation.HELD and row.variants == 1]
    assert [row.seeds for row in rows] == [3, 4, 5, 6, 8, 10]
    assert min(row.false_plain for row in rows) > 0.12
    assert max(row.false_family for row in rows) <= 0.06


def test_scatter_is_measured() -> None:
    base, variant = np.array([0.0, 1, 2, 3]), np.array([0.0, 2, 4, 30])
    found = scatter_of(np.stack([base, base]), np.stack([variant, base]))
    assert found.ratio == pytest.approx([variant.std() / base.std(), 1.0])
    assert found.skew[0] == pytest.approx(stats.skew(variant - base))
    assert found.raised[0] > 0 == found.raised[1]
    assert found.unlike.tolist() == [True, False]
    still = scatter_of(base, np.full(4, 5.0))
    assert still.unlike
    assert still.raised == pytest.approx(3.5)
    assert scatter_of(base[:2], variant[:2]).raised == pytest.approx(math.log(2))
    assert scatter_of(base[:1], variant[:1]).raised == 0


@pytest.mark.trust
def test_two_seeds_hold_the_promise_too() -> None:
    random = np.random.default_rng(0)
    base, variant = (
        0.3 * random.standard_normal((20_000, 2)),
        np.exp(random.standard_normal((20_000, 2))) - math.exp(0.5),
    )
    assert (paired_t(variant - base).p <= 0.05).mean() > 0.08
    assert (cautious_t(base, variant)[0].p <= 0.05).mean() <= 0.05


def test_power_and_seeds_are_those_of_the_test_that_decides() -> None:
    random = np.random.default_rng(0)
    effect = detectable(1.0, 8, cautious=True)
    base = random.normal(0, math.sqrt(0.5), (20_000, 8))
    variant = random.normal(effect, math.sqrt(0.5), (20_000, 8))
    test, _ = cautious_t(base, variant)
    assert (test.p <= 0.05).mean() == pytest.approx(0.8, abs=0.015)
    assert effect > detectable(1.0, 8)
    needed = seeds_needed(1.0, 0.5, cautious=True)
    assert needed is not None
    assert detectable(1.0, needed, cautious=True) <= 0.5 < detectable(1.0, needed - 1, cautious=True)


@pytest.mark.trust
def test_the_interval_over_seeds_and_pictures_adds_the_pictures() -> None:
    random = np.random.default_rng(0)
    difference = np.array([0.010, 0.012, 0.011, 0.013])
    shared = random.normal(0, 0.02, 4000)
    base = random.normal(0, 0.003, (4, 4000))
    low, high = joint_interval(difference, base, base + shared, 50)
    expected = math.sqrt(difference.var(ddof=1) / 4 + shared.var(ddof=1) * 50 / 49)
    assert (high - low) / 2 / expected == pytest.approx(float(stats.t.ppf(0.975, 49)), rel=0.01)
    assert (low + high) / 2 == pytest.approx(difference.mean())
    # What each seed and picture make only together is in the scatter over seeds already and is not added again.
    own = random.normal(0, 0.002, (4, 4000))
    plain = paired_t(difference)
    assert joint_interval(difference, base, base + own, 50)[0] == pytest.approx(plain.low, abs=2e-4)
    assert np.isnan(joint_interval(difference[:1], base[:1], base[:1], 50)).all()
    assert np.isnan(joint_interval(difference, base[:, :0], base[:, :0], 50)).all()


@pytest.mark.trust
def test_what_holds_for_these_pictures_only_is_said() -> None:
    said = only_for_these_pictures((0.001, 0.02), (-0.004, 0.025))
    assert said.startswith(
        "This holds for these test pictures only: over seeds and pictures together the 95 % interval is"
    )
    assert "-0.40 to +2.50 points" in said
    assert only_for_these_pictures((0.001, 0.02), (0.0005, 0.021)) == ""
    assert only_for_these_pictures((-0.001, 0.02), (-0.004, 0.025)) == ""
    assert only_for_these_pictures((0.001, 0.02), (math.nan, math.nan)) == ""
    assert only_for_these_pictures((math.nan, math.nan), (-1.0, 1.0)) == ""


def test_decide_prefers_a_found_difference_over_sameness() -> None:
    test = paired_t(np.array([[0.001, 0.0011, 0.0009, 0.001, 0.0011]]))
    assert decide(test, np.array([0.001]))[0] is Verdict.HELPS
    assert decide(test, np.array([0.2]))[0] is Verdict.SAME


@pytest.mark.parametrize(("pairs", "alpha"), [(2, 0.05), (3, 0.01), (6, 0.05), (10, 0.01), (40, 0.05)])
def test_power_equals_scipy_where_scipy_has_a_value(pairs: int, alpha: float) -> None:
    for effect in (0.0, 0.3, 1.0, 2.0):
        critical, shift = stats.t.ppf(1 - alpha / 2, pairs - 1), effect * math.sqrt(pairs)
        expected = stats.nct.sf(critical, pairs - 1, shift) + stats.nct.cdf(-critical, pairs - 1, shift)
        if not math.isnan(expected):
            assert _power(effect, pairs, alpha) == pytest.approx(expected, abs=1e-5)
