"""A block of your own: registered, grafted, checked.

python examples/own_block.py
"""

from __future__ import annotations

import argparse
import sys

from torch import Tensor, nn

from detgraft import check, register, show


@register("gatedconv", channels="scaled", site="downsample", summary="a strided convolution with a gate")
class GatedConv(nn.Module):
    """A convolution whose output is weighted by a second one; input and output ``(B, C, H, W)``.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, odd.
        s: Stride.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        self.value = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.gate = nn.Conv2d(c1, c2, 1, s)
        self.bn = nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.value(x)) * self.gate(x).sigmoid()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="yolo11n", help="any stock model")
    parser.add_argument("--imgsz", type=int, default=640)
    options = parser.parse_args()

    model = f"{options.base}+gatedconv"
    summary = show(model, imgsz=options.imgsz)
    print(f"{model}: {summary.params:,} parameters, {summary.gflops:.2f} GFLOPs")
    # Do all parameters learn, and does the fused model answer alike? `check(model)` alone asks everything.
    report = check(model, imgsz=options.imgsz, only=["gradients", "fuse"])
    for result in report.results:
        print(f"{result.name:<12} {result.status}")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
