"""The resolved configuration of one run, as its child process reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detgraft.errors import Location
from detgraft.study.design.errors import DamagedError, StudyError
from detgraft.study.design.seal import changed_since, is_sealed, read_object, seal
from detgraft.study.design.spec import StudySpec, digest_of, weights_files
from detgraft.study.design.terms import MODEL_SUFFIXES, Arm

FORMAT = 2
"""Of ``cell.json``; the first one had neither a number nor a checksum."""


@dataclass(frozen=True)
class CellConfig:
    """Everything that one run depends on.

    Args:
        arm: Name of the arm.
        role: ``base``, ``variant`` or ``control``.
        model: Expression or absolute path.
        seed: Seed of everything random.
        data: Absolute path of the data YAML or folder, or a name that Ultralytics knows.
        train: Training arguments.
        init: ``scratch``, ``transfer`` or ``pretrained``.
        weights: Checkpoint to transfer from, None from scratch.
        transfer_min: Least share of tensors that must arrive.
        plugins: Absolute paths of plug-in files.
        primary: Figure that the bootstrap resamples.
        split: Split that decides: ``auto``, ``val`` or ``test``.
        bootstrap: Number of draws.
        track: Trackers that are switched on.
        study: SHA-256 of the study's identity.
        files: SHA-256 of the files involved, by their names as written.
        paths: Where each of these files lies.
        inputs: SHA-256 of all pictures and labels of each split (``train``, ``val``, ``test``), as announced before
            the first run; empty where nothing was announced.
    """

    arm: str
    role: str
    model: str
    seed: int
    data: str
    train: Mapping[str, Any]
    init: str
    weights: str | None
    transfer_min: float
    plugins: tuple[str, ...]
    primary: str
    split: str
    bootstrap: int
    track: tuple[str, ...]
    study: str
    files: Mapping[str, str]
    paths: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of what this run's result depends on.

        The study around it (other arms, more seeds) is left out, and so are folders: files count by name and content.
        """
        values = {key: value for key, value in vars(self).items() if key not in ("study", "track", "paths")}
        if not self.inputs:
            del values["inputs"]  # as before inputs were announced, so that what was made then is still recognised
        values |= {"data": Path(self.data).name, "model": Path(self.model).name}
        values |= {"plugins": [Path(p).name for p in self.plugins], "weights": Path(self.weights or "").name}
        return digest_of(values)

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values with a checksum."""
        return seal({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, value: Mapping[str, Any], source: str = "") -> CellConfig:
        """Rebuild a configuration from :meth:`to_json`'s values.

        Raises:
            StudyError: A field is missing or unknown.
            DamagedError: The values do not agree with their checksum, or the format is another one.
        """
        raw = dict(value)
        if "format" in raw:
            if raw["format"] != FORMAT:
                raise DamagedError(f"expected format {FORMAT}, found {raw['format']!r}.", Location(source))
            if not is_sealed(raw):
                raise changed_since(Path(source))
            raw = {key: item for key, item in raw.items() if key not in ("format", "checksum")}
        try:
            return cls(**{**raw, "plugins": tuple(raw["plugins"]), "track": tuple(raw["track"])})
        except (KeyError, TypeError) as error:
            raise StudyError(f"is no complete run configuration: {error}.", Location(source)) from error

    @classmethod
    def read(cls, path: Path) -> CellConfig:
        """Read ``cell.json``.

        Raises:
            StudyError: It is absent or incomplete.
        """
        return cls.from_json(read_object(path), str(path))


def differences(expected: CellConfig, found: CellConfig) -> list[str]:
    """In what a configuration is not that of the expected run, one phrase each; folders do not count.

    Args:
        expected: As the study file has it now.
        found: As it was written when the run began.
    """
    lines = []
    for key in ("arm", "seed", "role", "train", "init", "transfer_min", "primary", "split", "bootstrap"):
        before, after = getattr(found, key), getattr(expected, key)
        if before != after:
            lines.append(f"{key} was {before!r}, is {after!r}")
    for key in ("model", "weights"):
        before, after = (Path(getattr(item, key) or "").stem for item in (found, expected))
        if before != after:
            lines.append(f"{key} was {before!r}, is {after!r}")
    if [Path(name).name for name in found.plugins] != [Path(name).name for name in expected.plugins]:
        lines.append(f"plugins were {list(found.plugins)}, are {list(expected.plugins)}")
    for name, value in expected.files.items():
        if found.files.get(name) != value:
            lines.append(f"the content of {name} was another one")
    if found.inputs and expected.inputs:
        for split in sorted({*found.inputs, *expected.inputs}):
            if found.inputs.get(split) != expected.inputs.get(split):
                lines.append(f"the pictures or labels of {split!r} were others")
    return lines


def config_of(spec: StudySpec, arm: Arm, seed: int, found: Mapping[str, Any] | None = None) -> CellConfig:
    """The configuration of one cell of a study.

    Args:
        spec: The study.
        arm: The arm.
        seed: The seed.
        found: What the preflight found: the data YAML that it checked or derived, the initial checkpoint, and the
            announced ``inputs``.
    """
    found = found or {}
    weights = weights_of(spec, arm)
    fetched = found.get("weights") or {}
    involved = {spec.data, arm.model, *spec.plugins, *weights_files(spec, arm.model)}
    files = {name: value for name, value in spec.fingerprints.items() if name in involved}
    if weights and fetched:
        files[weights] = fetched["digest"]
    paths = {name: spec.resolve(name) for name in files}
    if weights and fetched:
        paths[weights] = fetched["path"]
    return CellConfig(
        arm=arm.name,
        role=arm.role,
        model=_model_of(spec, arm),
        seed=seed,
        data=str(found.get("data") or spec.resolve(spec.data)),
        train=dict(spec.train),
        init=spec.init,
        weights=fetched.get("path", spec.resolve(weights)) if weights else None,
        transfer_min=spec.transfer_min,
        plugins=tuple(spec.resolve(name) for name in spec.plugins),
        primary=spec.metrics.primary,
        split=spec.metrics.split,
        bootstrap=spec.metrics.bootstrap,
        track=spec.track,
        study=spec.digest(),
        files=files,
        paths=paths,
        inputs=dict(found.get("inputs") or {}),
    )


def _model_of(spec: StudySpec, arm: Arm) -> str:
    """What ``detgraft.YOLO`` is given; a bare stock name gets its ending, or Ultralytics takes it for a checkpoint."""
    if "+" in arm.model or arm.model.lower().endswith(MODEL_SUFFIXES):
        return spec.resolve(arm.model)
    return f"{arm.model}.yaml"


def weights_of(spec: StudySpec, arm: Arm) -> str | None:
    """The checkpoint that an arm starts from: its own stock one for the larger scale, the study's for all others.

    The larger scale has other channel counts than the base, so that nothing of the base's checkpoint would fit it;
    what an engineer who "just takes the bigger model" starts from is that model's own stock checkpoint.
    """
    if spec.weights is None or arm.role != "control":
        return spec.weights
    stem = Path(arm.model).name
    for suffix in (".yaml", ".yml"):
        stem = stem.removesuffix(suffix)
    beside = Path(spec.weights).with_name(f"{stem}.pt")
    return str(beside)
