"""Content-aware reassembly, the inner loop of CARAFE: one function, the fastest form for where it runs.

Paper: CARAFE: Content-Aware ReAssembly of FEatures (arXiv 1905.02188).
Source: open-mmlab/mmcv ``ops/carafe.py`` and its CUDA kernel (Apache-2.0); own code from the formula. No weights.
Differences: nothing is computed at the output's resolution but the output itself. Four forms of one sum:

- on the CPU, products of banded matrices with small windows and an own backward pass (`carafe_tiled`);
- on CUDA, where it was measured or `DETGRAFT_TRITON` asks for it (`policy`), one kernel for the sum and one for each
  gradient (`carafe_triton`);
- in exported graphs, the same tiles in operators that every runtime has (`carafe_graph`);
- elsewhere, and where operators are compiled or counted instead of only run, plain PyTorch (below).

Shape suffixes: B batch, G mask groups, C channels, H height, W width (of the input), K ``k_up * k_up`` neighbours,
S scale, P ``scale * scale`` output pixels of one input pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detgraft.kernels.carafe_graph import graph_carafe
from detgraft.kernels.carafe_tiled import tiled_carafe
from detgraft.kernels.policy import wants_triton
from detgraft.kernels.recording import is_recorded, is_traced

try:
    from detgraft.kernels.carafe_triton import triton_carafe
except ImportError:  # Triton comes with PyTorch for CUDA on Linux only
    triton_carafe = None  # type: ignore[assignment]


def carafe(x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
    """Upsample by a weighted sum over each pixel's neighbourhood; outside the picture counts as zero.

    Args:
        x_BCHW: Features ``(B, C, H, W)``.
        mask: Kernels ``(B, G * k_up * k_up, H * scale, W * scale)``, used as they are (normalise them before);
            channel group ``g`` of ``x`` uses mask channels ``g * k_up * k_up`` onwards. ``G`` divides ``C``.
        k_up: Side of the neighbourhood in input pixels, odd.
        scale: Upsampling factor, at least 1.

    Returns:
        ``(B, C, H * scale, W * scale)`` in the dtype of ``x``.
    """
    if is_traced() and k_up > 1:
        return graph_carafe(x_BCHW, mask, k_up, scale)
    if is_recorded() or 0 in x_BCHW.shape:
        return plain_carafe(x_BCHW, mask, k_up, scale)
    if x_BCHW.is_cuda and triton_carafe is not None and wants_triton("carafe", x_BCHW.device):
        return triton_carafe(x_BCHW, mask, k_up, scale)
    if x_BCHW.device.type == "cpu":
        return tiled_carafe(x_BCHW, mask, k_up, scale)
    return plain_carafe(x_BCHW, mask, k_up, scale)


def plain_carafe(x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
    """Upsample by a weighted sum over each pixel's neighbourhood; outside the picture counts as zero.

    Every size is read from the tensors while tracing, so an exported graph accepts any batch and any size.

    Args:
        x_BCHW: Features ``(B, C, H, W)``.
        mask: Kernels ``(B, G * k_up * k_up, H * scale, W * scale)``, used as they are (normalise them before);
            channel group ``g`` of ``x`` uses mask channels ``g * k_up * k_up`` onwards. ``G`` divides ``C``.
        k_up: Side of the neighbourhood in input pixels, odd.
        scale: Upsampling factor, at least 1.

    Returns:
        ``(B, C, H * scale, W * scale)`` in the dtype of ``x``.
    """
    batch, channels, height, width = x_BCHW.shape
    groups = mask.shape[1] // (k_up * k_up)
    radius = k_up // 2
    x_BHWC = F.pad(x_BCHW, (radius, radius, radius, radius)).permute(0, 2, 3, 1).contiguous()
    shifts = [slice(i, i + 1 - k_up or None) for i in range(k_up)]  # no size of this picture enters the slices
    x_BHWKC = torch.stack([x_BHWC[:, rows, columns] for rows in shifts for columns in shifts], dim=3)
    x_BHWGKC = x_BHWKC.reshape(batch, height, width, k_up * k_up, groups, channels // groups).transpose(3, 4)
    mask_BGKHSWS = mask.to(x_BCHW.dtype).reshape(batch, groups, k_up * k_up, height, scale, width, scale)
    mask_BHWGPK = mask_BGKHSWS.permute(0, 3, 5, 1, 4, 6, 2).reshape(
        batch, height, width, groups, scale * scale, k_up * k_up
    )
    y_BHWGPC = torch.matmul(mask_BHWGPK, x_BHWGKC)
    y_BHWGSSC = y_BHWGPC.reshape(batch, height, width, groups, scale, scale, channels // groups)
    return y_BHWGSSC.permute(0, 3, 6, 1, 4, 2, 5).reshape(batch, channels, height * scale, width * scale)
