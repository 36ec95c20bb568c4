"""Content-aware reassembly as matrix products over small tiles, with gradients that recompute instead of storing.

Paper: CARAFE: Content-Aware ReAssembly of FEatures (arXiv 1905.02188). Own code from the formula.

A tile of about 4x4 input pixels shares one window of ``4 + k_up - 1`` input pixels a side. All its output pixels are
one product: a banded matrix (each kernel laid where its neighbourhood lies in the window, zero elsewhere) times the
window. The zeros cost more multiplications than gathering every neighbourhood would, but a window is copied once for
16 pixels instead of 25 times for each, and the product is large enough to run near the machine's peak. The banded
matrix is filled, and its gradient read, through one strided view.

One picture is worked on at a time in buffers that stay in the cache; only the two inputs are kept for the backward
pass. Half precision is computed in float32 and rounded once.

Shape suffixes: B batch, I pictures times channel groups, C channels (of one group where I comes first), H height,
W width (of the input), T tiles, N output pixels of a tile, K input pixels of a window.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_SIDES = (4, 5, 3, 2)
"""Sides of a tile in input pixels, best first; the time differs by a tenth, so the one that leaves no rest is taken."""


def tiled_carafe(x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
    """Compute `detgraft.kernels.carafe.carafe`; same arguments, shapes and result.

    The result has the memory format of ``x_BCHW`` where there is one mask group.
    """
    height, width = x_BCHW.shape[-2:]
    rows, columns = _padded(height), _padded(width)
    if (rows, columns) == (height, width):
        y: Tensor = _Tiled.apply(x_BCHW, mask, k_up, scale)
        return y
    below, right = rows - height, columns - width
    x_BCHW, mask = F.pad(x_BCHW, (0, right, 0, below)), F.pad(mask, (0, right * scale, 0, below * scale))
    y = _Tiled.apply(x_BCHW, mask, k_up, scale)
    return y[:, :, : height * scale, : width * scale].contiguous(memory_format=_memory_format(x_BCHW, mask, k_up))


def _padded(size: int) -> int:
    return size if size < _SIDES[0] else min(-(-size // side) * side for side in _SIDES)


def _side(size: int) -> int:
    return size if size < _SIDES[0] else next(side for side in _SIDES if size % side == 0)


def _memory_format(x_BCHW: Tensor, mask: Tensor, k_up: int) -> torch.memory_format:
    """Return the layout of a result like ``x_BCHW``; groups of channels can only be viewed in the contiguous one."""
    channels_last = not x_BCHW.is_contiguous() and x_BCHW.is_contiguous(memory_format=torch.channels_last)
    one_group = mask.shape[1] == k_up * k_up
    return torch.channels_last if channels_last and one_group else torch.contiguous_format


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
        ctx.save_for_backward(x_BCHW, mask)
        ctx.k_up, ctx.scale = k_up, scale
        batch, channels, height, width = x_BCHW.shape
        y_BCHW = torch.empty(
            (batch, channels, height * scale, width * scale),
            dtype=x_BCHW.dtype,
            device=x_BCHW.device,
            memory_format=_memory_format(x_BCHW, mask, k_up),
        )
        work = _Work(x_BCHW, mask, k_up, scale)
        for x_CHW, mask_CHW, y_CHW in zip(*map(work.split, (x_BCHW, mask, y_BCHW)), strict=True):
            work.put_input(x_CHW)
            work.put_kernels(mask_CHW)
            torch.bmm(work.band_TNK, work.window_TKC, out=work.output_TNC)
            work.picture(y_CHW).copy_(work.output())
        return y_BCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x_BCHW, mask = ctx.saved_tensors
        wants_x, wants_mask = ctx.needs_input_grad[:2]
        grad_x = torch.empty_like(x_BCHW, memory_format=_memory_format(x_BCHW, mask, ctx.k_up)) if wants_x else None
        grad_mask = torch.empty_like(mask, memory_format=torch.contiguous_format) if wants_mask else None
        work = _Work(x_BCHW, mask, ctx.k_up, ctx.scale)
        grad_band_TNK = torch.empty_like(work.band_TNK) if wants_mask else None
        inputs = zip(*map(work.split, (x_BCHW, mask, grad_y)), strict=True)
        for i, (x_CHW, mask_CHW, grad_y_CHW) in enumerate(inputs):
            work.output().copy_(work.picture(grad_y_CHW))
            if grad_mask is not None and grad_band_TNK is not None:
                work.put_input(x_CHW)
                torch.bmm(work.output_TNC, work.window_TKC.transpose(1, 2), out=grad_band_TNK)
                work.kernels(work.split(grad_mask)[i]).copy_(work.diagonals(grad_band_TNK))
            if grad_x is not None:
                work.put_kernels(mask_CHW)
                torch.bmm(work.band_TNK.transpose(1, 2), work.output_TNC, out=work.window_TKC)
                work.fold_window()
                work.split(grad_x)[i].copy_(work.interior().permute(2, 0, 1))
        return grad_x, grad_mask, None, None


class _Work:
    """Buffers for one picture, and the views through which tensors enter and leave them."""

    def __init__(self, x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> None:
        batch, channels, self.height, self.width = x_BCHW.shape
        self.k, self.scale = k_up, scale
        self.pictures = batch * (mask.shape[1] // (k_up * k_up))
        self.channels = channels * batch // max(self.pictures, 1)
        self.side_y, self.side_x = _side(self.height), _side(self.width)
        self.rows, self.columns = self.height // self.side_y, self.width // self.side_x  # of tiles
        self.window_y, self.window_x = self.side_y + k_up - 1, self.side_x + k_up - 1
        tiles = self.rows * self.columns
        outputs, inputs = self.side_y * self.side_x * scale * scale, self.window_y * self.window_x
        dtype = torch.promote_types(torch.promote_types(x_BCHW.dtype, mask.dtype), torch.float32)
        like = torch.empty(0, dtype=dtype, device=x_BCHW.device)
        self.padded_HWC = like.new_empty(self.height + k_up - 1, self.width + k_up - 1, self.channels)
        self.window_TKC = like.new_empty(tiles, inputs, self.channels)
        self.output_TNC = like.new_empty(tiles, outputs, self.channels)
        self.band_TNK = like.new_zeros(tiles, outputs, inputs)

    def split(self, tensor: Tensor) -> Tensor:
        """Give ``(B, groups * n, H, W)`` as one ``(n, H, W)`` per picture and channel group; a view where it can be."""
        if self.pictures == tensor.shape[0]:
            return tensor
        return tensor.reshape(self.pictures, -1, *tensor.shape[-2:])

    def put_input(self, x_CHW: Tensor) -> None:
        """Copy one picture's features into the windows of all tiles."""
        self.padded_HWC.zero_()  # `fold_window` leaves gradients in the padding
        self.interior().copy_(x_CHW.permute(1, 2, 0))
        row, column, _ = self.padded_HWC.stride()
        windows = self.padded_HWC.as_strided(
            (self.rows, self.columns, self.window_y, self.window_x, self.channels),
            (self.side_y * row, self.side_x * column, row, column, 1),
        )
        self.window_TKC.view(windows.shape).copy_(windows)

    def put_kernels(self, mask_CHW: Tensor) -> None:
        """Copy one picture's kernels onto the diagonals of the banded matrices."""
        self.diagonals(self.band_TNK).copy_(self.kernels(mask_CHW))

    def interior(self) -> Tensor:
        """Return the part ``(H, W, C)`` of the padded picture that is not padding."""
        radius = self.k // 2
        return self.padded_HWC[radius : radius + self.height, radius : radius + self.width]

    def fold_window(self) -> None:
        """Add the windows up at their places in the padded picture, one block of a tile's size after the other."""
        self.padded_HWC.zero_()
        windows = self.window_TKC.view(self.rows, self.columns, self.window_y, self.window_x, self.channels)
        for top in range(0, self.window_y, self.side_y):
            for left in range(0, self.window_x, self.side_x):
                block = windows[:, :, top : top + self.side_y, left : left + self.side_x]
                row, column, _ = self.padded_HWC.stride()
                self.padded_HWC.as_strided(
                    block.shape, (self.side_y * row, self.side_x * column, row, column, 1), top * row + left * column
                ).add_(block)

    def picture(self, y_CHW: Tensor) -> Tensor:
        """View one picture ``(C, H * scale, W * scale)`` in the order of `output`."""
        sides = self.side_y * self.scale, self.side_x * self.scale
        return y_CHW.view(-1, self.rows, sides[0], self.columns, sides[1]).permute(1, 3, 2, 4, 0)

    def output(self) -> Tensor:
        """View the tiles' outputs as ``(rows, columns, side_y * scale, side_x * scale, C)``."""
        return self.output_TNC.view(
            self.rows, self.columns, self.side_y * self.scale, self.side_x * self.scale, self.channels
        )

    def kernels(self, mask_CHW: Tensor) -> Tensor:
        """View one picture's kernels ``(k * k, H * scale, W * scale)`` in the order of `diagonals`."""
        pixels = self.rows, self.side_y, self.scale, self.columns, self.side_x, self.scale
        return mask_CHW.view(self.k, self.k, *pixels).permute(2, 5, 3, 4, 6, 7, 0, 1)

    def diagonals(self, band_TNK: Tensor) -> Tensor:
        """View the entries of banded matrices that hold kernels: ``(rows, columns, y, scale, x, scale, k, k)``."""
        matrix, entry = band_TNK.stride(0), band_TNK.stride(1)  # from one matrix, one output pixel to the next
        output_row = self.side_x * self.scale * entry
        return band_TNK.as_strided(
            (self.rows, self.columns, self.side_y, self.scale, self.side_x, self.scale, self.k, self.k),
            (
                self.columns * matrix,
                matrix,
                self.scale * output_row + self.window_x,
                output_row,
                self.scale * entry + 1,
                entry,
                self.window_x,
                1,
            ),
        )
