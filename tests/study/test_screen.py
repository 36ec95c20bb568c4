"""A screen keeps what leads, confirms it on seeds that it has not seen, and can be broken off anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import finish, write_preflight
from scipy import stats

from detgraft.base.files import write_json
from detgraft.cli.study import command
from detgraft.errors import ArgumentError
from detgraft.study.api import Status, report, status
from detgraft.study.design.errors import StudyChangedError, StudyError
from detgraft.study.design.seal import seal
from detgraft.study.design.spec import StudySpec
from detgraft.study.judge.screening import Plan, boundary, is_clear, leading, plan_of, screened
from detgraft.study.judge.statistics import Verdict
from detgraft.study.run.store import StudyFolder
from detgraft.study.screen import screen, variants_of

NAMES = [f"v{k}" for k in range(12)]
TRUE = {"yolo11n": 0.5, "v3": 0.56, "v7": 0.55}
STUDY = f"""
data: data.yaml
base: yolo11n
variants: [{", ".join(f"{{name: {name}, graft: carafe@head.{k}}}" for k, name in enumerate(NAMES))}]
seeds: 6
train: {{epochs: 4, imgsz: 64, batch: 4}}
controls: none
metrics: {{bootstrap: 0}}
out: out
"""


def test_a_plan_halves_the_variants_and_spends_the_budget() -> None:
    plan = plan_of(40)
    assert [(one.arms, one.seeds, one.keep) for one in plan.rounds] == [(40, 1, 20), (20, 1, 10), (10, 2, 3)]
    assert plan.runs == 41 + 21 + 22 + 4 * 12
    assert plan.runs / plan.full <= 0.35
    assert plan_of(40, share=0.5).runs == (41 + 21 + 22) / 2 + 48
    more = plan_of(40, budget=300)
    assert more.runs <= 300 < more.runs + 84
    assert [one.seeds for one in more.rounds] == [3, 3, 6]
    with pytest.raises(ArgumentError, match=r"cost at least 132 whole runs, and the budget is 100"):
        plan_of(40, budget=100)
    with pytest.raises(ArgumentError, match="need no screen"):
        plan_of(2)


def test_the_leading_ones_go_on_and_those_that_are_out_never_come_back() -> None:
    means = np.array([[3.0, 9.0, 5.0, 5.0], [1.0, 2.0, np.nan, 0.0]])
    alive = np.array([[True, False, True, True], [True, True, False, True]])
    assert leading(means, alive, 2).tolist() == [[False, False, True, True], [True, True, False, False]]
    figures = np.random.default_rng(0).normal(size=(50, 12, plan_of(12).seeds))
    left = screened(figures, plan_of(12))
    assert (left.sum(axis=-1) == plan_of(12).rounds[-1].keep).all()


def trains(calls: list[tuple[str, tuple[int, ...], tuple[str, ...]]], fail: tuple[str, ...] = ()) -> Any:
    """Stands in for a study's run: every run has the arm's true figure and a little noise of its seed."""

    def run(spec: StudySpec, **words: Any) -> Status:
        folder = StudyFolder(spec)
        folder.open()
        calls.append((folder.path.name, spec.seeds, tuple(arm.name for arm in spec.variants)))
        write_preflight(folder)
        for cell in folder.cells():
            if (cell.folder / "result.json").exists():
                continue
            noise = np.random.default_rng([cell.seed, len(cell.arm.name), ord(cell.arm.name[-1])]).normal(0, 0.004)
            if cell.arm.name in fail and not words["retry"]:
                cell.folder.mkdir(parents=True, exist_ok=True)
                write_json(cell.folder / "error.json", {"message": "The GPU is full."})
                continue
            finish(folder, cell, TRUE.get(cell.arm.name, 0.5) + float(noise))
        return status(spec)

    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY.replace("out: out", f"out: {tmp_path / 'out'}"))
    return tmp_path / "study.yaml"


def test_a_screen_confirms_the_best_on_fresh_seeds(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    calls: list[Any] = []
    monkeypatch.setattr("detgraft.study.screen.run", trains(calls))
    found = screen(study, short=2, say=lambda line: None)
    assert found.complete
    assert [len(names) for names in found.left] == [6, 2]
    assert set(found.left[-1]) == {"v3", "v7"}
    assert [name for name, _, _ in calls] == ["round_1", "round_2", "confirm"]
    seen = {seed for name, seeds, _ in calls if name != "confirm" for seed in seeds}
    assert seen.isdisjoint(calls[-1][1])
    assert calls[-1][1] == tuple(range(6))
    folder = StudyFolder(StudySpec(**{**vars(found_spec(tmp_path)), "out": tmp_path / "out" / "round_1"}))
    assert folder.spec.train["epochs"] == 2
    written = report(tmp_path / "out" / "confirm")
    assert {item.comparison.variant for item in written.analysis.judged} == {"v3", "v7"}
    assert {item.comparison.verdict for item in written.analysis.judged} == {Verdict.HELPS}
    machine = json.loads(written.json.read_text())["screen"]
    assert len(machine["rows"]) == 12
    assert {row["name"] for row in machine["rows"] if row["confirmed"] is not None} == {"v3", "v7"}
    page = written.html.read_text("utf-8")
    assert page.count("data-screened=") == 12
    assert "enters the verdicts" in written.markdown.read_text("utf-8")
    # From the folder alone, it is there already; nothing changes.
    before = (tmp_path / "out" / "screen.json").read_bytes()
    again = screen(tmp_path / "out", say=lambda line: None)
    assert again.left == found.left
    assert (tmp_path / "out" / "screen.json").read_bytes() == before
    assert command("screen", [str(tmp_path / "out")], as_json=True) == 0


def found_spec(tmp_path: Path) -> StudySpec:
    from detgraft.study.api import open_study

    return open_study(tmp_path / "out" / "round_1")


def test_a_failed_run_stops_the_screen_until_it_is_retried(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("detgraft.study.screen.run", trains(calls, ("v3",)))
    found = screen(study, say=lambda line: None)
    assert not found.complete
    assert found.left == ()
    assert list(found.status.failed) == [f"v3, seed {calls[0][1][0]}"]
    assert command("screen", [str(study)], as_json=True) == 1
    done = screen(study, retry=True, say=lambda line: None)
    assert done.complete
    assert "v3" in done.left[-1]


def test_a_screen_of_something_else_is_refused(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("detgraft.study.screen.run", trains(calls))
    screen(study, say=lambda line: None)
    with pytest.raises(StudyChangedError, match="holds a screen of something else"):
        screen(study, keep=3, say=lambda line: None)
    with pytest.raises(ArgumentError, match="are fixed there"):
        screen(tmp_path / "out", keep=3)
    study.write_text(study.read_text().replace("imgsz: 64", "imgsz: 96"))
    with pytest.raises(StudyChangedError, match="holds a screen of something else"):
        screen(study, say=lambda line: None)


def test_how_clear_it_was_which_variants_go_on() -> None:
    random = np.random.default_rng(0)
    two = random.normal(0.5, 0.01, (2, 7))
    lead, error = boundary(two, 1) or (0.0, 0.0)
    paired = stats.ttest_rel(*two)
    assert lead / error == pytest.approx(abs(paired.statistic))  # of two variants it is the paired t value
    assert boundary(two[:, :1], 1) is boundary(two, 2) is None
    assert is_clear(None)
    assert is_clear((0.02, 0.01))
    assert not is_clear((0.019, 0.01))
    # What a seed lifts in all variants is no scatter; the error is that of the difference of two means.
    many = random.normal(0.5, 0.01, (4000, 6, 3)) + random.normal(0, 0.1, (4000, 1, 3))
    errors = [(boundary(each, 2) or (0.0, 0.0))[1] ** 2 for each in many]
    assert np.sqrt(np.mean(errors)) == pytest.approx(0.01 * np.sqrt(2 / 3), rel=0.02)
    means = np.sort(many[0].mean(axis=1))[::-1]
    assert (boundary(many[0], 2) or (0.0, 0.0))[0] == pytest.approx(means[1] - means[2])


@pytest.mark.trust
def test_a_screen_of_luck_says_so_at_once_and_in_its_report(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On BCCD with six epochs the two that led eight by 2.5 and 1.6 points were confirmed with +0.1 and -0.9."""
    pytest.importorskip("plotly", reason="the extra study is not installed")
    monkeypatch.setattr("detgraft.study.screen.run", trains([]))
    luck, true = "may have been chance", dict(TRUE)
    for figures, expected in ((dict.fromkeys(TRUE, 0.5), True), (true, False)):
        monkeypatch.setattr("test_screen.TRUE", figures)
        lines: list[str] = []
        out = tmp_path / f"luck-{expected}"
        study.write_text(re.sub(r"out: .*", f"out: {out}", study.read_text()))
        screen(study, say=lines.append)
        assert ("this may be chance" in "".join(lines)) is expected
        written = report(out / "confirm")
        for file in (written.html, written.markdown):
            assert (luck in file.read_text("utf-8")) is expected
        assert ("这可能只是偶然" in report(out / "confirm", lang="zh").markdown.read_text("utf-8")) is expected
        lead, error = json.loads(written.json.read_text())["screen"]["edges"][-1]
        assert (lead < 2 * error) is expected


def test_a_screen_that_saves_nothing_says_so(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detgraft.study.screen.run", trains([]))
    lines: list[str] = []
    screen(study, keep=11, say=lines.append)
    assert "85 whole runs, of 130" in lines[0]
    assert "no cheaper" not in "".join(lines)
    lines.clear()
    study.write_text(study.read_text().replace("seeds: 6", "seeds: 12").replace("/out", "/other"))
    screen(study, keep=11, say=lines.append)
    assert "157 whole runs, of 130" in lines[0]
    assert lines[1].startswith("Note: that is no cheaper than a study of all of them")
    with pytest.raises(ArgumentError, match="budget: expected a number from 1 up, found nan"):
        screen(study, budget=float("nan"), say=lines.append)


def test_a_screen_of_which_no_run_has_begun_may_still_be_changed(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(spec: StudySpec, **words: Any) -> Status:
        StudyFolder(spec).open()
        raise StudyError("nothing was trained")

    monkeypatch.setattr("detgraft.study.screen.run", refuses)
    with pytest.raises(StudyError, match="nothing was trained"):
        screen(study, say=lambda line: None)
    study.write_text(study.read_text().replace("imgsz: 64", "imgsz: 96"))
    monkeypatch.setattr("detgraft.study.screen.run", trains([]))
    assert screen(study, keep=3, say=lambda line: None).complete
    assert json.loads((tmp_path / "out" / "screen.json").read_text())["study"]["train"]["imgsz"] == 96


def test_other_questions_about_a_screens_folder_name_its_studies(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detgraft.study.screen.run", trains([]))
    screen(study, say=lambda line: None)
    for action in ("run", "status", "report", "retry", "export"):
        with pytest.raises(StudyError, match=r"is a screen's folder.*study screen .*confirm, .*round_1") as caught:
            command(action, [str(tmp_path / "out")], as_json=False)
        assert str(tmp_path / "out") in str(caught.value)


def test_results_that_changed_since_do_not_change_what_was_decided(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detgraft.study.screen.run", trains([]))
    screen(study, say=lambda line: None)
    path = tmp_path / "out" / "screen.json"
    raw = json.loads(path.read_text())
    raw["left"][0] = list(reversed(raw["left"][0]))
    path.write_text(json.dumps(seal(raw)))
    with pytest.raises(StudyChangedError, match=r"round 1 left .* when it was decided"):
        screen(study, say=lambda line: None)


def test_variants_come_from_the_catalogue_a_file_or_a_pattern(tmp_path: Path) -> None:
    every = variants_of("@all", tmp_path)
    assert {"carafe", "convnextv2_atto"} <= set(every)
    (tmp_path / "mine.txt").write_text("carafe  # upsampling\n\nsimam\n")
    assert variants_of("mine.txt", tmp_path) == ["carafe", "simam"]
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("")
    assert variants_of("*.yaml", tmp_path) == ["a.yaml", "b.yaml"]
    assert variants_of("carafe,simam", tmp_path) == ["carafe,simam"]
    for wrong in ("none*.yaml", "gone.txt"):
        with pytest.raises(StudyError):
            variants_of(wrong, tmp_path)


def test_what_does_not_build_is_left_out_of_everything_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    honest = trains(calls)
    bad = {"carafe": "no such row", "simam": "too small"}

    def run(spec: StudySpec, **words: Any) -> Status:
        folder = StudyFolder(spec)
        broken = [arm for arm in spec.variants if arm.name in bad]
        for arm in broken:
            folder.arm_file(arm).parent.mkdir(parents=True, exist_ok=True)
            write_json(folder.arm_file(arm), seal({"error": bad[arm.name]}))
        if broken:
            raise StudyError("nothing was trained")
        return honest(spec, **words)

    monkeypatch.setattr("detgraft.study.screen.run", run)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    words: Mapping[str, str] = {
        "data": "d.yaml",
        "base": "yolo11n",
        "variants": "@all",
        "seeds": "2",
        "controls": "none",
    }
    found = screen({**words, "out": "out", "bootstrap": "0"}, say=said.append)
    assert found.complete
    assert found.dropped == bad
    assert "Left out of @all: carafe: no such row" in said
    assert not {"carafe", "simam"} & set(calls[0][2])
    assert isinstance(found.plan, Plan)
    # A variant that was named is not left out silently.
    with pytest.raises(StudyError, match="nothing was trained"):
        screen({**words, "variants": "carafe,simam,eca,cbam,se", "out": "other"}, say=said.append)
