"""Refuses weights files that would fill the memory, and tensors that no training wrote."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from detgraft.errors import Location, WeightsError

MOST_GROWTH = 20
"""Times that a file may grow when it is opened; PyTorch stores its tensors uncompressed."""

_SMALL = 64 * 2**20


def refuse_bomb(path: str | Path) -> None:
    """Raise for a zip archive whose content is far larger than the file; what is no zip archive passes.

    Args:
        path: A PyTorch file.

    Raises:
        WeightsError: Names both sizes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        size = Path(path).stat().st_size
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # whoever opens it says what is wrong with it
    if unpacked > max(_SMALL, MOST_GROWTH * size):
        raise WeightsError(
            f"has {size:,} bytes and would unpack to {unpacked:,}; a file of weights is stored uncompressed",
            Location(str(path)),
        )


def refuse_unfit(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], where: Location) -> None:
    """Raise for tensors that PyTorch would copy without a word and that make a model useless.

    Args:
        tensors: What a file holds, by name.
        target: The model's own tensors; names that only one side has are left to the caller.
        where: The file.

    Raises:
        WeightsError: Whole numbers in the place of weights (quantised ones, say), or a value that is not finite.
    """
    for name, value in tensors.items():
        wanted = target.get(name)
        if wanted is None:
            continue
        if wanted.is_floating_point() != value.is_floating_point():
            raise WeightsError(f"'{name}' is {value.dtype}, expected {wanted.dtype}".replace("torch.", ""), where)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            raise WeightsError(f"'{name}' has {count} of {value.numel()} values that are not finite (NaN, inf)", where)
