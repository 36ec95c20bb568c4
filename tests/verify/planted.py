"""Own blocks with one planted defect each; loaded as a plug-in, as a user would load them.

Shape suffixes: none; every block takes and returns (batch, channels, height, width).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft import register


class _Base(nn.Module):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 3, 2, 1)
        self.norm = nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.norm(self.conv(x)))


@register("PlantedSound", channels="scaled", summary="nothing is wrong with it")
class Sound(_Base):
    pass


@register("PlantedDeadParameter", channels="scaled", summary="a parameter that is never used")
class DeadParameter(_Base):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__(c1, c2)
        self.forgotten = nn.Parameter(torch.ones(c2))


@register("PlantedWrongChannels", channels="scaled", summary="returns twice the channels that it declares")
class WrongChannels(_Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).repeat(1, 2, 1, 1)


@register("PlantedNotPicklable", channels="scaled", summary="holds a function without a name")
class NotPicklable(_Base):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__(c1, c2)
        self.activation = lambda x: nn.functional.silu(x)

    def __deepcopy__(self, memo: dict[int, object]) -> NotPicklable:
        copied = type(self)(self.conv.in_channels, self.conv.out_channels)
        copied.load_state_dict(self.state_dict())
        copied.__dict__.update({k: v for k, v in self.__dict__.items() if k in ("i", "f", "type", "np", "training")})
        return copied

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


@register("PlantedRandomForward", channels="scaled", summary="adds noise in evaluation mode too")
class RandomForward(_Base):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + 0.01 * torch.randn_like(y)


@register("PlantedHalfOverflow", channels="scaled", summary="passes through values beyond float16")
class HalfOverflow(_Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) * 1e7
        return nn.functional.silu(self.norm(y * 1e-7))


@register("PlantedOtherExport", channels="scaled", summary="computes something else while it is traced")
class OtherExport(_Base):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * 1.1 if torch.jit.is_tracing() else y


@register("PlantedBatchDependent", channels="scaled", summary="subtracts the mean over the batch")
class BatchDependent(_Base):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y - y.mean(0, keepdim=True)


@register("PlantedStaticBatch", channels="scaled", summary="bakes the batch size into an exported graph")
class StaticBatch(_Base):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y.reshape(int(y.shape[0]), -1).reshape(int(y.shape[0]), *map(int, y.shape[1:]))


@register("PlantedBadFuse", channels="scaled", summary="forgets the batch norm when it is fused")
class BadFuse(_Base):
    def fuse(self) -> nn.Module:
        self.norm = nn.Identity()
        return self


@register("PlantedUnseeded", channels="scaled", summary="draws its weights from a generator of its own")
class Unseeded(_Base):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__(c1, c2)
        generator = torch.Generator()
        generator.seed()
        self.gain = nn.Parameter(torch.randn(c2, 1, 1, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


@register("PlantedFixedSeed", channels="scaled", summary="draws the same weights whatever the seed")
class FixedSeed(nn.Module):
    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2)
        self.gain = nn.Parameter(torch.randn(c2, 1, 1, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) * self.gain
        return y
