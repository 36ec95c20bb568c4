"""How much time does computing visible positions only save? One training step of FCMAE, both ways, interleaved.

    python benchmarks/fcmae.py [--model convnextv2_atto] [--imgsz 224] [--batch 16] [--rounds 9] [--threads 2]

A step is forward, backward and optimizer step of the whole masked autoencoder (encoder, decoder, loss). "dense" is the
reference form: timm's own modules over all positions, with masks. Both forms run in turns in one process, so that a
change in the machine's load meets both; the figures are medians of the rounds' ratios: of wall time, and of processor
time, which says more on a machine that others use at the same time.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from detgraft.measure.timing import in_turns
from detgraft.pretraining.backbones import build_backbone
from detgraft.pretraining.fcmae import FCMAE
from detgraft.pretraining.masking import grid_of, random_mask
from detgraft.pretraining.optim import build_optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="convnextv2_atto")
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--mask-ratio", type=float, default=0.6)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    fast = FCMAE(build_backbone(args.model), args.mask_ratio)
    slow = copy.deepcopy(fast)
    slow.dense, slow.visible_only = True, False
    rows, columns = grid_of(args.imgsz, args.imgsz)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(args.batch, 3, args.imgsz, args.imgsz, generator=generator)
    mask = random_mask(args.batch, rows * columns, args.mask_ratio, generator)
    encoder = compare(encoder_step(fast, images, mask), encoder_step(slow, images, mask), args.rounds)
    step = compare(training_step(fast, images, mask), training_step(slow, images, mask), args.rounds)
    result = {
        "model": args.model, "imgsz": args.imgsz, "batch": args.batch, "mask_ratio": args.mask_ratio,
        "threads": args.threads, "rounds": args.rounds, "torch": torch.__version__,
        "step": step, "encoder_only": encoder,
    }  # fmt: skip
    print(json.dumps(result, indent=2))


def training_step(model: FCMAE, images: Tensor, mask: Tensor) -> Callable[[], None]:
    optimizer = build_optimizer(model, lr=1e-4, weight_decay=0.05)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(model(images, mask))
        optimizer.step()

    return step


def encoder_step(model: FCMAE, images: Tensor, mask: Tensor) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad()
        torch.autograd.backward(model.encode(images, mask).square().mean())

    return step


def compare(fast: Callable[[], None], slow: Callable[[], None], rounds: int) -> dict[str, float]:
    """Return the median ratios fast/slow of wall and processor time, and the median wall milliseconds of both."""
    works = {"fast": fast, "slow": slow}
    in_turns(works, 1)  # warms up
    times = in_turns(works, rounds, clock=lambda: np.array((time.perf_counter(), time.process_time())))
    seen = list(zip(times["fast"], times["slow"], strict=True))
    return {
        "wall_ratio": round(statistics.median(a[0] / b[0] for a, b in seen), 3),
        "cpu_ratio": round(statistics.median(a[1] / b[1] for a, b in seen), 3),
        "visible_only_ms": round(1000 * statistics.median(a[0] for a, _ in seen), 1),
        "dense_ms": round(1000 * statistics.median(b[0] for _, b in seen), 1),
    }


if __name__ == "__main__":
    main()
