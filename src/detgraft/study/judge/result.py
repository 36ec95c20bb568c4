"""The one result of one run (one arm with one seed): everything reads and writes this type."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detgraft.base.files import write_json
from detgraft.errors import Location
from detgraft.measure.price import Cost
from detgraft.study.design.errors import StudyError
from detgraft.study.design.seal import CHECKSUM, changed_since, is_sealed, read_object, seal

FORMAT = 2
"""Since 2 a result carries a checksum of its own and the digests of the files beside it."""
FORMATS = (1, 2)
Number = float | None


@dataclass(frozen=True)
class SplitMetrics:
    """Accuracy on one split; AP counts from 0 to 1, None where the split has nothing to measure it on.

    Args:
        images: Number of pictures.
        truth: SHA-256 of the pictures' names and labels, so that runs on different data are never compared.
        coco: ``AP``, ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``, ``AP_large`` by the COCO rules.
        per_class: COCO AP of each class by its name.
        ultralytics: Ultralytics' own figures by its own names.
        task: What the model is for; it says what ``coco`` and ``per_class`` are: AP of boxes (``detect``), masks
            (``segment``), key points (``pose``) or rotated boxes (``obb``), or ``top1`` and ``top5`` (``classify``).
        best: ``P``, ``R`` and ``F1`` at the score that is best for F1, and that score as ``threshold``; empty in
            results of earlier versions.
    """

    images: int
    truth: str
    coco: Mapping[str, Number]
    per_class: Mapping[str, Number]
    ultralytics: Mapping[str, Number]
    task: str = "detect"
    best: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One finished run.

    Args:
        arm: Name of the arm.
        role: ``base``, ``variant`` or ``control``.
        model: Expression or file that was trained.
        seed: Its seed.
        metrics: Accuracy by split (``val``, ``test``).
        cost: What the arm costs.
        epochs: Epochs trained, less than asked for when early stopping ended the run.
        best_epoch: 1-based epoch whose weights were measured.
        seconds: Time spent training, over all sittings.
        resumed_at: 0-based epochs at which a broken-off run was taken up again; empty when it ran undisturbed.
        transferred: Share of tensors (0 to 1) that came from the initial checkpoint; None when trained from scratch.
        config: SHA-256 of the run's resolved configuration.
        study: SHA-256 of the study that it belongs to.
        versions: Versions of python, torch, ultralytics, timm, detgraft and others.
        hardware: Device, processor, memory, host.
        git: Commit of the folder that the study ran in, and whether it had changes; empty outside a repository.
        started: Time of the first start, ISO 8601, UTC.
        finished: Time of the end.
        files: Size and SHA-256 of each file that belongs to the result, by its name.
        format: Of the file that it was read from.
    """

    arm: str
    role: str
    model: str
    seed: int
    metrics: Mapping[str, SplitMetrics]
    cost: Cost
    epochs: int
    best_epoch: int
    seconds: float
    resumed_at: tuple[int, ...]
    transferred: Number
    config: str
    study: str
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    git: Mapping[str, Any]
    started: str
    finished: str
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    format: int = field(default=FORMAT)

    @property
    def resumed(self) -> bool:
        """Whether the run was broken off and resumed, so that its random state is not that of an undisturbed run."""
        return bool(self.resumed_at)

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values, with a checksum since format 2."""
        plain = dataclasses.asdict(self) | {"resumed": self.resumed, "resumed_at": list(self.resumed_at)}
        return plain if self.format == 1 else seal(plain)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], source: str = "") -> Result:
        """Rebuild a result from :meth:`to_json`'s values.

        Raises:
            StudyError: A field is missing or unknown, or the format is another one.
            DamagedError: The values do not agree with their checksum.
        """
        raw = dict(value)
        if raw.get("format") not in FORMATS:
            known = " or ".join(map(str, FORMATS))
            raise StudyError(f"expected a result of format {known}, found {raw.get('format')!r}.", Location(source))
        whole = raw["format"] == 1 or is_sealed(raw)
        if raw["format"] != 1:
            raw.pop(CHECKSUM, None)
        raw.pop("resumed", None)
        try:
            raw["metrics"] = {split: SplitMetrics(**metrics) for split, metrics in raw["metrics"].items()}
            raw["cost"] = Cost.from_json(raw["cost"])
            raw["resumed_at"] = tuple(raw["resumed_at"])
            result = cls(**raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise StudyError(f"is not a complete result: {error}.", Location(source)) from error
        if not whole:
            raise changed_since(Path(source))
        return result

    def write(self, path: Path) -> None:
        """Write the result atomically."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a result file.

        Raises:
            StudyError: It is absent, damaged or no complete result.
        """
        return cls.from_json(read_object(path), str(path))
