"""FDConv: frequency dynamic convolution, kernels mixed per picture from bands of one spectrum.

Paper: "Frequency Dynamic Convolution for Dense Image Prediction", CVPR 2025.
Official source: github.com/Linwei-Chen/FDConv, FDConv_detection/mmdet_custom/FDConv.py, read at commit
bf7a33d4f39ac7ea8172158f5628107fcaaba469. Licence: MIT. No weights are used.
Two forms: ``SpectralConv`` is the official convolution; ``FDConv`` has a batch norm and SiLU behind it, as the other
rows of a YOLO.

Differences: the bands of the kernels are turned into pixels before they are mixed instead of after, which is the same
sum and does not grow with the batch; the bands of the input have exact borders, where the official code stretches
those of 64 pixels, which single precision moves by one (equal at 64 in double precision). The input's transform is a
product with matrices, and so is the kernels' while a graph is recorded, since ONNX's exporter has no Fourier
transform. One picture alone trains with the running statistics. A spectrum that the number of kernels does not divide
has bands that differ by one frequency. Frequencies equally far from zero are taken row by row, where the official
sorting has no fixed order.

Shape suffixes: B batch, C and I input channels, O output channels, K kernel positions, N kernels, M rows and L columns
of the spectrum, H height, W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.odconv import PooledBatchNorm
from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct, activation
from detgraft.blocks.parts.fusing import batch_norm_affine, holds_weight
from detgraft.errors import ArgumentError

BANDS = (2, 4, 8)
"""Frequencies above one in twice as many pixels form a band of the input, down to the next number's."""


class StarReLU(nn.Module):
    """Squared ReLU with a learned factor and shift."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated input, shape unchanged."""
        y: Tensor = self.scale * F.relu(x) ** 2 + self.bias
        return y


class BandModulation(nn.Module):
    """Weigh each frequency band of the input by a factor per pixel; what is below all bands passes.

    Args:
        c1: Input channels; the output has as many.
    """

    def __init__(self, c1: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Conv2d(c1, 1, 3, padding=1) for _ in BANDS)
        for gate in self.gates:
            assert isinstance(gate, nn.Conv2d)
            assert gate.bias is not None
            nn.init.normal_(gate.weight, std=1e-6)
            nn.init.zeros_(gate.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the modulated input, shape unchanged."""
        rest = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
        height, width = x_BCHW.shape[2:]
        total = torch.zeros_like(rest)
        for band, gate in zip(BANDS, self.gates, strict=True):
            low = _low_pass(height, band, rest) @ rest @ _low_pass(width, band, rest)
            total = total + gate(x_BCHW).sigmoid() * 2 * (rest - low)
            rest = low
        return (total + rest).to(x_BCHW.dtype)


class SpectralConv(nn.Module):
    """Convolution whose kernel is a sum of bands of a learned spectrum, weighed per picture, position and channel.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, 1 or 3.
        s: Stride.
        kernels: Number of bands, each a kernel of its own.
        reduction: Ratio of channels to hidden units of the weights; at least 16 are kept.
    """

    band: Tensor

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, kernels: int = 4, reduction: int = 16) -> None:
        super().__init__()
        self.c1, self.c2, self.k, self.s, self.kernels = c1, c2, k, s, kernels
        hidden = max(c1 // reduction, 16)
        self.squeeze = ConvNormAct(c1, hidden, 1, act=StarReLU())
        self.squeeze.bn = PooledBatchNorm(hidden)
        self.channel_fc = nn.Conv2d(hidden, c1, 1)
        self.filter_fc = nn.Conv2d(hidden, c2, 1)
        self.spatial_fc = nn.Conv2d(hidden, k * k, 1) if k > 1 else None
        self.kernel_fc = nn.Conv2d(hidden, kernels, 1) if kernels > 1 else None
        for layer in (self.channel_fc, self.filter_fc, self.spatial_fc, self.kernel_fc):
            if layer is not None:
                assert layer.bias is not None
                nn.init.normal_(layer.weight, std=1e-6)
                nn.init.zeros_(layer.bias)
        size = round(math.log2(c1) / 2 + 0.5) // 2 * 2 + 1
        self.local_norm = nn.LayerNorm(c1)
        self.local_conv = nn.Conv1d(1, c2 * k * k, size, padding=size // 2, bias=False)
        nn.init.constant_(self.local_conv.weight, 1e-6)
        self.bands = BandModulation(c1) if k == 3 else None
        pixels = nn.init.kaiming_uniform_(torch.empty(c2, c1, k, k), math.sqrt(5))
        spectrum = torch.fft.rfft2(pixels.permute(0, 2, 1, 3).reshape(c2 * k, c1 * k))
        self.weight = nn.Parameter(torch.view_as_real(spectrum) / self._share)
        self.register_buffer("band", _bands_of(c2 * k, c1 * k, kernels), persistent=False)
        self.bias: nn.Parameter | None
        self.register_parameter("bias", None)  # only a folded batch norm brings one

    @property
    def _share(self) -> int:
        return max(1, min(self.c1, self.c2) // 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        mean_BC11 = x_BCHW.mean((2, 3), keepdim=True)
        hidden = self.squeeze(mean_BC11)
        channel, filters = self.channel_fc(hidden).sigmoid() * 2, self.filter_fc(hidden).sigmoid() * 2
        pixels_NOIKK = self._pixels()
        if self.kernel_fc is None:
            kernels_BOIKK = pixels_NOIKK
        else:
            share_BN = self.kernel_fc(hidden).flatten(1).sigmoid() * 2 / self.kernels
            kernels_BOIKK = (share_BN @ pixels_NOIKK.flatten(1).to(share_BN.dtype)).reshape(-1, *pixels_NOIKK.shape[1:])
        if self.spatial_fc is not None:
            kernels_BOIKK = kernels_BOIKK * (self.spatial_fc(hidden).sigmoid() * 2).reshape(-1, 1, 1, self.k, self.k)
        local = self.local_conv(self.local_norm(mean_BC11.flatten(1))[:, None])
        local_BOIKK = local.reshape(-1, self.c2, self.k, self.k, self.c1).permute(0, 1, 4, 2, 3)
        kernels_BOIKK = kernels_BOIKK * (local_BOIKK.sigmoid() * 2)
        if self.bands is not None:
            x_BCHW = self.bands(x_BCHW)
        x_BCHW = x_BCHW * channel
        convolve = self._any_batch if batch_may_vary() or x_BCHW.shape[0] == 0 else self._this_batch
        y: Tensor = convolve(x_BCHW, kernels_BOIKK.to(x_BCHW.dtype)) * filters
        return y if self.bias is None else y + self.bias[:, None, None]

    @torch.no_grad()
    def fuse(self) -> SpectralConv:
        """Fold the batch norm of the weights, and keep the kernels as pixels; in place, idempotent."""
        self.squeeze.fuse()
        if self.weight.ndim == 3 and holds_weight(self):
            pixels = self._pixels().to(self.weight.dtype)
            self.weight = nn.Parameter(pixels, requires_grad=self.weight.requires_grad)
            self.band = self.band.new_empty(0)
        return self

    def _pixels(self) -> Tensor:
        """The kernel of each band, shape (N, c2, c1, k, k)."""
        if self.weight.ndim == 5:  # fused
            return self.weight
        spectrum_ML2 = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32))
        spectrum_ML2 = spectrum_ML2 * (self._share * self.kernels)
        inside_NML1 = torch.stack([self.band == number for number in range(self.kernels)])[..., None]
        parts_NML2 = spectrum_ML2 * inside_NML1
        size = self.c2 * self.k, self.c1 * self.k
        if batch_may_vary():
            pixels = _from_spectrum(parts_NML2, *size)
        else:
            pixels = torch.fft.irfft2(torch.view_as_complex(parts_NML2.contiguous()), s=size)
        return pixels.reshape(self.kernels, self.c2, self.k, self.c1, self.k).permute(0, 1, 3, 2, 4)

    def _this_batch(self, x_BCHW: Tensor, kernels_BOIKK: Tensor) -> Tensor:
        # One grouped convolution for all pictures: each is a group of its own.
        batch = x_BCHW.shape[0]
        kernels = kernels_BOIKK.expand(batch, -1, -1, -1, -1).flatten(0, 1)
        x_1CHW = x_BCHW.reshape(1, -1, *x_BCHW.shape[2:])
        y_1OHW = F.conv2d(x_1CHW, kernels, None, self.s, self.k // 2, 1, batch)
        return y_1OHW.reshape(batch, -1, *y_1OHW.shape[2:])

    def _any_batch(self, x_BCHW: Tensor, kernels_BOIKK: Tensor) -> Tensor:
        height, width = ((size + 2 * (self.k // 2) - self.k) // self.s + 1 for size in x_BCHW.shape[2:])
        windows = F.unfold(x_BCHW, self.k, 1, self.k // 2, self.s)
        return (kernels_BOIKK.flatten(2) @ windows).reshape(x_BCHW.shape[0], self.c2, height, width)

    def extra_repr(self) -> str:
        """Show the convolution's sizes."""
        return f"{self.c1}, {self.c2}, k={self.k}, s={self.s}, kernels={self.kernels}"


class FDConv(nn.Module):
    """Frequency dynamic convolution, batch norm, activation.

    Takes its arguments in the order of a Conv row, so that it can stand in for one.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, 1 or 3.
        s: Stride.
        p: Padding; only what keeps the size at stride 1 (None or ``k // 2``).
        g: Groups; only 1.
        act: Apply SiLU behind the norm.
        kernels: Number of bands, each a kernel of its own.
        reduction: Ratio of channels to hidden units of the weights; at least 16 are kept.

    Raises:
        ArgumentError: A value is below 1, another kernel size, padding or number of groups.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        act: bool = True,
        kernels: int = 4,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        require_positive("FDConv", c1=c1, c2=c2, k=k, s=s, g=g, kernels=kernels, reduction=reduction)
        if k not in (1, 3):
            raise ArgumentError(f"FDConv: k must be 1 or 3, found {k}")
        if p not in (None, k // 2):
            raise ArgumentError(f"FDConv: p must be None or {k // 2} for k={k}, found {p!r}")
        if g != 1:
            raise ArgumentError(f"FDConv: g must be 1, found {g}: one spectrum stands for all channels")
        self.conv = SpectralConv(c1, c2, k, s, kernels, reduction)
        self.bn: nn.Module = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        y: Tensor = self.act(self.bn(self.conv(x_BCHW)))
        return y

    @torch.no_grad()
    def fuse(self) -> FDConv:
        """Fold both batch norms and keep the kernels as pixels, in place; idempotent."""
        self.conv.fuse()
        if isinstance(self.bn, nn.BatchNorm2d) and holds_weight(self.conv):
            scale_O, shift_O = batch_norm_affine(self.bn)
            weight = self.conv.weight
            weight.copy_(weight.to(scale_O.dtype) * scale_O[:, None, None, None])
            self.conv.bias = nn.Parameter(shift_O.to(weight.dtype), requires_grad=weight.requires_grad)
            self.bn = nn.Identity()
        return self


def _bands_of(rows: int, columns: int, count: int) -> Tensor:
    """Number of the band of each frequency, lowest first: shape (rows, columns // 2 + 1)."""
    both_ML2 = torch.stack(torch.meshgrid(torch.fft.fftfreq(rows), torch.fft.rfftfreq(columns), indexing="ij"), -1)
    distance = torch.linalg.vector_norm(both_ML2, dim=-1).flatten()
    order = distance.argsort(stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return (rank * count // len(order)).to(torch.uint8).reshape(rows, -1)


def _angles(first: Tensor, second: Tensor, period: int) -> Tensor:
    """Angle of each product over a period; reduced as whole numbers, which keeps it exact."""
    product = first[:, None] * second
    return (product - torch.div(product, period, rounding_mode="floor") * period).to(torch.float32) * (
        2 * math.pi / period
    )


def _low_pass(size: int, band: int, like: Tensor) -> Tensor:
    """Symmetric matrix (size, size) that keeps the frequencies of a row up to one in ``2 * band`` pixels."""
    number = torch.arange(size, device=like.device)
    is_low = 2 * band * torch.minimum(number, size - number) <= size
    apart = _angles(number, number, size)
    cosine, sine = apart.cos() * is_low, apart.sin() * is_low
    return ((cosine @ cosine.t() + sine @ sine.t()) / size).to(like.dtype)


def _from_spectrum(spectrum_NML2: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse transform of half a spectrum, by products: shape (N, rows, columns)."""
    device = spectrum_NML2.device
    row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
    half = torch.arange(columns // 2 + 1, device=device)
    twice = torch.where((half == 0) | (2 * half == columns), 1.0, 2.0)
    along_rows, along_columns = _angles(row, row, rows), _angles(half, column, columns)
    real, imaginary = spectrum_NML2.unbind(-1)
    cosine, sine = along_rows.cos(), along_rows.sin()
    real, imaginary = cosine @ real - sine @ imaginary, cosine @ imaginary + sine @ real
    weight = twice[:, None] / (rows * columns)
    return real @ (along_columns.cos() * weight) - imaginary @ (along_columns.sin() * weight)
