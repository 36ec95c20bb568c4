"""Class losses in place of binary cross-entropy: focal, varifocal, quality focal, slide.

| loss | paper | official code | licence |
|---|---|---|---|
| focal | Lin et al., ICCV 2017 | facebookresearch/Detectron | Apache-2.0 |
| varifocal | Zhang et al., CVPR 2021 | hyz-xmaster/VarifocalNet | Apache-2.0 |
| quality focal | Li et al., NeurIPS 2020 | implus/GFocal | Apache-2.0 |
| slide | Yu et al., "YOLO-FaceV2", arXiv 2208.02019 | Krasjet-Yu/YOLO-FaceV2 | none stated |

Written from the formulas. The slide loss is that of the paper and of its code up to commit cf42012; later code calls
another form, with exp(m) for exp(1 - m), reSwan. Each returns one value for each score, shape as the scores; whoever
sums them divides as the stock loss does. Targets may be soft: Ultralytics' assigner gives each matched score the
quality of its box.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LEAST_MEAN = 0.2
"""The slide's threshold never falls below it, as in the official code."""


def focal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Focal loss: a (1 - p)^gamma times cross-entropy, with p and a of the class that is right.

    Args:
        logits: Scores before the sigmoid, any shape.
        targets: 0 to 1, same shape. A soft target y has p = y s + (1 - y) (1 - s), and a mixed likewise.
        gamma: How much easy scores are held down; 0 for none.
        alpha: Weight of the positives, 0 to 1; the negatives have 1 - alpha. Negative for no weights.

    Returns:
        Loss of each score, same shape.
    """
    scores, targets = logits.float().sigmoid(), targets.float()
    right = targets * scores + (1 - targets) * (1 - scores)
    loss = _cross_entropy(logits, targets) * (1 - right).clamp(min=0).pow(gamma)
    return loss if alpha < 0 else loss * (targets * alpha + (1 - targets) * (1 - alpha))


def varifocal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float = 0.75) -> Tensor:
    """Varifocal loss: cross-entropy times the target q where q > 0, and times alpha p^gamma where it is 0.

    Args:
        logits: Scores before the sigmoid, any shape.
        targets: Quality of the matched box, 0 for negatives; same shape.
        gamma: How much easy negatives are held down.
        alpha: Weight of the negatives.

    Returns:
        Loss of each score, same shape.
    """
    targets = targets.float()
    weight = torch.where(targets > 0, targets, alpha * logits.float().sigmoid().pow(gamma))
    return _cross_entropy(logits, targets) * weight


def quality_focal(logits: Tensor, targets: Tensor, *, beta: float = 2.0) -> Tensor:
    """Quality focal loss: |y - p|^beta times cross-entropy.

    Args:
        logits: Scores before the sigmoid, any shape.
        targets: Quality y of the matched box, 0 for negatives; same shape.
        beta: How much scores near their target are held down.

    Returns:
        Loss of each score, same shape.
    """
    targets = targets.float()
    away = (targets - logits.float().sigmoid()).abs()
    # A power below 1 has no slope at 0.
    weight = away.pow(beta) if beta >= 1 or beta == 0 else away.clamp(min=1e-6).pow(beta)
    return _cross_entropy(logits, targets) * weight


def slide(logits: Tensor, targets: Tensor, *, quality: Tensor, mean: Tensor) -> Tensor:
    """Slide loss: cross-entropy times a weight that is largest for boxes whose overlap is just below the mean.

    The weight of an overlap x is 1 up to m - 0.1, exp(1 - m) from there to m, and exp(1 - x) from m on, where m is the
    mean overlap of the matched boxes, at least 0.2.

    Args:
        logits: Scores before the sigmoid, any shape.
        targets: 0 to 1, same shape.
        quality: Overlap of a matched box with its target at its class's score, 0 everywhere else; same shape.
        mean: Mean overlap of the matched boxes, no dimensions.

    Returns:
        Loss of each score, same shape.
    """
    quality = quality.detach().float()
    middle = mean.detach().float().clamp(min=LEAST_MEAN)
    weight = torch.where(quality >= middle, (1 - quality).exp(), (1 - middle).exp())
    weight = torch.where(quality <= middle - 0.1, torch.ones_like(weight), weight)
    return _cross_entropy(logits, targets.float()) * weight


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    # In float32: half precision rounds the small scores of the many negatives away.
    return functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
