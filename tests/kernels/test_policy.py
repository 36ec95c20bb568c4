"""Triton kernels run on the GPUs on which they were measured, elsewhere only where somebody asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detgraft.errors import ArgumentError
from detgraft.kernels import policy
from detgraft.kernels.policy import KERNELS, SWITCH, wants_triton

CUDA = torch.device("cuda:0")
CAN_BUILD = policy._can_build


@pytest.fixture(autouse=True)
def capability(monkeypatch: pytest.MonkeyPatch) -> dict[torch.device, tuple[int, int]]:
    """Compute capabilities of the machine's GPUs, to be set by a test; the first is an A100's."""
    found = {CUDA: (8, 0)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", found.__getitem__)
    monkeypatch.setattr(policy, "_can_build", lambda: True)
    policy._is_measured.cache_clear()
    return found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, []),
        ("", []),
        ("0", []),
        ("1", ["carafe", "convnext"]),
        ("carafe", ["carafe"]),
        (" convnext , carafe ", ["carafe", "convnext"]),
        ("convnext,", ["convnext"]),
    ],
)
def test_what_is_asked_for(text: str | None, wanted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    if text is not None:
        monkeypatch.setenv(SWITCH, text)
    assert [name for name in KERNELS if wants_triton(name, CUDA)] == wanted


@pytest.mark.parametrize(("found", "hip", "on"), [((9, 0), None, True), ((8, 9), None, False), ((9, 4), "6.2", False)])
def test_without_a_word_it_is_the_gpu_that_decides(
    found: tuple[int, int], hip: str | None, on: bool, capability: dict[torch.device, tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An H100; an RTX 4090, for which there is no figure; AMD's MI300, which says 9.4 but is no Hopper."""
    capability[CUDA] = found
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.delenv(SWITCH, raising=False)
    assert [wants_triton(name, CUDA) for name in KERNELS] == [on] * len(KERNELS)
    monkeypatch.setenv(SWITCH, "0")
    assert not wants_triton("carafe", CUDA)


@pytest.mark.parametrize("missing", ["compiler", "headers"])
def test_what_cannot_be_built_is_not_begun(
    missing: str, capability: dict[torch.device, tuple[int, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container with an H100 but without gcc, or without Python's headers: a training there ran before, too."""
    monkeypatch.setattr(policy, "_can_build", CAN_BUILD)
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.version, "hip", None)
    capability[CUDA] = (9, 0)
    (tmp_path / "Python.h").touch()
    folder = tmp_path / "nowhere" if missing == "headers" else tmp_path
    monkeypatch.setattr(policy.sysconfig, "get_path", lambda *args: str(folder))
    monkeypatch.setattr(policy.shutil, "which", lambda name: None if missing == "compiler" else f"/usr/bin/{name}")
    assert policy.kernels_on(CUDA) == []
    policy._is_measured.cache_clear()
    monkeypatch.setenv("CC", "cc")
    assert wants_triton("carafe", CUDA) == (missing == "compiler")
    monkeypatch.setenv(SWITCH, "carafe")
    assert wants_triton("carafe", CUDA)


def test_each_gpu_of_a_machine_is_asked(
    capability: dict[torch.device, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(torch.version, "hip", None)
    second = torch.device("cuda:1")
    capability[second] = (9, 0)
    assert [wants_triton("carafe", device) for device in (CUDA, second)] == [False, True]


def test_a_kernel_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "carafe,convnxt")
    with pytest.raises(ArgumentError, match=r"DETGRAFT_TRITON=carafe,convnxt names no kernel 'convnxt'.*'convnext'"):
        wants_triton("carafe", CUDA)
