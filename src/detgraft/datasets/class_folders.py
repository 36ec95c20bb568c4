"""Pictures for classification: a folder for each split, and in it a folder for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from detgraft.datasets.labels import list_images
from detgraft.errors import DataError, Location

VAL = ("val", "validation", "valid")
"""Names of the validation folder, in the order in which Ultralytics looks for them."""


@dataclass(frozen=True)
class ClassFolders:
    """A data set for classification.

    Args:
        root: Its folder.
        splits: Folder of each split that is there: ``train``, ``val`` and perhaps ``test``.
        names: Class names by index, in the order of their folders' names.
    """

    root: Path
    splits: Mapping[str, Path]
    names: dict[int, str]

    def check(self, split: str) -> None:
        """Refuse data on whose splits nothing can be measured.

        Args:
            split: ``val``, ``test``, or ``auto`` for test where there is one; val is always measured.

        Raises:
            DataError: The split is not there or holds no picture of a class.
        """
        where = Location(str(self.root))
        if split == "test" and "test" not in self.splits:
            raise DataError("has no folder test/, which 'split: test' asks for; write split: val or auto", where)
        for name in ["val", "test"] if split != "val" and "test" in self.splits else ["val"]:
            if not any(list_images(self.splits[name] / kind) for kind in self.names.values()):
                raise DataError(f"there are no pictures of a class in the {name} split", where)


def classified(root: Path) -> ClassFolders:
    """Read the layout of a data set for classification.

    Args:
        root: A folder with train/CLASS/ and val/CLASS/, and perhaps test/CLASS/.

    Raises:
        DataError: It is not laid out so; says what is missing.
    """
    where = Location(str(root))
    if not root.is_dir():
        raise DataError("classification needs a folder with train/CLASS/ and val/CLASS/; this is none", where)
    val = next((root / name for name in VAL if (root / name).is_dir()), None)
    splits = {"train": root / "train", "val": val, "test": root / "test"}
    found = {split: folder for split, folder in splits.items() if folder is not None and folder.is_dir()}
    for split in ("train", "val"):
        if split not in found:
            raise DataError(
                f"classification needs a folder {split}/ with a folder for each class; there is none", where
            )
    names = sorted(folder.name for folder in found["train"].iterdir() if folder.is_dir())
    if len(names) < 2:
        raise DataError(f"classification needs at least two classes below train/, found {len(names)}", where)
    for split, folder in found.items():
        strange = sorted(one.name for one in folder.iterdir() if one.is_dir() and one.name not in names)
        if strange:
            raise DataError(f"the {split} split has the class {strange[0]!r}, which train/ has not", where)
    return ClassFolders(root, found, dict(enumerate(names)))
