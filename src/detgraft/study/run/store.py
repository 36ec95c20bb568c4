"""The folder of a study. What a cell's state is follows from its files alone, so that no kill can make it wrong.

Files are believed only after they have been compared: a result counts when it is that of its arm, seed and study, whole
and unchanged (:mod:`detgraft.study.judge.verification`).

OUT/study.yaml                   the study file, as it was when the runs were last begun
OUT/study.json                   the study's identity, its digest, and how it was extended
OUT/inputs.json                  what the runs read, as announced before the first one
OUT/verified.json                which results a run or a report has verified
OUT/study.lock                   held by the process that runs the study
OUT/arms/ARM.json                what building the arm showed: cost, transferred share
OUT/cells/ARM/seed_N/cell.json   the run's resolved configuration
                    /started.json, progress.json, log.txt, curve.json
                    /cell.lock       held by the process that trains it
                    /checkpoints/    the last two good states, while training
                    /best.pt, detections_SPLIT.npz, bootstrap_SPLIT.npy
                    /error.json      why it failed
                    /result.json     written last: the cell is done
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detgraft.base.files import read_json, write_atomic, write_json
from detgraft.errors import Location
from detgraft.study.design.config import CellConfig, config_of, weights_of
from detgraft.study.design.errors import DamagedError, StudyBusyError, StudyChangedError, StudyError
from detgraft.study.design.seal import changed_since, is_sealed, read_object, read_sealed, seal
from detgraft.study.design.spec import (
    STUDY_FILE,
    StudySpec,
    changes,
    digest_of,
    is_own_copy,
    only_adds,
    relative,
    study_text,
)
from detgraft.study.design.terms import Arm, asks_for_weights, marked_slug_of
from detgraft.study.judge.evidence import Run, State
from detgraft.study.judge.result import Result
from detgraft.study.judge.verification import INPUTS, look_of, reason_of, verify, verify_config
from detgraft.study.run.lock import Lock, advice, holder_of

SCREENED = "screened.json"
"""What a screen saw of the variants among which those of a confirmation were chosen."""
FORMAT = 2
"""Of ``study.json``; since 2 it carries a checksum and the digests that the study had before it was extended."""


@dataclass(frozen=True)
class Checked:
    """What a look at a run's files showed.

    Args:
        look: What would be another one if any of the files had been written since.
        damage: In what they are not that run's; empty when they are.
        result: The verified result; None where there is none, or where it was verified by an earlier process.
    """

    look: tuple[Any, ...]
    damage: str
    result: Result | None = None


@dataclass(frozen=True)
class View:
    """What the files of a study as a whole say.

    Args:
        look: What would be another one if any of them had been written since.
        digests: See :meth:`StudyFolder.digests`.
        announced: What ``inputs.json`` announces of the splits; None where it is lost.
        weights: What it announces of initial checkpoints.
        configs: Configuration of a run of each arm, filled as it is asked for.
    """

    look: tuple[Any, ...]
    digests: frozenset[str] | None
    announced: Mapping[str, str] | None
    weights: Mapping[str, Mapping[str, str]]
    configs: dict[str, CellConfig] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run: an arm with a seed, and its folder.

    Args:
        arm: The arm.
        seed: The seed.
        folder: Where its files lie.
        study: The folder of the study that it belongs to.
        doubt: Why the folder cannot be told to be this run's; empty otherwise.
    """

    arm: Arm
    seed: int
    folder: Path
    study: StudyFolder = field(compare=False, repr=False)
    doubt: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Name for people, for example ``carafe, seed 3``."""
        return f"{self.arm.name}, seed {self.seed}"

    def state(self) -> State:
        """Where the cell stands, read from its files."""
        if self.doubt:
            return State.DAMAGED
        if (self.folder / "result.json").is_file():
            return State.DAMAGED if self.damage() else State.DONE
        if holder_of(self.folder / "cell.lock") is not None:
            return State.RUNNING
        if (self.folder / "error.json").is_file():
            return State.FAILED
        if not _was_started(self.folder):
            return State.PENDING
        return State.DAMAGED if self.damage() else State.BROKEN_OFF

    def damage(self) -> str:
        """In what the cell's files are not those of its run, one sentence; empty when they are."""
        if self.doubt:
            return self.doubt
        return self._checked().damage

    def _checked(self) -> Checked:
        look = (look_of(self.folder), self.study.view().look)
        known = self.study.verified.get(self.folder)
        if known is None or known.look != look:
            known = self._verified(look)
            self.study.verified[self.folder] = known
        return known

    def _verified(self, look: tuple[Any, ...]) -> Checked:
        expected, studies = self.study.config(self.arm, self.seed), self.study.digests()
        try:
            if (self.folder / "result.json").is_file():
                return Checked(look, "", verify(self.folder, expected, studies))
            verify_config(self.folder, expected, studies)
        except StudyError as error:
            return Checked(look, reason_of(error))
        return Checked(look, "")

    def error(self) -> str:
        """The sentence of a failed cell, or an empty text."""
        path = self.folder / "error.json"
        if not path.is_file():
            return ""
        raw = read_json(path)
        message = raw.get("message") if isinstance(raw, dict) else None
        if isinstance(message, str) and message:
            return message
        return f"It failed, but error.json is damaged; the end of its output is in {self.folder / 'log.txt'}."

    def result(self) -> Result:
        """The result of a finished cell.

        Raises:
            StudyError: It is not this cell's, or not whole.
        """
        return verify(self.folder, self.study.config(self.arm, self.seed), self.study.digests())

    def verified(self) -> Result:
        """The result of a finished cell, as it was when its files were last looked at.

        Raises:
            StudyError: See :meth:`result`.
        """
        return self._checked().result or self.result()

    def progress(self) -> Mapping[str, Any]:
        """``epoch`` (finished ones), ``epochs`` and ``seconds`` of training so far; empty before the first epoch."""
        raw = read_json(self.folder / "progress.json")
        if not isinstance(raw, dict):
            return {}
        known = {key: raw.get(key) for key in ("epoch", "epochs", "seconds")}
        sound = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known.values())
        return raw if sound else {}

    def clear(self) -> None:
        """Forget everything about an unfinished cell, so that it starts from scratch.

        What is damaged is not deleted but moved to ``damaged/`` in the study's folder.
        """
        if self.doubt:
            raise StudyError(
                f"{self.label}: {self.doubt} Remove the ones that are not.", Location(str(self.study.path))
            )
        state = self.state()
        if state in (State.DONE, State.RUNNING):
            raise StudyError(f"{self.label} is {state.value} and is not cleared.", Location(str(self.folder)))
        if state is State.DAMAGED and self.folder.exists():
            aside = self.study.path / "damaged" / f"{self.arm.slug} seed_{self.seed} {now().replace(':', '')}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            self.folder.replace(aside)
        shutil.rmtree(self.folder, ignore_errors=True)


class StudyFolder:
    """A study's folder on disk.

    Args:
        spec: The study.
        path: The folder; ``spec.out`` by default.
    """

    def __init__(self, spec: StudySpec, path: Path | None = None) -> None:
        self.spec = spec
        self.path = (path or spec.out).resolve()
        self.lease: Lock | None = None
        self.absent: tuple[str, ...] = ()
        self.verified: dict[Path, Checked] = {}
        self._view: View | None = None
        self._held = False
        self._begun: tuple[dict[str, str], dict[str, str]] | None = None

    def for_reading(self) -> StudyFolder:
        """The same folder where its results are only read, on a machine that need not have what they were made from.

        A file that ``study.json`` knows and that is not here cannot be another one: it counts as the one that it was,
        and ``absent`` names it. A file that is here is compared as always.
        """
        try:
            known: Mapping[str, str] = self._read_identity()["identity"]["files"]
        except DamagedError:
            return self
        absent = {name: value for name, value in known.items() if name not in self.spec.fingerprints}
        found = StudyFolder(replace(self.spec, fingerprints={**self.spec.fingerprints, **absent}), self.path)
        found.absent = tuple(sorted(absent))
        return found

    @property
    def results_exist(self) -> bool:
        """Whether any cell was ever started."""
        return any(_was_started(folder) for folder in self._cell_folders())

    def cells(self) -> Iterator[Cell]:
        """All cells, one seed of every arm after the other, so that a study that ends early is still paired."""
        earlier = self._earlier_folders()
        self._begun = None
        for seed in self.spec.seeds:
            for arm in self.spec.arms:
                yield self._cell(arm, seed, earlier)

    def _cell(self, arm: Arm, seed: int, earlier: Mapping[tuple[str, int], list[Path]]) -> Cell:
        home = self.path / "cells" / arm.slug / f"seed_{seed}"
        found = earlier.get((arm.name, seed), [])
        if home in found or not found:
            others = [key for key, folders in earlier.items() if home in folders and key != (arm.name, seed)]
            names = {each.name for each in self.spec.arms}
            if others and others[0][0] in names and not found:
                # Named by the version before, whose folders of other arms may be called as this arm's is now.
                home = self.path / "cells" / marked_slug_of(arm.name) / f"seed_{seed}"
            return Cell(arm, seed, home, self)
        doubt = ""
        if len(found) > 1:
            places = ", ".join(sorted(str(folder.relative_to(self.path)) for folder in found))
            doubt = f"{places} all say that they are this run."
        return Cell(arm, seed, found[0], self, doubt)

    def _cell_folders(self) -> list[Path]:
        return sorted((self.path / "cells").glob("*/seed_*"))

    def _earlier_folders(self) -> dict[tuple[str, int], list[Path]]:
        """Folders of runs that the version before started, by the arm and seed that their own files name.

        It made the names of folders from the order of the arms, so the files are the truth and the name says nothing.
        """
        found: dict[tuple[str, int], list[Path]] = {}
        for folder in self._cell_folders():
            if _is_of_this_format(folder / "result.json"):
                continue
            raw = read_json(folder / "result.json")
            if raw is None:
                raw = read_json(folder / "cell.json")
            if not isinstance(raw, dict) or raw.get("format", 1) != 1:
                continue
            arm, seed = raw.get("arm"), raw.get("seed")
            if isinstance(arm, str) and isinstance(seed, int) and folder.name == f"seed_{seed}":
                found.setdefault((arm, seed), []).append(folder)
        return found

    def own_weights(self, arm: Arm) -> bool:
        """Whether a row of an arm loads weights of its own, as the preflight saw it or as the expression says."""
        raw = read_json(self.arm_file(arm))
        seen = raw.get("own_weights") if isinstance(raw, dict) else None
        return asks_for_weights(arm.model) if seen is None else bool(seen)

    def runs(self) -> list[Run]:
        """All cells with what is known of them, for the analysis."""
        found = []
        for cell in self.cells():
            state, message, result = cell.state(), "", None
            if state is State.FAILED:
                message = cell.error()
            elif state is State.DAMAGED:
                message = cell.damage()
            elif state is State.DONE:
                result = cell.verified()
            found.append(Run(cell.arm, cell.seed, state, message, result, cell.folder))
        return found

    def view(self) -> View:
        """What the files of the study as a whole say; read again when one of them was written."""
        if self._held and self._view is not None:
            return self._view
        look = look_of(self.path)
        if self._view is None or self._view.look != look:
            try:
                raw = read_sealed(self.path / INPUTS)
                announced = {name: str(item["digest"]) for name, item in raw["splits"].items()}
                self._view = View(look, self._read_digests(), announced, dict(raw["weights"]))
            except DamagedError:
                self._view = View(look, self._read_digests(), None, {})
        return self._view

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Look at the study's own files once for all cells, for one question about all of them."""
        self._view, self._held = None, True
        try:
            yield
        finally:
            self._held = False

    def config(self, arm: Arm, seed: int) -> CellConfig:
        """What a cell is to do by the study file, and by what was announced before the first run."""
        view = self.view()
        inputs = self.announced()
        known = view.configs.get(arm.name)
        if known is None or known.inputs != inputs:
            weights = view.weights.get(weights_of(self.spec, arm) or "")
            known = config_of(self.spec, arm, seed, {"inputs": inputs, "weights": weights})
            view.configs[arm.name] = known
        return replace(known, seed=seed)

    def announced(self) -> Mapping[str, str]:
        """Digest of the pictures and labels of each split as announced before the first run; empty without."""
        known = self.view().announced
        if known is not None:
            return known
        if self._begun is None:
            self._begun = self.begun_inputs()
        return self._begun[0]

    def announced_weights(self) -> Mapping[str, Mapping[str, str]]:
        """Path and digest of the initial checkpoints as announced before the first run, by name."""
        return self.view().weights

    def begun_inputs(self) -> tuple[dict[str, str], dict[str, str]]:
        """What the first started run was given: digests of its splits and of its initial checkpoint, by name.

        It says what was announced when ``inputs.json`` is lost.
        """
        for folder in self._cell_folders():
            if _was_started(folder):
                try:
                    config = CellConfig.read(folder / "cell.json")
                except StudyError:
                    continue
                if config.inputs:
                    names = [name for name, path in config.paths.items() if config.weights and path == config.weights]
                    return dict(config.inputs), {name: config.files[name] for name in names}
        return {}, {}

    def digests(self) -> frozenset[str] | None:
        """Digests of the study and of what it was before it was extended; None where the version before lost them."""
        return self.view().digests

    def _read_digests(self) -> frozenset[str] | None:
        try:
            raw = self._read_identity()
        except DamagedError:
            return frozenset({self.spec.digest()})
        known = raw.get("digests", None if raw.get("extended") else [])
        return None if known is None else frozenset({raw["digest"], *known})

    def _read_identity(self) -> dict[str, Any]:
        """What ``study.json`` holds.

        Raises:
            DamagedError: It is absent, broken, or changed since it was written.
        """
        path = self.path / "study.json"
        raw = read_object(path)
        if raw.get("format") not in (1, FORMAT):
            raise DamagedError(f"expected format 1 or {FORMAT}, found {raw.get('format')!r}.", Location(str(path)))
        whole = raw.get("digest") == digest_of(raw.get("identity")) and isinstance(raw.get("extended"), list)
        if not whole or (raw["format"] == FORMAT and not is_sealed(raw)):
            raise changed_since(path)
        return raw

    def check_unchanged(self, extend: bool = False) -> None:
        """Compare the study with the one that the folder's results were made with.

        Args:
            extend: Allow a study that only has more seeds, variants or controls.

        Raises:
            StudyChangedError: It differs; the message says in what.
        """
        if not self.results_exist:
            return
        try:
            old = self._read_identity()["identity"]
        except DamagedError as error:
            self._check_rebuilt(reason_of(error), extend)
            return
        new = self.spec.identity()
        # The looks of a sequential study are its promise: more seeds or arms afterwards would be other looks.
        sequential = bool(old.get("looks") or new.get("looks"))
        may_grow = only_adds(old, new) and not sequential
        if old == new or (extend and may_grow):
            return
        lines = "".join(f"\n  {line}" for line in changes(old, new))
        advice = "Restore the file, or give this study another folder with out=."
        if sequential and extend:
            advice += " A sequential study cannot be extended: its looks were fixed before the first run."
        if may_grow:
            advice += (
                " It only adds arms or seeds: extend=True keeps the results and goes on, and the report will say that"
                " the study was extended after results were seen."
            )
        raise StudyChangedError(
            f"the results in {self.path} were made with another study:{lines}\n{advice}", Location(self.spec.source)
        )

    def _check_rebuilt(self, reason: str, extend: bool) -> None:
        """Without ``study.json``: let the configuration that each started run was given say what the study was."""
        own = self.spec.digest()
        same, grown, other = 0, 0, []
        for cell in self.cells():
            if not _was_started(cell.folder):
                continue
            try:
                study = verify_config(cell.folder, self.config(cell.arm, cell.seed), None).study
                same, grown = same + (study == own), grown + (study != own)
            except StudyError as error:
                other.append(f"{cell.label}: {reason_of(error)}")
        where = Location(self.spec.source)
        if not same + grown:
            lines = "".join(f"\n  {line}" for line in other[:3])
            raise StudyChangedError(
                f"there are results in {self.path}, but {reason} None of them can be told to be of this study:{lines}\n"
                "Restore study.json, or give this study another folder with out=.",
                where,
            )
        if grown and (self.spec.looks or not extend):  # a sequential study is never extended
            raise StudyChangedError(
                f"there are results in {self.path}, but {reason} {grown} of its runs were made when the study had other"
                " arms or seeds. Restore study.json, or go on with extend=True; the report will then say so.",
                where,
            )

    def open(self, extend: bool = False) -> None:
        """Make the folder, refuse a changed study, and write down what it is.

        Raises:
            StudyChangedError: See :meth:`check_unchanged`.
        """
        self.check_unchanged(extend)
        self.path.mkdir(parents=True, exist_ok=True)
        identity = self.spec.identity()
        history: list[dict[str, Any]] = []
        digests: list[str] | None = []
        raw: dict[str, Any] | None = None
        if self.results_exist:
            try:
                raw = self._read_identity()
                history = list(raw["extended"])
                digests = raw.get("digests", None if history else [])
                if raw["identity"] != identity:
                    history.append({"time": now(), "changes": changes(raw["identity"], identity)})
                    digests = None if digests is None else [*digests, raw["digest"]]
            except DamagedError as error:
                studies = self._started_studies()
                if studies - {digest_of(identity)}:
                    lost = f"{reason_of(error)} It was made again from the runs, which began with other arms or seeds"
                    history, digests = [{"time": now(), "changes": [lost]}], sorted(studies)
        content = seal(
            {
                "format": FORMAT,
                "name": self.spec.name,
                "digest": digest_of(identity),
                "identity": identity,
                "extended": history,
                "digests": digests,
                "root": relative(self.spec.folder, self.path),
            }
        )
        if raw != content:
            write_json(self.path / "study.json", content)
        own = self.path / STUDY_FILE
        # A person's own file may lie here, with `out: .`.
        if not own.exists() or is_own_copy(own):
            write_atomic(own, study_text(self.spec))

    def _started_studies(self) -> set[str]:
        """Digests of the studies that the started runs of this study were begun with."""
        found = set()
        for cell in self.cells():
            if _was_started(cell.folder):
                try:
                    found.add(verify_config(cell.folder, self.config(cell.arm, cell.seed), None).study)
                except StudyError:
                    continue
        return found

    def extended(self) -> list[dict[str, Any]]:
        """When and how the study was extended after its first run began."""
        try:
            return list(self._read_identity()["extended"])
        except DamagedError:
            return []

    def lock(self) -> Lock:
        """Take the study's lock.

        Raises:
            StudyBusyError: Another living process runs this study.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.path / "study.lock")
        holder = lock.acquire()
        if holder is not None:
            raise StudyBusyError(f"this study is being run by {holder}; {advice(holder)}", Location(str(self.path)))
        self.lease = lock
        return lock

    def arm_file(self, arm: Arm) -> Path:
        """Where the preflight of an arm is written."""
        return self.path / "arms" / f"{arm.slug}.json"


def _is_of_this_format(path: Path) -> bool:
    """Whether a result is of a format with a checksum, told without reading it as JSON.

    Inside a text a quotation mark is escaped, so that these bytes are a key and its value wherever they stand.
    """
    try:
        return b'"format": 2' in path.read_bytes()
    except OSError:
        return False


def now() -> str:
    """The time as ISO 8601 text in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _was_started(folder: Path) -> bool:
    """Whether a run was ever begun in a folder, told from any of the files that one leaves."""
    return any((folder / name).exists() for name in ("started.json", "result.json", "checkpoints"))
