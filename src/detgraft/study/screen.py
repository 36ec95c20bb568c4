"""``detgraft study screen``: many variants in small rounds, then the survivors against the base on fresh seeds.

Each round, and the confirmation, is a study of its own in ``OUT/round_N`` and ``OUT/confirm``, with everything that a
study has: verified results, resume, Ray. What a screen is going to do stands in ``OUT/screen.json`` before its first
run.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detgraft.base.files import read_json, write_json
from detgraft.base.located import Located
from detgraft.catalog.registry import catalogue
from detgraft.errors import ArgumentError, Location
from detgraft.study.api import Status, Study, open_study, run
from detgraft.study.design.errors import DamagedError, StudyChangedError, StudyError
from detgraft.study.design.seal import read_sealed, seal
from detgraft.study.design.spec import SCREEN_FILE, StudySpec, build_spec, digest_of, relative
from detgraft.study.design.terms import Arm
from detgraft.study.judge.analysis import figures_by_arm
from detgraft.study.judge.screening import CONFIRM, Plan, boundary, is_clear, leading, plan_of
from detgraft.study.judge.statistics import points
from detgraft.study.run.preflight import check_arguments
from detgraft.study.run.store import SCREENED, StudyFolder

FORMAT = 1
CONFIRMATION = "confirm"
ALL = "@all"
"""``variants=@all``: every graft of the catalogue that builds on the base."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Screened:
    """Where a screen stands.

    Args:
        folder: Its folder.
        plan: The rounds and what they cost.
        left: Variants that were left after each finished round.
        dropped: Why a graft of ``@all`` takes no part, by its name.
        status: Of the round that is not finished, or of the confirmation.
        confirming: Whether the confirmation was reached.
    """

    folder: Path
    plan: Plan
    left: tuple[tuple[str, ...], ...]
    dropped: Mapping[str, str]
    status: Status
    confirming: bool

    @property
    def complete(self) -> bool:
        """Whether the survivors are confirmed."""
        return self.confirming and self.status.complete


def variants_of(text: str, folder: Path) -> list[str]:
    """The variants that a word of the command line stands for.

    Args:
        text: ``@all``, a text file with one graft a line (``#`` begins a comment), a pattern for model YAMLs such as
            ``models/*.yaml``, or names between commas.
        folder: Where files are looked for.

    Raises:
        StudyError: Nothing is found.
    """
    if text == ALL:
        return sorted({entry.name.lower() for entry in catalogue})
    path = folder / text
    if text.endswith(".txt") or (path.is_file() and path.suffix not in (".yaml", ".yml")):
        try:
            lines = [line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise StudyError(f"cannot be read: {error}.", Location(str(path))) from error
        found = [line for line in lines if line]
    elif any(mark in text for mark in "*?["):
        found = sorted(str(one.relative_to(folder)) for one in folder.glob(text))
    else:
        return [text]
    if not found:
        raise StudyError(f"variants: nothing is found under {text!r}.")
    return found


def screen(
    study: Study,
    *,
    budget: float | None = None,
    keep: int | None = None,
    short: int | None = None,
    retry: bool = False,
    resume: str = "continue",
    say: Say = print,
) -> Screened:
    """Screen many variants in rounds, then confirm the survivors; calling it again goes on where it was broken off.

    Args:
        study: As for :func:`detgraft.study.api.run`, or the folder of a screen. Its seeds are the ones that decide.
        budget: Most whole runs that everything may cost; see :func:`detgraft.study.judge.screening.plan_of`.
        keep: Number of variants that are confirmed; one in thirteen, at least two, by default.
        short: Epochs of a run of the screen; as many as of the confirmation by default.
        retry: Also take up runs that failed before, or whose files are damaged.
        resume: As for :func:`detgraft.study.api.run`.
        say: Called with lines for a person.

    Raises:
        ArgumentError: The budget is too small, or there is nothing to screen.
        StudyError: The screen cannot be carried out.
        StudyChangedError: The folder holds a screen of something else.
    """
    asked: dict[str, Any] = {"budget": budget, "keep": keep, "short": short}
    if isinstance(study, (str, Path)) and (Path(study) / SCREEN_FILE).is_file():
        if any(value is not None for value in asked.values()):
            raise ArgumentError("a screen's folder says what is screened; budget=, keep= and short= are fixed there")
        spec, asked, every = _reopened(Path(study))
    else:
        spec, every = _opened(study)
    _check(spec, asked)
    check_arguments(spec)
    out = spec.out.resolve()
    held = _held(out, spec, asked)
    dropped = dict(held.get("dropped", {}))
    spec = _without(spec, dropped)
    plan = _plan(spec, asked)
    _write(out, spec, asked, every, dropped, held.get("left", []))
    say(
        f"Screen: {len(spec.variants)} variants in {len(plan.rounds)} round(s), then {plan.rounds[-1].keep} against the"
        f" base on {plan.confirm} fresh seeds: {plan.runs:.0f} whole runs, of {plan.full} that all with 10 seeds cost."
    )
    if plan.runs >= plan.full:
        say(
            "Note: that is no cheaper than a study of all of them with 10 seeds (detgraft study run). Keep fewer"
            " (keep=), screen with shorter runs (short=), or confirm with fewer seeds (seeds=)."
        )
    fresh = set(spec.seeds)
    unseen = (seed for seed in itertools.count() if seed not in fresh)
    alive = list(spec.variants)
    left: list[list[str]] = []
    figures: dict[str, list[float]] = {}
    edges: list[tuple[float, float] | None] = []
    for number, one in enumerate(plan.rounds):
        seeds = [next(unseen) for _ in range(one.seeds)]
        part = _part(spec, alive, seeds, out / f"round_{number + 1}", int(asked["short"] or spec.train["epochs"]), ())
        try:
            status = run(part, retry=retry, resume=resume, say=say, conclude=False)
        except StudyError:
            broken = _unbuilt(part) if every and number == 0 and not held.get("left") else {}
            if not broken or spec.base.name in broken:
                raise
            for name, reason in broken.items():
                say(f"Left out of {ALL}: {name}: {reason}")
            dropped |= broken
            _write(out, spec, asked, every, dropped, [])
            return screen(out, retry=retry, resume=resume, say=say)
        if not status.complete:
            return Screened(out, plan, tuple(map(tuple, left)), dropped, status, False)
        for name, values in figures_by_arm(StudyFolder(part)).items():
            figures.setdefault(name, []).extend(values.values())
        for arm in alive:
            if len(figures.get(arm.name, ())) != sum(other.seeds for other in plan.rounds[: number + 1]):
                raise StudyError(
                    f"{arm.name}: there was nothing to measure in one of its runs, so that it has no rank."
                )
        edges.append(boundary([figures[arm.name] for arm in alive], one.keep))
        means = [float(np.mean(figures[arm.name])) for arm in alive]
        alive = [arm for arm, on in zip(alive, leading(means, np.ones(len(alive), bool), one.keep), strict=True) if on]
        left.append([arm.name for arm in alive])
        _write(out, spec, asked, every, dropped, _agreed(held.get("left", []), left, out))
        say(f"Round {number + 1}: {', '.join(left[-1])} go on.{_in_doubt(edges[-1])}")
    part = _part(spec, alive, list(spec.seeds), out / CONFIRMATION, int(spec.train["epochs"]), spec.controls)
    folder = StudyFolder(part)
    folder.path.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "rows": _rows(spec, figures, left), "edges": edges, **_cost(plan)}
    write_json(folder.path / SCREENED, seal(content))
    status = run(part, retry=retry, resume=resume, say=say)
    return Screened(out, plan, tuple(map(tuple, left)), dropped, status, True)


def _in_doubt(edge: tuple[float, float] | None) -> str:
    """Where chance may have decided which variants go on, a sentence that says so."""
    if edge is None or is_clear(edge):
        return ""
    lead, error = (points(value, False) for value in edge)
    return (
        f" The last of them is {lead} points ahead of the first that does not, and the standard error of such a"
        f" difference is {error}: this may be chance. Longer runs (short=) or more seeds (budget=) tell more."
    )


def _opened(study: Study) -> tuple[StudySpec, bool]:
    """The study with all its variants, and whether these are everything in the catalogue."""
    if not isinstance(study, Mapping):
        return open_study(study), False
    words = dict(study)
    text = words.get("variants", "")
    names = variants_of(text, Path.cwd())
    if names != [text]:
        words["variants"] = ",".join(names)
    words.setdefault("seeds", str(CONFIRM))
    return open_study(words), text == ALL


def _check(spec: StudySpec, asked: Mapping[str, Any]) -> None:
    if spec.factors is not None:
        raise StudyError(
            "factors: every effect needs all arms; a screen would leave some out.", spec.located.at("factors")
        )
    for key, least in (("keep", 1), ("short", 1), ("budget", 1)):
        value = asked[key]
        kinds = (int, float) if key == "budget" else (int,)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or not value >= least):
            raise ArgumentError(f"{key}: expected a number from {least} up, found {value!r}")
    if asked["short"] is not None and asked["short"] > spec.train["epochs"]:
        raise ArgumentError(
            f"short: expected at most the study's {spec.train['epochs']} epochs, found {asked['short']}"
        )


def _plan(spec: StudySpec, asked: Mapping[str, Any]) -> Plan:
    share = int(asked["short"] or spec.train["epochs"]) / int(spec.train["epochs"])
    return plan_of(len(spec.variants), len(spec.seeds), asked["keep"], share, len(spec.controls), asked["budget"])


def _part(
    spec: StudySpec, arms: Sequence[Arm], seeds: Sequence[int], out: Path, epochs: int, controls: Sequence[Arm]
) -> StudySpec:
    """The study of one round, or of the confirmation."""
    confirming = out.name == CONFIRMATION
    left_out = ("out", "name") if confirming else ("out", "name", "stop")
    values = {key: value for key, value in spec.written.items() if key not in left_out}
    values |= {
        "name": f"{spec.name}, {out.name.replace('_', ' ')}",
        "variants": [{"name": arm.name, "model": arm.model} for arm in arms],
        "seeds": list(seeds),
        "train": {**dict(spec.written.get("train") or {}), "epochs": epochs},
        "controls": [{"scale": controls[0].model}] if controls else "none",
    }
    located = Located(spec.source, values, error=StudyError)
    return replace(build_spec(located, spec.folder, out.name), out=out)


def _without(spec: StudySpec, dropped: Mapping[str, str]) -> StudySpec:
    """The study without the variants that do not build."""
    return replace(spec, variants=tuple(arm for arm in spec.variants if arm.name not in dropped))


def _unbuilt(part: StudySpec) -> dict[str, str]:
    """Why arms do not build, by their name, as the preflight found it."""
    folder, found = StudyFolder(part), {}
    for arm in part.arms:
        raw = read_json(folder.arm_file(arm))
        if isinstance(raw, dict) and raw.get("error"):
            found[arm.name] = str(raw["error"]).splitlines()[0]
    return found


def _identity(spec: StudySpec, asked: Mapping[str, Any]) -> str:
    return digest_of([spec.identity(), dict(asked)])


def _held(out: Path, spec: StudySpec, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What ``screen.json`` holds, after making sure that it is this screen's; empty where there is none yet."""
    path = out / SCREEN_FILE
    if not path.is_file():
        return {}
    raw = read_sealed(path)
    if raw.get("format") != FORMAT:
        raise DamagedError(f"expected format {FORMAT}, found {raw.get('format')!r}.", Location(str(path)))
    if raw["identity"] != _identity(spec, asked):
        begun = [out / CONFIRMATION, *out.glob("round_*")]
        if not any(StudyFolder(spec, part).results_exist for part in begun):
            return {}  # as with a study, nothing is fixed before the first run has begun
        raise StudyChangedError(
            f"{out} holds a screen of something else (other variants, data, training, budget=, keep= or short=)."
            " Restore what was asked, or give this screen another folder with out=.",
            Location(spec.source),
        )
    return raw


def _write(
    out: Path, spec: StudySpec, asked: Mapping[str, Any], every: bool, dropped: Mapping[str, str], left: Sequence[Any]
) -> None:
    whole = build_spec(Located(spec.source, dict(spec.written), error=StudyError), spec.folder, spec.name)
    content = {
        "format": FORMAT,
        "identity": _identity(whole, asked),
        "study": {key: value for key, value in spec.written.items() if key != "out"} | {"name": spec.name},
        "root": relative(spec.folder, out),
        "asked": dict(asked),
        "every": every,
        "dropped": dict(dropped),
        "left": [list(names) for names in left],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SCREEN_FILE, seal(content))


def _reopened(folder: Path) -> tuple[StudySpec, dict[str, Any], bool]:
    """The screen that a folder holds."""
    raw = read_sealed(folder / SCREEN_FILE)
    located = Located(str(folder / SCREEN_FILE), dict(raw["study"]), error=StudyError)
    spec = build_spec(located, (folder / raw["root"]).resolve(), folder.resolve().name)
    return replace(spec, out=folder), dict(raw["asked"]), bool(raw["every"])


def _agreed(before: Sequence[Any], left: Sequence[Sequence[str]], out: Path) -> list[Any]:
    """The rounds' outcomes, after making sure that they are those of the first time."""
    for number, (old, new) in enumerate(zip(before, left, strict=False)):
        if list(old) != list(new):
            raise StudyChangedError(
                f"round {number + 1} left {', '.join(old)} when it was decided, and would leave {', '.join(new)} now:"
                " its results have changed since.",
                Location(str(out)),
            )
    return [*left, *before[len(left) :]]


def _rows(
    spec: StudySpec, figures: Mapping[str, Sequence[float]], left: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """What the screen saw of every variant, the best first."""
    base = figures[spec.base.name]
    rows = []
    for arm in spec.variants:
        own = figures[arm.name]
        difference = float(np.mean(own) - np.mean(base[: len(own)]))
        rounds = sum(arm.name in names for names in left)
        rows.append({"name": arm.name, "seeds": len(own), "difference": difference, "rounds": rounds})
    return sorted(rows, key=lambda row: (-row["rounds"], -row["difference"]))


def _cost(plan: Plan) -> dict[str, Any]:
    return {"plan": dataclasses.asdict(plan), "runs": plan.runs, "full": plan.full}
