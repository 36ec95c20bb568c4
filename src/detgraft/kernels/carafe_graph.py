"""Content-aware reassembly for exported graphs: the tiles of `carafe_tiled`, in operators that every runtime has.

Paper: CARAFE: Content-Aware ReAssembly of FEatures (arXiv 1905.02188). Own code from the formula.

A tile's side is twice the neighbourhood's radius, so that a tile's window is exactly the tile and its next neighbours:
windows are two concatenations instead of one copy for each of the ``k_up * k_up`` neighbours. The banded matrices are
made by padding and cutting flattened rows, which moves each row one entry further than the one before. In ONNX Runtime
on one core this takes half the time of gathering every neighbourhood.

Shape suffixes: I pictures times channel groups, C channels of one group, Y and X tiles down and across, S scale,
T side of a tile, W side of a window (``2 * T``), K side of a neighbourhood (``T + 1``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def graph_carafe(x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
    """Compute `detgraft.kernels.carafe.carafe` for ``k_up`` of at least 3; same arguments, shapes and result.

    Every size is read from the tensors while tracing, so an exported graph accepts any batch and any size.
    """
    batch, channels, height, width = x_BCHW.shape
    groups = mask.shape[1] // (k_up * k_up)
    radius, side = k_up // 2, k_up - 1
    # As remainders: onnxslim folds `(h + side - 1) // side * side - h` of a free size into `side - 1`, which is wrong.
    below, right = -height % side, -width % side
    down, across = (height + below) // side, (width + right) // side
    framed = F.pad(x_BCHW, (radius, radius, radius, radius))
    framed = _append_zeros(framed, batch, channels, height + 2 * radius, width + 2 * radius, below, right)
    window_IYXCWW = _windows(framed, groups, side)
    sizes = (height * scale, width * scale, below * scale, right * scale)
    mask = _append_zeros(mask.to(x_BCHW.dtype), batch, mask.shape[1], *sizes)
    mask = mask.reshape(batch * groups, k_up, k_up, down, side, scale, across, side, scale)
    band_IYXSSKTTW = _shift_rows(mask.permute(0, 3, 6, 5, 8, 1, 4, 7, 2))  # along the width
    band_IYXSSTWTW = _shift_rows(band_IYXSSKTTW.permute(0, 1, 2, 3, 4, 7, 8, 6, 5))  # along the height
    band = band_IYXSSTWTW.permute(0, 1, 2, 8, 6, 7, 3, 5, 4)
    outputs = side * scale
    product = torch.matmul(
        window_IYXCWW.reshape(batch * groups, down, across, channels // groups, 4 * side * side),
        band.reshape(batch * groups, down, across, 4 * side * side, outputs * outputs),
    )
    y = product.reshape(batch * groups, down, across, channels // groups, outputs, outputs)
    y_BCHW = y.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, down * outputs, across * outputs)
    return y_BCHW[:, :, : height * scale, : width * scale]


def _append_zeros(x: Tensor, batch: int, channels: int, height: int, width: int, below: int, right: int) -> Tensor:
    """Append rows and columns of zeros to ``x``, whose sizes come as arguments.

    Concatenations instead of `torch.nn.functional.pad`: onnxslim 0.1 folds the list of a one-sided pad wrongly and puts
    the zeros in front. Arguments instead of ``x.shape``: behind some reshapes, torch's ONNX exporter takes the batch of
    the example for that of every call.
    """
    x = torch.cat([x, x.new_zeros(batch, channels, height, right)], 3)
    return torch.cat([x, x.new_zeros(batch, channels, below, width + right)], 2)


def _windows(padded_BCHW: Tensor, groups: int, side: int) -> Tensor:
    batch, channels, height, width = padded_BCHW.shape
    blocks = padded_BCHW.reshape(batch * groups, channels // groups, height // side, side, width // side, side)
    blocks = blocks.permute(0, 2, 4, 1, 3, 5)
    rows = torch.cat([blocks[:, :-1], blocks[:, 1:]], dim=4)
    return torch.cat([rows[:, :, :-1], rows[:, :, 1:]], dim=5)


def _shift_rows(rows: Tensor) -> Tensor:
    """Lay row ``i`` of the last two dimensions ``(T, K)`` at column ``i`` of ``(T, W)``, zeros elsewhere."""
    side, k_up = rows.shape[-2], rows.shape[-1]
    width = side + k_up - 1
    flat = torch.cat([rows, torch.zeros_like(rows[..., :side])], -1).flatten(-2)
    return flat[..., : side * width].reshape(*rows.shape[:-2], side, width)
