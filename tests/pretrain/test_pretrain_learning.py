from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretrain_support import scenes

from detgraft.pretraining.backbones import build_backbone
from detgraft.pretraining.fcmae import FCMAE
from detgraft.pretraining.masking import patchify, random_mask
from detgraft.pretraining.optim import build_optimizer, default_lr, learning_rate, warmup_epochs
from detgraft.pretraining.report import as_duration, fixed_masks, reconstruct, save_picture


def test_official_schedule() -> None:
    assert default_lr(4096) == pytest.approx(2.4e-3)
    assert (warmup_epochs(800), warmup_epochs(1600), warmup_epochs(100)) == (40, 40, 5)
    rate = [learning_rate(step, 10, 800, 1.0) for step in range(8000)]
    assert rate[0] == 0.0
    assert rate[200] == pytest.approx(0.5)
    assert rate[400] == pytest.approx(1.0)
    assert max(rate) == rate[400]
    assert rate[4200] == pytest.approx(0.5)
    assert rate[7999] < 1e-6
    assert learning_rate(0, 1, 1, 1.0) == 0.0


def test_weight_decay_spares_norms_and_biases() -> None:
    model = FCMAE(build_backbone("repvit_m0_6", 0.2))
    optimizer = build_optimizer(model, 1e-3, 0.05)
    assert optimizer.defaults["betas"] == (0.9, 0.95)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    assert decayed | kept == set(names.values())
    assert not decayed & kept
    assert all(name.endswith("weight") or name == "mask_token" for name in decayed)
    assert {"decoder.mlp.grn.weight", "decoder.norm.weight", "predict.bias"} <= kept


def overfit(random_masks: bool, steps: int, lr: float) -> tuple[float, float, FCMAE, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    images = scenes(8, 96)
    model = FCMAE(build_backbone("convnextv2_atto", 0.4))
    optimizer = build_optimizer(model, lr, 0.0)
    generator = torch.Generator().manual_seed(0)
    mask = random_mask(8, 9, 0.6, generator)
    losses = []
    for step in range(steps):
        if random_masks:
            mask = random_mask(8, 9, 0.6, generator)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 10)
        loss = model(images, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses[0], losses[-1], model, images, mask


def test_overfitting_eight_pictures(tmp_path: Path) -> None:
    first, last, model, images, mask = overfit(random_masks=False, steps=60, lr=2e-3)
    assert last < first / 10
    restored = reconstruct(model.eval(), images, mask)
    hidden = mask[:, :, None].expand(-1, -1, 3072)
    assert torch.equal(patchify(restored)[~hidden], patchify(images)[~hidden])
    blank = patchify(images) - patchify(images).mean(dim=2, keepdim=True)
    error = (patchify(restored) - patchify(images))[hidden].square().mean()
    assert error < 0.15 * blank[hidden].square().mean()  # the shapes are there, not only each patch's mean
    sheet = save_picture(tmp_path / "sheet.png", images, mask, restored)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert pixels.shape == (sheet.height, sheet.width, 3)
    for patch in range(9):
        top, left = 18 + patch // 3 * 32, patch % 3 * 32
        original, masked, result = (pixels[top : top + 32, left + c * 102 : left + c * 102 + 32] for c in range(3))
        assert (masked == 128).all() == bool(mask[0, patch])
        assert np.array_equal(original, result) == (not mask[0, patch])


@pytest.mark.slow
def test_overfitting_eight_pictures_under_ever_new_masks() -> None:
    first, last, *_ = overfit(random_masks=True, steps=700, lr=5e-4)
    assert last < first / 10


def test_pictures_of_a_run_share_their_masks() -> None:
    assert torch.equal(fixed_masks(4, 96, 0.6, 3), fixed_masks(4, 96, 0.6, 3))
    assert not torch.equal(fixed_masks(4, 96, 0.6, 3), fixed_masks(4, 96, 0.6, 4))


def test_time_left_is_readable() -> None:
    assert as_duration(3723) == "1:02:03"
    assert as_duration(math.inf) == "unknown"
