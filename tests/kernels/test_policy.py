"""Kernels that were never measured on a GPU run only where somebody asks for them."""

from __future__ import annotations

import pytest

from detgraft.errors import ArgumentError
from detgraft.kernels.policy import KERNELS, SWITCH, wants_triton


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
    assert [name for name in KERNELS if wants_triton(name)] == wanted


def test_a_kernel_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "carafe,convnxt")
    with pytest.raises(ArgumentError, match=r"DETGRAFT_TRITON=carafe,convnxt names no kernel 'convnxt'.*'convnext'"):
        wants_triton("carafe")
