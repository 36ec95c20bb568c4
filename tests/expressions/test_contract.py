"""Every graft of the catalogue keeps the contract that own blocks are tested with."""

from __future__ import annotations

from typing import Any

import pytest

from detgraft.catalog.registry import catalogue
from detgraft.catalog.spec import Graft
from detgraft.testing import BlockContract

# Arguments that make the block do what it is for, where its defaults do not.
ARGS: dict[str, tuple[Any, ...]] = {
    "DynamicConv": (3, 2),
    "DynamicConv_official": (3, 2),
    "SPDConv": (3, 2),
    "GSConv": (3, 2),
    "ODConv": (3, 2),
    "DeformConv": (3, 2),
}
LARGE = (
    "convnextv2_femto",
    "convnextv2_pico",
    "nano",
    "tiny",
    "base",
    "large",
    "huge",
    "m0_6",
    "m1_0",
    "m1_1",
    "m1_5",
    "m2_3",
)


def _slow_if_large(entry: Graft) -> Any:
    marks = [pytest.mark.slow] if entry.name.endswith(LARGE) else []
    return pytest.param(entry.name, marks=marks)


@pytest.fixture(params=[_slow_if_large(entry) for entry in catalogue if entry.channels != "structure"], autouse=True)
def graft(request: pytest.FixtureRequest) -> None:
    request.cls.graft = request.param
    request.cls.args = ARGS.get(request.param, ())
    if request.param.startswith(("LSKA", "EMA")):
        request.cls.inputs = (16,)


class TestCatalogue(BlockContract):
    pass
