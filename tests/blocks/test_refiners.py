"""What stands between neck and head: the official numbers, the formula of the paper, values that make no sense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detgraft.blocks.asff import ASFF
from detgraft.blocks.dyhead import DyHead, DyHeadBlock
from detgraft.errors import ArgumentError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "blocks"
OFFICIAL = {
    "DyConv.0.": "coarser.",
    "DyConv.1.": "same.",
    "DyConv.2.": "finer.",
    "AttnConv.": "scale.",
    "relu.": "task.",
}


def test_dyhead_block_equals_the_official_code() -> None:
    arrays = np.load(GOLDEN / "dyhead.npz")
    block = DyHeadBlock(32)
    state = {}
    for key in (key for key in arrays.files if key.startswith("w/")):
        name = key.removeprefix("w/").replace(".bn.", ".norm.")
        for official, own in OFFICIAL.items():
            name = own + name.removeprefix(official) if name.startswith(official) else name
        state[name] = torch.from_numpy(arrays[key])
    block.load_state_dict(state)
    with torch.no_grad():
        found = block([torch.from_numpy(arrays[f"input{level}"]) for level in range(3)])
    for level, output in enumerate(found):
        np.testing.assert_allclose(output.numpy(), arrays[f"output{level}"], rtol=1e-4, atol=1e-5)


def test_asff_is_the_weighted_sum_of_the_paper() -> None:
    """Equation 1 on the middle of three levels, written out pixel by pixel."""
    torch.manual_seed(0)
    block = ASFF([8, 12, 16]).eval()
    features = [torch.randn(2, c, 16 >> level, 24 >> level) for level, c in enumerate((8, 12, 16))]
    fusion = block.fusions[1]
    with torch.no_grad():
        found = block(features)[1]
        finer = fusion.resize[0][0](features[0])  # 3x3, stride 2
        coarser = fusion.resize[2](features[2]).repeat_interleave(2, 2).repeat_interleave(2, 3)
        parts = [finer, features[1], coarser]
        logits = [F.conv2d(x, logit.weight, logit.bias) for x, logit in zip(parts, fusion.logit, strict=True)]
        shares = [logit.exp() / sum(other.exp() for other in logits) for logit in logits]
        expected = sum(share * x for share, x in zip(shares, parts, strict=True))
    torch.testing.assert_close(found, expected)


def test_asff_halves_by_pooling_before_the_convolution_of_stride_2() -> None:
    resize = ASFF([8, 12, 16, 20]).fusions[3].resize
    kinds = [[type(module).__name__ for module in part] for part in list(resize)[:3]]
    assert kinds == [["MaxPool2d", "MaxPool2d", "ConvNormAct"], ["MaxPool2d", "ConvNormAct"], ["ConvNormAct"]]
    assert isinstance(resize[3], nn.Identity)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ASFF([16]), "two or more levels"),
        (lambda: ASFF([16, 0]), "channels must be"),
        (lambda: DyHead([16]), "two or more levels"),
        (lambda: DyHead([16, 32], 24), "multiple of"),
        (lambda: DyHead([16, 32], blocks=0), "blocks must be"),
    ],
)
def test_wrong_values_of_refiners_are_named(build: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        build()
