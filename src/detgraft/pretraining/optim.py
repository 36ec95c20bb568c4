"""Optimizer and learning rate of FCMAE's pretraining.

Source: "ConvNeXt V2" (arXiv:2301.00808), appendix; facebookresearch/ConvNeXt-V2, main_pretrain.py. Written from the
stated rules: AdamW with betas 0.9 and 0.95, weight decay 0.05 on matrices and kernels only, base rate
1.5e-4 * batch / 256, linear warm-up, then half a cosine to zero, a new rate at every step.
"""

from __future__ import annotations

import math

import torch
from timm.optim import param_groups_weight_decay
from torch import nn

BASE_LR = 1.5e-4
BASE_BATCH = 256
BETAS = (0.9, 0.95)
_WARMUP_EPOCHS = 40.0
_WARMUP_SHARE = 0.05


def default_lr(effective_batch: int) -> float:
    """Return the official peak rate for a number of images per optimizer step, all processes counted."""
    return BASE_LR * effective_batch / BASE_BATCH


def warmup_epochs(epochs: int) -> float:
    """Return how many epochs the rate rises: 40 from 800 epochs on, one twentieth of the epochs below.

    The official runs have 40 of 800 or 1600 epochs. A run of 100 epochs would spend almost half of them in such a
    warm-up, so shorter runs keep the official share of 5 % instead.
    """
    return min(_WARMUP_EPOCHS, _WARMUP_SHARE * epochs)


def learning_rate(step: int, steps_per_epoch: int, epochs: int, peak: float) -> float:
    """Return the rate of optimizer step ``step`` (0-based)."""
    epoch = step / steps_per_epoch
    warmup = warmup_epochs(epochs)
    if epoch < warmup:
        return peak * epoch / warmup
    return peak * 0.5 * (1.0 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def build_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with weight decay on kernels and matrices, none on biases, norms and other one-dimensional tensors.

    The official sparse GRN holds its factors as 1 x C matrices, which its rule then decays; here they are
    one-dimensional and are not decayed.
    """
    # What decays comes first: a checkpoint holds the optimizer's state by the parameters' numbers.
    groups = [group for group in reversed(param_groups_weight_decay(model, weight_decay)) if group["params"]]
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS)
