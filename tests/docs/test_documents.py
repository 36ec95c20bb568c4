"""The documents say the same in both languages, name what exists, and their commands are what the program takes."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import detgraft

sys.path.insert(0, str(Path(__file__).parent))
from documents import CHINESE, DOCS, ROOT, blocks, chinese, commands, every_page, figures, headings, pages, twins

sys.path.insert(0, str(ROOT / "scripts"))
import make_chinese
import site_hooks

if not (ROOT / "mkdocs.yml").is_file():
    pytest.skip("installed without its documents", allow_module_level=True)

READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
EVERY = [*READMES, ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = [
    pytest.param(words, "plugins=" in text, id=f"{path.relative_to(ROOT)}: {' '.join(words)}"[:90])
    for path in [*READMES, *pages(), *(chinese(page) for page in pages() if chinese(page).is_file())]
    for block in blocks(path)
    if block.language in ("bash", "console", "sh")
    for text in [path.read_text("utf-8")]
    for words in commands(block.text)
]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_navigation_names_pages_that_exist() -> None:
    """The site's hook leaves out what is not there, so that nobody would notice."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert [page for page in site_hooks.listed(nav) if not (DOCS / page).is_file()] == []


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    listed = [page for page in site_hooks.listed(site_hooks.complete(nav)) if not page.startswith("results/")]
    assert sorted(listed) == site_hooks.pages()


def test_every_title_has_a_translation() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    titles = {title for section in site["nav"] for title in section}
    titles |= {
        title for section in site["nav"] for page in next(iter(section.values())) for title in page if ".md" not in page
    }
    i18n = next(plugin["i18n"] for plugin in site["plugins"] if isinstance(plugin, dict) and "i18n" in plugin)
    assert titles <= i18n["languages"][1]["nav_translations"].keys()


def test_links_out_of_the_documents_lead_to_the_source_tree() -> None:
    text = site_hooks.out_of_docs("[a](../examples/own_block.py) [b](../study.md)", "results/index.md")
    assert text == "[a](../examples/own_block.py) [b](../study.md)"
    text = site_hooks.out_of_docs("[a](../examples/own_block.py#x)", "study.md")
    assert text == f"[a]({site_hooks.SOURCE}examples/own_block.py#x)"


def test_links_between_chinese_files_stay_in_the_language_of_the_site() -> None:
    text = site_hooks.in_one_language("[a](study.zh.md) [b](../results/index.zh.md#x) [c](https://host/a.zh.md)")
    assert text == "[a](study.md) [b](../results/index.md#x) [c](https://host/a.zh.md)"


@pytest.mark.parametrize("page", list(DOCS.rglob(f"*{CHINESE}")), ids=name)
def test_a_chinese_page_has_its_english_one(page: Path) -> None:
    assert page.with_name(page.name.replace(CHINESE, ".md")).is_file()


def test_every_page_is_written_in_both_languages() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    listed = [DOCS / page for page in site_hooks.listed(site_hooks.complete(nav))]
    assert [name(page) for page in listed if page not in every_page()] == []
    assert [name(page) for page in every_page() if not chinese(page).is_file()] == []


def test_the_chinese_forms_of_generated_pages_are_up_to_date() -> None:
    """`python scripts/make_chinese.py` writes them, after any script that writes an English page."""
    assert [name(path) for path, text in make_chinese.pages().items() if path.read_text("utf-8") != text] == []


def test_a_frame_that_does_not_fit_its_page_is_named() -> None:
    english = "# A\n\n7 of 9\n\n| a | b |\n|---|---|\n| box | x: 1 |\n\n## B\n\nSize: 3\n"
    frame = "# 甲\n\n{1} 个中的 {0} 个\n\n<!-- table 1: 子 | 丑 -->\n\n<!-- section: B -->\n"
    frame += "\n=== words ===\nbox = 框\n~Size = 大小\n"
    made = make_chinese.page(frame, english).partition("-->\n\n")[2]
    assert made == "# 甲\n\n9 个中的 7 个\n\n| 子 | 丑 |\n|---|---|\n| 框 | x: 1 |\n\n大小: 3\n"
    for wrong, words in (
        ("{9}", "number"),
        ("<!-- table 2: 子 -->", "no table 2"),
        ("<!-- table 1: 子 -->", "1 headings for the 2 columns"),
        ("<!-- section: C -->", "no heading 'C'"),
    ):
        with pytest.raises(make_chinese.FrameError, match=words):
            make_chinese.page(wrong, english)


@pytest.mark.parametrize("pair", twins(), ids=lambda pair: name(pair[0]))
def test_both_languages_have_the_same_headings(pair: tuple[Path, Path]) -> None:
    assert headings(pair[0]) == headings(pair[1])


@pytest.mark.parametrize("pair", twins(), ids=lambda pair: name(pair[0]))
def test_both_languages_have_the_same_figures(pair: tuple[Path, Path]) -> None:
    english, other = map(figures, pair)
    assert english - other == other - english == {}


@pytest.mark.parametrize("pair", twins(), ids=lambda pair: name(pair[0]))
def test_both_languages_have_the_same_commands(pair: tuple[Path, Path]) -> None:
    def bare(path: Path) -> list[tuple[str, str]]:
        return [
            (block.language, re.sub(r"\s*#.*", "", block.text)) for block in blocks(path) if block.language != "text"
        ]

    assert bare(pair[0]) == bare(pair[1])


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in targets if not (page.parent / target.partition("#")[0]).exists()] == []


class Parsed(BaseException):
    """The program took the arguments; nothing else is to be done."""


def stop(*_: Any, **__: Any) -> Any:
    raise Parsed


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, which ends where its arguments were accepted."""
    pytest.importorskip("ultralytics")
    main = importlib.import_module("detgraft.cli.main")
    for module in ("run", "show", "check", "demo", "new", "pretrain", "compare"):
        if not (ROOT / "src" / "detgraft" / "cli" / f"{module}.py").is_file():
            continue
        place = importlib.import_module(f"detgraft.cli.{module}")
        for function in ("check_own",) if hasattr(place, "check_own") else ("check_keys",):
            accept = getattr(place, function)

            def checked(*words: Any, accept: Any = accept) -> None:
                accept(*words)
                raise Parsed

            monkeypatch.setattr(place, function, checked)
    run = importlib.import_module("detgraft.cli.run")
    study = importlib.import_module("detgraft.cli.study")
    pretrain = importlib.import_module("detgraft.cli.pretrain")

    def first_step(pairs: dict[str, Any]) -> dict[str, Any]:
        known = {f"pretrain_{key}" for key in pretrain._names()}
        assert {key for key in pairs if key.startswith("pretrain_")} <= known
        return {key: pairs.pop(key) for key in [*pairs] if key.startswith("pretrain")}

    monkeypatch.setattr(run, "pop_first_step", first_step)
    for function in ("_opened", "_screen"):
        monkeypatch.setattr(study, function, stop)
    monkeypatch.setattr(study.api, "init", stop)
    return main


@pytest.mark.parametrize(("words", "own_block"), COMMANDS)
def test_the_program_takes_every_command(words: list[str], own_block: bool, parser: Any) -> None:
    from detgraft.catalog.registry import catalogue
    from detgraft.plan.expression import is_expression, parse_expression

    given = parser.tidy(words, parser._options(), parser.FILES) if hasattr(parser, "tidy") else words
    if words[0] in ("list", "env"):
        parser.app(args=given, standalone_mode=False)
    else:
        with pytest.raises(Parsed):
            parser.app(args=given, standalone_mode=False)
    for word in words[1:]:
        for text in [word, word.partition("=")[2]]:
            if not own_block and is_expression(text) and (text == word or word.startswith("model=")):
                terms = [term.name for term in parse_expression(text).grafts]
                assert [term for term in terms if catalogue.find(term) is None and term not in skeleton()] == []


def skeleton() -> set[str]:
    """Names that are terms of the grammar but no blocks: levels, necks, losses, as far as there are such."""
    text = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "detgraft").rglob("*.py"))
    return set(re.findall(r'"([a-z_0-9]+)"', text))


@pytest.mark.parametrize("path", [*READMES, *pages()], ids=name)
def test_python_in_documents_is_python(path: Path) -> None:
    public = set(detgraft.__all__)
    for block in blocks(path):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module == "detgraft":
                    assert {alias.name for alias in node.names} <= public


@pytest.mark.parametrize("page", [DOCS / "api.md", DOCS / "api.zh.md"], ids=name)
def test_the_reference_has_everything_public_under_its_place(page: Path) -> None:
    named = re.findall(r"^::: (detgraft\.\S+)", page.read_text("utf-8"), re.MULTILINE)
    places = {place.rpartition(".")[2]: place for place in named if place != "detgraft.errors"}
    found = {}
    for short, place in places.items():
        found[short] = getattr(importlib.import_module(place.rpartition(".")[0]), short, None)
    assert [places[short] for short, value in found.items() if value is None] == []
    assert set(detgraft.__all__) - {"__version__"} - found.keys() == set()


def test_the_errors_that_a_page_explains_exist() -> None:
    source = _messages()
    page = (DOCS / "errors.md").read_text("utf-8").partition("## From Ultralytics")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) > 30
    pieces = [(text, piece.strip()) for text in quoted for piece in text.split("…") if len(piece.strip(" '.:")) > 3]
    assert [text for text, piece in pieces if piece not in source] == []


def _messages() -> str:
    """Every text of the program, its values left out."""
    found = []
    for path in (ROOT / "src" / "detgraft").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


@pytest.mark.parametrize("path", READMES, ids=name)
def test_the_speeds_of_a_readme_are_measured_ones(path: Path) -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
    table = path.read_text("utf-8").partition("| work | rival |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) >= 5
    assert [row for row in table if row.rstrip("|").rstrip() not in results] == []
    assert any("**missed**" in row for row in table)


def test_a_page_of_the_site_asks_no_network_for_its_search() -> None:
    page = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
    assert site_hooks.without_network(page, "zh/a.html") == '<script src="../assets/search-on-disk.js"></script>'
    assert (DOCS / "assets" / "search-on-disk.js").is_file()
