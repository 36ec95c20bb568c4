"""Models with losses, batches, and steps, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detgraft.upstream.model.build import build
from detgraft.upstream.service.batches import training_batch
from detgraft.upstream.service.losses import loss_of, ready_for_loss


def ready(model: str, nc: int = 4) -> Any:
    """A model of an expression, always with the same weights, as a trainer makes it ready."""
    torch.manual_seed(0)
    return ready_for_loss(build(model, nc=nc))


def batch_of(model: Any, pictures: int = 2, imgsz: int = 96, seed: int = 3) -> dict[str, Tensor]:
    return training_batch(model, pictures, imgsz, seed)


def steps(model: Any, batch: dict[str, Tensor], count: int = 2) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of some optimiser steps, and the weights after them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    found = []
    for step in range(count):
        torch.manual_seed(step)  # RT-DETR draws noise for its queries
        optimizer.zero_grad()
        loss = loss_of(model, dict(batch))
        loss.backward()
        optimizer.step()
        found.append(float(loss))
    return found, model.state_dict()
