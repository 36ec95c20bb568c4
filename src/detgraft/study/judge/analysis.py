"""From the results of a study to what may be said about it; the report only writes this down."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detgraft.errors import Location
from detgraft.measure.price import Cost
from detgraft.study.design.errors import StudyError
from detgraft.study.design.spec import StudySpec
from detgraft.study.design.terms import deciding
from detgraft.study.design.words import NOTHING, Said, listed, say
from detgraft.study.judge.evidence import Evidence, Run, State
from detgraft.study.judge.factorial import effects
from detgraft.study.judge.joint import bootstrap_interval, joint_interval, only_for_these_pictures
from detgraft.study.judge.result import Result
from detgraft.study.judge.sequential import Progress, compare_sequentially, follow
from detgraft.study.judge.statistics import Comparison, compare, paired_t, points

FIGURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
BEST = ("P", "R", "F1")
_MARKS = {"segment": "M", "pose": "P"}


def figures_of(task: str) -> tuple[str, ...]:
    """Names of the figures that a task has."""
    return ("top1", "top5") if task == "classify" else FIGURES


def ultralytics_of(task: str) -> dict[str, str]:
    """Ultralytics' own figures of a task: its key by the name that people know, the one of the curves first."""
    if task == "classify":
        return {"top-1": "metrics/accuracy_top1", "top-5": "metrics/accuracy_top5"}
    mark = _MARKS.get(task, "B")
    return {"mAP50-95": f"metrics/mAP50-95({mark})", "mAP50": f"metrics/mAP50({mark})"}


AXES = {"latency_ms": "latency", "params": "parameters", "gflops": "GFLOPs"}


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95 % t interval; the ends are NaN with fewer than two seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ArmSummary:
    """One arm over its finished seeds.

    Args:
        name: Its name.
        role: ``base``, ``variant`` or ``control``.
        model: What was trained.
        seeds: Finished seeds.
        primary: The deciding figure.
        sd: Its standard deviation over seeds.
        figures: Mean of every figure on the deciding split, None where there is nothing to measure it on; ``P``, ``R``
            and ``F1`` are those at the score that is best for F1.
        ultralytics: Mean of Ultralytics' own figures on it.
        cost: What the arm costs.
        transferred: Share of tensors from the initial checkpoint, None from scratch.
        resumed: Seeds whose run was broken off and resumed.
        hours: Training time of all its runs.
        best_epoch: Mean of the best epochs.
        own_weights: A row of it loads weights of its own.
    """

    name: str
    role: str
    model: str
    seeds: tuple[int, ...]
    primary: Interval
    sd: float
    figures: Mapping[str, float | None]
    ultralytics: Mapping[str, float | None]
    cost: Cost
    transferred: float | None
    resumed: tuple[int, ...]
    hours: float
    best_epoch: float
    own_weights: bool = False

    @property
    def taken_over(self) -> Said:
        """What the arm started with, for a table."""
        own = say("its weights=") if self.own_weights else NOTHING
        if self.transferred is None:
            return own or say("nothing")
        share = say("{percent} %", percent=f"{100 * self.transferred:.0f}")
        return listed([share, own], ", ") if own else share


@dataclass(frozen=True)
class Judged:
    """One variant with everything said about it.

    Args:
        comparison: Against the base, by seeds.
        pictures_low: Lower end of the 95 % interval of the difference under resampled pictures.
        pictures_high: Upper end of it.
        joint_low: Lower end of the 95 % interval of the difference over seeds and pictures together.
        joint_high: Upper end of it.
        only_here: Sentence that the difference holds for these pictures only; empty where it does not apply.
        scale: Sentence that sets it beside the larger stock scale; empty without that control.
        per_class: Difference by class name with its interval.
    """

    comparison: Comparison
    pictures_low: float
    pictures_high: float
    joint_low: float
    joint_high: float
    only_here: str
    scale: str
    per_class: Mapping[str, Interval]


@dataclass(frozen=True)
class Analysis:
    """A whole study.

    Args:
        name: Name of the study.
        split: Deciding split.
        primary: Deciding figure.
        task: What the arms are for.
        margin: Differences up to this size count as none.
        alpha: Family-wise error rate.
        images: Number of pictures of the deciding split.
        arms: Every arm that has results.
        judged: Every variant that has a pair with the base.
        control: The larger stock scale against the base, None without it.
        curves: Learning curves (Ultralytics' own figure on val) by arm: rows of (epoch, lowest, mean, highest).
        results: Every result.
        cells: Number of cells in each state.
        failed: Sentence of each failed run.
        damaged: In what the files of a run are not those of that run; it is not judged.
        warnings: What to know before believing the verdicts, shown on top of the report.
        extended: How the study was extended after results were seen.
        digest: SHA-256 of the study.
        effects: Effects and interactions of a factorial study, over the seeds that all its arms finished.
        looks: Numbers of seeds after which a sequential study looks; empty where it runs all its seeds.
        spared: Number of runs that a sequential study did not need; 0 until every variant has stopped.
    """

    name: str
    split: str
    primary: str
    margin: float
    alpha: float
    images: int
    arms: tuple[ArmSummary, ...]
    judged: tuple[Judged, ...]
    control: Comparison | None
    curves: Mapping[str, tuple[tuple[int, float, float, float], ...]]
    results: tuple[Result, ...]
    cells: Mapping[str, int]
    failed: Mapping[str, str]
    damaged: Mapping[str, str]
    warnings: tuple[str, ...]
    extended: tuple[Mapping[str, Any], ...]
    digest: str
    effects: tuple[Comparison, ...] = ()
    looks: tuple[int, ...] = ()
    spared: int = 0
    task: str = "detect"

    @property
    def base(self) -> ArmSummary:
        """The base."""
        return next(arm for arm in self.arms if arm.role == "base")


def analyse(study: Evidence) -> Analysis:
    """Analyse what a study has finished so far.

    Args:
        study: The study and its runs.

    Raises:
        StudyError: Base and variants share no finished seed, or runs were measured on different pictures.
    """
    spec = study.spec
    runs = list(study.runs())
    done = [run for run in runs if run.state is State.DONE]
    results = [run.result for run in done if run.result is not None]
    damaged = {run.label: run.message for run in runs if run.state is State.DAMAGED}
    if damaged and not results:
        lines = "".join(f"\n  {label}: {message}" for label, message in list(damaged.items())[:3])
        raise StudyError(
            f"no run can be judged; {len(damaged)} are damaged and can be trained again with retry:{lines}",
            Location(str(study.path)),
        )
    split = _deciding_split(spec.metrics.split, results, study.path)
    by_arm: dict[str, dict[int, Result]] = {arm.name: {} for arm in spec.arms}
    for run in done:
        if run.result is not None:
            by_arm[run.arm.name][run.seed] = run.result
    task = results[0].metrics[split].task
    primary = deciding(spec.metrics.primary, task)
    values = {name: _values(runs, split, primary) for name, runs in by_arm.items()}
    base_name = spec.base.name
    base = values[base_name]
    variants = {arm.name: values[arm.name] for arm in spec.variants}
    if not any(set(base) & set(runs) for runs in variants.values()):
        raise StudyError("base and variants have no finished seed in common yet.", Location(str(study.path)))
    decides = spec.metrics
    against = partial(compare, margin=decides.margin, alpha=decides.alpha, figure=primary)
    found = against(base, variants)
    course = progress(study)
    spared = 0
    if course is not None:
        found = compare_sequentially(base, variants, spec.seeds, spec.looks, decides.margin, decides.alpha, primary)
        place = {seed: at for at, seed in enumerate(spec.seeds)}
        unneeded = [
            run for run in runs if run.state is not State.DONE and not course.needs(run.arm.name, place[run.seed])
        ]
        spared = len(unneeded) if course.ended else 0
    control = spec.controls[0].name if spec.controls and values[spec.controls[0].name] else None
    summaries = [
        replace(
            _summary(arm.name, arm.role, arm.model, by_arm[arm.name], values[arm.name], split),
            own_weights=study.own_weights(arm),
        )
        for arm in spec.arms
        if values[arm.name]
    ]
    by_name = {arm.name: arm for arm in summaries}
    by_place = {(run.arm.name, run.seed): run for run in done}
    runs_of: dict[str, list[Run]] = {arm.name: [] for arm in spec.arms}
    for run in done:
        runs_of[run.arm.name].append(run)
    states = Counter(run.state for run in runs)
    judged = [
        _judge(item, against, base_name, by_place, by_arm, values, split, by_name, control)
        for item in found
        if item.pairs
    ]
    return Analysis(
        name=spec.name,
        split=split,
        primary=primary,
        task=task,
        margin=spec.metrics.margin,
        alpha=spec.metrics.alpha,
        images=results[0].metrics[split].images,
        arms=tuple(summaries),
        judged=tuple(judged),
        control=against(base, {control: values[control]})[0] if control else None,
        curves={arm.name: _curve(runs_of[arm.name], task) for arm in spec.arms if by_arm[arm.name]},
        results=tuple(results),
        cells={state.value: states[state] for state in State},
        failed={run.label: run.message for run in runs if run.state is State.FAILED},
        damaged=damaged,
        warnings=(*not_compared(study.absent), *mixed_versions(results)),
        extended=tuple(study.extended()),
        digest=spec.digest(),
        effects=tuple(_effects(spec, values, primary)),
        looks=spec.looks,
        spared=spared,
    )


def _effects(spec: StudySpec, values: Mapping[str, Mapping[int, float]], primary: str) -> list[Comparison]:
    """Effects and interactions of a factorial study; none of any other, nor before all arms share a seed."""
    if spec.factors is None:
        return []
    arms = {frozenset[str](): values[spec.base.name]}
    arms |= {chosen: values[name] for name, chosen in spec.factors.arms().items()}
    if not set.intersection(*(set(runs) for runs in arms.values())):
        return []
    decides = spec.metrics
    return effects(arms, spec.factors.names, spec.factors.order, decides.margin, decides.alpha, primary)


def figures_by_arm(study: Evidence) -> dict[str, dict[int, float]]:
    """The deciding figure of every finished run by arm and seed.

    Raises:
        StudyError: Runs were measured on different pictures.
    """
    spec = study.spec
    results = [run.result for run in study.runs() if run.result is not None]
    figures: dict[str, dict[int, float]] = {arm.name: {} for arm in spec.arms}
    if results:
        split = _deciding_split(spec.metrics.split, results, study.path)
        for result in results:
            primary = deciding(spec.metrics.primary, result.metrics[split].task)
            figures[result.arm] |= _values({result.seed: result}, split, primary)
    return figures


def progress(study: Evidence) -> Progress | None:
    """Where a sequential study stands; None for one that runs all its seeds.

    Raises:
        StudyError: Runs were measured on different pictures.
    """
    spec = study.spec
    if not spec.looks:
        return None
    figures = figures_by_arm(study)
    variants = {arm.name: figures[arm.name] for arm in spec.variants}
    return follow(figures[spec.base.name], variants, spec.seeds, spec.looks, spec.metrics.margin, spec.metrics.alpha)


class Made(Protocol):
    """How a run was made; a result says it."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of packages by their names."""

    @property
    def hardware(self) -> Mapping[str, Any]:
        """The machine."""

    @property
    def format(self) -> int:
        """Of the result's file."""


def not_compared(absent: Sequence[str]) -> list[str]:
    """A sentence on files of a study that are not here, where its results are only read.

    Args:
        absent: Their names as written.
    """
    if not absent:
        return []
    names = listed([say("{variant}", variant=name) for name in absent], ", ")
    return [say("Not on this machine, so not compared with what the runs were made from: {files}.", files=names)]


def mixed_versions(results: Iterable[Made]) -> list[str]:
    """A sentence for each way in which the runs were not made alike: other packages, other devices, older files.

    Args:
        results: The results that are judged together.
    """
    runs = list(results)
    lines: list[str] = []
    parts = []
    for package in sorted({name for run in runs for name in run.versions}):
        counts = Counter(run.versions.get(package, "none") for run in runs)
        if len(counts) > 1:
            parts.append(say("{package} {counts}", package=package, counts=_counted(counts)))
    if parts:
        lines.append(
            say(
                "The runs were made with different versions: {versions}. A difference between arms may be one between"
                " versions.",
                versions=listed(parts, "; "),
            )
        )
    devices = Counter(str(run.hardware.get("device")) for run in runs)
    if len(devices) > 1:
        lines.append(
            say(
                "The runs were made on different devices: {devices}; latencies and rounding differ between them.",
                devices=_counted(devices),
            )
        )
    earlier = sum(run.format == 1 for run in runs)
    if earlier:
        lines.append(
            say(
                "{earlier} of {all} results were written by an earlier version of detgraft and carry no checksum; their"
                " files fit together, but a change in them may stay unseen.",
                earlier=earlier,
                all=len(runs),
            )
        )
    return lines


def _counted(counts: Mapping[str, int]) -> Said:
    """Names with the number of runs of each."""
    return listed([say("{name} ({count} runs)", name=name, count=n) for name, n in counts.items()], " and ")


def _deciding_split(wanted: str, results: Iterable[Result], where: Path) -> str:
    """The split that decides, after checking that every run was measured on the same pictures of it."""
    runs = list(results)
    if not runs:
        raise StudyError("no run has finished yet.", Location(str(where)))
    split = wanted if wanted != "auto" else ("test" if all("test" in run.metrics for run in runs) else "val")
    if any(split not in run.metrics for run in runs):
        raise StudyError(f"the data has no split {split!r}.", Location(str(where)))
    tasks = sorted({run.metrics[split].task for run in runs})
    if len(tasks) > 1:
        raise StudyError(
            f"runs were judged as {' and '.join(tasks)}, some of them by an earlier version; they cannot be compared.",
            Location(str(where)),
        )
    truths = {run.metrics[split].truth for run in runs}
    if len(truths) > 1:
        raise StudyError(
            f"the pictures or labels of {split!r} changed while the study ran ({len(truths)} versions among"
            f" {len(runs)} runs), so the runs cannot be compared.",
            Location(str(where)),
        )
    return split


def _values(runs: Mapping[int, Result], split: str, figure: str) -> dict[int, float]:
    """The figure by seed, leaving out runs in which there was nothing to measure."""
    found = {seed: run.metrics[split].coco.get(figure) for seed, run in runs.items()}
    return {seed: float(value) for seed, value in found.items() if value is not None}


def interval(values: Iterable[float], least: float = 0.0) -> Interval:
    """Mean and 95 % t interval; with few seeds it would reach further than any mean can.

    Args:
        values: Figures from 0 to 1, or differences of such.
        least: Least value that one can have: 0, or -1 for differences; the largest is 1.
    """
    test = paired_t(np.array(list(values), dtype=np.float64))
    low, high = np.clip((test.low, test.high), least, 1.0)
    return Interval(float(test.mean), float(low), float(high))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _summary(
    name: str, role: str, model: str, runs: Mapping[int, Result], values: Mapping[int, float], split: str
) -> ArmSummary:
    seeds = tuple(sorted(values))
    metrics = [runs[seed].metrics[split] for seed in seeds]
    task = metrics[0].task
    figures = {key: _mean(m.coco.get(key) for m in metrics) for key in figures_of(task)}
    return ArmSummary(
        name=name,
        role=role,
        model=model,
        seeds=seeds,
        primary=interval(values.values()),
        sd=float(np.std(list(values.values()), ddof=1)) if len(seeds) > 1 else math.nan,
        figures=figures | {key: _mean(m.best.get(key) for m in metrics) for key in BEST},
        ultralytics={key: _mean(m.ultralytics.get(at) for m in metrics) for key, at in ultralytics_of(task).items()},
        cost=runs[seeds[0]].cost,
        transferred=_mean(runs[seed].transferred for seed in seeds),
        resumed=tuple(seed for seed in seeds if runs[seed].resumed),
        hours=sum(runs[seed].seconds for seed in seeds) / 3600,
        best_epoch=float(np.mean([runs[seed].best_epoch for seed in seeds])),
    )


def _judge(
    found: Comparison,
    against: Callable[..., list[Comparison]],
    base: str,
    done: Mapping[tuple[str, int], Run],
    by_arm: Mapping[str, Mapping[int, Result]],
    values: Mapping[str, Mapping[int, float]],
    split: str,
    arms: Mapping[str, ArmSummary],
    control: str | None,
) -> Judged:
    seeds = sorted(set(values[base]) & set(values[found.variant]))
    draws = {name: [done[name, seed].draws(split) for seed in seeds] for name in (base, found.variant)}
    complete = all(array is not None for arrays in draws.values() for array in arrays)
    low = high = joint_low = joint_high = math.nan
    if complete:
        low, high = bootstrap_interval(draws[base], draws[found.variant])
        differences = [values[found.variant][seed] - values[base][seed] for seed in seeds]
        pictures = by_arm[base][seeds[0]].metrics[split].images
        ends = joint_interval(differences, draws[base], draws[found.variant], pictures)
        joint_low, joint_high = float(ends[0]), float(ends[1])
    only_here = only_for_these_pictures((found.low, found.high), (joint_low, joint_high))
    classes = by_arm[base][seeds[0]].metrics[split].per_class
    per_class = {}
    for name in classes:
        pairs = [[by_arm[arm][s].metrics[split].per_class.get(name) for arm in (found.variant, base)] for s in seeds]
        differences = [after - before for after, before in pairs if after is not None and before is not None]
        if differences:
            per_class[name] = interval(differences, least=-1.0)
    scale = ""
    if control is not None and set(values[control]) & set(values[found.variant]):
        beside = against(values[found.variant], {control: values[control]})[0]
        scale = against_scale(beside, arms[found.variant].cost, arms[control].cost)
    return Judged(found, low, high, joint_low, joint_high, only_here, scale, per_class)


def against_scale(scale: Comparison, variant: Cost, control: Cost) -> str:
    """Say whether the larger stock scale does better than a variant, and for less or for more.

    Args:
        scale: The scale (as variant) against the graft (as base).
        variant: Cost of the graft.
        control: Cost of the larger scale.
    """
    forms = {
        True: "{name} does better ({difference} points, {low} to {high})",
        False: "{name} does worse ({difference} points, {low} to {high})",
        None: "{name} is not clearly better or worse ({difference} points, {low} to {high})",
    }
    better = say(
        forms[True if scale.low > 0 else False if scale.high < 0 else None],
        name=scale.variant.removeprefix("scale: "),
        difference=points(scale.difference),
        low=points(scale.low),
        high=points(scale.high),
    )
    ratios = {}
    for key, word in AXES.items():
        before, after = getattr(variant, key), getattr(control, key)
        if before and after:
            ratios[word] = after / before
    if not ratios:
        return say("{better}.", better=better)
    if all(ratio <= 1 for ratio in ratios.values()):
        form = "{better}, for less: {ratios}."
    elif all(ratio >= 1 for ratio in ratios.values()):
        form = "{better}, for more: {ratios}."
    else:
        form = "{better}, at another price: {ratios}."
    each = [say("{cost} x{ratio}", cost=say(word), ratio=f"{ratio:.2f}") for word, ratio in ratios.items()]
    return say(form, better=better, ratios=listed(each, ", "))


def _curve(runs: list[Run], task: str) -> tuple[tuple[int, float, float, float], ...]:
    """Lowest, mean and highest of Ultralytics' own figure on val over the seeds, for every epoch that a run reached."""
    key = next(iter(ultralytics_of(task).values()))
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for row in run.curve():
            value = row.get(key)
            if value is not None:
                by_epoch.setdefault(int(row["epoch"]) + 1, []).append(float(value))
    return tuple((epoch, min(v), float(np.mean(v)), max(v)) for epoch, v in sorted(by_epoch.items()))
