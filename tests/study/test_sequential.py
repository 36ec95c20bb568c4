"""Sequential studies: bounds against simulation, the course of the arms, the engine's order, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up import finish, make_spec, write_preflight

from detgraft.study.api import report, status
from detgraft.study.design.errors import StudyChangedError, StudyError
from detgraft.study.judge.analysis import analyse, progress
from detgraft.study.judge.bounds import RULE, Rule, bounds, sequential_p
from detgraft.study.judge.sequential import Stop, advance, begin, compare_sequentially, follow, verdicts
from detgraft.study.judge.statistics import Verdict, compare, paired_t
from detgraft.study.run.executor import Engine, LocalPool
from detgraft.study.run.launch import Slot
from detgraft.study.run.store import State, StudyFolder

LOOKS = (3, 4, 6, 8, 10, 12)
DEFAULT = (5, 6, 7, 8, 9, 10, 11, 12)
STAND_IN = (sys.executable, str(Path(__file__).with_name("made_up.py")))
STUDY = """
data: data.yaml
base: yolo11n
variants: [carafe, convnextv2_atto]
stop: sequential
controls: none
train: {epochs: 2, imgsz: 64, batch: 4}
metrics: {bootstrap: 0}
out: out
"""


@pytest.mark.parametrize("looks", [LOOKS, (2, 5, 7), (4, 9)])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_error_is_spent_as_planned(looks: tuple[int, ...], alpha: float) -> None:
    d = np.random.default_rng(0).standard_normal((100_000, looks[-1]))
    crossed = np.zeros(len(d), dtype=bool)
    for n, bound in zip(looks, bounds(looks, alpha), strict=True):
        crossed |= paired_t(d[:, :n]).p <= bound
        planned = alpha * (n / looks[-1]) ** RULE.parameter
        assert crossed.mean() == pytest.approx(planned, abs=4 * np.sqrt(planned / len(d)) + 0.02 * planned)


@pytest.mark.parametrize("rule", [Rule("hsd", -2.0), Rule("hsd", 1.0), Rule("obf"), Rule("pocock"), Rule("power", 1.0)])
def test_other_spending_functions_spend_as_planned(rule: Rule) -> None:
    looks, d = (4, 6, 9), np.random.default_rng(1).standard_normal((40_000, 9))
    crossed = np.zeros(len(d), dtype=bool)
    for n, bound in zip(looks, bounds(looks, 0.05, rule), strict=True):
        crossed |= paired_t(d[:, :n]).p <= bound
        planned = rule.spent(n / 9, 0.05)
        assert crossed.mean() == pytest.approx(planned, abs=4 * np.sqrt(planned / len(d)) + 0.02 * planned)
    assert rule.spent(1.0, 0.05) == 0.05


def test_an_unknown_spending_function_is_named() -> None:
    with pytest.raises(ValueError, match="expected power, hsd, obf or pocock, found 'linear'"):
        Rule("linear").spent(0.5, 0.05)


def test_one_look_is_the_plain_test() -> None:
    assert bounds((8,), 0.05) == pytest.approx((0.05,), rel=1e-6)


def test_the_sequential_p_value_is_the_level_whose_bound_it_is() -> None:
    for alpha in (0.2, 0.05, 0.004):
        for look, bound in enumerate(bounds(LOOKS, alpha)):
            assert sequential_p(bound, LOOKS, look) == pytest.approx(alpha, rel=0.03)
    assert sequential_p(1.0, LOOKS, 0) == 1.0
    p = np.array([1e-12, 1e-6, 0.01, 0.3])
    assert (np.diff(sequential_p(p, LOOKS, 3)) > 0).all()


def course_of(means: list[float], seeds: int = 12) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    base = 0.5 + 0.004 * random.standard_normal(seeds)
    return base, np.stack([0.5 + mean + 0.004 * random.standard_normal(seeds) for mean in means])


def test_arms_end_for_each_reason_and_keep_their_last_look() -> None:
    base, arms = course_of([0.04, -0.04, 0.0])
    course = begin((3,))
    for n in LOOKS:
        course = advance(course, base[:n], arms[:, :n], LOOKS)
    assert list(course.stop[:2]) == [Stop.FOUND, Stop.FOUND]
    assert course.stop[2] in (Stop.SAME, Stop.HOPELESS)
    assert verdicts(course).tolist()[:2] == [Verdict.HELPS, Verdict.HURTS]
    assert max(course.seeds[:2]) < 12
    n = int(course.seeds[0])
    assert course.test.mean[0] == pytest.approx((arms[0, :n] - base[:n]).mean())
    plain = paired_t(arms[0, :n] - base[:n])
    assert course.test.low[0] < plain.low
    assert course.test.p[0] > plain.p
    last = advance(begin((1,)), base, base[None] + 0.006 + 0.01 * np.sin(np.arange(12)), LOOKS)
    assert last.stop[0] in (Stop.LAST, Stop.FOUND)


def test_a_margin_that_holds_the_interval_ends_an_arm_as_the_same() -> None:
    base, arms = course_of([0.0])
    course = advance(begin((1,)), base, arms, LOOKS, margin=0.02)
    assert course.stop[0] is Stop.SAME
    assert verdicts(course)[0] is Verdict.SAME


def test_only_the_runs_up_to_the_next_look_are_due() -> None:
    base, arms = course_of([0.04, 0.005])
    seeds = list(range(12))
    figures = {name: dict(enumerate(row)) for name, row in zip("ab", arms, strict=True)}
    none = follow({}, {"a": {}, "b": {}}, seeds, LOOKS)
    assert none.due == {"a": 3, "b": 3}
    some = follow(
        dict(enumerate(base)), {name: {s: row[s] for s in range(3)} for name, row in figures.items()}, seeds, LOOKS
    )
    assert some.due["b"] == 4
    # A variant whose third run is missing waits for it; the other one goes on.
    lost = follow(dict(enumerate(base)), {"a": {0: 0.5, 1: 0.5}, "b": figures["b"]}, seeds, LOOKS)
    assert lost.due["a"] == 3
    assert lost.course.seeds[1] > 3
    full = follow(dict(enumerate(base)), figures, seeds, LOOKS)
    assert full.ended
    assert full.needs("yolo11n", full.most - 1)
    assert not full.needs("a", full.due["a"])


def test_the_sentences_name_the_look() -> None:
    base, arms = course_of([0.04, 0.0])
    figures = {name: dict(enumerate(row)) for name, row in zip("ab", arms, strict=True)}
    found = compare_sequentially(dict(enumerate(base)), figures, range(12), LOOKS)
    assert f"over {found[0].pairs} of at most 12 seeds (repeated 95 % interval" in found[0].reason
    assert found[0].verdict is Verdict.HELPS
    plain = compare({s: base[s] for s in range(found[0].pairs)}, figures)[0]
    assert found[0].difference == plain.difference
    assert found[0].p_holm > plain.p_holm
    early = compare_sequentially({0: 0.5}, {"a": {0: 0.6}}, range(12), LOOKS)[0]
    assert early.reason.startswith("The first look is after 3 seeds; 1 finished")
    assert early.verdict is Verdict.UNKNOWN


def test_the_study_file_fixes_the_looks(tmp_path: Path) -> None:
    assert make_spec(tmp_path, STUDY).looks == DEFAULT
    assert make_spec(tmp_path, STUDY + "seeds: 9\n").looks == (5, 6, 7, 8, 9)
    own = STUDY.replace("stop: sequential", "stop: {sequential: [4, 8]}") + "seeds: 8\n"
    assert make_spec(tmp_path, own).looks == (4, 8)
    assert "looks" not in make_spec(tmp_path, STUDY.replace("stop: sequential", "seeds: 4")).identity()
    for wrong in ("sequentil", "{sequential: [4, 4, 12]}", "{sequential: [1, 12]}", "{sequential: [4, 6]}", "3"):
        with pytest.raises(StudyError, match="stop: expected never, sequential"):
            make_spec(tmp_path, STUDY.replace("sequential", wrong, 1))
    with pytest.raises(StudyError, match="at least 6 seeds, found 3"):
        make_spec(tmp_path, STUDY + "seeds: 3\n")


def test_another_version_s_rule_does_not_judge_a_study_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bounds are part of the promise: where a version changes them, it says so instead of judging anew."""
    spec = make_spec(tmp_path, STUDY)
    folder = StudyFolder(spec)
    folder.open()
    finish(folder, next(iter(folder.cells())), 0.5)
    monkeypatch.setattr("detgraft.study.design.spec.SPENDING", ("power", 3.0))
    with pytest.raises(StudyChangedError, match=r"rule: was \[.power., 2.0, 0.05, 4\], is \[.power., 3.0, 0.05, 4\]"):
        StudyFolder(make_spec(tmp_path, STUDY)).open()


def test_looks_that_change_afterwards_and_extensions_are_refused(tmp_path: Path) -> None:
    study = StudyFolder(make_spec(tmp_path, STUDY))
    study.open()
    finish(study, next(iter(study.cells())), 0.5)
    for text in (
        STUDY.replace("stop: sequential", "stop: {sequential: [3, 5, 12]}"),
        STUDY.replace("stop: sequential", "seeds: 12"),
        STUDY + "seeds: 14\n",
        STUDY.replace("carafe,", "carafe, dynamicconv,"),
    ):
        changed = StudyFolder(make_spec(tmp_path, text))
        with pytest.raises(StudyChangedError) as refused:
            changed.check_unchanged()
        assert "extend=True" not in str(refused.value)
        with pytest.raises(StudyChangedError, match="A sequential study cannot be extended"):
            changed.check_unchanged(extend=True)


def test_the_engine_trains_only_what_the_looks_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN", json.dumps({}))
    study = StudyFolder(make_spec(tmp_path, STUDY + "seeds: 6\n"))
    study.open()
    write_preflight(study)
    begun: list[tuple[str, int]] = []
    Engine(
        study,
        LocalPool([Slot(None, 1)] * 2, STAND_IN),
        lambda event: begun.append((event.cell.arm.name, event.cell.seed)) if event.kind == "started" else None,
    ).run()
    course = progress(study)
    assert course is not None
    assert course.ended
    done = {(cell.arm.name, cell.seed) for cell in study.cells() if cell.state() is State.DONE}
    assert done == {(cell.arm.name, cell.seed) for cell in study.cells() if course.needs(cell.arm.name, cell.seed)}
    assert set(begun) == done
    assert {seed for _, seed in begun[:9]} == {0, 1, 2}
    found = status(study.spec)
    assert found.complete
    assert found.spared == len(found.cells) - len(done)


def test_a_report_of_a_study_that_stopped_early(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    study = StudyFolder(make_spec(tmp_path, STUDY))
    study.open()
    random = np.random.default_rng(0)
    while True:
        course = progress(study)
        assert course is not None
        due = [c for c in study.cells() if c.state() is not State.DONE and course.needs(c.arm.name, c.seed)]
        if not due:
            break
        for cell in due:
            finish(study, cell, 0.5 + 0.04 * (cell.arm.name == "carafe") + float(random.normal(0, 0.003)))
    written = report(study.spec)
    found = analyse(study)
    assert found.judged[0].comparison.verdict is Verdict.HELPS
    assert found.judged[0].comparison.pairs < 12
    assert found.spared > 0
    assert dataclasses.asdict(found)["looks"] == DEFAULT
    for text in (written.html.read_text(encoding="utf-8"), written.markdown.read_text(encoding="utf-8")):
        assert "it looks after 5, 6, 7, 8, 9, 10, 11, 12 seeds" in text
        assert f"{found.spared} runs were not" in text
        assert "This study is not complete" not in text
    assert json.loads(written.json.read_text())["spared"] == found.spared
