"""What grafts would cost on a detector, before anything is trained: parameters, GFLOPs, and the share of the base.

python examples/cost_table.py --base yolo11n --grafts carafe dysample c3k2_faster repvit_m0_9
"""

from __future__ import annotations

import argparse

import detgraft


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="yolo11n", help="any stock model")
    parser.add_argument("--grafts", nargs="+", default=["carafe", "dysample", "c3k2_faster", "repvit_m0_9"])
    parser.add_argument("--nc", type=int, default=80, help="number of classes")
    parser.add_argument("--imgsz", type=int, default=640, help="side of the picture in pixels")
    options = parser.parse_args()

    stock = detgraft.show(options.base, imgsz=options.imgsz, nc=options.nc)
    print(f"{'model':<40}{'parameters':>14}{'GFLOPs':>10}{'of stock':>10}")
    print(f"{options.base:<40}{stock.params:>14,}{stock.gflops:>10.2f}{1:>10.2f}")
    for graft in options.grafts:
        name = f"{options.base}+{graft}"
        found = detgraft.show(name, imgsz=options.imgsz, nc=options.nc)
        print(f"{name:<40}{found.params:>14,}{found.gflops:>10.2f}{found.gflops / stock.gflops:>10.2f}")


if __name__ == "__main__":
    main()
