"""The errors of a study that are a person's to solve."""

from __future__ import annotations

from detgraft.errors import DetgraftError


class StudyError(DetgraftError):
    """A study file, study folder or request that cannot be followed."""


class StudyBusyError(StudyError):
    """Another process runs the same study."""


class StudyChangedError(StudyError):
    """The study file differs from the one that the results in the folder were made with."""
