"""ConvNeXt computed on visible positions only.

A mask hides whole 32-pixel patches, so inside a visible patch everything is there: the stem's and the downsampling's
windows never leave a patch, and every image has the same number of visible patches. The visible positions therefore
form one dense tensor of tokens, and pointwise layers, norms, GELU, GRN, stem and downsampling are plain matrix work on
it. Only the 7x7 depthwise convolution looks across patches: tokens are laid out on the image's grid (zeros where
hidden), convolved, and picked up again.

Source of the idea: FCMAE's sparse encoder (arXiv:2301.00808; facebookresearch/ConvNeXt-V2,
models/convnextv2_sparse.py), which needs a sparse library for it. Equal to `MaskedEncoder`, forward and backward.
GRN: norm of each image over its visible positions, not over the batch as in the official sparse code (`masked_ops`).

Shape suffixes: B images, C channels, H and W pixels or positions, V visible patches, S positions of one patch
(side * side, in raster order), N tokens of one image (V * S).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import GlobalResponseNormMlp, LayerNorm2d, Mlp
from timm.models.convnext import ConvNeXtBlock, ConvNeXtStage
from torch import Tensor, nn

from detgraft.blocks.backbones.convnext_fast import FastConvNeXtBlock
from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.kernels.depthwise import depthwise, is_depthwise
from detgraft.pretraining.cpu_products import linear
from detgraft.pretraining.masking import PATCH, grid_of

_STEM = 4
_TINY = 1e-24  # under the root of a squared norm: keeps the gradient finite where a channel is zero everywhere


def computable(backbone: TimmBackbone) -> bool:
    """Return whether this backbone is a timm ConvNeXt whose every layer :func:`visible_tokens` knows."""
    parts = dict(backbone.net.named_children())
    stem, norm = parts.get("stem_0"), parts.get("stem_1")
    stages = [part for name, part in parts.items() if name.startswith("stages_")]
    if not isinstance(stem, nn.Conv2d) or stem.kernel_size != (_STEM, _STEM) or stem.stride != (_STEM, _STEM):
        return False
    if type(norm) is not LayerNorm2d or len(parts) != 2 + len(stages):
        return False
    return all(isinstance(stage, ConvNeXtStage) and _stage_known(stage) for stage in stages)


def _stage_known(stage: ConvNeXtStage) -> bool:
    down = stage.downsample
    if isinstance(down, nn.Sequential):
        norm, conv = down
        if type(norm) is not LayerNorm2d or conv.kernel_size != (2, 2) or conv.stride != (2, 2) or conv.groups != 1:
            return False
    elif not isinstance(down, nn.Identity):
        return False
    return all(_block_known(block) for block in stage.blocks)


def _block_known(block: nn.Module) -> bool:
    return (
        type(block) in (ConvNeXtBlock, FastConvNeXtBlock)
        and type(block.mlp) in (GlobalResponseNormMlp, Mlp)
        and isinstance(block.norm, nn.LayerNorm)
        and isinstance(block.shortcut, nn.Identity)
        and isinstance(getattr(block.mlp, "norm", None) or nn.Identity(), nn.Identity)
        and is_depthwise(block.conv_dw)
    )


class TokenGrid:
    """Where the visible tokens of a batch lie on the image grid, at any number of positions per patch.

    Args:
        visible_BV: Patch numbers of the visible patches, in raster order.
        grid: Patches down and across.
    """

    def __init__(self, visible_BV: Tensor, grid: tuple[int, int]) -> None:
        self.visible_BV = visible_BV
        self.grid = grid
        self._rows: dict[int, Tensor] = {}

    def rows(self, side: int) -> Tensor:
        """Return, for each token, its row in the (B * H * W, C) layout of the grid with ``side`` positions a patch."""
        if side not in self._rows:
            down, across = self.grid
            device = self.visible_BV.device
            image = torch.arange(len(self.visible_BV), device=device).view(-1, 1, 1, 1)
            inner = torch.arange(side, device=device)
            top = torch.div(self.visible_BV, across, rounding_mode="floor")[:, :, None, None] * side
            left = (self.visible_BV % across)[:, :, None, None] * side
            row = (image * (down * side) + top + inner[:, None]) * (across * side) + left + inner
            self._rows[side] = row.flatten()
        return self._rows[side]

    def spread(self, tokens_BNC: Tensor, side: int) -> Tensor:
        """Lay tokens on the grid, zeros where hidden: (B, N, C) to (B, C, H, W) in channels-last memory."""
        batch, _, channels = tokens_BNC.shape
        height, width = self.grid[0] * side, self.grid[1] * side
        flat = tokens_BNC.new_zeros(batch * height * width, channels)
        flat = flat.index_copy(0, self.rows(side), tokens_BNC.reshape(-1, channels))
        return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def collect(self, x_BCHW: Tensor, side: int) -> Tensor:
        """Pick the visible tokens up again: (B, C, H, W) to (B, N, C)."""
        batch, channels = x_BCHW.shape[:2]
        flat = x_BCHW.permute(0, 2, 3, 1).reshape(-1, channels)
        return flat.index_select(0, self.rows(side)).view(batch, -1, channels)


def visible_tokens(backbone: TimmBackbone, images_BCHW: Tensor, visible_BV: Tensor) -> Tensor:
    """Encode the visible patches of a batch.

    Args:
        backbone: A backbone for which :func:`computable` is true.
        images_BCHW: Images, sides multiples of 32. Pixels of hidden patches are never read.
        visible_BV: Patch numbers of the visible patches, in raster order.

    Returns:
        The last stage's features of the visible patches, (B, V, C).
    """
    net: Any = backbone.net
    grid = TokenGrid(visible_BV, grid_of(images_BCHW.shape[2], images_BCHW.shape[3]))
    stem, norm = net["stem_0"], net["stem_1"]
    side = PATCH // _STEM
    tokens = linear(_stem_windows(images_BCHW, grid), stem.weight.flatten(1), stem.bias)
    tokens = _layer_norm(norm, tokens)
    for name, stage in net.items():
        if not name.startswith("stages_"):
            continue
        if isinstance(stage.downsample, nn.Sequential):
            tokens = _downsample(stage.downsample, tokens, visible_BV.shape[1], side)
            side //= 2
        for block in stage.blocks:
            tokens = tokens + block.drop_path(_block(block, grid, tokens, side))
    return tokens


def _stem_windows(images_BCHW: Tensor, grid: TokenGrid) -> Tensor:
    """Return the 4x4 windows of the visible patches, (B, N, C * 16), values in the order of a convolution kernel."""
    batch, channels = images_BCHW.shape[:2]
    (down, across), side = grid.grid, PATCH // _STEM
    cut = images_BCHW.reshape(batch, channels, down, side, _STEM, across, side, _STEM)
    windows = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(batch, down * across, -1)
    shown = windows.gather(1, grid.visible_BV[:, :, None].expand(-1, -1, windows.shape[2]))
    return shown.view(batch, -1, channels * _STEM * _STEM)


def _downsample(down: nn.Sequential, tokens_BNC: Tensor, patches: int, side: int) -> Tensor:
    norm: Any = down[0]
    conv: Any = down[1]
    batch, _, channels = tokens_BNC.shape
    tokens = _layer_norm(norm, tokens_BNC).view(batch, patches, side // 2, 2, side // 2, 2, channels)
    windows = tokens.permute(0, 1, 2, 4, 3, 5, 6).reshape(batch, -1, 4 * channels)
    return linear(windows, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)


def _block(block: Any, grid: TokenGrid, tokens_BNC: Tensor, side: int) -> Tensor:
    """Return what a ConvNeXt block adds to its input."""
    conv = block.conv_dw
    mixed_BCHW = depthwise(grid.spread(tokens_BNC, side), conv.weight)
    mixed = grid.collect(mixed_BCHW, side)
    return block_mlp(block, mixed if conv.bias is None else mixed + conv.bias)


def block_mlp(block: Any, tokens_BNC: Tensor, needed: Tensor | None = None) -> Tensor:
    """Run the part of a ConvNeXt block behind its depthwise convolution on tokens.

    Args:
        block: timm's ConvNeXtBlock, with linear layers or 1x1 convolutions, with or without GRN and layer scale.
        tokens_BNC: Tokens; GRN takes its norm over all N of each image.
        needed: Rows of the (B * N, C) layout whose result is wanted, the same number for every image; None means all.

    Returns:
        What the block adds to its input: (B, N, C), or (B, M, C) for M needed rows an image.
    """
    mlp = block.mlp
    hidden = mlp.drop1(mlp.act(_linear(mlp.fc1, _layer_norm(block.norm, tokens_BNC))))
    weight = mlp.fc2.weight.flatten(1)
    bias = mlp.fc2.bias
    scale: Tensor | None = None
    grn = getattr(mlp, "grn", None)
    if grn is not None:
        squared = hidden.float().square().sum(dim=1, keepdim=True)
        norm = squared.clamp_min(_TINY).sqrt()
        scale = (1.0 + grn.weight * (norm / (norm.mean(dim=-1, keepdim=True) + grn.eps))).to(hidden.dtype)
        # GRN's own bias passes through the linear layer behind it like a bias of that layer.
        shift = F.linear(grn.bias, weight)
        bias = shift if bias is None else bias + shift
    if needed is not None:
        batch, _, width = hidden.shape
        hidden = hidden.reshape(-1, width).index_select(0, needed).view(batch, -1, width)
    if scale is not None:
        hidden = hidden * scale
    out: Tensor = mlp.drop2(linear(hidden, weight, bias))
    return out if block.gamma is None else out * block.gamma


def _linear(layer: Any, tokens: Tensor) -> Tensor:
    return linear(tokens, layer.weight.flatten(1), layer.bias)


def _layer_norm(norm: Any, tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:], norm.weight, norm.bias, norm.eps)
