"""DySample: upsampling by learning where to sample.

Paper: "Learning to Upsample by Learning to Sample", ICCV 2023.
Official source: github.com/tiny-smart/dysample, dysample.py, read at commit
81a1de5caa95d55a0f5488425fa53ec7ef47f8f0. Licence: MIT. No weights are used.

Differences: the resting sampling positions (``init_pos``) follow from the arguments and are not part of the state
dict. Coordinates are kept in float32 at least, also in a half-precision model: in float16 a position beyond column 512
moves in steps of half a pixel. No batch size is fixed in the exported graph.

Shape suffixes: B batch, C channels, G groups, S scale, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.errors import ArgumentError, nearest

_STYLES = ("lp", "pl")


class DySample(nn.Module):
    """Upsample bilinearly at positions that a 1x1 convolution predicts.

    Args:
        c1: Input channels; the output has as many.
        scale: Upsampling factor.
        style: ``lp`` predicts offsets at low resolution, then shuffles pixels; ``pl`` the other way round.
        groups: Channel groups that are sampled at positions of their own; must divide ``c1``.
        dyscope: Also predict how far each offset may reach, instead of a fixed quarter of a pixel per unit.

    Raises:
        ArgumentError: An unknown style, or channels that ``groups`` (or, for ``pl``, the squared scale) does not
            divide.
    """

    init_pos: Tensor

    def __init__(self, c1: int, scale: int = 2, style: str = "lp", groups: int = 4, dyscope: bool = False) -> None:
        super().__init__()
        require_positive("DySample", c1=c1, scale=scale, groups=groups)
        if style not in _STYLES:
            raise ArgumentError(f"DySample: style must be 'lp' or 'pl', found {style!r}.{nearest(str(style), _STYLES)}")
        require_multiple("DySample", "groups", groups, c1=c1)
        if style == "pl" and c1 % scale**2:
            raise ArgumentError(
                f"DySample: with style='pl' c1 must be a multiple of scale * scale = {scale**2}, found c1={c1}; "
                "style='lp' takes any number of channels"
            )
        self.c1, self.scale, self.style, self.groups = c1, scale, style, groups
        if style == "pl":
            self.offset = nn.Conv2d(c1 // scale**2, 2 * groups, 1)
        else:
            self.offset = nn.Conv2d(c1, 2 * groups * scale**2, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        self.scope: nn.Conv2d | None = None
        if dyscope:
            self.scope = nn.Conv2d(self.offset.in_channels, self.offset.out_channels, 1, bias=False)
            nn.init.zeros_(self.scope.weight)
        self.register_buffer("init_pos", _resting_positions(scale, groups), persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the upsampled input, shape (batch, c1, height * scale, width * scale)."""
        guide = F.pixel_shuffle(x_BCHW, self.scale) if self.style == "pl" else x_BCHW
        offset = self.offset(guide)
        # Without a predicted scope a unit means a quarter of a pixel; with one, half a pixel times a share of 0 to 1.
        offset = offset * 0.25 if self.scope is None else offset * self.scope(guide).sigmoid() * 0.5
        if self.style == "pl":
            offset = F.pixel_unshuffle(offset, self.scale)
        return self._sample(x_BCHW, offset)

    def _sample(self, x_BCHW: Tensor, offset: Tensor) -> Tensor:
        height, width = x_BCHW.shape[2], x_BCHW.shape[3]
        dtype = torch.promote_types(x_BCHW.dtype, torch.float32)
        offset = offset.to(dtype) + self.init_pos.to(dtype)
        # (batch, x and y, groups * scale * scale, H, W)
        offset = offset.reshape(-1, 2, self.groups * self.scale**2, height, width)
        x_W = (torch.arange(width, device=x_BCHW.device, dtype=dtype) + 0.5).reshape(1, 1, width)
        y_H = (torch.arange(height, device=x_BCHW.device, dtype=dtype) + 0.5).reshape(1, height, 1)
        x_at = 2 * (offset[:, 0] + x_W) / width - 1
        y_at = 2 * (offset[:, 1] + y_H) / height - 1
        grid = torch.stack((F.pixel_shuffle(x_at, self.scale), F.pixel_shuffle(y_at, self.scale)), -1)
        grid = grid.reshape(-1, height * self.scale, width * self.scale, 2)
        grouped = x_BCHW.to(dtype).reshape(-1, self.c1 // self.groups, height, width)
        sampled = F.grid_sample(grouped, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return sampled.reshape(-1, self.c1, height * self.scale, width * self.scale).to(x_BCHW.dtype)

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"scale={self.scale}, style={self.style!r}, groups={self.groups}"


def _resting_positions(scale: int, groups: int) -> Tensor:
    """Return the offsets that sample like bilinear upsampling, in input pixels, shape (1, 2 * G * S * S, 1, 1)."""
    step_S = (torch.arange(scale) - (scale - 1) / 2) / scale
    x_SS = step_S.reshape(1, scale).expand(scale, scale)
    positions_2GSS = torch.stack((x_SS, x_SS.T)).unsqueeze(1).expand(2, groups, scale, scale)
    return positions_2GSS.reshape(1, -1, 1, 1).clone()
