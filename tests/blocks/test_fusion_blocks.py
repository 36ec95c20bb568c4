"""Blocks that join levels, and the parts of published necks: equal to their official code, sizes, what is refused.

The numbers in ``tests/golden/blocks`` were computed by the official code (see ``scripts/make_block_triples.py``) at:
cecret3350/DEA-Net 599d4d5 (CGAFusion), mkang315/ASF-YOLO 0eb19c1, gyyang23/AFPN 0930b56, JustlfC03/MFDS-DETR 4f15c30,
AlanLi1997/slim-neck-by-gsconv 8357ef6, tinyvision/DAMO-YOLO 319572e, yaoppeng/U-Net_v2 8a43be2, google/automl 6a54c87.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft import build
from detgraft.blocks.afpn import AFPNBlock, SpatialFusion
from detgraft.blocks.asf import CPAM, ScalSeq, Zoom_cat
from detgraft.blocks.bifpn import BiFPNAdd
from detgraft.blocks.cga_fusion import CGAFusion, mirrored
from detgraft.blocks.gfpn import CSPStage, RepUnit
from detgraft.blocks.hsfpn import ChannelSelect, SelectiveFusion
from detgraft.blocks.parts.joining import shrink
from detgraft.blocks.sdi import SDI
from detgraft.blocks.slim_neck import VoVGSCSP
from detgraft.errors import ArgumentError, PlanError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "blocks"


def _views(count: int) -> dict[str, str]:
    return {f"weight_level_{i + 1}.": f"views.{i}." for i in range(count)} | {"weight_levels.": "shares."}


_GSCONV = {f"gsb.{i}.conv_lighting.": f"gsb.{i}.light." for i in range(2)}
_REP = {
    f"convs.{i}.conv2.{old}.": f"convs.{i}.conv2.{new}."
    for i in range(2)
    for old, new in (("rbr_dense", "dense"), ("rbr_1x1", "point"))
}
_HSFPN = {"conv1.": "squeeze.", "conv2.": "excite."}
CASES: dict[str, tuple[Callable[[], nn.Module], Mapping[str, str]]] = {
    "cga_fusion": (
        lambda: CGAFusion([16, 16], 16),
        {"sa.sa.": "spatial.", "ca.ca.0.": "squeeze.", "ca.ca.2.": "excite.", "pa.pa2.": "pixel.", "conv.": "out."},
    ),
    "scal_seq": (
        lambda: ScalSeq([8, 12, 20], 8),
        {"conv1.": "project.1.", "conv2.": "project.2.", "conv3d.": "mix.conv.", "bn.": "mix.bn."},
    ),
    "zoom_cat": (lambda: Zoom_cat([8, 6, 4]), {}),
    "cpam": (
        lambda: CPAM([32, 32], 32),
        {
            "channel_att.": "channel.",
            "local_att.conv_1x1.": "squeeze.conv.",
            "local_att.bn.": "squeeze.bn.",
            "local_att.F_h.": "rows.",
            "local_att.F_w.": "columns.",
        },
    ),
    "sdi": (lambda: SDI([6, 6, 6, 6], 6), {}),
    "spatial_fusion_2": (lambda: SpatialFusion([12, 12], 12), _views(2)),
    "spatial_fusion_3": (lambda: SpatialFusion([12, 12, 12], 12), _views(3)),
    "afpn_block": (
        lambda: AFPNBlock(12),
        {"conv1.": "conv1.conv.", "bn1.": "conv1.bn.", "conv2.": "conv2.conv.", "bn2.": "conv2.bn."},
    ),
    "channel_select": (lambda: ChannelSelect(16), _HSFPN),
    "selective_fusion": (
        lambda: SelectiveFusion([16, 16], 16),
        {key: f"select.{value}" for key, value in _HSFPN.items()},
    ),
    "vov_gscsp": (lambda: VoVGSCSP(8, 16, 2), _GSCONV),
    "csp_stage": (lambda: CSPStage(8, 12, 2), _REP),
    "weighted_concat": (lambda: BiFPNAdd([8, 8, 8], 8), {"WSM": "weight"}),  # the official node is the sum
}
_BIASED = {"mix.conv.bias": "mix.bn.running_mean", **{f"conv{i}.conv.bias": f"conv{i}.bn.running_mean" for i in (1, 2)}}
"""Official biases in front of a batch norm, which takes them away again; they are moved into its mean."""


def official(name: str) -> tuple[nn.Module, list[Tensor], Tensor]:
    """Our block with the official weights, the inputs and the official output."""
    arrays = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / f"{name}.npz").items()}
    build_block, keys = CASES[name]
    module, state = build_block().eval(), {}
    for key in (key.removeprefix("w/") for key in arrays if key.startswith("w/")):
        prefix = max((old for old in keys if key.startswith(old)), key=len, default="")
        state[keys.get(prefix, "") + key.removeprefix(prefix)] = arrays[f"w/{key}"]
    for bias, mean in _BIASED.items():
        if bias in state:
            state[mean] = state[mean] - state.pop(bias)
    for key, value in module.state_dict().items():
        state[key] = value if key.endswith("num_batches_tracked") else state[key].reshape(value.shape)
    module.load_state_dict(state, strict=True)
    inputs = [arrays[key] for key in sorted(arrays) if key.startswith("input")]
    return module, list(inputs[0]) if name == "weighted_concat" else inputs, arrays["output"]


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Compare by the largest difference relative to the largest expected value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_equals_the_official_code_also_folded(name: str) -> None:
    module, inputs, expected = official(name)
    given: Any = inputs if len(inputs) > 1 else inputs[0]
    with torch.no_grad():
        assert_close(module(given), expected)
        if any(isinstance(m, nn.BatchNorm2d) for m in module.modules()):
            folded: Any = module.fuse()  # type: ignore[operator]
            assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
            assert_close(folded(given), expected)
            assert_close(folded.fuse()(given), expected)


def test_bifpn_add_projects_other_channels_and_never_subtracts() -> None:
    block = BiFPNAdd([8, 16], 8).eval()
    assert [type(m).__name__ for m in block.project] == ["Identity", "ConvNormAct"]
    with torch.no_grad():
        block.weight.copy_(torch.tensor([2.0, -1.0]))
    a, b = torch.randn(1, 8, 4, 4), torch.randn(1, 16, 4, 4)
    assert_close(block([a, b]), a * (2 / (2 + 1e-4)))


def test_a_folded_unit_of_two_branches_is_one_convolution() -> None:
    unit = RepUnit(6, 8).eval()
    x = torch.randn(2, 6, 5, 7)
    with torch.no_grad():
        expected, folded = unit(x), unit.fuse()
        assert [m.kernel_size for m in folded.modules() if isinstance(m, nn.Conv2d)] == [(3, 3)]
        assert_close(folded(x), expected)


@pytest.mark.parametrize("size", [(8, 12), (4, 6), (5, 7), (3, 4)])
@pytest.mark.parametrize("average", [True, False])
def test_shrinking_is_adaptive_pooling(size: tuple[int, int], average: bool) -> None:
    x = torch.randn(2, 3, 8, 12)
    pool = F.adaptive_avg_pool2d if average else F.adaptive_max_pool2d
    assert torch.allclose(shrink(x, size, average), pool(x, size))


@pytest.mark.trust
def test_a_graph_recorded_on_a_small_map_is_right_on_others() -> None:
    """How its example's sides were padded stayed in the graph: an export made at 96 pixels answered wrongly at 128."""
    torch.manual_seed(0)
    block = CGAFusion([8, 8], 8).eval()
    for example in ((3, 3), (2, 5), (8, 6)):
        recorded = torch.jit.trace(block, ([torch.randn(1, 8, *example)] * 2,), check_trace=False)
        for size in ((3, 3), (3, 4), (1, 1), (2, 9), (13, 7)):
            inputs = [torch.randn(2, 8, *size), torch.randn(2, 8, *size)]
            torch.testing.assert_close(recorded(inputs), block(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2, 9), (7, 7)])
def test_a_side_that_cannot_be_mirrored_repeats_its_border(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *size)
    found = mirrored(x)
    assert found.shape[2:] == (size[0] + 6, size[1] + 6)
    if min(size) > 3:
        assert torch.equal(found, F.pad(x, (3, 3, 3, 3), "reflect"))


@pytest.mark.parametrize("block", [BiFPNAdd, CGAFusion, SpatialFusion, SelectiveFusion, CPAM])
def test_other_sizes_are_refused_and_not_spread(block: Any) -> None:
    with pytest.raises(ArgumentError, match="inputs need one height and width; found 4x4, 1x1"):
        block([8, 8], 8)([torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 1, 1)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BiFPNAdd([8], 8), "joins 2 or more inputs"),
        (lambda: BiFPNAdd([8, 8], 8, 0.0), "eps must be above 0"),
        (lambda: CGAFusion([8, 8, 8], 8), "joins 2 inputs"),
        (lambda: CGAFusion([8, 8], 8, 0), "reduction must be"),
        (lambda: Zoom_cat([8, 8]), "joins 3 inputs"),
        (lambda: ScalSeq([8, 0], 8), "channels must be"),
        (lambda: SDI([8, 8], 0), "c2 must be"),
        (lambda: VoVGSCSP(8, 6), "even number of channels"),
        (lambda: CSPStage(8, 1), "two or more output channels"),
    ],
)
def test_wrong_values_are_named(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


HEAD = "nc: 2\nscales:\n  n: [0.5, 0.5, 64]\n  l: [1.0, 2.0, 48]\nbackbone:\n"


def written(folder: Path, row: str, scale: str = "n") -> Path:
    """A model YAML whose head joins strides 16 and 32 in one row."""
    lines = [f"  - [-1, 1, Conv, [{c}, 3, 2]]" for c in (16, 16, 32, 48, 64)]
    path = folder / f"joins{scale}.yaml"
    rows = ["head:", "  - [-1, 1, nn.Upsample, [None, 2, nearest]]", f"  - {row}", "  - [-1, 1, Conv, [32, 1]]"]
    path.write_text(HEAD + "\n".join([*lines, *rows, "  - [[7], 1, Detect, [nc]]"]) + "\n", "utf-8")
    return path


@pytest.mark.parametrize(("scale", "inputs", "out"), [("n", (32, 24), 16), ("l", (96, 96), 64)])
def test_a_row_in_a_yaml_with_channels_that_follow_the_scale(
    scale: str, inputs: tuple[int, int], out: int, tmp_path: Path
) -> None:
    name = "yolo11" + scale
    path = written(tmp_path, "[[-1, 3], 1, BiFPNAdd, [32]]", scale).rename(tmp_path / f"{name}.yaml")
    model: Any = build(path)
    layer = model.model[6]
    assert (type(layer.f), layer.f, layer.type) == (list, [-1, 3], "BiFPNAdd")
    found = [m.conv.in_channels if not isinstance(m, nn.Identity) else out for m in layer.project]
    assert found == list(inputs)
    assert model.model[7].conv.in_channels == out
    assert sorted(set(model.save)) == [3, 7]


def test_what_a_row_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    cases = {
        "[[-1, 3], 1, BiFPNAdd, []]": "must be its output channels",
        "[-1, 1, BiFPNAdd, [32]]": "joins two or more inputs",
        "[[-1, 3], 4, BiFPNAdd, [32]]": "cannot be repeated",
        "[[4, 3], 1, BiFPNAdd, [32]]": "inputs need one height and width; found 8x8, 16x16",
        "[[-1, 3], 1, BiFPNAdd, [32, 1, 2]]": "takes at most 1",
    }
    for row, words in cases.items():
        with pytest.raises((ArgumentError, PlanError), match=words) as caught:
            build(written(tmp_path, row))
        assert "line 13" in str(caught.value), str(caught.value)
