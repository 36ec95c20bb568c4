"""A study for a thesis or a paper: tables (LaTeX, CSV, xlsx), figures (SVG, PDF), a methods paragraph, citations.

Every number comes from the one :class:`Analysis` that the report shows; ``verdicts.json`` holds the same ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from detgraft.base.extras import require
from detgraft.base.files import csv_text, write_atomic
from detgraft.catalog.registry import catalogue
from detgraft.errors import ArgumentError, MissingExtraError, PlanError, nearest
from detgraft.plan.expression import is_expression, parse_expression
from detgraft.study.design.spec import StudySpec
from detgraft.study.judge.analysis import Analysis, analyse
from detgraft.study.judge.statistics import Verdict
from detgraft.study.report.report import shown_figures
from detgraft.study.run.store import StudyFolder

LANGUAGES = ("en", "zh")
MARK = "\ufeff"
"""Byte order mark: with it spreadsheet programs read a CSV as UTF-8."""
Cell = str | float | int | None

_ZH = {
    "arm": "模型",
    "seeds": "种子数",
    "sd": "标准差",
    "parameters (M)": "参数量（M）",
    "GFLOPs": "GFLOPs",
    "latency (ms)": "延迟（ms）",
    "variant": "变体",
    "difference": "差值",
    "95 % low": "95 % 下限",
    "95 % high": "95 % 上限",
    "p (Holm)": "p（Holm 校正）",
    "verdict": "结论",
    "helps": "有效",
    "hurts": "有害",
    "no measurable difference": "无可测差异",
    "cannot tell (too few seeds)": "无法判断（种子过少）",
    "points": "百分点",
    "AP_small": "AP（小）",
    "AP_medium": "AP（中）",
    "AP_large": "AP（大）",
}


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        name: Of its files.
        head: Names of the columns.
        rows: Its rows; numbers are kept as numbers.
        digits: Decimal places of each column where it holds numbers.
    """

    name: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: tuple[int, ...]


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
    if lang not in LANGUAGES:
        raise ArgumentError(f"lang: expected {' or '.join(LANGUAGES)}, found {lang!r}.{nearest(str(lang), LANGUAGES)}")
    found = analyse(folder)
    tables = [translated(table, lang) for table in (arms_table(found), differences_table(found))]
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
    for name, content in figures(found).items():
        write(name, content)
    write("methods.txt", methods(found, folder.spec, lang) + "\n")
    write("citations.bib", bibliography(folder.spec))
    return Exported(out, tuple(files), left_out)


def arms_table(found: Analysis) -> Table:
    """Every arm: the deciding figure with its deviation, the other figures, and the price; AP from 0 to 100."""
    names = shown_figures(found)
    head = ("arm", "seeds", found.primary, "sd", *names, "parameters (M)", "GFLOPs", "latency (ms)")
    rows = []
    for arm in found.arms:
        others = (_percent(arm.figures.get(name)) for name in names)
        cost = (arm.cost.params / 1e6, arm.cost.gflops, arm.cost.latency_ms)
        rows.append((arm.name, len(arm.seeds), _percent(arm.primary.mean), _percent(arm.sd), *others, *cost))
    return Table("arms", head, tuple(rows), (0, 0, 2, 2, *(2 for _ in names), 3, 2, 2))


def differences_table(found: Analysis) -> Table:
    """Every variant against the base, in points."""
    head = ("variant", "difference", "95 % low", "95 % high", "p (Holm)", "seeds", "verdict")
    rows = []
    for item in found.judged:
        c = item.comparison
        ends = (_percent(c.difference), _percent(c.low), _percent(c.high))
        rows.append((c.variant, *ends, c.p_holm, c.pairs, c.verdict.value))
    return Table("differences", head, tuple(rows), (0, 2, 2, 2, 4, 0, 0))


def _percent(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else 100 * value


def translated(table: Table, lang: str) -> Table:
    """A table with its head, and the verdicts in it, in a language."""
    if lang == "en":
        return table
    head = tuple(_ZH.get(name, name) for name in table.head)
    rows = tuple((row[0], *(_ZH.get(v, v) if isinstance(v, str) else v for v in row[1:])) for row in table.rows)
    return Table(table.name, head, rows, table.digits)


def shown(value: Cell, digits: int) -> str:
    """A value as a table prints it; a dash where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def latex_text(text: str) -> str:
    """A text that LaTeX prints as it is."""
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    return "".join(words.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def latex(table: Table) -> str:
    """A table for the package booktabs; Chinese needs ctex."""
    columns = "l" + "r" * (len(table.head) - 1)
    if isinstance(table.rows[0][-1] if table.rows else None, str):
        columns = columns[:-1] + "l"
    lines = [" & ".join(map(latex_text, table.head))]
    lines += [" & ".join(latex_text(shown(v, d)) for v, d in zip(row, table.digits, strict=True)) for row in table.rows]
    body = " \\\\\n".join(lines[1:])
    return (
        "% \\usepackage{booktabs}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{lines[0]} \\\\\n\\midrule\n{body} \\\\\n\\bottomrule\n"
        "\\end{tabular}\n"
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


def figures(found: Analysis) -> dict[str, bytes]:
    """The differences with their intervals, and accuracy against parameters, as SVG and PDF."""
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
    axes.set_xlabel(f"{_plain(found.primary)} - {_plain(found.base.name)} (points)")
    keep("differences", figure)
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot()
    for arm in found.arms:
        form = {"base": "s", "control": "D"}.get(arm.role, "o")
        axes.plot([arm.cost.params / 1e6], [100 * arm.primary.mean], form, label=_plain(arm.name))
    axes.set_xlabel("parameters (M)")
    axes.set_ylabel(f"{_plain(found.primary)} ({found.split})")
    axes.legend(fontsize="small")
    keep("accuracy", figure)
    return result


def _plain(text: str) -> str:
    """A text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def methods(found: Analysis, spec: StudySpec, lang: str = "en") -> str:
    """A paragraph for the methods section: design, seeds, figure, test, versions."""
    names = ", ".join(item.comparison.variant for item in found.judged)
    seeds = len(spec.seeds)
    versions = sorted({(k, v) for run in found.results for k, v in run.versions.items()})
    used = ", ".join(f"{k} {v}" for k, v in versions)
    machine = ", ".join(sorted({str(run.hardware.get("device")) for run in found.results}))
    epochs, imgsz, batch = (spec.train[key] for key in ("epochs", "imgsz", "batch"))
    looks = ", ".join(map(str, found.looks))
    said = {verdict: sum(i.comparison.verdict is verdict for i in found.judged) for verdict in Verdict}
    if lang == "zh":
        design = f"采用序贯设计，在 {looks} 个种子后检验，" if found.looks else ""
        return (
            f"以 {found.base.name} 为基线，比较了 {names}。每个模型以相同的数据、"
            f"训练参数和初始权重（{spec.init}）训练，"
            f"共 {epochs} 个 epoch，输入 {imgsz} 像素，批量 {batch}，最多 {seeds} 个随机种子，按种子配对。{design}"
            f"评价指标为 {found.split} 划分上 {found.images} 张图像的 {found.primary}；"
            f"每次训练的最佳 epoch 在 val 上选取。"
            f"差异以配对 t 检验判断，方差不等时提高 p 值，"
            f"并对各变体作 Holm 校正（总体错误率 {100 * found.alpha:g} %）；"
            f"不超过 {100 * found.margin:g} 个百分点的差异视为无差异。结论：有效 {said[Verdict.HELPS]} 个，"
            f"有害 {said[Verdict.HURTS]} 个，无可测差异 {said[Verdict.SAME]} 个，无法判断 {said[Verdict.UNKNOWN]} 个。"
            f"设备：{machine}；软件：{used}。"
        )
    design = f" The design was group-sequential with looks after {looks} seeds." if found.looks else ""
    extended = " The study was extended after results had been seen." if found.extended else ""
    return (
        f"{names} were compared with the base {found.base.name}. All models were trained on the same data with the same"
        f" arguments and kind of initial weights ({spec.init}) for {epochs} epochs at {imgsz} pixels with batch"
        f" {batch}, with up to {seeds} random seeds, paired by seed.{design}{extended} The figure that decides is"
        f" {found.primary} on the {found.images} pictures of the {found.split} split; the best epoch of each run was"
        f" chosen on val. Differences were judged by paired t tests, with p values raised where two models scatter"
        f" unlike each other and Holm-adjusted over the variants (family-wise error rate {100 * found.alpha:g} %);"
        f" differences of up to {100 * found.margin:g} points count as none. Of the variants {said[Verdict.HELPS]}"
        f" helped, {said[Verdict.HURTS]} hurt, {said[Verdict.SAME]} made no measurable difference, and for"
        f" {said[Verdict.UNKNOWN]} the study cannot tell."
        f" Device: {machine}; software: {used}."
    )


def grafts_of(spec: StudySpec) -> list[str]:
    """Names of the catalogue's grafts that the arms of a study use, in expressions and in YAML files."""
    found: dict[str, None] = {}
    for arm in spec.arms:
        names: list[str] = []
        path = Path(spec.resolve(arm.model))
        if is_expression(arm.model):
            try:
                names = [graft.name for graft in parse_expression(arm.model).grafts]
            except PlanError:
                names = []
        elif path.suffix in (".yaml", ".yml") and path.is_file():
            raw = yaml.safe_load(path.read_text("utf-8"))
            rows = (
                [row for key in ("backbone", "head") for row in (raw.get(key) or [])] if isinstance(raw, dict) else []
            )
            names = [str(row[2]) for row in rows if isinstance(row, list) and len(row) > 2]
        for name in names:
            entry = catalogue.find(name)
            if entry is not None:
                found[entry.name] = None
    return list(found)


def bibliography(spec: StudySpec) -> str:
    """BibTeX of every graft in the study, from the catalogue; what it does not know is left out, not made up."""
    entries: list[str] = []
    for name in grafts_of(spec):
        entry = catalogue.find(name)
        paper = entry.provenance.paper if entry is not None else ""
        if entry is None or not paper:
            entries.append(f"% {name}: the catalogue names no paper; it came from {entry.origin if entry else '?'}.")
            continue
        entries.append(_bibtex(name, paper, entry.provenance.source))
    return "\n\n".join(entries) + "\n"


def _bibtex(name: str, paper: str, source: str) -> str:
    """One entry; the catalogue holds title, venue and year in this order."""
    title, _, venue = paper.rpartition(", ")
    match = re.fullmatch(r"(.*?)\s*((?:19|20)\d\d)", venue) if title else None
    fields: Mapping[str, str] = (
        {"title": f"{{{title}}}", "howpublished": match[1], "year": match[2]} if match else {"title": f"{{{paper}}}"}
    )
    fields = {**fields, **({"url": source} if source else {})}
    key = re.sub(r"[^A-Za-z0-9]+", "", name) + (match[2] if match else "")
    escaped = {k: v if k == "url" else re.sub(r"(?<!\\)([&%$#_])", r"\\\1", v) for k, v in fields.items()}
    lines = ",\n".join(f"  {k} = {{{v}}}" for k, v in escaped.items() if v)
    return f"@misc{{{key},\n{lines}\n}}"
