"""The report: its figures are the results' figures, and a browser shows it without a complaint or a network."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_up import SMALL_STUDY, STUDY, finish, finished_study, make_spec

from detgraft.study.api import report
from detgraft.study.design.errors import StudyError
from detgraft.study.design.seal import seal
from detgraft.study.judge.analysis import ArmSummary, against_scale, analyse, interval
from detgraft.study.judge.result import Cost
from detgraft.study.judge.statistics import Verdict, compare, points
from detgraft.study.report.charts import charts
from detgraft.study.report.languages import Words
from detgraft.study.report.report import (
    Report,
    claims_html,
    doubtful_latencies,
    headline,
    markdown_text,
    remark,
    write_report,
)
from detgraft.study.run.store import StudyFolder

pytest.importorskip("plotly", reason="the extra study is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CLAIMS = "### Single runs\n\n| model | mAP50 |\n|---|---|\n| YOLOv8n | 0.904 |\n\nNo seeds, no <intervals>.\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return finished_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def written(study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("report")
    (out / "claims.md").write_text(CLAIMS, encoding="utf-8")
    return write_report(study, out, out / "claims.md")


def test_the_verdicts_are_those_of_the_results(study: StudyFolder, written: Report) -> None:
    values: dict[str, dict[int, float]] = {}
    for cell in study.cells():
        values.setdefault(cell.arm.name, {})[cell.seed] = float(cell.result().metrics["test"].coco["AP"] or 0)
    variants = {arm.name: values[arm.name] for arm in study.spec.variants}
    expected = compare(values["yolo11n"], variants)
    assert [item.comparison for item in written.analysis.judged] == expected
    assert [c.verdict for c in expected] == [Verdict.HELPS, Verdict.SAME, Verdict.UNKNOWN]
    machine = json.loads(written.json.read_text())
    assert [v["verdict"] for v in machine["verdicts"]] == [c.verdict.value for c in expected]
    assert machine["verdicts"][0]["difference"] == pytest.approx(expected[0].difference)


def test_the_tables_hold_the_results(study: StudyFolder, written: Report) -> None:
    page, markdown = written.html.read_text(encoding="utf-8"), written.markdown.read_text(encoding="utf-8")
    rows = list(csv.DictReader(written.csv.open(encoding="utf-8")))
    assert len(rows) == 30
    for arm in written.analysis.arms:
        own = [float(row["test_AP"]) for row in rows if row["arm"] == arm.name]
        assert np.mean(own) == pytest.approx(arm.primary.mean)
        assert f"{100 * np.mean(own):.2f}" in table_row(page, "arm", arm.name)
        said = f"{arm.name}: timm/{arm.name}: input: pixels of 0..1"
        written_as = markdown_text(said)
        assert (said in html.unescape(page)) == (written_as in markdown) == (arm.name != "yolo11n")
    for item in written.analysis.judged:
        row = table_row(page, "variant", item.comparison.variant)
        assert points(item.comparison.difference) in row
        assert item.comparison.verdict.value in row
        assert html.escape(item.comparison.reason, quote=False)[:40] not in page, "it only repeats the row"
        said = remark(item)
        assert not said or html.escape(said, quote=False)[:60] in page
        assert points(item.comparison.difference) in markdown
    assert [row["resumed"] for row in rows].count("True") == 1
    assert "carafe (seed 1)" in page
    assert "carafe (seed 1)" in markdown


def table_row(page: str, kind: str, name: str) -> str:
    found = re.search(rf'<tr data-{kind}="{re.escape(html.escape(name))}">(.*?)</tr>', page, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_page_is_one_small_file_and_escapes_what_it_shows(written: Report) -> None:
    page = written.html.read_text(encoding="utf-8")
    assert written.html.stat().st_size < 3_000_000
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    assert "name <b>with</b> marks" not in page
    assert "No seeds, no &lt;intervals&gt;." in page
    assert "<td>YOLOv8n</td><td>0.904</td>" in page
    assert page.count("data:image/jpeg;base64,") >= 6


def in_browser(page: Path, profile: Path, width: int = 1400) -> tuple[str, list[str]]:
    """The document as a browser without a network leaves it, and the lines of its console."""
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=30000",
            f"--window-size={width},2000",
            f"--user-data-dir={profile}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_a_browser_draws_everything_without_errors(written: Report, tmp_path: Path) -> None:
    shown, complaints = in_browser(written.html, tmp_path / "profile")
    assert complaints == []
    assert 'data-charts="drawn"' in shown
    for place in ("differences", "pareto-latency_ms", "pareto-params", "pareto-gflops", "curves", "classes"):
        assert re.search(rf'id="{place}" class="js-plotly-plot"', shown), place
    for arm in written.analysis.arms:
        assert f"{100 * arm.primary.mean:.2f}" in table_row(shown, "arm", arm.name)


@pytest.mark.trust
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize(
    ("width", "more", "form"), [(1400, 0, ""), (1400, 2, "dense"), (1400, 12, "carded"), (1000, 0, "dense")]
)
def test_no_table_is_cut_however_many_columns(
    width: int, more: int, form: str, written: Report, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    counted = """<script>
for (const row of document.querySelectorAll("#arms tr"))
  for (let k = 0; k < MORE; k++) row.append(row.children[2].cloneNode(true));
const wait = setInterval(() => {
  if (!document.body.dataset.charts) return;
  document.body.dataset.cut = [...document.querySelectorAll(".card")]
    .filter((card) => card.scrollWidth > card.clientWidth).map((card) => card.firstElementChild.id);
  clearInterval(wait);
}, 500);
</script>""".replace("MORE", str(more))
    charts_of = '<script id="charts"'  # the first of the page's own scripts
    page.write_text(written.html.read_text("utf-8").replace(charts_of, counted + charts_of), "utf-8")
    shown, complaints = in_browser(page, tmp_path / "profile", width)
    assert complaints == []
    assert re.findall(r"data-cut=\"([^\"]*)\"", shown) == [""]
    found = re.search(r'<table id="arms" class="([^"]*)"', shown)
    assert found
    assert found[1].split()[1:] == ([form] if form else [])


def test_an_unfinished_study_is_reported_as_such(tmp_path: Path) -> None:
    study = StudyFolder(make_spec(tmp_path, SMALL_STUDY))
    study.open()
    with pytest.raises(StudyError, match="no run has finished"):
        analyse(study)
    cells = list(study.cells())
    finish(study, cells[0], 0.5)
    with pytest.raises(StudyError, match="no finished seed in common"):
        analyse(study)
    finish(study, cells[1], 0.6)
    written = report(study.spec)
    assert written.analysis.judged[0].comparison.verdict is Verdict.UNKNOWN
    assert "This study is not complete" in written.html.read_text(encoding="utf-8")


def test_runs_on_different_pictures_are_never_compared(tmp_path: Path) -> None:
    study = StudyFolder(make_spec(tmp_path, SMALL_STUDY))
    study.open()
    for cell in study.cells():
        finish(study, cell, 0.5)
    last = study.path / "cells" / "carafe" / "seed_1" / "result.json"
    raw = json.loads(last.read_text())
    raw["metrics"]["test"]["truth"] = "other pictures"
    last.write_text(json.dumps(seal(raw)))
    with pytest.raises(StudyError, match="changed while the study ran"):
        analyse(study)


def test_beside_the_larger_scale() -> None:
    cheap, dear = Cost(10, 1.0, 2.0, None, 64, "cpu"), Cost(20, 4.0, 3.0, None, 64, "cpu")
    base = {k: 0.5 + 0.001 * k for k in range(6)}
    jitter = [0.001, -0.001, 0.0, 0.002, -0.002, 0.0]
    better = compare(base, {"scale: big": {k: v + 0.05 + jitter[k] for k, v in base.items()}})[0]
    worse = compare(base, {"scale: big": {k: v - 0.05 + jitter[k] for k, v in base.items()}})[0]
    unclear = compare(base, {"scale: big": {k: v + 10 * jitter[k] for k, v in base.items()}})[0]
    assert "big does better (+5.00 points" in against_scale(better, cheap, dear)
    assert "for more: latency x1.50, parameters x2.00, GFLOPs x4.00." in against_scale(better, cheap, dear)
    assert "does better" in against_scale(better, dear, cheap)
    assert ", for less:" in against_scale(better, dear, cheap)
    assert "does worse" in against_scale(worse, cheap, dear)
    assert "not clearly better or worse" in against_scale(unclear, cheap, dear)


@pytest.mark.trust
def test_the_control_is_judged_at_the_studys_alpha(tmp_path: Path) -> None:
    strict = finished_study(tmp_path / "strict", pictures=False, text=STUDY.replace("60}", "60, alpha: 0.001}"))
    usual = finished_study(tmp_path / "usual", pictures=False)
    controls = [analyse(study).control for study in (strict, usual)]
    assert controls[0] is not None
    assert controls[1] is not None
    assert controls[0].p == controls[1].p
    assert controls[0].detectable > 1.5 * controls[1].detectable


@pytest.mark.trust
def test_a_verdict_that_rests_on_these_pictures_says_so(tmp_path: Path) -> None:
    study = finished_study(tmp_path, pictures=False)
    random = np.random.default_rng(0)
    pictures = random.normal(0, 0.05, 60)
    for cell in study.cells():
        np.save(cell.folder / "bootstrap_test.npy", pictures if cell.arm.name == "carafe" else np.zeros(60))
    written = write_report(study, tmp_path / "report")
    carafe, other, _ = written.analysis.judged
    assert carafe.comparison.verdict is Verdict.HELPS
    assert carafe.joint_low < 0 < carafe.comparison.low
    assert other.joint_low == pytest.approx(other.comparison.low)
    assert other.only_here == ""
    machine = json.loads(written.json.read_text())["verdicts"][0]
    assert machine["joint_low"] == carafe.joint_low
    for text in (written.html.read_text(encoding="utf-8"), written.markdown.read_text(encoding="utf-8")):
        assert "This holds for these test pictures only" in text
        assert "carafe (on these pictures only) helps" in text
        assert f"{points(carafe.joint_low)} to {points(carafe.joint_high)}" in text


@pytest.mark.trust
def test_a_study_that_learned_nothing_says_so(tmp_path: Path) -> None:
    study = StudyFolder(make_spec(tmp_path, SMALL_STUDY))
    study.open()
    for cell in study.cells():
        finish(study, cell, 0.0)
    found = analyse(study)
    assert found.judged[0].comparison.reason == "AP is 0 everywhere: nothing was learned."
    assert headline(found) == "AP is 0 everywhere: nothing was learned."


@pytest.mark.trust
def test_no_interval_reaches_where_no_mean_can_be() -> None:
    """Two seeds of a screen gave yolo11n an AP of 30.5, "-43.78 to 104.78"."""
    arm, difference = interval([0.2465, 0.3635]), interval([0.12, -0.13], least=-1.0)
    assert (arm.low, arm.high) == (0.0, 1.0)
    assert (difference.low, difference.high) == (-1.0, 1.0)
    alike = interval([0.50, 0.51, 0.52])
    assert (alike.low, alike.high) == (pytest.approx(0.51 - 0.02484, abs=1e-5), pytest.approx(0.51 + 0.02484, abs=1e-5))
    assert math.isnan(interval([0.5]).low)


@pytest.mark.trust
def test_latencies_under_load_carry_a_warning(written: Report) -> None:
    found = written.analysis
    assert doubtful_latencies(found) == ""

    def with_load(arm: ArmSummary, load: float | None) -> ArmSummary:
        return dataclasses.replace(arm, cost=dataclasses.replace(arm.cost, load=load))

    arms = [with_load(arm, load) for arm, load in zip(found.arms, (0.0, 0.6, None, 0.01, 0.0), strict=True)]
    text = doubtful_latencies(dataclasses.replace(found, arms=tuple(arms)))
    assert f"too long: {found.arms[1].name} (60% busy)." in text
    assert "settled" not in text


@pytest.mark.trust
def test_latencies_that_did_not_settle_are_named(written: Report) -> None:
    arms = [
        dataclasses.replace(arm, cost=dataclasses.replace(arm.cost, steady=steady))
        for arm, steady in zip(written.analysis.arms, (True, False, None, True, False), strict=True)
    ]
    text = doubtful_latencies(dataclasses.replace(written.analysis, arms=tuple(arms)))
    assert f"say little: {arms[1].name}, {arms[4].name}." in text


@pytest.mark.trust
def test_doubtful_latencies_are_hollow_and_not_on_the_line(written: Report) -> None:
    arms = list(written.analysis.arms)
    fastest = min(arms, key=lambda arm: float(arm.cost.latency_ms or 0))
    for change in ({"steady": False}, {"load": 0.6}):
        changed = [
            dataclasses.replace(arm, cost=dataclasses.replace(arm.cost, **change)) if arm is fastest else arm
            for arm in arms
        ]
        drawn = charts(dataclasses.replace(written.analysis, arms=tuple(changed)), Words("en"))
        line, *marks = drawn["pareto-latency_ms"]["data"]
        hollow = [mark["hovertemplate"] for mark in marks if mark["marker"]["symbol"].endswith("-open")]
        assert len(hollow) == 1
        assert hollow[0].startswith(html.escape(fastest.name))
        assert fastest.cost.latency_ms not in line["x"]
        assert not any(
            mark["marker"].get("symbol", "").endswith("-open") for mark in drawn["pareto-params"]["data"][1:]
        )
    line, *marks = charts(written.analysis, Words("en"))["pareto-latency_ms"]["data"]
    assert fastest.cost.latency_ms in line["x"]


def test_claims_are_text_and_tables() -> None:
    shown = str(claims_html("# Title\nand more\n\n| a | b |\n|--|--|\n| <i>1</i> | 2 |\n\nplain"))
    assert shown.startswith("<h3>Title</h3><p>and more</p>")
    assert "<th>a</th>" in shown
    assert "<td>&lt;i&gt;1&lt;/i&gt;</td>" in shown
    assert shown.endswith("<p>plain</p>")
