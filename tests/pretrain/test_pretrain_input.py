"""A detector that starts from pretrained weights sees the pixels that the pretraining saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_support import image_folder, scenes, small_run
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from detgraft import build
from detgraft.pretraining.backbones import build_backbone
from detgraft.pretraining.views import prepare
from detgraft.weights.backbone_files import load_backbone_weights

pytestmark = pytest.mark.trust


@pytest.mark.parametrize("normalize", ["none", "imagenet"])
@pytest.mark.parametrize("former", [False, True])
def test_the_detector_sees_what_pretraining_saw(tmp_path: Path, normalize: str, former: bool) -> None:
    file = small_run(image_folder(tmp_path / "set", 4), tmp_path / "run", epochs=1, normalize=normalize).weights
    if former:  # a file of the version before: no numbers, the setting alone
        with safe_open(file, framework="pt") as opened:
            metadata = {key: value for key, value in opened.metadata().items() if key != "input_scale"}
        save_file(load_file(file), file, metadata=metadata)
    pictures = (scenes(1) * 255).to(torch.uint8)
    backbone = build_backbone("convnextv2_atto", 0.2).eval()
    load_backbone_weights(backbone, str(file))
    model: Any = build(f"yolo11n+convnextv2_atto(width=0.2,weights={file})", nc=3).eval()
    with torch.no_grad():
        expected = backbone(prepare(pictures, normalize))
        found = model.model[0](pictures.float() / 255)
    assert (model.model[0].input is None) == (normalize == "none")
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
