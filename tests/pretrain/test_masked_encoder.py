from __future__ import annotations

import copy

import pytest
import torch
from pretrain_support import randomise
from torch import Tensor

from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import ArgumentError, CatalogError
from detgraft.pretraining.backbones import build_backbone, known_names, timm_state_dict
from detgraft.pretraining.fcmae import FCMAE
from detgraft.pretraining.masked_encoder import MaskedEncoder
from detgraft.pretraining.masking import random_mask, upsample_mask

MODELS = [("convnextv2_atto", False), ("convnextv2_atto", True), ("repvit_m0_6", False), ("timm/resnet18", False)]


def images_and_mask(batch: int = 2, size: tuple[int, int] = (96, 160), seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = random_mask(batch, size[0] * size[1] // 1024, 0.6, generator)
    return torch.rand(batch, 3, *size, generator=generator), mask


def small(name: str) -> TimmBackbone:
    torch.manual_seed(0)
    return build_backbone(name, 1.0 if name.startswith("timm/") else 0.4)


@pytest.mark.parametrize(("name", "dense"), MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_hidden_pixels_leak_nowhere(name: str, dense: bool, training: bool) -> None:
    model = FCMAE(small(name), dense=dense).train(training)
    randomise(model)
    images, mask = images_and_mask()
    hidden = upsample_mask(mask, (3, 5), (96, 160))
    other = torch.where(hidden, torch.rand(images.shape) * 5 - 2, images)
    results = []
    for pictures in (images, other):
        twin = copy.deepcopy(model)  # batch norms move their running statistics
        features = twin.encode(pictures, mask)
        results.append((features, twin.decode(features, mask), twin.target(pictures)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    changed = (results[0][2] != results[1][2]).any(dim=2)
    assert torch.equal(changed, mask)  # the target changes, and at hidden patches only
    at_hidden = results[0][0].permute(0, 2, 3, 1).flatten(1, 2)[mask]
    assert not at_hidden.any()
    assert results[0][0].any()


@pytest.mark.parametrize("name", ["convnextv2_atto", "repvit_m0_6", "timm/resnet18", "timm/mobilenetv3_small_050"])
def test_without_hidden_patches_it_is_the_backbone_itself(name: str) -> None:
    backbone = small(name)
    randomise(backbone)
    images, mask = images_and_mask()
    twin = copy.deepcopy(backbone).train()
    encoder = MaskedEncoder(backbone).train()
    torch.manual_seed(1)
    expected = twin(images)[-1]
    torch.manual_seed(1)
    found = encoder(images, torch.zeros_like(mask))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    for (key, ours), theirs in zip(backbone.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.allclose(ours.float(), theirs.float(), atol=1e-4), key
    assert torch.equal(backbone.eval()(images)[-1], copy.deepcopy(backbone).eval()(images)[-1])


def test_an_image_does_not_depend_on_its_batch() -> None:
    """GRN takes its norm per image; the official sparse GRN, over the whole batch, would fail here."""
    model = FCMAE(small("convnextv2_atto"))
    randomise(model)
    images, mask = images_and_mask(batch=3)
    together = model.encode(images, mask)
    for index in range(3):
        alone = model.encode(images[index : index + 1], mask[index : index + 1])
        assert torch.allclose(together[index], alone[0], atol=1e-5 * float(together.abs().max()))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("edgenext_xx_small", "CrossCovarianceAttn at .* is an attention over all positions"),
        ("mobilenetv4_hybrid_medium", "MobileAttention at .* is an attention over all positions"),
        ("poolformer_s12", "GroupNorm1 at .* takes its statistics over all positions"),
        ("ecaresnet26t", "Conv1d at .* has no rule for hidden positions"),
        ("efficientvit_b0", "at 'stages_2.* depends on hidden ones"),  # a linear attention made of convolutions only
    ],
)
def test_backbones_that_cannot_be_right_are_refused(name: str, reason: str) -> None:
    with pytest.raises(CatalogError, match=f"{name} cannot be pretrained with masks: .*{reason}"):
        MaskedEncoder(TimmBackbone(3, name))


def test_the_trial_leaves_no_trace() -> None:
    torch.manual_seed(0)
    backbone = small("repvit_m0_6").eval()
    before = copy.deepcopy(backbone.state_dict())
    state = torch.get_rng_state()
    MaskedEncoder(backbone)
    assert torch.equal(state, torch.get_rng_state())
    assert not backbone.training
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_keys_are_those_of_the_whole_timm_model() -> None:
    import timm

    for name, timm_name in (("convnextv2_atto", "convnextv2_atto"), ("repvit_m0_9", "repvit_m0_9")):
        state = timm_state_dict(build_backbone(name))
        model = timm.create_model(timm_name)
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected
        assert all(key.startswith("head") for key in missing)


@pytest.mark.parametrize(
    ("name", "width", "error", "words"),
    [
        ("convnextv2_ato", 1.0, CatalogError, "Did you mean 'convnextv2_atto'"),
        ("resnet18", 1.0, CatalogError, "write 'timm/resnet18'"),
        ("timm/resnet18", 0.5, ArgumentError, "width applies to"),
        ("timm/resnet1", 1.0, CatalogError, "no model 'resnet1'"),
        ("convnextv2_atto", -1.0, ArgumentError, "width must be a positive number"),
    ],
)
def test_wrong_names_and_widths(name: str, width: float, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build_backbone(name, width)


def test_all_sizes_are_known() -> None:
    assert {"convnextv2_huge", "repvit_m0_6", "repvit_m2_3"} <= set(known_names())
