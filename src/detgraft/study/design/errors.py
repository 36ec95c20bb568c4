"""The errors of a study that are a person's to solve."""

from __future__ import annotations

from detgraft.errors import DetgraftError


class StudyError(DetgraftError):
    """A study file, study folder or request that cannot be followed."""


class DamagedError(StudyError):
    """A file of a study that is absent, broken, changed after it was written, or not the one that belongs there."""


class StudyBusyError(StudyError):
    """Another process runs the same study."""


class InputsChangedError(StudyError):
    """Pictures, labels, weights or plug-ins are not those that were announced before the first run."""


class StudyChangedError(StudyError):
    """The study file differs from the one that the results in the folder were made with."""
