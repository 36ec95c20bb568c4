"""Random patch masks, patches and the loss of a masked autoencoder.

Source: FCMAE, "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders" (arXiv:2301.00808),
facebookresearch/ConvNeXt-V2, models/fcmae.py. Written from the formulas; its numbers are reproduced in the tests.

Shape suffixes: B images, C channels, H and W pixels (or positions), L patches of one image in raster order,
V visible patches, M masked patches, P = 32 * 32 * 3 values of one patch (row, column, colour).
A mask is a bool tensor with True where the patch is hidden, as in the official code (1 is removed, 0 is kept).
"""

from __future__ import annotations

import torch
from torch import Tensor

from detgraft.errors import ArgumentError, SizeError

PATCH = 32
_VARIANCE_EPS = 1e-6


def visible_count(patches: int, ratio: float) -> int:
    """Return how many of ``patches`` stay visible at mask ratio ``ratio``: ``int(patches * (1 - ratio))``.

    Raises:
        ArgumentError: If the ratio is not between 0 and 1, or if it leaves nothing visible or nothing masked.
    """
    if not 0.0 < ratio < 1.0:
        raise ArgumentError(f"mask_ratio must lie between 0 and 1 (both excluded), found {ratio}")
    # 10 * (1 - 0.9) is 0.9999999999999998 in floating point, and one patch is what was asked for.
    count = int(patches * (1.0 - ratio) + 1e-9)
    if not 0 < count < patches:
        raise ArgumentError(
            f"mask_ratio={ratio} leaves {count} of {patches} patches visible; at least one patch must be visible and "
            f"one masked. Use a larger imgsz or a ratio between {1 / patches:.2f} and {1 - 1 / patches:.2f}"
        )
    return count


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Return the number of 32-pixel patches down and across an image of ``height`` x ``width`` pixels.

    Raises:
        SizeError: If a side is not a positive multiple of 32.
    """
    if height <= 0 or width <= 0 or height % PATCH or width % PATCH:
        lower = max(height // PATCH, 1) * PATCH
        raise SizeError(
            f"imgsz must be a multiple of {PATCH} (the stride of the last stage), found {height}x{width}. "
            f"Nearest: {lower} or {lower + PATCH}"
        )
    return height // PATCH, width // PATCH


def random_mask(batch: int, patches: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Draw one mask for each image, every set of visible patches being equally likely.

    Args:
        batch: Number of images B.
        patches: Number of patches L.
        ratio: Share of patches to hide.
        generator: The only source of randomness (on the CPU).

    Returns:
        Bool (B, L), True where hidden; each row has exactly ``visible_count(patches, ratio)`` False entries.
    """
    visible = visible_count(patches, ratio)
    order_BL = torch.rand(batch, patches, generator=generator).argsort(dim=1)
    mask_BL = torch.ones(batch, patches, dtype=torch.bool)
    return mask_BL.scatter_(1, order_BL[:, :visible], False)


def split_indices(mask_BL: Tensor, visible: int) -> tuple[Tensor, Tensor]:
    """Return the patch numbers of the visible (B, V) and of the masked (B, M) patches, each in raster order.

    Args:
        mask_BL: Bool mask, the same number of visible patches in every row.
        visible: That number. Passed in, because reading it from the tensor would make a GPU wait.
    """
    order_BL = mask_BL.to(torch.uint8).argsort(dim=1, stable=True)
    return order_BL[:, :visible], order_BL[:, visible:]


def upsample_mask(mask_BL: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the mask at another resolution: (B, 1, H, W), True where hidden.

    Args:
        mask_BL: Bool mask over patches.
        grid: Patches down and across, ``grid[0] * grid[1] == L``.
        size: Wanted positions down and across, whole multiples of the grid.

    Raises:
        SizeError: If ``size`` is not a whole multiple of ``grid``: then a position would straddle two patches.
    """
    (rows, columns), (height, width) = grid, size
    if height % rows or width % columns or height < rows or width < columns:
        raise SizeError(f"a mask of {rows}x{columns} patches cannot be laid over {height}x{width} positions")
    mask_B1HW = mask_BL.view(-1, 1, rows, columns)
    return mask_B1HW.repeat_interleave(height // rows, dim=2).repeat_interleave(width // columns, dim=3)


def patchify(images_BCHW: Tensor, patch: int = PATCH) -> Tensor:
    """Cut images into patches: (B, C, H, W) to (B, L, patch * patch * C), values in (row, column, colour) order."""
    batch, channels, height, width = images_BCHW.shape
    rows, columns = height // patch, width // patch
    cut = images_BCHW.reshape(batch, channels, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch * patch * channels)


def unpatchify(patches_BLP: Tensor, grid: tuple[int, int], patch: int = PATCH) -> Tensor:
    """Put patches back into images, the inverse of :func:`patchify`: (B, L, P) to (B, C, H, W)."""
    batch, _, values = patches_BLP.shape
    rows, columns = grid
    channels = values // (patch * patch)
    cut = patches_BLP.reshape(batch, rows, columns, patch, patch, channels)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, rows * patch, columns * patch)


def patch_statistics(patches_BLP: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (variance + 1e-6 under the root) of each patch, both (B, L, 1)."""
    mean = patches_BLP.mean(dim=-1, keepdim=True)
    variance = patches_BLP.var(dim=-1, keepdim=True)
    return mean, (variance + _VARIANCE_EPS).sqrt()


def normalise_patches(patches_BLP: Tensor) -> Tensor:
    """Give every patch mean 0 and variance 1 over its own values: the target that FCMAE predicts."""
    mean, deviation = patch_statistics(patches_BLP)
    return (patches_BLP - mean) / deviation


def masked_loss(prediction_BLP: Tensor, target_BLP: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the mean squared error over the masked patches only (a scalar, in float32)."""
    error_BL = (prediction_BLP.float() - target_BLP.float()).square().mean(dim=-1)
    hidden_BL = mask_BL.to(error_BL.dtype)
    return (error_BL * hidden_BL).sum() / hidden_BL.sum()
