"""Which parameters decay: timm's rule, in the order that checkpoints hold the optimizer's state in."""

from __future__ import annotations

import torch
from torch import nn

from detgraft.pretraining.backbones import build_backbone
from detgraft.pretraining.optim import build_optimizer


def test_matrices_and_kernels_decay_and_come_first() -> None:
    model = nn.Sequential(build_backbone("convnextv2_atto", 0.25), nn.Linear(4, 2))
    next(model[1].parameters()).requires_grad_(False)
    found = build_optimizer(model, 0.1, 0.05).param_groups
    assert [group["weight_decay"] for group in found] == [0.05, 0.0]
    decayed = [p for n, p in model.named_parameters() if p.requires_grad and p.ndim > 1 and not n.endswith(".bias")]
    kept = [p for n, p in model.named_parameters() if p.requires_grad and (p.ndim <= 1 or n.endswith(".bias"))]
    for group, expected in zip(found, (decayed, kept), strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in expected]
        assert group["betas"] == (0.9, 0.95)
    assert len(build_optimizer(nn.BatchNorm1d(2), 0.1, 0.05).param_groups) == 1
    assert isinstance(build_optimizer(nn.Linear(2, 2), 0.1, 0.05), torch.optim.AdamW)
