"""What a thesis takes from a study: the report's numbers in LaTeX, CSV and xlsx, figures, a paragraph, citations."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import finished_study

from detgraft.base.files import write_json
from detgraft.errors import ArgumentError
from detgraft.study.api import export, report
from detgraft.study.design.seal import seal
from detgraft.study.judge.analysis import analyse
from detgraft.study.report.export import Table, arms_table, bibliography, latex, latex_text, methods
from detgraft.study.report.languages import Words
from detgraft.study.report.report import verdicts_json
from detgraft.study.run.store import SCREENED, StudyFolder

pytest.importorskip("plotly", reason="the extra study is not installed")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return finished_study(tmp_path_factory.mktemp("study"), pictures=False)


def rows_of(path: Path) -> list[dict[str, str]]:
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf"), "spreadsheets read it as UTF-8 only with a byte order mark"
    return list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"))))


def test_every_number_is_that_of_the_verdicts(study: StudyFolder, tmp_path: Path) -> None:
    made = export(study.spec, tmp_path / "out")
    said = verdicts_json(report(study.spec, tmp_path / "report").analysis)
    rows = {row["variant"]: row for row in rows_of(tmp_path / "out" / "differences.csv")}
    for verdict in said["verdicts"]:
        row = rows[verdict["variant"]]
        assert float(row["difference"]) == pytest.approx(100 * verdict["difference"])
        assert float(row["95 % low"]) == pytest.approx(100 * verdict["low"])
        assert float(row["p (Holm)"]) == pytest.approx(verdict["p_holm"])
        assert row["verdict"] == verdict["verdict"]
    arms = {row["arm"]: row for row in rows_of(tmp_path / "out" / "arms.csv")}
    tex = (tmp_path / "out" / "arms.tex").read_text("utf-8")
    for arm in said["arms"]:
        assert float(arms[arm["name"]]["AP"]) == pytest.approx(100 * arm["primary"]["mean"])
        assert float(arms[arm["name"]]["AP75"]) == pytest.approx(100 * arm["figures"]["AP75"])
        assert f"{latex_text(arm['name'])} & {len(arm['seeds'])} & {100 * arm['primary']['mean']:.2f} &" in tex
    assert "AP_large" not in arms["carafe"], "a column that is empty everywhere is left out"
    assert {path.name for path in made.files} >= {
        *("arms.csv", "arms.tex", "differences.csv", "differences.tex", "methods.txt", "citations.bib"),
        *("differences.svg", "differences.pdf", "accuracy.svg", "accuracy.pdf"),
    }
    assert (tmp_path / "out" / "differences.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (tmp_path / "out" / "accuracy.svg").read_bytes()


def test_the_workbook_opens_with_numbers_as_numbers(study: StudyFolder, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="the extra thesis is not installed")
    export(study.spec, tmp_path)
    book = openpyxl.load_workbook(tmp_path / "study.xlsx")
    assert book.sheetnames == ["arms", "differences"]
    head, *rows = book["differences"].iter_rows(values_only=True)
    shown = {row["variant"]: row for row in rows_of(tmp_path / "differences.csv")}
    for row in rows:
        assert isinstance(row[1], float)
        assert row[1] == pytest.approx(float(shown[row[0]]["difference"]))
    assert head[0] == "variant"


def test_a_missing_openpyxl_is_named_and_the_rest_is_written(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    made = export(study.spec, tmp_path)
    assert "study.xlsx is left out" in made.left_out
    assert "[thesis]" in made.left_out
    assert not (tmp_path / "study.xlsx").exists()
    assert (tmp_path / "methods.txt").is_file()


def test_chinese_tables_and_paragraph(study: StudyFolder, tmp_path: Path) -> None:
    export(study.spec, tmp_path, lang="zh")
    rows = rows_of(tmp_path / "differences.csv")
    assert {row["结论"] for row in rows} == {"涨点", "无可测差异", "无法判断（种子过少）"}
    assert "6 个随机种子" in (tmp_path / "methods.txt").read_text("utf-8")
    with pytest.raises(ArgumentError, match="lang: expected en or zh, found 'de'"):
        export(study.spec, tmp_path, lang="de")


def test_the_paragraph_says_how_it_was_done(study: StudyFolder, tmp_path: Path) -> None:
    export(study.spec, tmp_path)
    text = (tmp_path / "methods.txt").read_text("utf-8")
    for words in ("carafe", "base yolo11n", "6 random seeds", "Holm-adjusted", "4 epochs at 64 pixels", "detgraft 0"):
        assert words in text
    assert "1 run(s) were interrupted and resumed." in text
    assert "screen" not in text
    assert "for these pictures only" not in text
    here = analyse(study)
    here = dataclasses.replace(
        here, judged=tuple(dataclasses.replace(item, only_here="said") for item in here.judged[:2])
    )
    names = ", ".join(item.comparison.variant for item in here.judged)
    assert f"For {names} the verdict holds for these pictures only" in methods(here, study, Words("en"))


@pytest.mark.trust
def test_the_paragraph_names_the_screen_that_chose_the_variants(study: StudyFolder, tmp_path: Path) -> None:
    rows = [{"name": name, "seeds": 1, "difference": 0.0, "rounds": 0} for name in ("carafe", "a", "b", "c")]
    plan = {"rounds": [1], "confirm": 6}
    write_json(study.path / SCREENED, seal({"format": 1, "rows": rows, "plan": plan, "runs": 3.0, "full": 40}))
    try:
        export(study.spec, tmp_path)
        export(study.spec, tmp_path / "zh", lang="zh")
    finally:
        (study.path / SCREENED).unlink()
    assert "The variants are what a screen of 4 left, with other seeds" in (tmp_path / "methods.txt").read_text("utf-8")
    assert "4 个候选经筛选" in (tmp_path / "zh" / "methods.txt").read_text("utf-8")


@pytest.mark.trust
def test_a_table_says_which_latencies_are_in_doubt(study: StudyFolder) -> None:
    found = analyse(study)
    assert "settled" not in arms_table(found, Words("en")).caption
    arms = [dataclasses.replace(arm, cost=dataclasses.replace(arm.cost, steady=False)) for arm in found.arms[:1]]
    found = dataclasses.replace(found, arms=(*arms, *found.arms[1:]))
    assert (
        f"AP from 0 to 100. These latencies had not settled when they were taken, and say little: {arms[0].name}."
        in (arms_table(found, Words("en")).caption)
    )
    assert "还没有稳定下来" in arms_table(found, Words("zh")).caption


def test_citations_come_from_the_catalogue(study: StudyFolder) -> None:
    text = bibliography(study.spec)
    assert text.count("@inproceedings{") == 2
    assert "CARAFE" in text
    assert "ConvNeXt V2" in text
    assert "year = {20" in text


def test_latex_prints_any_name_as_it_is() -> None:
    assert latex_text(r"a_b & 50% {x} \~^#$") == (
        r"a\_b \& 50\% \{x\} \textbackslash{}\textasciitilde{}\textasciicircum{}\#\$"
    )
    text = latex(Table("t", ("arm", "AP"), (("a_b", 1.234), ("c", None)), (0, 2)))
    assert "a\\_b & 1.23 \\\\" in text
    assert "c & -- \\\\" in text
    assert text.count("rule\n") == 3
    assert latex_text('<b> | "') == r"\textless{}b\textgreater{} \textbar{} \textquotedbl{}"


PAPER = r"""\documentclass{CLASS}
\usepackage{booktabs,graphicx,url}
\begin{document}
\title{A}
Tables \ref{tab:arms} and \ref{tab:differences}.
\input{methods.tex}
\nocite{*}
\input{arms.tex}
\input{differences.tex}
\bibliographystyle{plain}
\bibliography{citations}
\end{document}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lang", "engine", "kind"), [("en", "pdflatex", "article"), ("zh", "xelatex", "ctexart")], ids=["en", "zh"]
)
def test_latex_compiles_tables_paragraph_and_citations(
    study: StudyFolder, tmp_path: Path, lang: str, engine: str, kind: str
) -> None:
    for program in (engine, "bibtex"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: texlive-latex-recommended, texlive-lang-chinese)")
    export(study.spec, tmp_path, lang=lang)
    (tmp_path / "methods.tex").write_text(latex_text((tmp_path / "methods.txt").read_text("utf-8")), "utf-8")
    (tmp_path / "all.tex").write_text(PAPER.replace("CLASS", kind), "utf-8")
    for command in ([engine, "-interaction=nonstopmode", "-halt-on-error", "all"], ["bibtex", "all"], [engine, "all"]):
        last = [*command[:1], "-interaction=nonstopmode", *command[1:]] if command == [engine, "all"] else command
        done = subprocess.run(last, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "all.log").read_text("utf-8", errors="replace")
    assert "LaTeX Warning: There were undefined references" not in log
    assert "Missing character" not in log, "a letter that the font does not have would be missing without a word"
    wide = [float(found) for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\) in paragraph", log)]
    assert max(wide, default=0) < 50, "a table is wider than the text"
    assert (tmp_path / "all.pdf").read_bytes().startswith(b"%PDF")
