"""`detgraft train ... pretrain=FOLDER`: the backbone learns from pictures first, then the detector from labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from pretrain_support import image_folder
from safetensors.torch import load_file
from typer.testing import CliRunner

from detgraft import YOLO
from detgraft.cli.main import app
from detgraft.demo.made import make_shapes
from detgraft.upstream.model.pretrained import grafted_backbone

FIRST = ["pretrain_epochs=1", "pretrain_imgsz=96", "pretrain_batch=4", "pretrain_workers=0", "pretrain_picture_every=0"]
TINY = ["epochs=1", "imgsz=64", "batch=2", "workers=0", "device=cpu", "plots=False", "lr0=0.0", "warmup_epochs=0"]
TINY += ["warmup_bias_lr=0.0", "optimizer=SGD", "name=second", "amp=False"]


def refusal(*words: str) -> str:
    """What the command says when it refuses its words."""
    result = CliRunner().invoke(app, ["train", *words])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def run(*words: str) -> None:
    result = CliRunner().invoke(app, ["train", *words], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("model", ["yolo11n+convnextv2_atto+carafe", "yolo11n-convnextv2.yaml"])
def test_the_detector_starts_from_the_pretrained_backbone(model: str, tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "set", train=4, val=2, imgsz=64, seed=1)
    pictures = image_folder(tmp_path / "pictures", 8)
    run(f"model={model}", f"data={data}", f"pretrain={pictures}", *FIRST, *TINY, f"project={tmp_path / 'detect'}")
    folder = tmp_path / "runs" / "pretrain" / "convnextv2_atto"
    yamls = list(folder.glob("*.yaml"))
    assert [path.name[:7] for path in yamls] == ["yolo11n"]
    assert str(folder / "encoder.safetensors") in yamls[0].read_text("utf-8")
    learned = load_file(folder / "encoder.safetensors")
    # The training had a learning rate of zero: what it saved is what it started from (in half precision).
    trained = YOLO(str(tmp_path / "detect" / "second" / "weights" / "last.pt")).model.float().model[0].state_dict()
    matched = 0
    for name, value in learned.items():
        name = name.replace("stages.", "stages_", 1).replace("stem.", "stem_", 1)  # timm's names with features_only
        found = [key for key in trained if key.endswith(name) and trained[key].shape == value.shape]
        if found:
            matched += 1
            torch.testing.assert_close(trained[found[0]], value.half().float(), rtol=2e-3, atol=1e-6)
    assert matched >= len(learned) - 2, f"{matched} of {len(learned)}"  # the encoder's last norm is not a detector's


def test_the_run_says_how_to_use_its_weights(tmp_path: Path) -> None:
    pictures = image_folder(tmp_path / "pictures", 4)
    small = [word.removeprefix("pretrain_") for word in FIRST]
    words = ["pretrain", "model=convnextv2_atto", f"data={pictures}", "width=0.2", f"save_dir={tmp_path / 'my run'}"]
    result = CliRunner().invoke(app, [*words, *small, "device=cpu"])
    assert result.exit_code == 0, result.output
    said = re.findall(r'detgraft train "model=(yolo11n\+.*)" data=', result.output)
    assert len(said) == 1
    assert "'" in said[0]  # the path has a space
    learned = load_file(tmp_path / "my run" / "encoder.safetensors")
    built = YOLO(said[0]).model.model[0].state_dict()
    assert any(torch.equal(value, learned["stem.0.weight"]) for value in built.values())


def test_the_yamls_name_keeps_the_scale(tmp_path: Path) -> None:
    written = grafted_backbone("yolo11s+timm/resnet18").write(tmp_path / "w.safetensors", tmp_path)
    assert written.name == "yolo11s-timm-resnet18.yaml"
    assert f"timm/resnet18, [{tmp_path / 'w.safetensors'}]" in written.read_text("utf-8")


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("yolo11n", [], "no grafted backbone"),
        ("yolo11n+carafe", [], "no grafted backbone"),
        ("yolo11n+convnextv2_atto(weights=a.pth)", [], "has weights already"),
        ("best.pt", [], "before a model is made"),
        ("yolo11n+convnextv2_atto", ["pretrain_epoch=1"], "Did you mean 'pretrain_epochs'"),
        ("yolo11n+convnextv2_atto", ["resume=True"], "give one of them"),
    ],
)
def test_wrong_first_steps(model: str, words: list[str], message: str, tmp_path: Path) -> None:
    pictures = image_folder(tmp_path / "pictures", 2)
    assert message in refusal(f"model={model}", "data=set.yaml", f"pretrain={pictures}", *words)
    assert not (tmp_path / "runs").exists()


def test_settings_without_pictures() -> None:
    assert "needs pretrain=FOLDER" in refusal("model=yolo11n+convnextv2_atto", "data=set.yaml", "pretrain_epochs=1")
    assert "no argument 'pretrian'" in refusal("model=yolo11n+convnextv2_atto", "data=set.yaml", "pretrian=pictures")
