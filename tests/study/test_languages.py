"""A report in Chinese: every sentence has its form in the catalogue, and the figures are those of the English one."""

from __future__ import annotations

import ast
import copy
import html
import pickle
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up import finish, finished_study, make_spec

import detgraft.study
from detgraft.errors import ArgumentError
from detgraft.study.api import report
from detgraft.study.design.terms import MEASURED
from detgraft.study.design.words import NOTHING, Said, in_a_row, into, listed, say
from detgraft.study.judge.analysis import AXES
from detgraft.study.judge.evidence import State
from detgraft.study.judge.statistics import Verdict
from detgraft.study.report.chinese import ZH
from detgraft.study.report.report import write_report
from detgraft.study.run.store import StudyFolder

pytest.importorskip("plotly", reason="the extra study is not installed")
ROOM = Path(detgraft.study.__file__).parent
CALLED = re.compile(r"""\bth?\((?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")""")
# Terms that a Chinese report has in Latin letters, too, and names that people gave.
TERMS = {
    *("AP", "AP50", "AP75", "mAP", "mAP50"),
    *("Holm", "IoU", "epoch", "GFLOPs", "torch", "FlopCounterMode", "JavaScript", "GiB", "ms", "git"),
    *("Ultralytics", "detgraft", "python", "val", "test", "scratch", "retry", "cpu", "yolo11s"),
}  # fmt: skip
NAMES = re.compile(
    r"name \\?<b>with\\?</b> marks|timm/.*?: input: pixels of [\d.]+|made up|none"
    r"|picture \d\.jpg|scale: yolo11s|convnextv2_atto|carafe|yolo11n|cell|leaf|^study|study：|AP_(?:small|medium|large)"
)


def forms() -> Iterator[str]:
    """Every English form that a template or the code of the study names."""
    for template in (ROOM / "report" / "templates").glob("*.j2"):
        for single, double in CALLED.findall(template.read_text("utf-8")):
            yield single or double
    for path in (*ROOM.glob("judge/*.py"), *ROOM.glob("report/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "words"):
                texts = [part for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
                yield from (part.value for part in texts if isinstance(part.value, str))
    yield from MEASURED.values()
    yield from AXES.values()
    yield from (one.value for one in (*Verdict, *State))


def places(form: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(form) if name}


def test_the_catalogue_holds_every_form_with_the_same_values() -> None:
    asked = set(forms())
    assert len(asked) > 120
    assert {form for form in asked if form not in ZH} == set()
    for form, own in ZH.items():
        assert places(form) == places(own), form


def test_a_sentence_is_english_until_it_is_asked_for_otherwise() -> None:
    one = say("{name} ({count} runs)", name="points", count=3)
    assert (one, into(one, ZH)) == ("points (3 runs)", "points（3 次训练）"), "a name is never translated"
    both = listed([one, say("points")], ", ")
    assert both == "points (3 runs), points"
    assert into(both, ZH) == "points（3 次训练）、百分点"
    assert in_a_row(NOTHING, NOTHING) == ""
    for twin in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert isinstance(twin, Said)
        assert into(twin, ZH) == into(both, ZH)
    assert into(say("{name} ({count} runs)", name="{x}", count=1), {}) == "{x} (1 runs)", "braces of a name are its own"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return finished_study(tmp_path_factory.mktemp("study"))


def shown(page: str) -> str:
    """What a reader sees of a page, without the study's own file."""
    for tag in ("script", "style", "pre"):
        page = re.sub(rf"<{tag}.*?</{tag}>", " ", page, flags=re.DOTALL)
    labels = " ".join(re.findall(r'data-label="([^"]*)"', page))
    page = page.replace("<wbr>", "")  # a place where a word may be broken
    return html.unescape(re.sub(r"<[^>]*>", " ", page)) + html.unescape(labels)


def english(text: str) -> set[str]:
    """Words of two letters and more that are no term."""
    text = re.sub(r"\b[0-9a-f]{12,64}\b|\d\d-\d\dT\d\d:", "", NAMES.sub(" ", html.unescape(text).replace("\\_", "_")))
    return {word for word in re.findall(r"[A-Za-z][A-Za-z0-9]+", text) if word not in TERMS}


def numbers(text: str) -> list[str]:
    return sorted(re.findall(r"(?<![\d.])[-+]?\d+\.\d+", text))


def test_a_chinese_report_says_it_in_chinese_with_the_same_figures(study: StudyFolder, tmp_path: Path) -> None:
    pages = {lang: write_report(study, tmp_path / lang, lang=lang) for lang in ("en", "zh")}
    for name in ("html", "markdown"):
        zh, en = (getattr(pages[lang], name).read_text("utf-8") for lang in ("zh", "en"))
        if name == "html":
            assert '<html lang="zh">' in zh
            zh, en = shown(zh), shown(en)
        assert english(zh) == set()
        assert numbers(zh) == numbers(en)
        for words in ("涨点", "无可测差异", "无法判断", "置信区间", "种子", "代价更大"):
            assert words in zh
    for name in ("csv", "json"):
        assert getattr(pages["zh"], name).read_text("utf-8") == getattr(pages["en"], name).read_text("utf-8")


@pytest.mark.parametrize(
    ("design", "word"),
    [("factors: [carafe, convnextv2_atto]\nseeds: 4", "消融实验"), ("variants: [carafe]\nstop: sequential", "序贯")],
)
def test_a_chinese_report_of_the_other_designs(design: str, word: str, tmp_path: Path) -> None:
    train = "train: {epochs: 4, imgsz: 64, batch: 4}"
    text = f"data: data.yaml\nbase: yolo11n\n{design}\ncontrols: none\n{train}\nout: out\n"
    folder = StudyFolder(make_spec(tmp_path, text))
    folder.open()
    for cell in folder.cells():
        if cell.seed < 4:
            shift = 0.05 * ("carafe" in cell.arm.name) + 0.0002 * cell.seed * (1 + len(cell.arm.name) % 3)
            finish(folder, cell, 0.4 + 0.001 * cell.seed + shift)
    made = report(folder.spec, tmp_path / "page", lang="zh")
    for said in (shown(made.html.read_text("utf-8")), made.markdown.read_text("utf-8")):
        assert english(said) == set()
        assert word in said


def test_another_language_is_refused_before_anything_is_written(study: StudyFolder, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="lang: expected en or zh, found 'cn'"):
        report(study.spec, tmp_path / "page", lang="cn")
    assert not (tmp_path / "page").exists()
