"""Make the numeric triples of tests/golden/blocks from the official code of each catalogue block.

Usage: python scripts/make_block_triples.py CHECKOUTS OUT [NAME ...]

CHECKOUTS holds one checkout per official repository as CHECKOUTS/<owner>/<name>, at the commits in ``SOURCES``.
Nothing of those repositories is kept here: each file is imported from its checkout, its parameters and buffers are
drawn anew (so that a zero initialisation cannot hide an error), and ``input``, ``w/<official key>`` and ``output`` are
written to OUT/<name>.npz in float32. Packages that an official file imports but does not need for the block (mmengine,
tensorflow's layers, ...) are replaced by empty stand-ins; ``deform_conv`` compiles mmcv's own CPU operator (needs g++
and ninja).
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

SOURCES = {
    "tiny-smart/dysample": "81a1de5caa95d55a0f5488425fa53ec7ef47f8f0",
    "YOLOonMe/EMA-attention-module": "afc37ecf52454c03421a86105fc5c16eb4ea1ad3",
    "Jongchan/attention-module": "459efad0e05ee7dde50c41ca10a3d0800bc3792a",
    "houqb/CoordAttention": "7619bea9acbe260b3793833cc78cef3f124c8112",
    "LabSAINT/SPD-Conv": "c09f7928b8d2c33034fc3e9889a866f8bf37b44d",
    "AlanLi1997/slim-neck-by-gsconv": "8357ef60d1991f99b9bec2f361cda0bb76ed611a",
    "JierunChen/FasterNet": "e8fba4465ae912359c9f661a72b14e39347e4954",
    "OSVAI/ODConv": "0901cc1ccd75757b40420447db20603d30bd2f74",
    "StevenLauHKHK/Large-Separable-Kernel-Attention": "bb2a8d2cfd7e9ff48a34306197249d90153c8d4e",
    "ZjjConan/SimAM": "ae98f43a34a051cc82f6e618853c690e1f4c92e6",
    "google/automl": "6a54c8741e7c3265d4547c4f35f47a0391122dc5",
    "open-mmlab/mmcv": "a8073c74bf83d62ec36a103f835faa4837fb6585",
    "BangguWu/ECANet": "b332f6b3e6e2afe8a3287dc8ee8440a0fbec74c4",
    "wandahangFY/MLCA": "afbeb47a0f140b7ac446405218ac5d993931db28",
    "landskape-ai/triplet-attention": "2cf02fb91196408ac6352f7984a0336aa4f7677a",
    "wofmanaf/SA-Net": "00a676085e2ad12f3e2053109ece4840de6a5ce1",
    "JN-Yang/PConv-SDloss-Data": "a801f043c83f73aa9af9ab2f689e59ebef928fc4",
    "Liuchen1997/RFAConv": "363fd6b31209e1cd2a1a4ca1dd3f34e8d6db0063",
    "wutianyiRosun/CGNet": "cfccea377a6f0a659e807e8759c82dbffba02d7f",
    "apple1986/HWD": "03944d36d6dcaac4f519ad5b39781dd30ed1a78a",
    "microsoft/DynamicHead": "9c7cd661e362e9e58a43d8b18fe56afaa2aae22c",
    "NUST-Machine-Intelligence-Laboratory/PKINet": "c1e72da3f63a5279facced24d0e40320a5ceaddd",
    "BGU-CS-VIL/WTConv": "4a84da2218924b3973de2235d641f2ecf969c346",
    "DingXiaoH/DiverseBranchBlock": "8d2b16b6aee45a33236b2d11685be6857f9ba929",
    "cheng-haha/ScConv": "deab5bbec59bf59f389a2a8b6b709597cd46c3fa",
    "CV-ZhangXin/LDConv": "cbccb6b7469f604c91c0b85ac19b40da26321ee9",
    "YaoleiQi/DSCNet": "d4534999124b985b896a201224217cf2ed2b82f1",
    "ma-xu/Rewrite-the-Stars": "c999eb50840a44f9f1d92e8f7d2c22cd645a6d5e",
    "sail-sg/inceptionnext": "3f9769c6b3fcf903d1dc2f436eddc6963cacb535",
    "facebookresearch/ConvNeXt-V2": "2553895753323c6fe0b2bf390683f5ea358a42b9",
    "THU-MIG/RepViT": "298f42075eda5d2e6102559fad260c970769d34e",
    "AILab-CVC/UniRepLKNet": "b5677d8fb0e7b8af61eac39c1bf02727f5afc1d5",
    "zhangzjn/EMO": "27d9b40fea9c2a12a2fe7acc51032184852a99d8",
    "microsoft/FocalNet": "e8514bdcfe1eb6e7e110403e9f2972c67dfed1c3",
    "HZAI-ZJNU/SCSA": "8c46866f12fc1abe6fa3d905c1f615e23c79865c",
    "rayleizhu/BiFormer": "1697bbbeafb8680524898f1dcaac10defd0604be",
    "LeapLabTHU/DAT": "32173fcf10d71abe73267f4e99829cd8624b7ab6",
    "JIAOJIAYUASD/dilateformer": "99f85bb40a8d4395183a903e7604499dd5f24f8e",
    "zcablii/LSKNet": "cbe06cabcb0be0dd94ee48b8ffcd12a9f95c85ad",
    "huawei-noah/VanillaNet": "6aaf7311d8cadddcec9db7595f071bfda6c480f4",
    "Linwei-Chen/FDConv": "bf7a33d4f39ac7ea8172158f5628107fcaaba469",
    "OpenGVLab/InternImage": "31c962dc6c1ceb23e580772f7daaa6944694fbe6",
    "cecret3350/DEA-Net": "599d4d5533325aec0ceca81e661f3eeb2b0619e8",
    "mkang315/ASF-YOLO": "0eb19c17243b13806173cc09a05b290c97657e7a",
    "gyyang23/AFPN": "0930b563b43830c68825241689b80d8e430f2576",
    "JustlfC03/MFDS-DETR": "4f15c3095ef352e06360c84fff11da3473f8cc95",
    "tinyvision/DAMO-YOLO": "319572eef367340267ab6ab8ae253527a71d7c3a",
    "yaoppeng/U-Net_v2": "8a43be26b375e6600148a96d8c911f0ed5fefa26",
}
Arrays = dict[str, np.ndarray]
Maker = Callable[[Path], Arrays]


def load(path: Path, name: str, stand_ins: dict[str, types.ModuleType] | None = None) -> types.ModuleType:
    """Import one file under a module name of its own, with stand-ins for what it imports but we do not need."""
    with stood_in(stand_ins or {}):
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise SystemExit(f"cannot import {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # timm's registry looks the module up while it is being executed
        spec.loader.exec_module(module)
    return module


def load_text(path: Path, name: str) -> types.ModuleType:
    """Import a Python file that has no suffix, which importlib's finders do not recognise."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "official.py"
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        return load(copy, name)


@contextlib.contextmanager
def stood_in(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    """Put modules into ``sys.modules`` for the duration of one import."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextlib.contextmanager
def searched(folder: Path) -> Iterator[None]:
    """Look for modules in a folder first, for the duration of one import."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def module_with(name: str, **attributes: Any) -> types.ModuleType:
    """Return an empty module with the given attributes."""
    module = types.ModuleType(name)
    vars(module).update(attributes)
    return module


def randomise(module: nn.Module, keep: tuple[str, ...] = ()) -> None:
    """Draw every parameter and floating buffer anew, at sizes that keep activations near one."""
    with torch.no_grad():
        for key, value in module.state_dict().items():
            leaf = key.rsplit(".", 1)[-1]
            if not value.is_floating_point() or key in keep:
                continue
            if leaf == "running_var":
                value.uniform_(0.5, 1.5)
            elif value.ndim < 2:
                value.normal_(0.0, 0.3)
                if leaf == "weight":
                    value.add_(1.0)
            else:
                fan_in = value[0].numel() if value.ndim < 5 else value[0, 0].numel()
                value.normal_(0.0, fan_in**-0.5)


def triple(module: nn.Module, x: Tensor, keep: tuple[str, ...] = ()) -> Arrays:
    """Run an official module in eval mode with random weights and return its arrays."""
    randomise(module, keep)
    module.eval()
    with torch.no_grad():
        output = module(x.clone())
    arrays = {"input": x.numpy(), "output": output.numpy()}
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            arrays[f"w/{key}"] = value.numpy()
    return {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in arrays.items()}


def triple_of(module: nn.Module, inputs: list[Tensor], call: Callable[[list[Tensor]], Tensor]) -> Arrays:
    """The same for a module with several inputs, kept as ``input0``, ``input1`` and so on; ``call`` runs it."""
    randomise(module)
    module.eval()
    with torch.no_grad():
        output = call([x.clone() for x in inputs])
    arrays = {f"input{i}": x.numpy() for i, x in enumerate(inputs)} | {"output": output.numpy()}
    arrays |= {f"w/{key}": v.numpy() for key, v in module.state_dict().items() if v.is_floating_point()}
    return {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in arrays.items()}


def dysample(style: str, dyscope: bool) -> Maker:
    def make(root: Path) -> Arrays:
        official = load(root / "tiny-smart/dysample/dysample.py", "official_dysample")
        module = official.DySample(16, scale=2, style=style, groups=4, dyscope=dyscope)
        return triple(module, torch.randn(2, 16, 5, 7), keep=("init_pos",))

    return make


def ema(root: Path) -> Arrays:
    official = load_text(root / "YOLOonMe/EMA-attention-module/EMA_attention_module", "official_ema")
    return triple(official.EMA(24, factor=8), torch.randn(2, 24, 5, 7))


def cbam(root: Path) -> Arrays:
    official = load(root / "Jongchan/attention-module/MODELS/cbam.py", "official_cbam")
    return triple(official.CBAM(32, reduction_ratio=16), torch.randn(2, 32, 5, 7))


def coord_attention(root: Path) -> Arrays:
    official = load(root / "houqb/CoordAttention/coordatt.py", "official_coordatt")
    return triple(official.CoordAtt(16, 16, reduction=32), torch.randn(2, 16, 5, 7))


def spd_conv(root: Path) -> Arrays:
    official = load(root / "LabSAINT/SPD-Conv/ResNet50-SPD/models/resnet50_spd.py", "official_spd")
    module = nn.Sequential(official.space_to_depth(), official.Conv(4 * 8, 12, 3, 1))
    return triple(module, torch.randn(2, 8, 6, 10))


def gsconv(root: Path) -> Arrays:
    file = root / "AlanLi1997/slim-neck-by-gsconv/gsconv-yolov8_9_10_11/ultralytics/nn/modules/conv.py"
    stand_ins = {
        "official_gsconv": module_with("official_gsconv", __path__=[]),
        "official_gsconv.block": module_with("official_gsconv.block", C2f=nn.Module),
    }
    official = load(file, "official_gsconv.conv", stand_ins)
    return triple(official.GSConv(8, 12, 3, 2), torch.randn(2, 8, 7, 10))


def faster_block(root: Path) -> Arrays:
    official = load(root / "JierunChen/FasterNet/models/fasternet.py", "official_fasternet")
    module = official.MLPBlock(16, 4, 2.0, 0.0, 0.0, nn.ReLU, nn.BatchNorm2d, "split_cat")
    return triple(module, torch.randn(2, 16, 5, 7))


def odconv(c1: int, c2: int, k: int, s: int, groups: int, kernels: int) -> Maker:
    def make(root: Path) -> Arrays:
        official = load(root / "OSVAI/ODConv/modules/odconv.py", "official_odconv")
        module = official.ODConv2d(c1, c2, k, s, k // 2, groups=groups, kernel_num=kernels)
        return triple(module, torch.randn(3, c1, 5, 7))

    return make


def odconv_bn_act(root: Path) -> Arrays:
    inner = load(root / "OSVAI/ODConv/modules/odconv.py", "official_odconv")
    stand_ins = {"modules": module_with("modules", __path__=[]), "modules.odconv": inner}
    official = load(root / "OSVAI/ODConv/models/od_mobilenetv2.py", "official_od_mobilenetv2", stand_ins)
    return triple(official.ODConvBNReLU(8, 12, 3, 2, kernel_num=4), torch.randn(3, 8, 5, 7))


def lska(k: int) -> Maker:
    def make(root: Path) -> Arrays:
        official = load(root / "StevenLauHKHK/Large-Separable-Kernel-Attention/models/van.py", "official_van")
        return triple(official.LSKA(6, k), torch.randn(2, 6, 9, 11))

    return make


def lska_attention(root: Path) -> Arrays:
    official = load(root / "StevenLauHKHK/Large-Separable-Kernel-Attention/models/van.py", "official_van")
    return triple(official.Attention(6, 11), torch.randn(2, 6, 9, 11))


def simam(root: Path) -> Arrays:
    official = load(root / "ZjjConan/SimAM/networks/attentions/simam_module.py", "official_simam")
    return triple(official.simam_module(8, 1e-4), torch.randn(2, 8, 5, 7))


def weighted_concat(root: Path) -> Arrays:
    """Google's fusion node, its three tensorflow calls answered by numpy; ``output`` is the weighted sum."""
    tensorflow = MagicMock()
    tensorflow.keras.layers.Layer = tensorflow.keras.Model = object
    tensorflow.cast = lambda value, dtype: np.asarray(value, dtype=dtype)
    tensorflow.nn.relu = lambda value: np.maximum(value, 0)
    names = ("absl", "dataloader", "hparams_config", "utils", "backbone", "tf2")
    stand_ins: dict[str, Any] = {name: MagicMock() for name in names} | {"tensorflow": tensorflow}
    official = load(root / "google/automl/efficientdet/tf2/efficientdet_keras.py", "official_efficientdet", stand_ins)
    nodes = [array.numpy() for array in torch.randn(3, 2, 8, 5, 7)]
    # One weight is negative on purpose: the node must cut it off at zero.
    weights = np.array([0.7, -0.4, 1.9], dtype=np.float32)
    node = types.SimpleNamespace(weight_method="fastattn", vars=list(weights))
    output = official.FNode.fuse_features(node, nodes)
    return {"input": np.stack(nodes), "w/WSM": weights, "output": np.asarray(output, dtype=np.float32)}


def deform_conv(root: Path) -> Arrays:
    from torch.utils.cpp_extension import load as compile_extension

    ops = (root / "open-mmlab/mmcv/mmcv/ops").resolve()
    csrc = ops / "csrc/pytorch"
    with tempfile.TemporaryDirectory() as folder:
        # One unit that includes both files: they share a base name, which the build would confuse.
        binding = Path(folder) / "binding.cpp"
        binding.write_text(
            f'#include "{csrc / "modulated_deform_conv.cpp"}"\n'
            f'#include "{csrc / "cpu/modulated_deform_conv.cpp"}"\n'
            "#include <torch/extension.h>\n"
            "PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {\n"
            '  m.def("forward", &modulated_deform_conv_forward);\n'
            "}\n",
            encoding="utf-8",
        )
        operator = compile_extension(
            "official_modulated_deform_conv",
            [str(binding)],
            extra_include_paths=[str(ops / "csrc/common")],
            build_directory=folder,
            with_cuda=False,
        )
        # The order in which mmcv's own binding names the keyword arguments that its Python class passes.
        order = "kernel_h kernel_w stride_h stride_w pad_h pad_w dilation_h dilation_w group deformable_group with_bias"
        extension = types.SimpleNamespace(
            modulated_deform_conv_forward=lambda *tensors, **sizes: operator.forward(
                *tensors, *(sizes[name] for name in order.split())
            )
        )
        registry = MagicMock()
        registry.MODELS.register_module = lambda *_, **__: lambda cls: cls
        undecorated = module_with("mmengine.utils", deprecated_api_warning=lambda *_, **__: lambda function: function)
        loader = types.SimpleNamespace(load_ext=lambda *_: extension)
        stand_ins: dict[str, Any] = {
            "mmengine": module_with("mmengine", __path__=[]),
            "mmengine.logging": module_with("mmengine.logging", print_log=print),
            "mmengine.registry": registry,
            "mmengine.utils": undecorated,
            "mmcv": module_with("mmcv", __path__=[]),
            "mmcv.ops": module_with("mmcv.ops", __path__=[]),
            "mmcv.utils": module_with("mmcv.utils", IS_MLU_AVAILABLE=False, ext_loader=loader),
        }
        official = load(ops / "modulated_deform_conv.py", "mmcv.ops.modulated_deform_conv", stand_ins)
        module = official.ModulatedDeformConv2dPack(8, 12, 3, stride=2, padding=1, deform_groups=2)
        return triple(module, torch.randn(2, 8, 7, 10))


def eca(root: Path) -> Arrays:
    official = load(root / "BangguWu/ECANet/models/eca_module.py", "official_eca")
    return triple(official.eca_layer(24, 5), torch.randn(2, 24, 5, 7))


def mlca(root: Path) -> Arrays:
    official = load(root / "wandahangFY/MLCA/MLCA.py", "official_mlca")
    return triple(official.MLCA(24), torch.randn(2, 24, 9, 12))


def triplet_attention(no_spatial: bool) -> Maker:
    def make(root: Path) -> Arrays:
        file = root / "landskape-ai/triplet-attention/MODELS/triplet_attention.py"
        official = load(file, "official_triplet")
        return triple(official.TripletAttention(12, no_spatial=no_spatial), torch.randn(2, 12, 5, 7))

    return make


def shuffle_attention(root: Path) -> Arrays:
    utils = module_with("utils", load_state_dict=None)
    official = load(root / "wofmanaf/SA-Net/models/sa_resnet.py", "official_sa", {"utils": utils})
    return triple(official.sa_layer(24, 3), torch.randn(2, 24, 5, 7))


class _ConvModule(nn.Module):
    """Stands for mmcv's unit of the same name, as far as PKINet uses it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: int = 1,
        padding: Any = 0,
        dilation: int = 1,
        groups: int = 1,
        norm_cfg: Any = None,
        act_cfg: Any = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=norm_cfg is None
        )
        self.bn = nn.Identity() if norm_cfg is None else nn.BatchNorm2d(out_channels)
        self.act = nn.Identity() if act_cfg is None else nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class _Permuted(nn.Module):
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


def pkinet_module(root: Path) -> types.ModuleType:
    """PKINet's file; its packages answer as far as the network needs them."""
    names = ("mmcv", "mmcv.cnn", "mmcv.cnn.bricks", "mmengine", "mmengine.model", "mmengine.model.weight_init")
    stand_ins: dict[str, Any] = {
        name: MagicMock()
        for name in (*names, "mmengine.logging", "mmrotate", "mmrotate.models", "mmrotate.models.utils")
    }
    stand_ins["mmcv.cnn"].ConvModule = _ConvModule
    stand_ins["mmcv.cnn"].build_norm_layer = lambda _, channels: (None, nn.BatchNorm2d(channels))
    stand_ins["mmcv.cnn.bricks"].DropPath = lambda *_: nn.Identity()
    stand_ins["mmengine.model"].BaseModule = _BaseModule
    utils = stand_ins["mmrotate.models.utils"]
    utils.autopad = lambda k, p=None, d=1: (d * (k - 1) + 1) // 2
    utils.make_divisible = lambda value, divisor: max(divisor, int(value + divisor / 2) // divisor * divisor)
    utils.BCHW2BHWC, utils.BHWC2BCHW = (lambda: _Permuted(0, 2, 3, 1)), (lambda: _Permuted(0, 3, 1, 2))
    registry = types.SimpleNamespace(register_module=lambda *_, **__: lambda cls: cls)
    stand_ins["mmrotate.models.builder"] = module_with("mmrotate.models.builder", ROTATED_BACKBONES=registry)
    file = root / "NUST-Machine-Intelligence-Laboratory/PKINet/mmrotate/models/backbones/pkinet.py"
    return load(file, "official_pkinet", stand_ins)


class _BaseModule(nn.Module):
    """Stands for mmengine's and mmcv's."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


def caa(root: Path) -> Arrays:
    official = pkinet_module(root)

    class Weighted(nn.Module):  # the official module returns the factor only
        def __init__(self) -> None:
            super().__init__()
            norm = {"type": "BN", "momentum": 0.03, "eps": 1e-5}  # our norm's eps before a trainer sets its own
            self.factor = official.CAA(12, 11, 11, norm)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x * self.factor(x)
            return y

    return triple(Weighted(), torch.randn(2, 12, 9, 12))


def pinwheel_conv(root: Path) -> Arrays:
    official = load(root / "JN-Yang/PConv-SDloss-Data/model/APConv.py", "official_pinwheel")
    return triple(official.PConv(8, 12, 3, 2), torch.randn(2, 8, 6, 10))


def rfa_conv(root: Path) -> Arrays:
    """The form by group convolution, which the file defines first and then hides behind the form by unfolding."""
    text = (root / "Liuchen1997/RFAConv/model.py").read_text(encoding="utf-8")
    first = text[: text.index("class RFAConv", text.index("class RFAConv") + 1)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "official.py").write_text(first, encoding="utf-8")
        official = load(Path(folder) / "official.py", "official_rfa")  # needs einops
    return triple(official.RFAConv(6, 12, 3, 2), torch.randn(2, 6, 8, 10))


def context_guided(root: Path) -> Arrays:
    official = load(root / "wutianyiRosun/CGNet/model/CGNet.py", "official_cgnet")
    module = official.ContextGuidedBlock_Down(8, 16, 2, 4)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eps = 1e-5  # ours before a trainer sets its own
    return triple(module, torch.randn(2, 8, 6, 10))


def hwd(root: Path) -> Arrays:
    official = load(root / "apple1986/HWD/HWD.py", "official_hwd")  # needs pytorch_wavelets
    filters = tuple(f"wt.{band}_{axis}" for band in ("h0", "h1") for axis in ("col", "row"))  # fixed: Haar's
    arrays = triple(official.Down_wt(6, 12), torch.randn(2, 6, 6, 10), keep=filters)
    return {name: value for name, value in arrays.items() if name.removeprefix("w/") not in filters}


def dyhead(root: Path) -> Arrays:
    """Three levels through one official block; its CUDA operator is torchvision's, see detgraft/blocks/dyhead.py.

    The coarser level's offsets are the finer one's, so it is enlarged before it is convolved; the official enlarging
    behind the convolution then has nothing left to do.
    """
    from torchvision.ops import deform_conv2d

    class ModulatedDeformConv(nn.Module):
        def __init__(self, c1: int, c2: int, kernel_size: int, stride: int, padding: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(c2, c1, kernel_size, kernel_size))
            self.bias = nn.Parameter(torch.empty(c2))
            self.stride, self.padding = stride, padding

        def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
            if self.stride == 1 and x.shape[-2:] != offset.shape[-2:]:
                x = nn.functional.interpolate(x, size=offset.shape[-2:], mode="bilinear", align_corners=True)
            found: Tensor = deform_conv2d(x, offset, self.weight, self.bias, self.stride, self.padding, mask=mask)
            return found

    package = module_with("dyhead", __path__=[])
    folder = root / "microsoft/DynamicHead/dyhead"
    relu = load(folder / "dyrelu.py", "dyhead.dyrelu", {"dyhead": package})
    stand_ins: dict[str, types.ModuleType] = {
        "dyhead": package,
        "dyhead.dyrelu": relu,
        "dyhead.deform": module_with("dyhead.deform", ModulatedDeformConv=ModulatedDeformConv),
        "detectron2": module_with("detectron2", __path__=[]),
        "detectron2.modeling": module_with("detectron2.modeling", __path__=[]),
        "detectron2.modeling.backbone": module_with("detectron2.modeling.backbone", Backbone=nn.Module),
    }
    official = load(folder / "dyhead.py", "dyhead.dyhead", stand_ins)
    module = official.DyConv(32, 32)
    randomise(module)
    module.eval()
    levels = {f"p{level}": torch.randn(2, 32, 12 >> level, 16 >> level) for level in range(3)}
    with torch.no_grad():
        outputs = module({name: x.clone() for name, x in levels.items()})
    arrays = {f"input{i}": x.numpy() for i, x in enumerate(levels.values())}
    arrays |= {f"output{i}": x.numpy() for i, x in enumerate(outputs.values())}
    arrays |= {f"w/{key}": value.numpy() for key, value in module.state_dict().items()}
    return {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in arrays.items()}


def wtconv(levels: int) -> Maker:
    def make(root: Path) -> Arrays:
        folder = root / "BGU-CS-VIL/WTConv"
        with searched(folder):  # needs pywt
            official = importlib.import_module("wtconv.wtconv2d")
        module = official.WTConv2d(6, 6, 5, wt_levels=levels)
        filters = ("wt_filter", "iwt_filter")  # fixed: Haar's
        arrays = triple(module, torch.randn(2, 6, 9, 14), keep=filters)
        return {name: value for name, value in arrays.items() if name.removeprefix("w/") not in filters}

    return make


def diverse_branch(groups: int) -> Maker:
    def make(root: Path) -> Arrays:
        with searched(root / "DingXiaoH/DiverseBranchBlock"):
            official = importlib.import_module("diversebranchblock")
        return triple(official.DiverseBranchBlock(8, 12, 3, 2, 1, groups=groups), torch.randn(2, 8, 7, 10))

    return make


def scconv(root: Path) -> Arrays:
    official = load(root / "cheng-haha/ScConv/ScConv.py", "official_scconv")
    return triple(official.ScConv(16), torch.randn(2, 16, 5, 7))


def ldconv(root: Path) -> Arrays:
    """``output`` is what lies so far inside that no point leaves the picture, where the official code adds twice."""
    text = (root / "CV-ZhangXin/LDConv/model.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        head = "import math\nimport torch\nfrom torch import nn\nfrom einops import rearrange\n"
        (Path(folder) / "official.py").write_text(head + text, encoding="utf-8")
        official = load(Path(folder) / "official.py", "official_ldconv")  # needs einops
    arrays = triple(official.LDConv(6, 12, 5, 2), torch.randn(2, 6, 24, 28))
    return arrays | {"output": np.ascontiguousarray(arrays["output"][LDCONV_INSIDE])}


LDCONV_INSIDE = (slice(None), slice(None), slice(3, 9), slice(3, 11))


def snake_strip(morph: int) -> Maker:
    def make(root: Path) -> Arrays:
        file = root / "YaoleiQi/DSCNet/DSCNet_2D_opensource/Code/DRIVE/S3_DSConv_pro.py"
        official = load(file, "official_snake")  # needs einops
        module = official.DSConv_pro(6, 12, 5, 1.0, morph, device="cpu")
        arrays = triple(module, torch.randn(2, 6, 8, 11))
        unused = "dsc_conv_y" if morph == 0 else "dsc_conv_x"
        return {name: value for name, value in arrays.items() if unused not in name}

    return make


class ChannelsSecond(nn.Module):
    """Calls a module that wants its channels last; of several results the first counts."""

    def __init__(self, inner: nn.Module, last: bool = True) -> None:
        super().__init__()
        self.inner, self.last = inner, last

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x.permute(0, 2, 3, 1).contiguous() if self.last else x)
        y = y[0] if isinstance(y, tuple) else y
        return y.permute(0, 3, 1, 2) if self.last else y


def unwrapped(arrays: Arrays) -> Arrays:
    """Drop the wrapper's name from the keys."""
    return {name.replace("w/inner.", "w/"): value for name, value in arrays.items()}


def with_usual_eps(module: nn.Module) -> nn.Module:
    """Give every batch norm the eps that ours has before a trainer sets its own."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eps = 1e-5
    return module


def star_block(root: Path) -> Arrays:
    official = load(root / "ma-xu/Rewrite-the-Stars/imagenet/starnet.py", "official_starnet")
    return triple(official.Block(12, 3), torch.randn(2, 12, 9, 8))


def older_timm(*names: str) -> dict[str, types.ModuleType]:
    """Modules of timm under the names that they had once."""
    layers = {f"timm.models.layers.{name}": importlib.import_module(f"timm.layers.{name}") for name in names}
    models = ("efficientnet_blocks", "efficientnet_builder")
    return layers | {f"timm.models.{name}": importlib.import_module(f"timm.models._{name}") for name in models}


def inception_next_block(root: Path) -> Arrays:
    file = root / "sail-sg/inceptionnext/models/inceptionnext.py"
    official = load(file, "official_inceptionnext", older_timm("helpers"))
    module = official.MetaNeXtBlock(16, official.InceptionDWConv2d)
    return triple(module, torch.randn(2, 16, 9, 8))


def convnextv2_block(root: Path) -> Arrays:
    folder = root / "facebookresearch/ConvNeXt-V2/models"
    stand_ins: dict[str, Any] = {
        "MinkowskiEngine": MagicMock(),
        "official_cnx": module_with("official_cnx", __path__=[]),
    }
    load(folder / "utils.py", "official_cnx.utils", stand_ins)
    official = load(folder / "convnextv2.py", "official_cnx.convnextv2", stand_ins)
    return triple(official.Block(8), torch.randn(2, 8, 9, 8))


def repvit_block(use_se: bool) -> Maker:
    def make(root: Path) -> Arrays:
        official = load(root / "THU-MIG/RepViT/model/repvit.py", "official_repvit")
        return triple(official.RepViTBlock(32, 64, 32, 3, 1, use_se, True), torch.randn(1, 32, 6, 5))

    return make


def unireplk_block(k: int) -> Maker:
    def make(root: Path) -> Arrays:
        official = load(root / "AILab-CVC/UniRepLKNet/unireplknet.py", "official_unireplknet")
        return triple(official.UniRepLKNetBlock(8, k, attempt_use_lk_impl=False), torch.randn(2, 8, 9, 11))

    return make


def irmb(root: Path) -> Arrays:
    folder = root / "zhangzjn/EMO/model"
    registry = types.SimpleNamespace(register_module=lambda cls: cls)
    old = older_timm("weight_init", "activations")
    stand_ins: dict[str, Any] = {"model": module_with("model", __path__=[], MODEL=registry), **old}
    stand_ins["model.basic_modules"] = load(folder / "basic_modules.py", "official_emo_parts", old)
    official = load(folder / "emo.py", "official_emo", stand_ins)  # needs einops
    module = official.iRMB(16, 16, exp_ratio=2.0, dim_head=8, window_size=4)
    return triple(with_usual_eps(module), torch.randn(2, 16, 9, 14))


def focal_modulation(root: Path) -> Arrays:
    official = load(root / "microsoft/FocalNet/classification/focalnet.py", "official_focalnet")
    return unwrapped(triple(ChannelsSecond(official.FocalModulation(12, 3, 2)), torch.randn(2, 12, 9, 8)))


def scsa(root: Path) -> Arrays:
    base = module_with("mmengine.model", BaseModule=nn.Module)
    stand_ins = {"mmengine": module_with("mmengine", __path__=[]), "mmengine.model": base}
    official = load(root / "HZAI-ZJNU/SCSA/mmpretrain/models/attentions/SCSA.py", "official_scsa", stand_ins)
    return triple(official.SCSA(16, 4, 3), torch.randn(2, 16, 9, 12))


def bilevel_routing(root: Path) -> Arrays:
    official = load(root / "rayleizhu/BiFormer/ops/bra_legacy.py", "official_bra")  # needs einops
    module = official.BiLevelRoutingAttention(16, 4, 3, topk=2, auto_pad=True)
    return unwrapped(triple(ChannelsSecond(module), torch.randn(2, 16, 9, 14)))


def dattention(root: Path) -> Arrays:
    official = load(root / "LeapLabTHU/DAT/models/dat_blocks.py", "official_dat")  # needs einops
    module = official.DAttentionBaseline(
        q_size=(8, 12), kv_size=(4, 6), n_heads=4, n_head_channels=4, n_groups=2, attn_drop=0.0, proj_drop=0.0,
        stride=2, offset_range_factor=2.0, use_pe=True, dwc_pe=True, no_off=False, fixed_pe=False, ksize=5,
        log_cpb=False,
    )  # fmt: skip
    return unwrapped(triple(ChannelsSecond(module, last=False), torch.randn(2, 16, 8, 12)))


def msda(root: Path) -> Arrays:
    official = load(root / "JIAOJIAYUASD/dilateformer/models/dilateformer.py", "official_dilateformer")
    module = official.MultiDilatelocalAttention(24, 6)
    return unwrapped(triple(ChannelsSecond(module), torch.randn(2, 24, 9, 8)))


def lsknet_module(root: Path) -> types.ModuleType:
    """LSKNet's file; its packages answer as far as the network needs them."""
    names = ("mmcv", "mmcv.cnn", "mmcv.cnn.utils", "mmcv.cnn.utils.weight_init", "mmcv.runner", "official_lsk")
    stand_ins: dict[str, Any] = {name: MagicMock() for name in (*names, "official_lsk.backbones")}
    registry = types.SimpleNamespace(register_module=lambda *_, **__: lambda cls: cls)
    stand_ins["official_lsk.builder"] = module_with("official_lsk.builder", ROTATED_BACKBONES=registry)
    stand_ins["mmcv.runner"].BaseModule = _BaseModule
    file = root / "zcablii/LSKNet/mmrotate/models/backbones/lsknet.py"
    return load(file, "official_lsk.backbones.lsknet", stand_ins)


def lsk_block(root: Path) -> Arrays:
    return triple(lsknet_module(root).LSKblock(12), torch.randn(2, 12, 9, 8))


def dcnv3(root: Path) -> Arrays:
    folder = root / "OpenGVLab/InternImage/classification/ops_dcnv3"
    distribution = types.SimpleNamespace(version="1.0")
    stand_ins: dict[str, Any] = {
        "DCNv3": MagicMock(),
        "pkg_resources": module_with("pkg_resources", get_distribution=lambda _: distribution),
        "official_ops": module_with("official_ops", __path__=[]),
        "official_ops.modules": module_with("official_ops.modules", __path__=[]),
    }
    stand_ins["official_ops.functions"] = load(folder / "functions/dcnv3_func.py", "official_ops_func", stand_ins)
    official = load(folder / "modules/dcnv3.py", "official_ops.modules.dcnv3", stand_ins)
    return unwrapped(triple(ChannelsSecond(official.DCNv3_pytorch(16, group=2)), torch.randn(2, 16, 7, 9)))


def fdconv(k: int) -> Maker:
    def make(root: Path) -> Arrays:
        registry = types.SimpleNamespace(register_module=lambda *_, **__: lambda cls: cls)
        cnn = module_with("mmcv.cnn", CONV_LAYERS=registry)
        stand_ins: dict[str, Any] = {"mmcv": module_with("mmcv", __path__=[]), "mmcv.cnn": cnn}
        stand_ins |= {"matplotlib": MagicMock(), "matplotlib.pyplot": MagicMock()}
        file = root / "Linwei-Chen/FDConv/FDConv_detection/mmdet_custom/FDConv.py"
        official = load(file, "official_fdconv", stand_ins)
        module = official.FDConv(6, 8, k, 1, k // 2, bias=False, use_fdconv_if_c_gt=1)
        if k > 1:  # the border of a band is meant to lie inside, which single precision misses for one of the three
            torch.set_default_dtype(torch.float64)
            module.FBM.cached_masks = module.FBM._precompute_masks((64, 64), module.FBM.k_list)
            torch.set_default_dtype(torch.float32)
        arrays = triple(module, torch.randn(2, 6, 8, 64))
        band = torch.empty(8 * k, 6 * k // 2 + 1)
        for number, (row, column) in enumerate(module.indices[0].transpose(0, 1)):
            band[row, column] = number
        return arrays | {"band": band.numpy()}  # which kernel each frequency belongs to: the sorting leaves it open

    return make


class Joined(nn.Module):
    """A backbone whose features are joined into one vector per picture."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([feature.flatten(1) for feature in self.inner(x)], 1)


def backbone(module: nn.Module) -> Arrays:
    """The triple of a backbone, made narrow and shallow."""
    return unwrapped(triple(with_usual_eps(Joined(module)), torch.randn(1, 3, 32, 64)))


def unireplknet(root: Path) -> Arrays:
    official = load(root / "AILab-CVC/UniRepLKNet/unireplknet.py", "official_unireplknet")
    official.get_root_logger = lambda: None
    kernels = ((3,), (13,), (13, 3), (13,))
    module = official.UniRepLKNet(
        3, None, (1, 1, 2, 1), (8, 8, 16, 16), kernel_sizes=kernels, init_cfg={"checkpoint": None},
        attempt_use_lk_impl=False,
    )  # fmt: skip
    for number in range(4):  # the norms of the detection code, behind the features
        setattr(module, f"norm{number}", nn.Identity())
    return backbone(module)


def lsknet(root: Path) -> Arrays:
    sizes: dict[str, Any] = {"embed_dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "mlp_ratios": [2, 2, 2, 2]}
    return backbone(lsknet_module(root).LSKNet(**sizes))


def pkinet(root: Path) -> Arrays:
    official = pkinet_module(root)
    rows = official.PKINet.arch_settings["T"]
    narrow = [[8, 8, 1 if i else 2, *row[3:]] for i, row in enumerate(rows)]
    return backbone(official.PKINet("T", (1, 2, 3, 4), arch_setting=narrow))


def vanillanet(root: Path) -> Arrays:
    from timm import layers

    stand_in = module_with("timm.models.layers", weight_init=layers.weight_init, DropPath=layers.DropPath)
    file = root / "huawei-noah/VanillaNet/models/vanillanet.py"
    official = load(file, "official_vanillanet", {"timm.models.layers": stand_in})

    class Features(nn.Module):  # officially only the last output counts
        def __init__(self) -> None:
            super().__init__()
            self.net = official.VanillaNet(dims=[8, 8, 12, 16, 16], strides=[2, 2, 1, 2])
            del self.net.cls1, self.net.cls2

        def forward(self, x: Tensor) -> list[Tensor]:
            outputs = [self.net.stem2(self.net.stem1(x))]
            for stage in self.net.stages:
                outputs.append(stage(outputs[-1]))
            return [outputs[i] for i in (0, 1, 3, 4)]

    return backbone(Features())


def _yolov5(path: Path, name: str) -> types.ModuleType:
    """Import a fork's models/common.py of YOLOv5, whose helpers and display its blocks do not need."""
    below = ("dataloaders", "datasets", "general", "plots", "torch_utils")
    names = ("cv2", "pandas", "requests", "IPython", "IPython.display", "utils", *(f"utils.{part}" for part in below))
    stand_ins: dict[str, Any] = {part: MagicMock() for part in names}
    return load(path, name, stand_ins)


def cga_fusion(root: Path) -> Arrays:
    folder = root / "cecret3350/DEA-Net/code/model/modules"
    # einops' one use there: pairs of channels become one dimension.
    rearrange = module_with("einops.layers.torch", Rearrange=lambda _pattern: nn.Flatten(1, 2))
    names = {"einops": module_with("einops", __path__=[]), "einops.layers": module_with("einops.layers", __path__=[])}
    cga = load(folder / "cga.py", "official_dea.cga", {**names, "einops.layers.torch": rearrange})
    package = {"official_dea": module_with("official_dea", __path__=[]), "official_dea.cga": cga}
    module = load(folder / "fusion.py", "official_dea.fusion", package).CGAFusion(16, 8)
    return triple_of(module, [torch.randn(2, 16, 5, 7), torch.randn(2, 16, 5, 7)], lambda x: module(*x))


def scal_seq(root: Path) -> Arrays:
    official = _yolov5(root / "mkang315/ASF-YOLO/models/common.py", "official_asf")
    module = official.ScalSeq(8)
    module.conv1, module.conv2 = official.Conv(12, 8, 1), official.Conv(20, 8, 1)  # 512 and 1024 are written there
    return triple_of(module, [torch.randn(2, 8, 8, 12), torch.randn(2, 12, 4, 6), torch.randn(2, 20, 2, 3)], module)


def zoom_cat(root: Path) -> Arrays:
    module = _yolov5(root / "mkang315/ASF-YOLO/models/common.py", "official_asf").Zoom_cat(8)
    return triple_of(module, [torch.randn(2, 8, 8, 12), torch.randn(2, 6, 4, 6), torch.randn(2, 4, 2, 3)], module)


def cpam(root: Path) -> Arrays:
    module = _yolov5(root / "mkang315/ASF-YOLO/models/common.py", "official_asf").attention_model(32)
    return triple_of(module, [torch.randn(2, 32, 5, 7), torch.randn(2, 32, 5, 7)], module)


def sdi(root: Path) -> Arrays:
    stand_ins = {"unet_v2": module_with("unet_v2", __path__=[]), "unet_v2.pvtv2": module_with("unet_v2.pvtv2")}
    official = load(root / "yaoppeng/U-Net_v2/PolypSeg/unet_v2/UNet_v2.py", "official_unet_v2", stand_ins)
    module = official.SDI(6)
    sizes = (4, 8, 4, 2)
    return triple_of(module, [torch.randn(2, 6, side, side) for side in sizes], lambda x: module(x, x[0]))


def _afpn(root: Path) -> types.ModuleType:
    registry = types.SimpleNamespace(register_module=lambda *_, **__: lambda cls: cls)
    stand_ins = {
        "mmyolo": module_with("mmyolo", __path__=[]),
        "mmyolo.registry": module_with("mmyolo.registry", MODELS=registry),
    }
    return load(root / "gyyang23/AFPN/mmyolo/mmyolo/models/necks/yolov5_afpn.py", "official_afpn", stand_ins)


def spatial_fusion(count: int) -> Maker:
    def make(root: Path) -> Arrays:
        module = getattr(_afpn(root), f"ASFF_{count}")(12)
        return triple_of(module, [torch.randn(2, 12, 5, 7) for _ in range(count)], lambda x: module(*x))

    return make


def afpn_block(root: Path) -> Arrays:
    return triple(_afpn(root).BasicBlock(12, 12), torch.randn(2, 12, 5, 7))


def _mfds(root: Path) -> types.ModuleType:
    below = ("backbone", "matcher", "segmentation", "deformable_transformer")
    names = ("util", "util.misc", *(f"official_mfds.{part}" for part in below))
    stand_ins: dict[str, Any] = {name: MagicMock() for name in names}
    stand_ins["official_mfds"] = module_with("official_mfds", __path__=[])
    return load(root / "JustlfC03/MFDS-DETR/modules/deformable_detr.py", "official_mfds.detr", stand_ins)


def channel_select(root: Path) -> Arrays:
    return triple(_mfds(root).ChannelAttention(16), torch.randn(2, 16, 5, 7))


def selective_fusion(root: Path) -> Arrays:
    """The three lines of ``wbcfpn`` that join a high and a low level, around the official attention."""
    module = _mfds(root).ChannelAttention(16, ratio=4, flag=False)
    inputs = [torch.randn(2, 16, 5, 7), torch.randn(2, 16, 5, 7)]
    return triple_of(module, inputs, lambda x: module(x[0]) * x[1] + x[0])


def vov_gscsp(root: Path) -> Arrays:
    """The official class over the repository's newer GSConv, with its newer activation."""
    folder = root / "AlanLi1997/slim-neck-by-gsconv"
    official = _yolov5(folder / "gsconv-yolov5/models/common.py", "official_slim")
    stand_ins = {
        "official_gsconv": module_with("official_gsconv", __path__=[]),
        "official_gsconv.block": module_with("official_gsconv.block", C2f=nn.Module),
    }
    file = folder / "gsconv-yolov8_9_10_11/ultralytics/nn/modules/conv.py"
    newer = load(file, "official_gsconv.conv", stand_ins)
    vars(official)["GSConv"] = lambda c1, c2, k, s, act=True: newer.GSConv(c1, c2, k, s, act=act)
    module = official.VoVGSCSP(8, 16, 2)
    del module.res  # never called
    for unit in (m for m in module.modules() if isinstance(getattr(m, "act", None), nn.Mish)):
        unit.act = nn.SiLU()
    return triple(module, torch.randn(2, 8, 5, 7))


def csp_stage(root: Path) -> Arrays:
    stand_ins: dict[str, Any] = {
        "official_damo": module_with("official_damo", __path__=[]),
        "official_damo.weight_init": MagicMock(),
        "damo": module_with("damo", __path__=[]),
        "damo.utils": MagicMock(),
    }
    official = load(root / "tinyvision/DAMO-YOLO/damo/base_models/core/ops.py", "official_damo.ops", stand_ins)
    return triple(official.CSPStage("BasicBlock_3x3_Reverse", 8, 1.0, 12, 2, act="silu"), torch.randn(2, 8, 5, 7))


MAKERS: dict[str, Maker] = {
    "dyhead": dyhead,
    "dysample": dysample("lp", False),
    "dysample_scope": dysample("lp", True),
    "dysample_pl": dysample("pl", False),
    "dysample_pl_scope": dysample("pl", True),
    "ema": ema,
    "cbam": cbam,
    "coord_attention": coord_attention,
    "spd_conv": spd_conv,
    "gsconv": gsconv,
    "faster_block": faster_block,
    "odconv": odconv(8, 12, 3, 2, 1, 4),
    "odconv_grouped": odconv(8, 12, 3, 1, 2, 4),
    "odconv_depthwise": odconv(8, 8, 3, 1, 8, 2),
    "odconv_pointwise": odconv(8, 12, 1, 1, 1, 1),
    "odconv_bn_act": odconv_bn_act,
    **{f"lska_{k}": lska(k) for k in (7, 11, 23, 35, 41, 53)},
    "lska_attention": lska_attention,
    "simam": simam,
    "weighted_concat": weighted_concat,
    "deform_conv": deform_conv,
    "eca": eca,
    "mlca": mlca,
    "triplet_attention": triplet_attention(False),
    "triplet_attention_no_spatial": triplet_attention(True),
    "shuffle_attention": shuffle_attention,
    "caa": caa,
    "pinwheel_conv": pinwheel_conv,
    "rfa_conv": rfa_conv,
    "context_guided": context_guided,
    "hwd": hwd,
    "wtconv": wtconv(1),
    "wtconv_3": wtconv(3),
    "diverse_branch": diverse_branch(1),
    "diverse_branch_grouped": diverse_branch(2),
    "scconv": scconv,
    "ldconv": ldconv,
    "snake_row": snake_strip(0),
    "snake_column": snake_strip(1),
    "star_block": star_block,
    "inception_next_block": inception_next_block,
    "convnextv2_block": convnextv2_block,
    "repvit_block": repvit_block(True),
    "repvit_block_plain": repvit_block(False),
    "unireplk_block_7": unireplk_block(7),
    "unireplk_block_13": unireplk_block(13),
    "irmb": irmb,
    "focal_modulation": focal_modulation,
    "scsa": scsa,
    "bilevel_routing": bilevel_routing,
    "dattention": dattention,
    "msda": msda,
    "lsk_block": lsk_block,
    "dcnv3": dcnv3,
    "unireplknet": unireplknet,
    "lsknet": lsknet,
    "pkinet": pkinet,
    "vanillanet": vanillanet,
    "fdconv": fdconv(3),
    "fdconv_pointwise": fdconv(1),
    "cga_fusion": cga_fusion,
    "scal_seq": scal_seq,
    "zoom_cat": zoom_cat,
    "cpam": cpam,
    "sdi": sdi,
    "spatial_fusion_2": spatial_fusion(2),
    "spatial_fusion_3": spatial_fusion(3),
    "afpn_block": afpn_block,
    "channel_select": channel_select,
    "selective_fusion": selective_fusion,
    "vov_gscsp": vov_gscsp,
    "csp_stage": csp_stage,
}


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    names = sys.argv[3:] or list(MAKERS)
    unknown = sorted(set(names) - set(MAKERS))
    if unknown:
        raise SystemExit(f"unknown block {', '.join(unknown)}; one of {', '.join(MAKERS)}")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        torch.manual_seed(0)
        arrays = MAKERS[name](root)
        np.savez_compressed(out / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        outputs = {key: value for key, value in arrays.items() if key.startswith("output")}
        for key, value in outputs.items():
            print(f"{name}: {key} {value.shape}, largest {float(np.abs(value).max()):.3f}")


if __name__ == "__main__":
    main()
