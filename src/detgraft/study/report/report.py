"""Writes a study's report: one HTML file that needs no network, Markdown, CSV and JSON.

Every figure of the report comes from one :class:`Analysis`; the templates only lay it out.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
from markdown_it import MarkdownIt

from detgraft.base.files import csv_text, write_atomic, write_json
from detgraft.base.notebook import html_frame
from detgraft.errors import Location
from detgraft.study.design.errors import DamagedError, StudyError
from detgraft.study.design.seal import read_sealed
from detgraft.study.design.terms import MEASURED
from detgraft.study.design.words import NOTHING, Said, in_a_row, listed, say
from detgraft.study.judge.analysis import AXES, BEST, Analysis, ArmSummary, Judged, analyse, figures_of, ultralytics_of
from detgraft.study.judge.evidence import State
from detgraft.study.judge.result import SplitMetrics
from detgraft.study.judge.screening import is_clear
from detgraft.study.judge.statistics import Verdict, points
from detgraft.study.report import boxes
from detgraft.study.report.charts import charts, colour_of, form_of, packed_plotly, shown_classes
from detgraft.study.report.languages import Words
from detgraft.study.report.pictures import MOST, Disagreement, disagreements
from detgraft.study.run.store import SCREENED, Cell, StudyFolder

TEMPLATES = Path(__file__).parent / "templates"
CLASSES = {Verdict.HELPS: "helps", Verdict.HURTS: "hurts", Verdict.SAME: "same", Verdict.UNKNOWN: "unknown"}


@dataclass(frozen=True)
class Report:
    """Where a report was written, and what it says.

    Args:
        html: The self-contained page.
        markdown: The same without charts and pictures.
        csv: One line for each run.
        json: The verdicts, for programs.
        analysis: Everything in it.
    """

    html: Path
    markdown: Path
    csv: Path
    json: Path
    analysis: Analysis

    def _repr_html_(self) -> str:
        """Show the page in a notebook."""
        return html_frame(self.html.read_text("utf-8"))


def write_report(folder: StudyFolder, out: Path, claims: Path | None = None, lang: str = "en") -> Report:
    """Analyse a study and write all forms of its report.

    Args:
        folder: The study's folder.
        out: Folder to write into.
        claims: Markdown file with what others published on the same data.
        lang: Language of page and Markdown, ``en`` or ``zh``; CSV and JSON are for programs and have none.

    Raises:
        ArgumentError: Another language.
        StudyError: Nothing can be compared yet, or ``claims`` cannot be read.
        MissingExtraError: plotly is not installed.
    """
    words = Words(lang)
    found = analyse(folder)
    text = _claims(claims)
    shown = charts(found, words)
    out.mkdir(parents=True, exist_ok=True)
    written = Report(out / "report.html", out / "report.md", out / "results.csv", out / "verdicts.json", found)
    values = _values(found, folder, text, words, shown)
    page = _environment(True, words).get_template("report.html.j2")
    write_atomic(
        written.html,
        page.render(
            **values,
            pictures=_pictures(found, folder),
            charts=json.dumps(shown).replace("<", "\\u003c"),  # no name can end the script or begin a comment
            plotly=packed_plotly(),
        ),
    )
    write_atomic(written.markdown, _environment(False, words).get_template("report.md.j2").render(**values))
    write_atomic(written.csv, _csv(found))
    write_json(written.json, {**verdicts_json(found), "screen": values["screen"]})
    return written


def _claims(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StudyError(f"cannot be read: {error.strerror or error}.", Location(str(path))) from error


def _environment(escape: bool, words: Words) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # HTML escapes what is put into it; Markdown has no such rule, so that names could write headings and links.
        finalize=None if escape else markdown_text,
    )
    environment.filters |= {
        "points": points,
        "percent": percent,
        "number": number,
        "pvalue": p_value,
        "cell": markdown_cell,
        "claims": claims_html,
        "said": words.into,
    }
    environment.globals |= {"t": words, "th": words.marked, "colon": words(": "), "lang": words.lang}
    return environment


def percent(value: float | None, digits: int = 2) -> str:
    """AP from 0 to 1 as a text from 0 to 100; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """A figure with thousands separated; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def p_value(value: float) -> str:
    """A p value as it is usually written."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def markdown_text(value: Any) -> Any:
    """A text that says in Markdown what it says plainly; numbers, and what is marked as safe, stay as they are."""
    if not isinstance(value, str) or isinstance(value, markupsafe.Markup):
        return value
    value = " ".join(value.splitlines()).replace("&", "&amp;").replace("<", "&lt;")
    # An underscore inside a word marks nothing, in front or behind it does; a line may begin with a mark of its own.
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w)|^[#>]|^[-+](?=\s))", r"\\\1", value)


def markdown_cell(text: str) -> str:
    """A text that cannot break out of a Markdown table's cell."""
    return markupsafe.Markup(markdown_text(text))


def claims_html(text: str) -> str:
    """Markdown (CommonMark with tables) as HTML: written HTML stays text, and no picture is fetched."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{max(3, int(token.tag[1]))}"  # the page's own headings stand above
    page = str(reader.renderer.render(tokens, reader.options, {}))
    page = page.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return markupsafe.Markup(re.sub(r"(?<=>)\n(?=<)", "", page).strip())


def _values(
    found: Analysis, folder: StudyFolder, claims: str, words: Words, shown: Mapping[str, Any]
) -> dict[str, Any]:
    """What both templates are given."""
    spec = folder.spec
    finished = found.cells[State.DONE.value]
    planned = sum(found.cells.values()) - found.spared
    screen = screen_of(found, folder)
    own_figure = next(iter(ultralytics_of(found.task)))
    return {
        "found": found,
        "arms": found.arms,
        "base": found.base,
        "css": CLASSES,
        "colours": {arm.name: colour_of(found, arm) for arm in found.arms},
        "signs": {arm.name: form_of(found, arm).sign for arm in found.arms},
        "drawn": set(shown),
        "axes": [axis for axis in AXES if f"pareto-{axis}" in shown],
        "box": boxes,
        "title": words("{study}: does the graft help?", study=found.name) + words.into(judged_by(found)),
        "headline": words.into(headline(found)),
        "opening": words(
            "{finished} of {planned} runs finished, {arms} arms, decided by {figure} on {images} pictures of the"
            " {split} split. {epochs} epochs at {imgsz} pixels, batch {batch}, weights at the start: {init}. AP is"
            " given from 0 to 100, differences in points of it.",
            finished=finished,
            planned=planned,
            arms=len(found.arms),
            figure=found.primary,
            images=found.images,
            split=found.split,
            init=spec.init,
            **{key: spec.train[key] for key in ("epochs", "imgsz", "batch")},
        ),
        "cost_note": words(
            "Latency: one picture, fused, without post-processing, on {device}. GFLOPs are counted by torch's"
            " FlopCounterMode.",
            device=found.base.cost.device,
        ),
        "screen_note": "" if screen is None else _screen_note(screen, words),
        "extended": [_extension(item) for item in found.extended],
        "damaged": [(words.label(label), message) for label, message in found.damaged.items()],
        "failed": [(words.label(label), message) for label, message in found.failed.items()],
        "finished": finished,
        "planned": planned,
        "resumed": [(arm.name, seed) for arm in found.arms for seed in arm.resumed],
        "figures": shown_figures(found),
        "own_figure": own_figure,
        "with_own": any(arm.ultralytics.get(own_figure) is not None for arm in found.arms),
        "loaded": doubtful_latencies(found),
        "classes": shown_classes(found),
        "spec": spec,
        "identity": json.dumps(spec.identity(), indent=1),
        "claims": claims,
        "screen": screen,
        "remarks": [(item.comparison.variant, text) for item in found.judged if (text := remark(item, words))],
        "taken": {arm.name: words.into(arm.taken_over) for arm in found.arms},
        "with_pictures": any(
            math.isfinite(end) for item in found.judged for end in (item.pictures_low, item.joint_low)
        ),
        "costs": _shown_costs(found),
        **_provenance(found),
    }


def screen_of(found: Analysis, folder: StudyFolder) -> dict[str, Any] | None:
    """What the screen before this study saw of each variant, beside the confirmed difference; None without a screen."""
    try:
        raw = read_sealed(folder.path / SCREENED)
    except DamagedError:
        if (folder.path / SCREENED).exists():
            raise
        return None
    confirmed = {item.comparison.variant: item.comparison.difference for item in found.judged}
    rows = [{**row, "confirmed": confirmed.get(row["name"])} for row in raw["rows"]]
    plain = {"rows": rows, "runs": raw["runs"], "full": raw["full"], "rounds": len(raw["plan"]["rounds"])}
    return plain | {"edges": raw.get("edges") or []}  # screens before had none


def _screen_note(screen: Mapping[str, Any], words: Words) -> str:
    """What to think of a screen: luck, cost, and whether chance may have decided its last round."""
    note = words(
        "The best of many is lucky, too: differences in the screen are too large for those that survived it, and"
        " nothing of it enters the verdicts. Screen and confirmation cost {runs} whole runs; a study of all"
        " variants with 10 seeds would have cost {full}.",
        runs=number(screen["runs"], 0),
        full=screen["full"],
    )
    edge = (screen["edges"] or [None])[-1]
    if edge is None or is_clear(edge):
        return note
    doubt = words(
        "In its last round the last variant that went on was {lead} points ahead of the first that did not, and the"
        " standard error of such a difference is {error}: this may have been chance.",
        lead=points(edge[0], False),
        error=points(edge[1], False),
    )
    return words(" ").join((note, doubt))


def headline(found: Analysis) -> Said:
    """The study in one sentence."""
    if not any(run.metrics[found.split].coco.get(found.primary) for run in found.results):
        return say("{figure} is 0 everywhere: nothing was learned.", figure=found.primary)
    groups: dict[Verdict, list[Said]] = {}
    for item in found.judged:
        form = "{variant} (on these pictures only)" if item.only_here else "{variant}"
        groups.setdefault(item.comparison.verdict, []).append(say(form, variant=item.comparison.variant))
    phrases = {
        Verdict.HELPS: "{variants} helps",
        Verdict.HURTS: "{variants} hurts",
        Verdict.SAME: "{variants} makes no measurable difference",
        Verdict.UNKNOWN: "for {variants} this study cannot tell",
    }
    parts = [say(phrases[v], variants=listed(groups[v], ", ")) for v in Verdict if v in groups]
    return say("Compared with {base}: {verdicts}.", base=found.base.name, verdicts=listed(parts, "; "))


def doubtful_latencies(found: Analysis) -> Said:
    """Warning about latencies that were measured under load, or did not settle; empty when there are none.

    Costs that were measured before either was recorded have none.
    """
    return in_a_row(_loaded(found), _unsteady(found))


def _loaded(found: Analysis) -> Said:
    names = [
        say("{arm} ({load} busy)", arm=arm.name, load=f"{arm.cost.load:.0%}") for arm in found.arms if arm.cost.loaded
    ]
    if not names:
        return NOTHING
    return say(
        "Measured while the machine was doing other work, so these latencies are too long: {arms}. Do not compare them"
        " with the others.",
        arms=listed(names, ", "),
    )


def _unsteady(found: Analysis) -> Said:
    names = [say("{variant}", variant=arm.name) for arm in found.arms if arm.cost.unsettled]
    if not names:
        return NOTHING
    return say(
        " These latencies had not settled when they were taken, and say little: {arms}.",
        arms=listed(names, ", "),
    )


def _extension(item: Mapping[str, Any]) -> Said:
    """How and when a study was extended."""
    lines = []
    for line in item["changes"]:
        parts = re.fullmatch(r"(.+?): was (.+), is (.+)", line)
        known = say("{key}: was {before}, is {after}", key=parts[1], before=parts[2], after=parts[3]) if parts else None
        lines.append(known or say("{line}", line=line))
    return say(
        "The study was extended on {time}, after results had been seen: {changes}.",
        time=item["time"],
        changes=listed(lines, "; "),
    )


def shown_figures(found: Analysis) -> list[str]:
    """The figures that at least one arm has, the deciding one left out."""
    names = (*figures_of(found.task), *BEST)
    return [k for k in names if k != found.primary and any(arm.figures.get(k) is not None for arm in found.arms)]


def _shown_costs(found: Analysis) -> set[str]:
    """The columns of cost, and of weights taken over, that are not empty everywhere."""
    shown = {
        k for k in ("gflops", "latency_ms", "memory_mib") for arm in found.arms if getattr(arm.cost, k) is not None
    }
    return shown | ({"taken"} if any(arm.taken_over != "nothing" for arm in found.arms) else set())


def remark(item: Judged, words: Words | None = None) -> str:
    """What there is to say of a variant beyond its row of the table; empty where there is nothing.

    Args:
        item: The variant.
        words: The language; English by default.
    """
    words = words or Words("en")
    found = item.comparison
    parts = list(found.reason.parts) if isinstance(found.reason, Said) else [say("{reason}", reason=found.reason)]
    if found.reason.startswith(f"{points(found.difference)} points over"):  # the row says so much
        parts = parts[1:]
    text = words.into(in_a_row(*parts)).lstrip(",;.，；。 ")
    only = words.into(item.only_here)
    scale = words("Instead of the graft: {comparison}", comparison=item.scale) if item.scale else ""
    return words(" ").join(part for part in (text[:1].upper() + text[1:], only, scale) if part)


def judged_by(found: Analysis) -> Said:
    """What decided, where it is not boxes: a bracket for the title, or an empty text."""
    if found.task != "detect":
        return say(" (judged by {measure})", measure=say(MEASURED[found.task]))
    # Results of earlier versions were judged by boxes whatever their task.
    figures = {key for run in found.results for metrics in run.metrics.values() for key in metrics.ultralytics}
    for mark, more in (("(M)", "masks"), ("(P)", "key points")):
        if any(key.endswith(mark) for key in figures):
            return say(" (judged by boxes; {more} were not measured)", more=say(more))
    return NOTHING


def _provenance(found: Analysis) -> dict[str, Any]:
    """Versions, machines and commits, with the number of runs for each when they are not the same everywhere."""

    def distinct(values: list[Any]) -> list[tuple[dict[str, Any], int]]:
        texts = [json.dumps(value, sort_keys=True) for value in values]
        return [(json.loads(text), texts.count(text)) for text in dict.fromkeys(texts)]

    return {
        "versions": distinct([dict(run.versions) for run in found.results]),
        "machines": distinct([dict(run.hardware) for run in found.results]),
        "commits": distinct([dict(run.git) for run in found.results if run.git]),
        "first": min(run.started for run in found.results),
        "last": max(run.finished for run in found.results),
        "hours": sum(run.seconds for run in found.results) / 3600,
    }


def _pictures(found: Analysis, folder: StudyFolder) -> list[tuple[str, list[Disagreement]]]:
    cells = {(cell.arm.name, cell.seed): cell for cell in folder.cells()}
    by_name: dict[str, ArmSummary] = {arm.name: arm for arm in found.arms}
    count = max(1, min(3, MOST // max(len(found.judged), 1)))
    result = []
    for item in found.judged[:MOST]:
        name = item.comparison.variant
        seeds = [seed for seed in found.base.seeds if seed in by_name[name].seeds]
        arms: list[list[Cell]] = [[cells[arm, seed] for seed in seeds] for arm in (found.base.name, name)]
        if all((cell.folder / f"detections_{found.split}.npz").is_file() for arm in arms for cell in arm):
            result.append((name, disagreements(arms[0], arms[1], found.split, count)))
    return result


def _csv(found: Analysis) -> str:
    """One line for each run."""
    splits = sorted({split for run in found.results for split in run.metrics})
    head = ["arm", "role", "model", "seed", "epochs", "best_epoch", "seconds", "resumed", "transferred", "params"]
    names = (*figures_of(found.task), *BEST, "threshold")
    head += ["gflops", "latency_ms", *(f"{split}_{figure}" for split in splits for figure in names)]
    rows: list[list[Any]] = [[*head, "config"]]
    for run in sorted(found.results, key=lambda run: (run.role, run.arm, run.seed)):
        row: list[Any] = [run.arm, run.role, run.model, run.seed, run.epochs, run.best_epoch, round(run.seconds, 1)]
        row += [run.resumed, run.transferred, run.cost.params, run.cost.gflops, run.cost.latency_ms]
        row += [value for split in splits for value in _figures(run.metrics[split], names)]
        rows.append([*row, run.config])
    return csv_text(rows)


def _figures(metrics: SplitMetrics, names: Sequence[str]) -> list[float | None]:
    return [metrics.coco[name] if name in metrics.coco else metrics.best.get(name) for name in names]


def verdicts_json(found: Analysis) -> dict[str, Any]:
    """The verdicts as plain JSON values."""
    return {
        "study": found.name,
        "digest": found.digest,
        "split": found.split,
        "primary": found.primary,
        "task": found.task,
        "margin": found.margin,
        "alpha": found.alpha,
        "effects": [{**dataclasses.asdict(effect), "verdict": effect.verdict.value} for effect in found.effects],
        "looks": list(found.looks),
        "spared": found.spared,
        "cells": dict(found.cells),
        "extended": [dict(item) for item in found.extended],
        "arms": [dataclasses.asdict(arm) for arm in found.arms],
        "verdicts": [
            {
                **dataclasses.asdict(item.comparison),
                "verdict": item.comparison.verdict.value,
                "pictures_low": item.pictures_low,
                "pictures_high": item.pictures_high,
                "joint_low": item.joint_low,
                "joint_high": item.joint_high,
                "only_here": item.only_here,
                "scale": item.scale,
                "per_class": {name: dataclasses.asdict(value) for name, value in item.per_class.items()},
            }
            for item in found.judged
        ],
    }
