"""ConvNeXt V2 backbones against the permute-based form and timm's own modules."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXtBlock
from torch import nn

from benchmarks.measure import Case, Work, training_step, without_gradients
from benchmarks.rivals import PermutedConvNeXtV2
from detgraft.blocks.backbones.convnext_fast import FastConvNeXtBlock
from detgraft.blocks.backbones.convnextv2 import convnextv2
from detgraft.kernels.products import linear

SIZES = [("atto", 8), ("tiny", 4)]


def forms(size: str, batch: int, training: bool, pixels: int = 320, device: str = "cpu") -> Mapping[str, Work]:
    torch.manual_seed(0)
    ours = convnextv2(size, 3).to(device)
    for name, parameter in ours.named_parameters():
        if "grn" in name:
            nn.init.normal_(parameter, std=0.5)  # both start at 0, where the response norm does nothing
    ours.train(training)
    plain = copy.deepcopy(ours.net)
    for module in plain.modules():
        if type(module) is FastConvNeXtBlock:
            module.__class__ = ConvNeXtBlock
    found = {"ours": ours, "tutorial": PermutedConvNeXtV2(copy.deepcopy(plain)), "timm": plain}
    image = torch.randn(batch, 3, pixels, pixels, device=device)
    with torch.no_grad():
        cotangents = [torch.randn_like(feature) for feature in ours(image)]

    def work(form: nn.Module) -> Work:
        if not training:
            return without_gradients(lambda: form(image))
        return training_step(lambda: form(image), list(form.parameters()), cotangents)

    return {name: work(form) for name, form in found.items()}


def _norm_forms(positions: int, channels: int) -> Mapping[str, Work]:
    """The norm before the first product, and the same with the norm's weight and bias folded into the product."""
    torch.manual_seed(0)
    x_LC, norm_C, shift_C = torch.randn(positions, channels), torch.randn(channels), torch.randn(channels)
    expand_DC, bias_D = torch.randn(4 * channels, channels), torch.randn(4 * channels)

    def apart() -> list[torch.Tensor]:
        return [linear(F.layer_norm(x_LC, norm_C.shape, norm_C, shift_C, 1e-6), expand_DC, bias_D)]

    def folded() -> list[torch.Tensor]:
        product_DC, sum_D = expand_DC * norm_C, torch.addmv(bias_D, expand_DC, shift_C)
        return [linear(F.layer_norm(x_LC, norm_C.shape, None, None, 1e-6), product_DC, sum_D)]

    return {"ours": without_gradients(apart), "folded": without_gradients(folded)}


def cases() -> list[Case]:
    found = [
        Case(
            f"convnextv2/{size} batch {batch} at 320/{'training step' if training else 'forward'}",
            functools.partial(forms, size, batch, training),
            targets={"tutorial": 1.4 if training else 1.5, "timm": 1.15},
            tolerance=1e-4 if training else 1e-5,  # gradients sum over all positions of all pictures
            rounds=9,
            seconds=40,
            memory_target={"tutorial": 1.0, "timm": 1.0} if training else {},
        )
        for size, batch in SIZES
        for training in (False, True)
    ]
    for size, stages in (("atto", ((6400, 40), (100, 320))), ("tiny", ((6400, 96), (100, 768)))):
        for shape in stages:
            name = f"convnextv2/{size} norm and product {shape[0]}x{shape[1]}/forward"
            found.append(Case(name, functools.partial(_norm_forms, *shape), rounds=101, seconds=3))
    return found
