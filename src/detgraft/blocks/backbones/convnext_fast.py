"""timm's ConvNeXt V2 block with a faster forward; parameters, names and results are timm's.

Paper: ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders (arXiv 2301.00808).
Source: huggingface/pytorch-image-models ``timm/models/convnext.py`` (Apache-2.0), whose module is subclassed; the fast
forwards are own code from the formulas: one for the CPU in full precision (`detgraft.kernels.convnext`), one for CUDA
in any precision (`detgraft.kernels.response_triton`), which is used where it was measured or the environment asks for
it (`detgraft.kernels.policy`). No weights.
Differences: the sums run in another order, within float32's rounding. Everything that the fast forms do not cover is
timm's own forward: reduced precision on the CPU, tracing and export, ``torch.compile``, counted, hooked or replaced
layers, layer scale, active stochastic depth, another activation.

Shape suffixes: B batch, C channels, H height, W width, L positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import GlobalResponseNormMlp
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from detgraft.kernels.convnext import response_mlp
from detgraft.kernels.depthwise import depthwise, is_depthwise
from detgraft.kernels.policy import wants_triton
from detgraft.kernels.recording import is_autocast, is_recorded

try:
    from detgraft.kernels.response_triton import gelu_response
except ImportError:  # Triton comes with PyTorch for CUDA on Linux only
    gelu_response = None  # type: ignore[assignment]


class FastConvNeXtBlock(ConvNeXtBlock):  # type: ignore[misc]
    """timm's ``ConvNeXtBlock``; never built, an existing block is given this class."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape; channels-last in memory where a fast form runs."""
        if not self.is_covered(x_BCHW):
            y: Tensor = super().forward(x_BCHW)
            return y
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        return self._on_cpu(x_BCHW) if x_BCHW.device.type == "cpu" else self._with_triton(x_BCHW)

    def _on_cpu(self, x_BCHW: Tensor) -> Tensor:
        conv, mlp = self.conv_dw, self.mlp
        is_plain = is_depthwise(conv) and not _is_watched(conv)
        spatial_BCHW = depthwise(x_BCHW, conv.weight, conv.bias) if is_plain else conv(x_BCHW)
        spatial_BCHW = spatial_BCHW.contiguous(memory_format=torch.channels_last)
        y_BLC = response_mlp(
            _positions(spatial_BCHW),
            _positions(x_BCHW),
            (self.norm.weight, self.norm.bias, self.norm.eps),
            (mlp.fc1.weight.flatten(1), mlp.fc1.bias),
            (mlp.grn.weight, mlp.grn.bias, mlp.grn.eps),
            (mlp.fc2.weight.flatten(1), mlp.fc2.bias),
        )
        return _pictures(y_BLC, x_BCHW)

    def _with_triton(self, x_BCHW: Tensor) -> Tensor:
        """PyTorch's convolution, norm and products, whose precision autocast chooses, around the fused middle."""
        mlp, norm = self.mlp, self.norm
        x_BLC = _positions(self.conv_dw(x_BCHW))
        normed_BLC = F.layer_norm(x_BLC, norm.weight.shape, norm.weight, norm.bias, norm.eps)
        hidden_BLD = F.linear(normed_BLC, mlp.fc1.weight.flatten(1), mlp.fc1.bias)
        hidden_BLD = gelu_response(hidden_BLD, mlp.grn.weight, mlp.grn.bias, mlp.grn.eps)
        y_BLC = F.linear(hidden_BLD, mlp.fc2.weight.flatten(1), mlp.fc2.bias)
        return x_BCHW + _pictures(y_BLC, x_BCHW)

    def is_covered(self, x_BCHW: Tensor) -> bool:
        """Say whether a fast form computes here what timm's forward would."""
        if is_recorded() or x_BCHW.numel() == 0:
            return False
        if x_BCHW.device.type == "cpu":
            is_full = x_BCHW.dtype in (torch.float32, torch.float64) and self.conv_dw.weight.dtype == x_BCHW.dtype
            if is_autocast() or not is_full:
                return False
        elif not x_BCHW.is_cuda or gelu_response is None or not wants_triton("convnext", x_BCHW.device):
            return False
        mlp, norm = self.mlp, self.norm
        if type(mlp) is not GlobalResponseNormMlp or type(mlp.grn) is not GlobalResponseNorm:
            return False
        stochastic = self.training and (
            not isinstance(self.drop_path, nn.Identity) or mlp.drop1.p > 0 or mlp.drop2.p > 0
        )
        return (
            not stochastic
            and self.gamma is None
            and isinstance(self.shortcut, nn.Identity)
            and isinstance(norm, nn.LayerNorm)
            and _is_exact_gelu(mlp.act)
            and None not in (norm.weight, norm.bias, mlp.fc1.bias, mlp.fc2.bias)
            and not any(map(_is_watched, (norm, mlp, *mlp.children(), self.shortcut, self.drop_path)))
        )


class _WithoutDrawing(TorchFunctionMode):
    """Leaves out what initialisation does to a tensor's values."""

    LEFT_OUT = frozenset((Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.LEFT_OUT or getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def drawn_once(create: Callable[[], nn.Module]) -> nn.Module:
    """Build a ConvNeXt V2 whose every weight is drawn once.

    Layers draw their weights when they are made, and the model then draws all of them again by its own rule; for the
    larger models that is most of the time of building. Here they are made without drawing. The rule is the official
    one (normal with a deviation of 0.02, biases and GRN at zero); the numbers are others than timm's of the same seed.
    The official code also cuts the normal off at -2 and 2, a hundred deviations away, which cuts nothing.

    Args:
        create: Makes the model.

    Raises:
        TypeError: The model holds parameters of a kind that is not ConvNeXt V2's.
    """
    with _WithoutDrawing():
        net = create()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, GlobalResponseNorm):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
            elif module._parameters or module._buffers:
                raise TypeError(f"{type(module).__name__} is no part of a ConvNeXt V2")
    return net


def _is_exact_gelu(act: nn.Module) -> bool:
    return type(act).__name__ == "GELU" and getattr(act, "approximate", "none") == "none"


def _is_watched(module: nn.Module) -> bool:
    """Whether calling the module does more than its class's forward; the fast form would leave that out."""
    hooks = (
        module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks,
    )  # fmt: skip
    return any(hooks) or "forward" in vars(module)


def _positions(x_BCHW: Tensor) -> Tensor:
    """View channels-last features as ``(B, L, C)``."""
    return x_BCHW.permute(0, 2, 3, 1).flatten(1, 2)


def _pictures(y_BLC: Tensor, x_BCHW: Tensor) -> Tensor:
    """View positions as channels-last features of the shape of ``x_BCHW``."""
    batch, channels, height, width = x_BCHW.shape
    return y_BLC.view(batch, height, width, channels).permute(0, 3, 1, 2)
