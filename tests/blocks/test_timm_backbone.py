from __future__ import annotations

import copy
import io
import pickle
import pickletools
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from ops_reference import assert_close, batch_norms, randomise_norms, without_gradient
from torch import nn

from detgraft.blocks.backbones.timm_backbone import KeptBatchNorm2d, TimmBackbone, pyramid_channels
from detgraft.errors import ArgumentError, CatalogError, WeightsError

SWIN = ("swin_tiny_patch4_window7_224", {"embed_dim": 16, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 4]})
REPVIT = ("repvit_m0_9", {"embed_dim": [8, 16, 16, 24], "depth": [1, 1, 2, 1]})
FAMILIES: list[tuple[str, dict[str, object]]] = [
    ("test_convnext", {}),
    ("test_efficientnet", {}),
    ("test_mambaout", {}),
    ("test_byobnet", {}),
    ("mobilenetv4_conv_small_035", {}),
    ("xception41", {}),  # collects its features in hooks
    ("starnet_s1", {"base_dim": 8}),
    SWIN,
    REPVIT,
]


@pytest.fixture(params=FAMILIES, ids=[name for name, _ in FAMILIES])
def backbone(request: pytest.FixtureRequest) -> TimmBackbone:
    name, model_args = request.param
    torch.manual_seed(0)
    module = TimmBackbone(3, name, model_args=model_args)
    randomise_norms(module)
    return module


def globals_in(pickled: bytes) -> set[str]:
    """Every class or function that a pickle names (protocol 2 names them as "module name")."""
    return {str(argument) for opcode, argument, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL"}


def test_gives_a_pyramid(backbone: TimmBackbone) -> None:
    assert backbone.reductions == (4, 8, 16, 32)
    assert (backbone.channels, backbone.reductions) == pyramid_channels(backbone.name, 3, backbone.model_args)
    features = backbone.eval()(torch.randn(2, 3, 96, 160))
    expected = [(2, c, 96 // r, 160 // r) for c, r in zip(backbone.channels, backbone.reductions, strict=True)]
    assert [tuple(feature.shape) for feature in features] == expected
    layouts = (torch.contiguous_format, torch.channels_last)
    assert all(any(feature.is_contiguous(memory_format=layout) for layout in layouts) for feature in features)


def test_every_parameter_learns(backbone: TimmBackbone) -> None:
    assert without_gradient(backbone.train(), torch.randn(2, 3, 64, 64)) == []


def test_equals_timm_and_draws_what_timm_draws() -> None:
    torch.manual_seed(7)
    theirs = timm.create_model("test_mambaout", features_only=True).eval()
    after = torch.random.get_rng_state()
    torch.manual_seed(7)
    ours = TimmBackbone(3, "test_mambaout").eval()
    assert torch.equal(torch.random.get_rng_state(), after)
    x = torch.randn(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)  # as the module itself lays it out
    for found, expected in zip(ours(x), theirs(x), strict=True):
        assert torch.equal(found, expected.permute(0, 3, 1, 2))


def test_building_moves_no_statistics() -> None:
    for norm in batch_norms(TimmBackbone(3, "test_efficientnet")):
        assert int(norm.num_batches_tracked) == 0
        assert not norm.running_mean.any()


def test_norms_keep_their_settings() -> None:
    module = TimmBackbone(3, *REPVIT[:1], model_args=REPVIT[1])
    norms = batch_norms(module)
    assert norms
    assert all(type(norm) is KeptBatchNorm2d and norm.eps == 1e-5 for norm in norms)


def test_a_trainers_settings_do_not_reach_the_activations() -> None:
    """What Ultralytics does to every module of exactly these types; EfficientViT's backward pass would fail."""
    module = TimmBackbone(3, "efficientvit_b0").train()
    for m in module.modules():
        if type(m) in (nn.Hardswish, nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.SiLU):
            m.inplace = True
    assert any(isinstance(m, nn.ReLU) and not m.inplace for m in module.modules())
    assert without_gradient(module, torch.randn(2, 3, 64, 64)) == []


def test_input_channels_and_chosen_reductions() -> None:
    module = TimmBackbone(4, "test_efficientnet", reductions=(8, 16, 32)).eval()
    assert module.reductions == (8, 16, 32)
    assert [f.shape[2] for f in module(torch.randn(1, 4, 64, 64))] == [8, 4, 2]


@pytest.mark.skipif(not timm.is_model("csatv2"), reason="this timm has no csatv2")
def test_reduction_4_may_be_absent() -> None:
    assert pyramid_channels("csatv2", 3) == ((32, 72, 168), (8, 16, 32))


def test_asking_for_channels_draws_nothing() -> None:
    before = torch.random.get_rng_state()
    assert pyramid_channels("resnet18", 3, {}) == ((64, 128, 256, 512), (4, 8, 16, 32))
    assert pyramid_channels("resnet18", 3, {"drop_path_rate": 0.1}) == pyramid_channels("resnet18", 3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_fuse_leaves_no_norm_in_repvit_and_agrees() -> None:
    torch.manual_seed(0)
    module = TimmBackbone(3, REPVIT[0], model_args=REPVIT[1]).eval()
    randomise_norms(module)
    x = torch.randn(1, 3, 64, 96)
    state = torch.random.get_rng_state()
    with torch.no_grad():
        before = module(x)
        assert module.fuse() is module
        once = module(x)
        twice = module.fuse()(x)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert module.fused
    assert not batch_norms(module)
    for a, b, c in zip(before, once, twice, strict=True):
        assert_close(b, a)
        assert torch.equal(b, c)


@pytest.mark.parametrize("name", ["test_byobnet", "mobileone_s0"])
def test_fuse_agrees_for_modules_that_work_in_place(name: str) -> None:
    torch.manual_seed(0)
    module = TimmBackbone(3, name, reductions=(8, 16, 32)).eval()
    randomise_norms(module)
    norms = len(batch_norms(module))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = module(x)
        after = module.fuse()(x)
    assert (len(batch_norms(module)) < norms) == (name == "mobileone_s0")
    for a, b in zip(before, after, strict=True):
        assert_close(b, a, relative=1e-4)


def test_fuse_keeps_dtype_and_mode() -> None:
    module = TimmBackbone(3, REPVIT[0], model_args=REPVIT[1]).to(torch.bfloat16).eval().fuse()
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert not any(m.training for m in module.modules())


def test_deepcopy_is_exact_and_separate(backbone: TimmBackbone) -> None:
    backbone.eval()
    state = torch.random.get_rng_state()
    clone = copy.deepcopy(backbone)
    assert torch.equal(torch.random.get_rng_state(), state)
    x = torch.randn(1, 3, 64, 64)
    expected = [feature.clone() for feature in backbone(x)]
    assert all(torch.equal(a, b) for a, b in zip(clone(x), expected, strict=True))
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.zero_()
    assert all(torch.equal(a, b) for a, b in zip(backbone(x), expected, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(clone(x), expected, strict=True))


@pytest.mark.parametrize("fused", [False, True])
def test_pickle_round_trip(backbone: TimmBackbone, fused: bool) -> None:
    backbone.eval()
    if fused:
        backbone.fuse()
    backbone.i, backbone.f, backbone.type, backbone.np = 0, [-1, 2], "graft", 123  # what a detector's parser attaches
    first = next(iter(backbone.parameters()))
    first.requires_grad_(False)
    frozen_mode = next(m for m in backbone.net.modules() if not list(m.children()))
    frozen_mode.training = True
    state = torch.random.get_rng_state()
    clone = pickle.loads(pickle.dumps(backbone))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert isinstance(clone, TimmBackbone)
    assert clone.fused == fused
    assert (clone.name, clone.model_args, clone.channels) == (backbone.name, backbone.model_args, backbone.channels)
    assert (clone.i, clone.f, clone.type, clone.np) == (0, [-1, 2], "graft", 123)
    assert clone.state_dict().keys() == backbone.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(clone.buffers(), backbone.buffers(), strict=True))
    assert [p.requires_grad for p in clone.parameters()] == [p.requires_grad for p in backbone.parameters()]
    assert [m.training for m in clone.modules()] == [m.training for m in backbone.modules()]
    frozen_mode.training = False
    x = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(clone.eval()(x), backbone(x), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_pickle_keeps_the_dtype(dtype: torch.dtype) -> None:
    module = TimmBackbone(3, *SWIN[:1], model_args=SWIN[1]).to(dtype)
    clone = pickle.loads(pickle.dumps(module))
    assert {p.dtype for p in clone.parameters()} == {dtype}
    assert [b.dtype for b in clone.buffers()] == [b.dtype for b in module.buffers()]


def test_safe_loading_and_no_class_path_of_timm(tmp_path: Path) -> None:
    model = nn.Sequential(TimmBackbone(3, REPVIT[0], model_args=REPVIT[1]), nn.Identity()).eval()
    torch.save({"model": model}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        names = globals_in(next(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl")))
    assert "detgraft.blocks.backbones.timm_backbone TimmBackbone" in names
    assert not any(name.startswith("timm") for name in names)
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        pytest.skip("this torch opens no modules with weights_only=True: it does not let the sets in them through")
    torch.serialization.add_safe_globals([TimmBackbone, nn.Sequential, nn.Identity])
    try:
        loaded = torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    finally:
        torch.serialization.clear_safe_globals()
    x = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(loaded[0](x), model[0](x), strict=True))


def test_a_checkpoint_that_this_timm_builds_differently() -> None:
    module = TimmBackbone(3, "test_convnext")
    state = module.__getstate__()
    state["timm"] = "0.0.1"
    state["parameters"]["renamed.weight"] = state["parameters"].pop("stem_0.weight")
    with pytest.raises(WeightsError, match=r"timm 0\.0\.1.*renamed\.weight"):
        TimmBackbone.__new__(TimmBackbone).__setstate__(state)


def test_torchscript_and_state_dict_round_trip() -> None:
    module = TimmBackbone(3, "test_mambaout").eval()
    traced = torch.jit.trace(module, torch.randn(1, 3, 64, 64), strict=False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    buffer.seek(0)
    x = torch.randn(2, 3, 96, 64)
    for found, expected in zip(torch.jit.load(buffer)(x), module(x), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "model_args", "error", "words"),
    [
        ("mobilenetv4_conv_smal", {}, CatalogError, r"no model 'mobilenetv4_conv_smal'.*'mobilenetv4_conv_small'"),
        ("hf-hub:someone/model", {}, CatalogError, "no model 'hf-hub:someone/model'"),
        ("resnet18.no_such_tag", {}, CatalogError, "no_such_tag"),
        ("vit_tiny_patch16_224", {}, CatalogError, r"no features at reduction 8; its reductions are \[16\]"),
        ("levit_128", {}, CatalogError, "no features at reduction 8"),
        ("efficientformerv2_s0", {}, CatalogError, "bound to one input size"),
        ("inception_v4", {}, CatalogError, r"features at reduction 4 .* expected \(1, 160, 40, 56\)"),
        ("resnet18", {"output_stride": 16}, CatalogError, "no features at reduction 32"),
        ("resnet18", {"no_such_argument": 1}, ArgumentError, "no_such_argument"),
        ("resnet18", {"out_indices": [1]}, ArgumentError, "out_indices"),
        ("resnet18", {"act_layer": nn.ReLU}, ArgumentError, "plain values"),
    ],
)
def test_what_cannot_work_says_why(
    name: str, model_args: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        TimmBackbone(3, name, model_args=model_args)
    with pytest.raises(error, match=words):
        pyramid_channels(name, 3, model_args)


@pytest.mark.parametrize("c1", [0, -1, True, 2.5])
def test_wrong_input_channels(c1: int) -> None:
    with pytest.raises(ArgumentError, match=f"input channels.*{c1}"):
        TimmBackbone(c1, "test_convnext")


@pytest.mark.parametrize("reductions", [(), (16, 8), (8, 8)])
def test_wrong_reductions(reductions: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="reductions must ascend"):
        TimmBackbone(3, "test_convnext", reductions=reductions)
