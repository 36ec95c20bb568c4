"""What blocks with several inputs share: their channels checked, brought to one width, their sizes compared.

No paper: plumbing. A pixel of one input must meet the same pixel of the others, and a map of one pixel would be spread
over a larger one without a word, so sizes are compared before anything is added up.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError
from detgraft.kernels.recording import is_traced


def require_inputs(block: str, channels: object, least: int = 2, most: int | None = None) -> tuple[int, ...]:
    """Return the channels of each input.

    Args:
        block: Name of the block, for the message.
        channels: What the constructor was given.
        least: Inputs that the block needs.
        most: Inputs that it can take; any number by default.

    Raises:
        ArgumentError: No list, too few or too many inputs, or channels below 1.
    """
    if not isinstance(channels, (list, tuple)) or not least <= len(channels) <= (most or len(channels)):
        words = f"{least}" if most == least else f"{least} to {most}" if most else f"{least} or more"
        raise ArgumentError(f"{block}: joins {words} inputs and needs the channels of each, found {channels!r}")
    for value in channels:
        require_positive(block, channels=value)
    return tuple(channels)


def projections(channels: Sequence[int], c2: int) -> nn.ModuleList:
    """Return one module per input that brings it to ``c2`` channels: a 1x1 convolution and batch norm, or nothing.

    Args:
        channels: Channels of each input.
        c2: Channels wanted.
    """
    return nn.ModuleList(nn.Identity() if c1 == c2 else ConvNormAct(c1, c2, 1, act=False) for c1 in channels)


def require_same_size(block: str, inputs: Sequence[Tensor]) -> None:
    """Check that all inputs have one height and width.

    Raises:
        ArgumentError: They differ; shows each.
    """
    if is_traced():  # sizes are symbols then; the example has passed through before
        return
    sizes = [tuple(x.shape[2:]) for x in inputs]
    if any(size != sizes[0] for size in sizes):
        found = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise ArgumentError(
            f"{block} adds pixel to pixel, so its inputs need one height and width; found {found}. Put an "
            "nn.Upsample, a strided Conv or a pooling in front of the others"
        )


def shrink(x_BCHW: Tensor, size: tuple[int, int], average: bool) -> Tensor:
    """Pool a map to a smaller one, as adaptive pooling does.

    Whole factors become plain pooling, which exports to ONNX for any size.

    Args:
        x_BCHW: The larger map.
        size: Height and width wanted.
        average: The mean of each window instead of its largest value.
    """
    height, width = (int(side) for side in x_BCHW.shape[2:])
    rows, columns = (int(side) for side in size)
    kernel = (height // rows, width // columns)
    if kernel == (1, 1) and (height, width) == (rows, columns):
        return x_BCHW
    if height % rows == 0 and width % columns == 0:
        return F.avg_pool2d(x_BCHW, kernel) if average else F.max_pool2d(x_BCHW, kernel)
    pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if average else F.adaptive_max_pool2d
    return pool(x_BCHW, (rows, columns))


def fold_norms(module: nn.Module) -> None:
    """Fold the batch norm of every unit inside a block into its convolution, in place; idempotent."""
    for unit in module.modules():
        if isinstance(unit, ConvNormAct):
            unit.fuse()
