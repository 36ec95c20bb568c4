"""Reads a picture at points between its pixels, several per output position.

Paper: none of its own; bilinear interpolation as the deformable convolutions use it. Own code. No weights.

Shape suffixes: B batch, C channels, H height, W width, T points per output position.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(
    x_BCHW: Tensor, row_BTHW: Tensor, column_BTHW: Tensor, outside: Literal["border", "zeros"] = "border"
) -> Tensor:
    """Return the values at points given in pixels, interpolated between the four pixels around each.

    Args:
        x_BCHW: The picture.
        row_BTHW: Row of each point; 0 is the middle of the first pixel. Height and width are the output's.
        column_BTHW: Column of each point.
        outside: What lies beyond the picture: its nearest pixel, or zero.

    Returns:
        Shape (batch, channels, T, height, width) of the output, in the picture's dtype.
    """
    height, width = x_BCHW.shape[2:]
    points, rows, columns = row_BTHW.shape[1:]
    dtype = torch.promote_types(x_BCHW.dtype, torch.float32)  # half precision cannot name a pixel of a large picture
    grid = torch.stack(
        ((2 * column_BTHW.to(dtype) + 1) / width - 1, (2 * row_BTHW.to(dtype) + 1) / height - 1), -1
    ).reshape(-1, points * rows, columns, 2)
    found = F.grid_sample(x_BCHW.to(dtype), grid, mode="bilinear", padding_mode=outside, align_corners=False)
    return found.reshape(-1, x_BCHW.shape[1], points, rows, columns).to(x_BCHW.dtype)


def positions(height: int, width: int, stride: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column, in pixels of the input, of every output position: shapes (height, 1) and (width,).

    Args:
        height: The output's height.
        width: The output's width.
        stride: Pixels of the input from one output position to the next.
        like: A tensor on the device to use; the result is float32 at least.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    row_H1 = torch.arange(height, device=like.device, dtype=dtype).reshape(-1, 1) * stride
    column_W = torch.arange(width, device=like.device, dtype=dtype) * stride
    return row_H1, column_W
