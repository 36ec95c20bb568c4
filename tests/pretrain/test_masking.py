from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from detgraft.errors import ArgumentError, SizeError
from detgraft.pretraining.masking import (
    grid_of,
    masked_loss,
    normalise_patches,
    patchify,
    random_mask,
    split_indices,
    unpatchify,
    upsample_mask,
    visible_count,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_official_loss(shared: Path) -> None:
    with np.load(shared / "reference" / "ops" / "fcmae_loss_normpix0.npz") as triple:
        images = torch.from_numpy(triple["input"])
        mask = torch.from_numpy(triple["mask"]).bool()
        expected = float(triple["loss"])
        shape, seed = triple["pred_shape"], int(triple["pred_seed"])
    prediction = torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32))
    loss = masked_loss(prediction.flatten(2).transpose(1, 2), patchify(images), mask)
    assert abs(float(loss) - expected) <= 1e-5 * expected


def test_patches_are_cut_row_by_row_with_colour_last() -> None:
    images = torch.randn(2, 3, 64, 96, generator=seeded(0))
    patches = patchify(images)
    assert patches.shape == (2, 6, 3072)
    for row in range(2):
        for column in range(3):
            square = images[:, :, row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
            assert torch.equal(patches[:, row * 3 + column], square.permute(0, 2, 3, 1).flatten(1))
    assert torch.equal(unpatchify(patches, (2, 3)), images)


def test_targets_are_normalised_per_patch() -> None:
    patches = torch.rand(2, 4, 3072, generator=seeded(1)).double() * torch.tensor([1.0, 0.1, 5.0, 1e-4])[:, None]
    values = patches.numpy()
    expected = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, ddof=1, keepdims=True) + 1e-6)
    assert np.allclose(normalise_patches(patches).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_loss_reads_masked_patches_only() -> None:
    prediction, target = torch.randn(2, 2, 9, 12, generator=seeded(2))
    mask = random_mask(2, 9, 0.5, seeded(3))
    loss = masked_loss(prediction, target, mask)
    assert torch.allclose(loss, ((prediction - target) ** 2)[mask].mean())
    elsewhere = torch.where(mask[:, :, None], prediction, torch.full_like(prediction, 1e6))
    assert torch.equal(masked_loss(elsewhere, target, mask), loss)


@pytest.mark.parametrize("patches", [4, 9, 16, 49, 100, 196])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.6, 0.75, 0.9])
def test_every_mask_has_the_exact_count(patches: int, ratio: float) -> None:
    try:
        visible = visible_count(patches, ratio)
    except ArgumentError:
        assert patches * (1 - ratio) < 1
        return
    assert visible == int(patches * (1 - ratio) + 1e-9)
    assert ((~random_mask(50, patches, ratio, seeded(0))).sum(dim=1) == visible).all()


def test_official_counts() -> None:
    assert visible_count(49, 0.6) == 19
    assert visible_count(10, 0.9) == 1


def test_masks_follow_their_generator_only() -> None:
    torch.manual_seed(0)
    first = random_mask(4, 49, 0.6, seeded(7))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(first, random_mask(4, 49, 0.6, seeded(7)))
    assert not torch.equal(first, random_mask(4, 49, 0.6, seeded(8)))
    assert torch.equal(before, torch.get_rng_state())


def test_masks_are_uniform_over_patches_and_pairs() -> None:
    draws = 20_000
    shown = (~random_mask(draws, 9, 0.6, seeded(0))).double()
    single, pair = 3 / 9, (3 / 9) * (2 / 8)
    for index in range(9):
        assert abs(float(shown[:, index].mean()) - single) < 4.5 * (single * (1 - single) / draws) ** 0.5
    for a, b in combinations(range(9), 2):
        together = float((shown[:, a] * shown[:, b]).mean())
        assert abs(together - pair) < 4.5 * (pair * (1 - pair) / draws) ** 0.5


def test_split_and_upsampling_agree_with_the_mask() -> None:
    mask = random_mask(3, 6, 0.5, seeded(4))
    visible, hidden = split_indices(mask, 3)
    for row in range(3):
        assert visible[row].tolist() == [i for i in range(6) if not mask[row, i]]
        assert hidden[row].tolist() == [i for i in range(6) if mask[row, i]]
    large = upsample_mask(mask, (2, 3), (8, 12))
    for y in range(8):
        for x in range(12):
            assert torch.equal(large[:, 0, y, x], mask[:, y // 4 * 3 + x // 4])


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5])
def test_ratio_outside_0_to_1_is_refused(ratio: float) -> None:
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        visible_count(49, ratio)


def test_ratio_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="leaves 0 of 1 patches"):
        visible_count(1, 0.6)


def test_sizes_that_are_no_multiple_of_32_are_refused() -> None:
    with pytest.raises(SizeError, match="Nearest: 192 or 224"):
        grid_of(200, 200)
    with pytest.raises(SizeError, match="cannot be laid over"):
        upsample_mask(torch.zeros(1, 9, dtype=torch.bool), (3, 3), (7, 7))
