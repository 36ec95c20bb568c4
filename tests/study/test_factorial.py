"""Factorial studies: effects against hand calculation and known truth, their study file, and their report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up import finish, make_spec

from detgraft.study.api import export, report
from detgraft.study.design.errors import StudyError
from detgraft.study.design.spec import spec_from_arguments
from detgraft.study.judge.factorial import effects, weights_of
from detgraft.study.judge.statistics import Verdict, paired_t
from detgraft.study.run.store import StudyFolder

STUDY = """
data: data.yaml
base: yolo11n
factors: [carafe, dysample, simam]
seeds: 8
controls: none
metrics: {bootstrap: 0}
out: out
"""


def test_two_factors_by_hand() -> None:
    random = np.random.default_rng(0)
    base, a, b, both = random.normal(0.5, 0.01, (4, 6))
    arms = {
        frozenset(chosen): dict(enumerate(values)) for chosen, values in (("", base), ("a", a), ("b", b), ("ab", both))
    }
    found = effects(arms, ["a", "b"], 2)
    assert [effect.variant for effect in found] == ["a", "b", "a x b"]
    by_hand = [(a - base + both - b) / 2, (b - base + both - a) / 2, (both - b) - (a - base)]
    for effect, values in zip(found, by_hand, strict=True):
        plain = paired_t(values)
        assert effect.difference == pytest.approx(plain.mean)
        assert effect.p == pytest.approx(float(plain.p))
        assert (effect.low, effect.high) == pytest.approx((float(plain.low), float(plain.high)))


@pytest.mark.parametrize(("count", "order"), [(3, 3), (4, 4), (3, 2), (6, 2)])
def test_known_effects_are_found_exactly(count: int, order: int) -> None:
    factors = [chr(ord("a") + k) for k in range(count)]
    truth = {("a",): 0.04, ("c",): -0.02, ("a", "b"): 0.03}
    spec = make_settings(factors, order)
    values = []
    for chosen in spec:
        code = {factor: 0.5 if factor in chosen else -0.5 for factor in factors}
        values.append(0.4 + sum(size * np.prod([code[f] for f in term]) for term, size in truth.items()))
    for term, weights in weights_of(spec, factors, order).items():
        assert weights @ np.array(values) == pytest.approx(truth.get(term, 0.0), abs=1e-12)
        assert weights.sum() == pytest.approx(0, abs=1e-12)
    with pytest.raises(np.linalg.LinAlgError):
        weights_of(spec[:-1], factors, order)


def make_settings(factors: list[str], order: int) -> list[frozenset[str]]:
    import itertools

    return [frozenset(c) for size in range(order + 1) for c in itertools.combinations(factors, size)]


def test_the_study_file_writes_the_combinations_out(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, STUDY)
    assert [arm.name for arm in spec.variants] == [
        "carafe",
        "dysample",
        "simam",
        "carafe+dysample",
        "carafe+simam",
        "dysample+simam",
        "carafe+dysample+simam",
    ]
    assert spec.variants[-1].model == "yolo11n+carafe+dysample+simam"
    assert spec.identity()["factors"] == [["carafe", "dysample", "simam"], 3]
    assert spec.where(spec.variants[3]).line == 4
    pairs = make_spec(tmp_path, STUDY.replace("[carafe, dysample, simam]", "{pairs: [carafe, dysample, simam]}"))
    assert len(pairs.variants) == 6
    line = spec_from_arguments({"data": "d.yaml", "base": "yolo11n", "factors": "carafe,simam", "seeds": "3"})
    assert [arm.name for arm in line.variants] == ["carafe", "simam", "carafe+simam"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[carafe, dysample, simam]", "[carafe]", "line 4.*expected 2 to 4 grafts, found 1"),
        ("[carafe, dysample, simam]", "[a, b, c, d, e]", "found 5; .pairs: .* takes up to 8"),
        ("[carafe, dysample, simam]", "[carafe, simam, carafe]", "line 4.*'carafe' is written twice"),
        ("[carafe, dysample, simam]", "carafe", "expected a list of grafts"),
        ("seeds: 8", "seeds: 8\nvariants: [simam]", "in place of variants"),
        ("seeds: 8", "seeds: 8\nstop: sequential", "cannot be sequential"),
    ],
)
def test_factors_that_make_no_study_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        make_spec(tmp_path, STUDY.replace(old, new))


def test_the_report_shows_every_effect(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    study = StudyFolder(make_spec(tmp_path, STUDY))
    study.open()
    random = np.random.default_rng(0)
    for cell in study.cells():
        chosen = set(cell.arm.name.split("+"))
        ap = 0.5 + 0.03 * ("carafe" in chosen) + 0.05 * ({"dysample", "simam"} <= chosen) + random.normal(0, 0.003)
        finish(study, cell, float(ap))
    written = report(study.spec)
    found = {effect.variant: effect for effect in written.analysis.effects}
    assert len(found) == 7
    assert found["carafe"].verdict is Verdict.HELPS
    assert found["carafe"].difference == pytest.approx(0.03, abs=0.003)
    assert found["dysample x simam"].difference == pytest.approx(0.05, abs=0.006)
    assert found["dysample x simam"].verdict is Verdict.HELPS
    assert found["carafe x dysample"].verdict is not Verdict.HELPS
    page, text = written.html.read_text(encoding="utf-8"), written.markdown.read_text(encoding="utf-8")
    assert page.count("<tr data-effect=") == 7
    assert "| dysample x simam | **helps** | 8 | +" in text
    assert [e["variant"] for e in json.loads(written.json.read_text())["effects"]] == list(found)
    export(study.spec, tmp_path / "thesis")
    said = (tmp_path / "thesis" / "methods.txt").read_text("utf-8")
    assert "All combinations of carafe, dysample, simam were trained." in said
    assert "Effects and interactions were Holm-adjusted over all 7." in said
