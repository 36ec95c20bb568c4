"""The public functions of a study: ``run``, ``status``, ``report`` and ``init``."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from detgraft.base.extras import require
from detgraft.base.files import write_atomic
from detgraft.base.provenance import versions
from detgraft.errors import ArgumentError, Location
from detgraft.study.design.errors import StudyChangedError, StudyError
from detgraft.study.design.spec import (
    STUDY_FILE,
    StudySpec,
    is_own_copy,
    read_folder_spec,
    read_spec,
    spec_from_arguments,
)
from detgraft.study.design.template import TEMPLATE
from detgraft.study.judge.analysis import mixed_versions, not_compared, progress
from detgraft.study.judge.evidence import State
from detgraft.study.report.export import Exported, export_study
from detgraft.study.report.report import Report, headline, write_report
from detgraft.study.run.executor import Engine, Event, LocalPool, Pool, describe, local_slots
from detgraft.study.run.inputs import announce, forget_replaced_weights
from detgraft.study.run.pools import RayPool
from detgraft.study.run.preflight import check_arguments, check_space, check_writable, preflight
from detgraft.study.run.remembered import Made, recall, remember
from detgraft.study.run.store import Cell, StudyFolder
from detgraft.study.run.tracking import check_trackers, track

RESUMES = ("continue", "restart")
Study = str | Path | Mapping[str, str] | StudySpec


@dataclass(frozen=True)
class Status:
    """Where a study stands.

    Args:
        name: Name of the study.
        folder: Its folder.
        states: Number of cells in each state.
        failed: Sentence of each failed run by its label.
        damaged: In what the files of a run are not those of that run, by its label; ``retry`` trains it again.
        warnings: What is wrong with the study as a whole.
        cells: Every cell with its state.
        spared: Number of cells without a result that a sequential study does not need; 0 until every variant stopped.
        report: The page that was written at the end of a run; None where nothing could be compared, and for a mere
            question.
        headline: The verdicts in one sentence; empty without a report.
        verdicts: Verdict of each variant with its reason, by its name.
    """

    name: str
    folder: Path
    states: Mapping[str, int]
    failed: Mapping[str, str]
    damaged: Mapping[str, str]
    warnings: tuple[str, ...]
    cells: tuple[tuple[Cell, State], ...]
    spared: int = 0
    report: Path | None = None
    headline: str = ""
    verdicts: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def go_on(self) -> str:
        """The command that takes the study on; for a complete one, the one that writes its report again."""
        again = self.failed or self.damaged
        left = sum(self.states.get(s.value, 0) for s in (State.PENDING, State.RUNNING, State.BROKEN_OFF)) - self.spared
        action = "report" if self.complete else "retry" if again and left <= 0 else "run"
        return f"detgraft study {action} {shlex.quote(os.path.relpath(self.folder))}"

    @property
    def complete(self) -> bool:
        """Whether every cell that the study needs has a result."""
        return sum(state is not State.DONE for _, state in self.cells) == self.spared

    def to_json(self) -> dict[str, object]:
        """The status as plain JSON values."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "complete": self.complete,
            "spared": self.spared,
            "states": dict(self.states),
            "failed": dict(self.failed),
            "damaged": dict(self.damaged),
            "warnings": list(self.warnings),
            "report": None if self.report is None else str(self.report),
            "headline": self.headline,
            "verdicts": {name: verdict for name, (verdict, _) in self.verdicts.items()},
            "go_on": self.go_on,
            "cells": [
                {"arm": c.arm.name, "role": c.arm.role, "seed": c.seed, "state": s.value, **c.progress()}
                for c, s in self.cells
            ],
        }


def open_study(study: Study) -> StudySpec:
    """A checked study from a file, from its own folder, from ``key=value`` arguments, or as it is.

    Args:
        study: Path of a study file or of a study's folder, a mapping of arguments to their texts, or a study.

    Raises:
        StudyError: It is no valid study.
    """
    if isinstance(study, StudySpec):
        return study
    if isinstance(study, Mapping):
        return spec_from_arguments(study)
    path = Path(study)
    if path.is_dir():
        return read_folder_spec(path)
    if path.name == STUDY_FILE and is_own_copy(path):
        return read_folder_spec(path.parent)
    return read_spec(study)


def run(
    study: Study,
    *,
    retry: bool = False,
    resume: str = "continue",
    extend: bool = False,
    conclude: bool = True,
    listen: Callable[[Event], None] | None = None,
    say: Callable[[str], None] = print,
) -> Status:
    """Run what is left of a study; calling it again goes on where it was broken off.

    Args:
        study: See :func:`open_study`.
        retry: Also take up runs that failed before, or whose files are damaged.
        resume: ``continue`` takes broken-off runs up from their last complete epoch (they are marked, because
            Ultralytics does not restore random state); ``restart`` starts them from scratch.
        extend: Accept a study that has more seeds or arms than the one that the results were made with.
        conclude: Write the report at the end, and give the verdicts.
        listen: Called with every event; by default each is put into words for ``say``.
        say: Called with lines for a person.

    Returns:
        Where the study stands afterwards.

    Raises:
        StudyError: The study cannot be carried out; nothing was trained.
        StudyBusyError: Another process runs it.
        StudyChangedError: The results in its folder were made with another study.
        InputsChangedError: They were made with other pictures, labels or weights.
        KeyboardInterrupt: After Ctrl-C, with all children ended and everything up to the last epochs kept.
    """
    spec = open_study(study)
    if resume not in RESUMES:
        raise ArgumentError(f"resume: expected one of {', '.join(RESUMES)}, found {resume!r}.")
    for module in ("faster_coco_eval", "plotly"):  # for the figures, and for the report at the end
        require(module)
    check_trackers(spec.track)
    check_arguments(spec)
    folder = StudyFolder(spec)
    folder.check_unchanged(extend)
    check_writable(folder)
    lock = folder.lock()
    try:
        folder.open(extend)
        slots = local_slots(spec.workers, spec.device)
        forget_replaced_weights(folder)
        # Initial weights are fetched here, once; the runs themselves stay offline.
        preflight(folder, replace(slots[0], online=spec.init != "scratch"), say)
        check_space(folder, len(slots) if spec.executor == "local" else spec.workers or 1)
        announce(folder, say)
        for line in _other_versions(folder):
            say(f"Warning: {line}")
        pool: Pool = LocalPool(slots)
        if spec.executor == "ray":
            pool = RayPool(spec.address, spec.workers, cpu=spec.device == ("cpu",))
        tell = listen or (lambda event: say(describe(event)))
        Engine(folder, pool, tell, lambda cell: _track(folder, cell, say)).run(retry, resume == "restart")
    except KeyboardInterrupt:
        say("Stopped. Everything up to the last complete epoch of each run is kept; run the study again to go on.")
        raise
    finally:
        lock.release()
    found = status(spec)
    return _concluded(spec, found, say) if conclude else found


def _concluded(spec: StudySpec, found: Status, say: Callable[[str], None]) -> Status:
    """The status with what the runs so far allow to say, and the report written."""
    try:
        written = report(spec)
    except StudyError as error:
        say(f"No report yet: {error}")
        return found
    said = {item.comparison.variant: item.comparison for item in written.analysis.judged}
    return replace(
        found,
        report=written.html,
        headline=headline(written.analysis),
        verdicts={name: (one.verdict.value, one.reason) for name, one in said.items()},
    )


def _track(folder: StudyFolder, cell: Cell, say: Callable[[str], None]) -> None:
    """Copy a finished run into the trackers; the result is safe already, so that a tracker's trouble stops nothing."""
    try:
        track(folder, cell)
    except Exception as error:
        say(f"{cell.label}: the result is written, but a tracker failed: {type(error).__name__}: {error}")


def status(study: Study) -> Status:
    """Where a study stands; reads only.

    Args:
        study: See :func:`open_study`.
    """
    spec = open_study(study)
    folder = StudyFolder(spec).for_reading()
    made = recall(folder)
    with folder.held():
        cells = tuple((cell, cell.state()) for cell in folder.cells())
    found = [state for _, state in cells]
    course, place = progress(folder), {seed: at for at, seed in enumerate(spec.seeds)}
    spared = 0
    if course is not None and course.ended:
        spared = sum(s is not State.DONE and not course.needs(c.arm.name, place[c.seed]) for c, s in cells)
    return Status(
        name=spec.name,
        folder=folder.path,
        states={state.value: found.count(state) for state in State},
        failed={cell.label: cell.error() for cell, state in cells if state is State.FAILED},
        damaged={cell.label: cell.damage() for cell, state in cells if state is State.DAMAGED},
        warnings=tuple(_warnings(folder, made, [cell for cell, state in cells if state is State.DONE])),
        cells=cells,
        spared=spared,
    )


def _warnings(folder: StudyFolder, made: Mapping[Path, Made], done: list[Cell]) -> list[str]:
    try:
        folder.check_unchanged()
    except StudyChangedError as error:
        return [str(error)]
    return [*not_compared(folder.absent), *mixed_versions([made.get(cell.folder) or cell.verified() for cell in done])]


def _other_versions(folder: StudyFolder) -> list[str]:
    """What is installed now and was not when the finished runs were made, said before more are trained."""
    lines = []
    finished = [run.result for run in folder.runs() if run.result is not None]
    for name, version in versions().items():
        made = Counter(result.versions.get(name) for result in finished)
        others = {known: n for known, n in made.items() if known != version}
        if others:
            counts = " and ".join(f"{known} ({n} runs)" for known, n in others.items())
            lines.append(f"{name} is {version} now; the finished runs were made with {counts}. The report will warn.")
    return lines


def report(study: Study, to: Path | None = None, claims: Path | None = None, lang: str = "en") -> Report:
    """Write the report of a study from the results that exist so far.

    Args:
        study: See :func:`open_study`.
        to: Folder for ``report.html``, ``report.md``, ``results.csv`` and ``verdicts.json``; ``report`` in the
            study's folder by default.
        claims: Markdown file with what others published on the same data, shown beside the results.
        lang: Language of page and Markdown, ``en`` or ``zh``.

    Raises:
        ArgumentError: Another language.
        StudyError: There is no finished pair of runs to compare, or the results belong to another study.
    """
    folder = StudyFolder(open_study(study)).for_reading()
    folder.check_unchanged()
    written = write_report(folder, to or folder.path / "report", claims, lang)
    remember(folder)
    return written


def export(study: Study, to: Path | None = None, lang: str = "en") -> Exported:
    """Write a study's tables (LaTeX, CSV, xlsx), figures (SVG, PDF), methods paragraph and BibTeX citations.

    Args:
        study: See :func:`open_study`.
        to: Folder to write into; ``export`` in the study's folder by default.
        lang: ``en`` or ``zh``.

    Raises:
        StudyError: There is no finished pair of runs to compare, or the results belong to another study.
    """
    folder = StudyFolder(open_study(study)).for_reading()
    folder.check_unchanged()
    return export_study(folder, to or folder.path / "export", lang)


def init(path: str | Path = "study.yaml", force: bool = False) -> Path:
    """Write a commented study file.

    Args:
        path: Where to.
        force: Overwrite what is there.

    Raises:
        StudyError: The file exists.
    """
    target = Path(path)
    try:
        write_atomic(target, TEMPLATE, new=not force)
    except FileExistsError as error:
        raise StudyError("exists already; choose another name or use force.", Location(str(target))) from error
    except OSError as error:
        raise StudyError(f"cannot be written: {error.strerror or error}.", Location(str(target))) from error
    return target
