"""Writes small checkpoints, one for each kind of graft, that every later version must open: tests/golden/checkpoints.

``python scripts/make_golden_checkpoints.py FOLDER``. Made once by a version and then kept; a new kind of graft adds
its own file. Beside each ``NAME.pt`` stands ``NAME.npz`` with a picture, the model's answer and the classes that the
pickle names. Only public names are used, so that the script runs under older versions, too.
"""

from __future__ import annotations

import copy
import datetime
import pickletools
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import ultralytics
from ultralytics.utils import DEFAULT_CFG_DICT

import detgraft

SIDE = 64

# Tiny detectors: a strided stem, the rows under test, a head with one level, since the head is what makes a file large.
_TOP = "nc: 2\nscales:\n  n: [1.0, 1.0, 64]\n"

_BLOCKS = {
    "same": ("[-1, 1, SimAM, []]", "[-1, 1, CBAM, []]", "[-1, 1, EMA, [4]]", "[-1, 1, CoordAtt, []]"),
    "same_lska": ("[-1, 1, LSKA, [7]]", "[-1, 1, LSKAAttention, [7]]"),
    "scaled": ("[-1, 1, DynamicConv, [16, 3]]", "[-1, 1, GSConv, [16]]", "[-1, 1, SPDConv, [16]]"),
    "scaled_odconv": ("[-1, 1, ODConv, [16, 3]]",),
    "scaled_deform": ("[-1, 1, DeformConv, [16, 3]]",),
    "like": ("[-1, 1, C3k2_DynamicConv, [16, False]]", "[-1, 1, C3k2_Faster, [16, False]]"),
}


def block_yaml(rows: tuple[str, ...]) -> str:
    """A model whose stem is followed by the given rows."""
    lines = [_TOP, "backbone:", "  - [-1, 1, Conv, [16, 3, 2]]", *(f"  - {row}" for row in rows)]
    lines += [f"  - [-1, 1, Conv, [{c}, 3, 2]]" for c in (16, 16, 16, 16)]
    last = 1 + len(rows) + 4 - 1
    return "\n".join([*lines, "head:", f"  - [[{last}], 1, Detect, [nc]]"]) + "\n"


def neck_yaml(row: str, upsample: str) -> str:
    """A model with an upsampling and a joining row in its head."""
    return (
        f"{_TOP}backbone:\n"
        + "".join(f"  - [-1, 1, Conv, [{c}, 3, 2]]\n" for c in (8, 16, 16, 16, 16))
        + f"head:\n  - [-1, 1, {upsample}]\n  - [[-1, 3], 1, {row}]\n  - [-1, 1, Conv, [16, 1]]\n"
        "  - [[7], 1, Detect, [nc]]\n"
    )


def refiner_yaml(row: str) -> str:
    """A model with a row between its features and the head."""
    return (
        f"{_TOP}backbone:\n"
        + "".join(f"  - [-1, 1, Conv, [{c}, 3, 2]]\n" for c in (8, 16, 16, 16, 16))
        + f"head:\n  - [[3, 4], 1, {row}]\n  - [[6], 1, Detect, [nc]]\n"
    )


def fuse_yaml() -> str:
    """A model whose head joins levels in every way that has output channels of its own, and what goes with that."""
    rows = [
        "[-1, 1, nn.Upsample, [None, 2, nearest]]",
        *(f"[[-1, 3], 1, {name}, [16]]" for name in ("BiFPNAdd", "CGAFusion", "SDI", "SpatialFusion")),
        *(f"[[-1, 3], 1, {name}, [16]]" for name in ("SelectiveFusion", "CPAM")),
        "[[2, -1, 4], 1, Zoom_cat, []]",
        "[[-1, 4], 1, ScalSeq, [16]]",
        "[-1, 1, ChannelSelect, []]",
        "[-1, 1, AFPNBlock, []]",
        "[-1, 1, VoVGSCSP, [16]]",
        "[-1, 1, CSPStage, [16]]",
        "[-1, 1, BiFPNConv, [16]]",
        "[[18], 1, Detect, [nc]]",
    ]
    backbone = "".join(f"  - [-1, 1, Conv, [{c}, 3, 2]]\n" for c in (8, 16, 16, 16, 16))
    return f"{_TOP}backbone:\n{backbone}head:\n" + "".join(f"  - {row}\n" for row in rows)


def backbone_yaml(row: str) -> str:
    """A model on a grafted backbone."""
    return (
        f"{_TOP}backbone:\n  - [-1, 1, {row}]\nhead:\n"
        + "".join(f"  - [{layer}, 1, Conv, [16, 1]]\n" for layer in (2, 3, 4))
        + "  - [[7], 1, Detect, [nc]]\n"
    )


def descriptions() -> dict[str, str]:
    """Every model by its name."""
    found = {name: block_yaml(rows) for name, rows in _BLOCKS.items()}
    found["upsampling"] = neck_yaml("WeightedConcat, []", "CARAFE, []")
    found["fuse"] = fuse_yaml()
    found["upsampling_official"] = neck_yaml("Concat, [1]", "CARAFE_official, []")
    found["upsampling_dysample"] = neck_yaml("Concat, [1]", "DySample, []")
    found["refine"] = refiner_yaml("DyHead, [16, 1]")
    found["refine_asff"] = refiner_yaml("ASFF, []")
    found["backbone_convnextv2"] = backbone_yaml("convnextv2_atto, [0.1]")
    found["backbone_repvit"] = backbone_yaml("repvit_m0_6, [0.1]")
    found["backbone_timm"] = backbone_yaml("timm/lcnet_035, []")
    return found


def classes_in(path: Path) -> list[str]:
    """Every ``detgraft`` class that a checkpoint's pickle names."""
    with zipfile.ZipFile(path) as file:
        data = file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))
    named: set[str] = set()
    words: list[str] = []
    for code, value, _ in pickletools.genops(data):
        if code.name == "GLOBAL":
            named.add(str(value).replace(" ", "."))
        elif code.name == "STACK_GLOBAL":
            named.add(".".join(words[-2:]))
        elif isinstance(value, str):
            words.append(value)
    return sorted(name for name in named if name.startswith("detgraft."))


def write(name: str, text: str, folder: Path) -> None:
    """Build, save as Ultralytics' trainer does, in half precision, and note the answer of the reopened file."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as there:
        path = Path(there) / f"golden_{name}n.yaml"
        path.write_text(text, "utf-8")
        model: Any = detgraft.build(path)
    saved = copy.deepcopy(model).half()
    saved.yaml["yaml_file"] = f"{name}.yaml"
    saved.args = {**DEFAULT_CFG_DICT, "task": "detect", "imgsz": SIDE}
    saved.task = "detect"
    content = {
        "epoch": -1,
        "model": saved,
        "ema": None,
        "optimizer": None,
        "train_args": saved.args,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "version": ultralytics.__version__,
    }
    target = folder / f"{name}.pt"
    torch.save(content, target)
    picture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        answer = ultralytics.YOLO(str(target)).model.float().eval()(picture)
    while not isinstance(answer, torch.Tensor):
        answer = answer[0]
    np.savez_compressed(
        folder / f"{name}.npz",
        answer=answer.numpy(),
        classes=np.array(classes_in(target)),
        rows=np.array(sorted({str(layer.type) for layer in model.model})),
        version=detgraft.__version__,
    )
    print(f"{target}  {target.stat().st_size / 1024:.0f} KB  {sum(p.numel() for p in model.parameters())} parameters")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in descriptions().items():
        write(name, text, folder)


if __name__ == "__main__":
    main()
