"""Every graft of the catalogue keeps the contract that own blocks are tested with."""

from __future__ import annotations

from typing import Any

import pytest

from detgraft.catalog.registry import catalogue
from detgraft.testing import BlockContract

# Arguments that make the block do what it is for, where its defaults do not.
ARGS: dict[str, tuple[Any, ...]] = {
    "DynamicConv": (3, 2),
    "DynamicConv_official": (3, 2),
    "SPDConv": (3, 2),
    "GSConv": (3, 2),
    "ODConv": (3, 2),
    "DeformConv": (3, 2),
    "WTConv": (3, 2),
    "DiverseBranchConv": (3, 2),
    "LDConv": (5, 2),
    "DySnakeConv": (3, 2),
    "DCNv3": (3, 2),
    "FDConv": (3, 2),
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


EVEN = ((16, 16), (14, 20), (32, 20))  # stock ADown rounds an odd size down, a convolution with stride up

# The fast tests of tests/blocks/test_more_backbones.py try them narrow.
DEEP = ("unireplknet_", "lsknet_", "pkinet_", "vanillanet_")

# Of these the whole model is built by `pytest -m slow`: its rows are those of the blocks before them.
LEAVES = {
    *("WTConv", "DiverseBranchConv", "LDConv", "DySnakeConv", "SCConv", "DCNv3", "FDConv", "ADown"),
    *("StarBlock", "iRMB", "DWR", "UniRepLKBlock", "InceptionNeXtBlock", "ConvNeXtV2Block", "RepViTBlock"),
    *("FocalModulation", "SCSA", "BiLevelRouting", "GAM", "DAttention", "MSDA", "LSKBlock", "EUCB"),
}

# Parts of necks; BiFPNAdd, the shortest of them, stays fast.
PARTS = (
    "BiFPNConv",
    "CGAFusion",
    "SDI",
    "SpatialFusion",
    "SelectiveFusion",
    "ScalSeq",
    "CPAM",
    "Zoom_cat",
    "ChannelSelect",
    "AFPNBlock",
    "VoVGSCSP",
    "CSPStage",
)
INPUTS: dict[str, tuple[int, ...]] = {"ScalSeq": (24, 16, 8), "Zoom_cat": (8, 16, 24)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Go through the catalogue; what takes long is marked slow."""
    whole = metafunc.function.__name__ == "test_builds_and_learns_inside_yolo11n"
    params = [
        pytest.param(name, marks=[pytest.mark.slow] if _takes_long(name) or (whole and name in LEAVES) else [])
        for name in (entry.name for entry in catalogue if entry.channels != "structure")
    ]
    metafunc.parametrize("graft", params, indirect=True)


def _takes_long(name: str) -> bool:
    return name.endswith(LARGE) or name.startswith(DEEP) or name in PARTS


@pytest.fixture(autouse=True)
def graft(request: pytest.FixtureRequest) -> None:
    request.cls.graft = request.param
    request.cls.args = ARGS.get(request.param, ())
    is_stock = request.param == "ADown"
    request.cls.sizes, request.cls.stride = (EVEN, 2) if is_stock else (BlockContract.sizes, None)
    request.cls.inputs = INPUTS.get(request.param, (16,))


class TestCatalogue(BlockContract):
    pass
