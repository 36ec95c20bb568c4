"""A study for a thesis or a paper: tables (LaTeX, CSV, xlsx), figures (SVG, PDF), a methods paragraph, citations.

Every number comes from the one :class:`Analysis` that the report shows; ``verdicts.json`` holds the same ones.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from detgraft.base.extras import require
from detgraft.base.files import csv_text, write_atomic
from detgraft.catalog import papers
from detgraft.catalog.losses import Loss, losses
from detgraft.catalog.registry import TIMM_PREFIX, catalogue
from detgraft.catalog.spec import Graft
from detgraft.errors import MissingExtraError, PlanError
from detgraft.plan.expression import GraftTerm, is_expression, parse_expression, parse_term
from detgraft.study.design.spec import StudySpec
from detgraft.study.judge.analysis import Analysis, analyse
from detgraft.study.judge.statistics import Comparison, Verdict
from detgraft.study.report.languages import Words
from detgraft.study.report.report import doubtful_latencies, screen_of, shown_figures
from detgraft.study.run.store import StudyFolder

MARK = "\ufeff"
"""Byte order mark: with it spreadsheet programs read a CSV as UTF-8."""
Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        name: Of its files.
        head: Names of the columns.
        rows: Its rows; numbers are kept as numbers.
        digits: Decimal places of each column where it holds numbers.
        caption: What it shows.
    """

    name: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: tuple[int, ...]
    caption: str = ""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: Where.
        files: The files.
        left_out: What could not be written for lack of a package, and how to install it; empty otherwise.
    """

    folder: Path
    files: tuple[Path, ...]
    left_out: str = ""


def export_study(folder: StudyFolder, out: Path, lang: str = "en") -> Exported:
    """Write a study's tables, figures, methods paragraph and citations.

    Args:
        folder: The study's folder.
        out: Folder to write into.
        lang: ``en`` or ``zh``.

    Raises:
        ArgumentError: Another language.
        StudyError: Nothing can be compared yet.
    """
    words = Words(lang)
    found = analyse(folder)
    tables = [arms_table(found, words), differences_table(found, words)]
    if found.effects:
        tables.append(effects_table(found, words))
    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []

    def write(name: str, content: str | bytes) -> None:
        write_atomic(out / name, content)
        files.append(out / name)

    for table in tables:
        write(f"{table.name}.csv", MARK + csv_text([list(table.head), *map(list, table.rows)]))
        write(f"{table.name}.tex", latex(table))
    left_out = ""
    try:
        write("study.xlsx", workbook(tables))
    except MissingExtraError as error:
        left_out = f"study.xlsx is left out: {error}"
    for name, content in figures(found, words).items():
        write(name, content)
    write("methods.txt", methods(found, folder, words) + "\n")
    write("citations.bib", bibliography(folder.spec))
    return Exported(out, tuple(files), left_out)


def arms_table(found: Analysis, words: Words) -> Table:
    """Every arm: the deciding figure with its deviation, the other figures, and the price; AP from 0 to 100."""
    names = shown_figures(found)
    head = ["arm", "seeds", found.primary, "sd", *names, "parameters (M)"]
    costs = [
        name for name in ("gflops", "latency_ms") if any(getattr(arm.cost, name) is not None for arm in found.arms)
    ]
    head += [{"gflops": "GFLOPs", "latency_ms": "latency (ms)"}[name] for name in costs]
    rows = []
    for arm in found.arms:
        others = (_percent(arm.figures.get(name)) for name in names)
        cost = (arm.cost.params / 1e6, *(getattr(arm.cost, name) for name in costs))
        rows.append((arm.name, len(arm.seeds), _percent(arm.primary.mean), _percent(arm.sd), *others, *cost))
    caption = words(
        "{figure} on {split} ({images} pictures): mean over seeds, its standard deviation, and the price of every"
        " model; AP from 0 to 100.",
        figure=found.primary,
        split=found.split,
        images=found.images,
    )
    if "latency_ms" in costs:
        caption = words(" ").join(filter(None, (caption, words.into(doubtful_latencies(found)).strip())))
    digits = (0, 0, 2, 2, *(2 for _ in names), 3, *(2 for _ in costs))
    return Table("arms", tuple(map(words, head)), tuple(rows), digits, caption)


def differences_table(found: Analysis, words: Words) -> Table:
    """Every variant against the base, in points."""
    return _compared(found, "differences", "variant", [item.comparison for item in found.judged], words)


def effects_table(found: Analysis, words: Words) -> Table:
    """Every effect and interaction of a factorial study, in points."""
    return _compared(found, "effects", "effect", found.effects, words)


def _compared(found: Analysis, name: str, first: str, rows: Sequence[Comparison], words: Words) -> Table:
    head = (first, "difference", "95 % low", "95 % high", "p (Holm)", "seeds", "verdict")
    cells = tuple(
        (
            c.variant,
            _percent(c.difference),
            _percent(c.low),
            _percent(c.high),
            c.p_holm,
            c.pairs,
            words(c.verdict.value),
        )
        for c in rows
    )
    caption = words(
        "Differences to {base} on {split} in points of {figure}, with 95 % intervals over seeds.",
        base=found.base.name,
        split=found.split,
        figure=found.primary,
    )
    return Table(name, tuple(map(words, head)), cells, (0, 2, 2, 2, 4, 0, 0), caption)


def _percent(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else 100 * value


def shown(value: Cell, digits: int) -> str:
    """A value as a table prints it; a dash where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.{digits}f}"


_WORDS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # In LaTeX's oldest font encoding, still the default, these letters print as others.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
}
_QUOTE = "\\providecommand{\\textquotedbl}{''}\n"


def latex_text(text: str) -> str:
    """A text that LaTeX prints as it is."""
    return "".join(_WORDS.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def latex(table: Table) -> str:
    """A table with its caption, never wider than the text; needs booktabs and graphicx, Chinese ctex, too."""
    columns = "l" + "r" * (len(table.head) - 1)
    if isinstance(table.rows[0][-1] if table.rows else None, str):
        columns = columns[:-1] + "l"
    lines = [" & ".join(map(latex_text, table.head))]
    lines += [" & ".join(latex_text(shown(v, d)) for v, d in zip(row, table.digits, strict=True)) for row in table.rows]
    body = " \\\\\n".join(lines[1:])
    return (
        "% \\usepackage{booktabs,graphicx}\n"
        + (_QUOTE if "textquotedbl" in "".join(lines) + latex_text(table.caption) else "")
        + "\\begin{table}[tbp]\n\\centering\n"
        f"\\caption{{{latex_text(table.caption)}}}\n\\label{{tab:{table.name}}}\n"
        f"\\sbox0{{%\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{lines[0]} \\\\\n\\midrule\n{body} \\\\\n\\bottomrule\n"
        "\\end{tabular}}%\n"
        "\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\usebox0}\\else\\usebox0\\fi\n"
        "\\end{table}\n"
    )


def workbook(tables: Sequence[Table]) -> bytes:
    """The tables as sheets of one workbook, with numbers as numbers.

    Raises:
        MissingExtraError: openpyxl is not installed.
    """
    book = require("openpyxl").Workbook()
    book.remove(book.active)
    for table in tables:
        sheet = book.create_sheet(table.name)
        sheet.append(list(table.head))
        for row in table.rows:
            sheet.append([None if value is None else value for value in row])
            for cell, digits in zip(sheet[sheet.max_row], table.digits, strict=True):
                if isinstance(cell.value, str):
                    cell.data_type = "s"  # a name that begins with = is no formula
                elif cell.value is not None:
                    cell.number_format = "0" if not digits else f"0.{'0' * digits}"
    raw = BytesIO()
    book.save(raw)
    return raw.getvalue()


_CJK = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "Heiti SC", "SimHei",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "FandolHei",
)  # fmt: skip


def figures(found: Analysis, words: Words) -> dict[str, bytes]:
    """The differences with their intervals, and accuracy against parameters, as SVG and PDF.

    Chinese labels need a font that has the letters; on a machine without one they stay English.
    """
    import matplotlib
    from matplotlib import font_manager

    fonts = ["DejaVu Sans"]
    if words.lang == "zh":
        known = {font.name for font in font_manager.fontManager.ttflist}
        own = [name for name in _CJK if name in known]
        words, fonts = (words, [*fonts, *own]) if own else (Words("en"), fonts)
    with matplotlib.rc_context({"font.family": fonts}):
        return _figures(found, words)


def _figures(found: Analysis, words: Words) -> dict[str, bytes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    result: dict[str, bytes] = {}

    def keep(name: str, figure: Any) -> None:
        FigureCanvasAgg(figure)
        for ending in ("svg", "pdf"):
            raw = BytesIO()
            figure.savefig(raw, format=ending, bbox_inches="tight", metadata={"Date": None} if ending == "svg" else {})
            result[f"{name}.{ending}"] = raw.getvalue()

    rows = [item.comparison for item in reversed(found.judged)]
    figure = Figure(figsize=(6, 1 + 0.4 * len(rows)))
    axes = figure.add_subplot()
    axes.axvspan(-100 * found.margin, 100 * found.margin, color="0.92")
    axes.axvline(0, color="0.2", linewidth=1)
    for place, row in enumerate(rows):
        if math.isfinite(row.low):
            axes.plot([100 * row.low, 100 * row.high], [place, place], color="#0072B2", linewidth=2)
        axes.plot([100 * row.difference], [place], "o", color="#0072B2")
    axes.set_yticks(range(len(rows)), [_plain(row.variant) for row in rows])
    axes.set_xlabel(
        _plain(words("{figure}: difference to {base} (points)", figure=found.primary, base=found.base.name))
    )
    keep("differences", figure)
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot()
    for arm in found.arms:
        form = {"base": "s", "control": "D"}.get(arm.role, "o")
        axes.plot([arm.cost.params / 1e6], [100 * arm.primary.mean], form, label=_plain(arm.name))
    axes.set_xlabel(words("parameters (M)"))
    axes.set_ylabel(f"{_plain(found.primary)} ({found.split})")
    axes.legend(fontsize="small")
    keep("accuracy", figure)
    return result


def _plain(text: str) -> str:
    """A text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def methods(found: Analysis, folder: StudyFolder, words: Words) -> str:
    """A paragraph for the methods section: design, seeds, figure, test, versions."""
    spec, screen = folder.spec, screen_of(found, folder)
    versions = sorted({(k, v) for run in found.results for k, v in run.versions.items()})
    said = {verdict: sum(i.comparison.verdict is verdict for i in found.judged) for verdict in Verdict}
    parts = [
        words(
            "The base {base} was compared with {names}. All models were trained on the same data with the same"
            " arguments and kind of initial weights ({init}) for {epochs} epochs at {imgsz} pixels with batch {batch},"
            " with up to {seeds} random seeds, paired by seed.",
            names=", ".join(item.comparison.variant for item in found.judged),
            base=found.base.name,
            init=spec.init,
            seeds=len(spec.seeds),
            **{key: spec.train[key] for key in ("epochs", "imgsz", "batch")},
        )
    ]
    if screen is not None:
        parts.append(
            words(
                "The variants are what a screen of {count} left, with other seeds; nothing of it enters the verdicts.",
                count=len(screen["rows"]),
            )
        )
    if spec.factors is not None:
        whole = spec.factors.order == len(spec.factors.names)
        form = "All combinations of {names} were trained." if whole else "{names} were trained alone and in pairs."
        parts.append(words(form, names=", ".join(spec.factors.names)))
        parts.append(words("Effects and interactions were Holm-adjusted over all {count}.", count=len(found.effects)))
    if found.looks:
        looks = ", ".join(map(str, found.looks))
        parts.append(words("The design was group-sequential with looks after {looks} seeds.", looks=looks))
    if found.extended:
        parts.append(words("The study was extended after results had been seen."))
    parts += [
        words(
            "The figure that decides is {figure} on the {images} pictures of the {split} split; the best epoch of each"
            " run was chosen on val. Differences were judged by paired t tests, with p values raised where two models"
            " scatter unlike each other and Holm-adjusted over the variants (family-wise error rate {alpha} %);"
            " differences of up to {margin} points count as none.",
            figure=found.primary,
            images=found.images,
            split=found.split,
            alpha=f"{100 * found.alpha:g}",
            margin=f"{100 * found.margin:g}",
        ),
        words(
            "Of the variants {helps} helped, {hurts} hurt, {same} made no measurable difference, and for {unknown} the"
            " study cannot tell.",
            helps=said[Verdict.HELPS],
            hurts=said[Verdict.HURTS],
            same=said[Verdict.SAME],
            unknown=said[Verdict.UNKNOWN],
        ),
        *_reservations(found, words),
        words(
            "Device: {machine}; software: {software}.",
            machine=", ".join(sorted({str(run.hardware.get("device")) for run in found.results})),
            software=", ".join(f"{k} {v}" for k, v in versions),
        ),
    ]
    return words(" ").join(parts)


def _reservations(found: Analysis, words: Words) -> list[str]:
    """What a reader of the paragraph must know before believing the verdicts."""
    here = [item.comparison.variant for item in found.judged if item.only_here]
    resumed = sum(len(arm.resumed) for arm in found.arms)
    sentences = []
    if here:
        sentences.append(
            words(
                "For {names} the verdict holds for these pictures only: the interval over seeds and pictures includes"
                " 0.",
                names=", ".join(here),
            )
        )
    if resumed:
        sentences.append(words("{count} run(s) were interrupted and resumed.", count=resumed))
    return sentences


def grafts_of(spec: StudySpec) -> dict[str, Graft | Loss]:
    """The catalogue's grafts and losses that the arms of a study use, by name: in expressions and in YAML files.

    A block inside a stock shell counts, and so does what a row's name or a named neck is made of.
    """
    found: dict[str, Graft | Loss] = {}
    for arm in spec.arms:
        path = Path(spec.resolve(arm.model))
        terms: list[GraftTerm] = []
        if is_expression(arm.model):
            with contextlib.suppress(PlanError):
                terms = list(parse_expression(arm.model).grafts)
        elif path.suffix in (".yaml", ".yml") and path.is_file():
            raw = yaml.safe_load(path.read_text("utf-8"))
            terms = _terms_of(raw) if isinstance(raw, dict) else []
        while terms:
            term = terms.pop(0)
            if term.inner is not None:
                terms.insert(0, term.inner)
            entry = losses.find(term.name) or catalogue.find(term.name)
            if entry is not None:
                found[entry.name] = entry
    return found


def _terms_of(raw: Mapping[str, Any]) -> list[GraftTerm]:
    """What the rows and the losses of a model's YAML name, as terms."""
    rows = [row for key in ("backbone", "head") for row in (raw.get(key) or [])]
    given = raw.get("losses") or []
    texts = [str(row[2]) for row in rows if isinstance(row, list) and len(row) > 2]
    terms = []
    for text in [*texts, *([given] if isinstance(given, str) else map(str, given))]:
        with contextlib.suppress(PlanError):
            terms.append(parse_term(text))
    return terms


def bibliography(spec: StudySpec) -> str:
    """BibTeX of every graft and loss in the study, from the catalogue; what it does not know is not made up."""
    entries: dict[str, str] = {}
    for name, entry in grafts_of(spec).items():
        paper = papers.TIMM if name.startswith(TIMM_PREFIX) else papers.find(entry.provenance.paper)
        if paper is papers.TIMM:
            entries[name] = f"% {name}: timm's documentation names the paper of this architecture."
            entries.setdefault(paper.key, paper.bibtex("github.com/huggingface/pytorch-image-models"))
        elif paper is None:
            named = entry.provenance.paper or "the catalogue names no paper"
            entries[name] = f"% {name}: {named}; it came from {entry.provenance.source or entry.origin}."
        else:
            entries.setdefault(paper.key, paper.bibtex(entry.provenance.source))  # many grafts share a paper
    return "\n\n".join(entries.values()) + "\n"
