"""Tutorial 001's rows name a weights file: its weights are trained, and the checkpoint never needs it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from seed_yamls import SEED_YAMLS
from support import TINY, answer, run_python

from detgraft import YOLO, build
from detgraft.errors import WeightsError
from detgraft.upstream.describe.resolve import ZOO

ROW = "convnextv2_atto, []"


def write_weights(path: Path) -> dict[str, torch.Tensor]:
    """A whole classifier's state as timm and the official repositories publish it, with weights unlike fresh ones."""
    torch.manual_seed(11)
    state = timm.create_model("convnextv2_atto").state_dict()
    state = {key: value + 0.01 * torch.randn_like(value) for key, value in state.items()}
    torch.save({"model": state}, path)
    return state


def rtdetr_with(seeds: Path, folder: Path, weights: str) -> Path:
    text = (seeds / SEED_YAMLS[1].file).read_text("utf-8")
    assert ROW in text
    path = folder / SEED_YAMLS[1].file
    path.write_text(text.replace(ROW, f"convnextv2_atto, [{weights}]"), "utf-8")
    return path


def stem_of(model: Any) -> torch.Tensor:
    """The first convolution's kernel."""
    kernel: torch.Tensor = model.model[0].net.state_dict()["stem_0.weight"]
    return kernel


@pytest.mark.parametrize("spelling", ["'{path}'", "{path}", '"{path}"'])
def test_the_file_is_read(spelling: str, seeds: Path, tmp_path: Path) -> None:
    state = write_weights(tmp_path / "atto.pth")
    model: Any = build(rtdetr_with(seeds, tmp_path, spelling.format(path=(tmp_path / "atto.pth").as_posix())))
    assert torch.equal(stem_of(model), state["stem.0.weight"])


def test_a_file_name_counts_from_the_current_folder(seeds: Path, tmp_path: Path) -> None:
    state = write_weights(tmp_path / "atto.pth")
    model: Any = build(rtdetr_with(seeds, tmp_path, "atto.pth"))
    assert torch.equal(stem_of(model), state["stem.0.weight"])


def test_factor_and_file_together(tmp_path: Path) -> None:
    state = write_weights(tmp_path / "atto.pth")
    model: Any = build(yolo_with(tmp_path, "1.0, atto.pth"))
    assert torch.equal(stem_of(model), state["stem.0.weight"])


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "atto.pth"), (b"", "atto.pth"), (b"not weights" * 99, "atto.pth"), ("narrow", "stem")],
)
def test_a_bad_file_gives_one_clear_error(content: Any, found: str, seeds: Path, tmp_path: Path) -> None:
    if content == "narrow":
        torch.save(timm.create_model("convnextv2_femto").state_dict(), tmp_path / "atto.pth")
    elif content is not None:
        (tmp_path / "atto.pth").write_bytes(content)
    path = rtdetr_with(seeds, tmp_path, "atto.pth")
    line = next(n for n, text in enumerate(path.read_text("utf-8").splitlines(), 1) if "convnextv2" in text)
    with pytest.raises(WeightsError, match=found) as caught:
        build(path)
    assert f"{path.name}, line {line}" in str(caught.value)


_AGAIN = """
import json, sys
from ultralytics import RTDETR, YOLO
best, data, project, imgsz, tiny = sys.argv[1:]
model = (RTDETR if "rtdetr" in project else YOLO)(best)
model.train(data=data, epochs=1, imgsz=int(imgsz), project=project, name="again", **json.loads(tiny))
print()
print(json.dumps({"epochs": model.trainer.epoch + 1, "rows": repr(model.model.yaml["backbone"])}))
"""


def yolo_with(folder: Path, weights: str) -> Path:
    text = (ZOO / "yolo11-convnextv2.yaml").read_text("utf-8").replace("[auto]", f"[{weights}]")
    (folder / "yolo11-own.yaml").write_text(text, "utf-8")
    return folder / "yolo11n-own.yaml"


@pytest.mark.parametrize("kind", ["yolo", pytest.param("rtdetr", marks=pytest.mark.slow)])
def test_training_starts_from_the_file_and_its_checkpoint_stands_alone(
    kind: str, request: pytest.FixtureRequest, made_set: Path, tmp_path: Path
) -> None:
    state = write_weights(tmp_path / "atto.pth")
    if kind == "yolo":
        path, imgsz = yolo_with(tmp_path, "atto.pth"), 64
    else:
        path, imgsz = rtdetr_with(request.getfixturevalue("seeds"), tmp_path, "atto.pth"), 128
    model, runs = YOLO(path), tmp_path / f"runs-{kind}"
    first: list[torch.Tensor] = []
    model.add_callback("on_train_start", lambda trainer: first.append(stem_of(trainer.model).clone()))
    model.train(data=str(made_set), epochs=1, imgsz=imgsz, project=str(runs), name="first", **TINY)
    assert torch.equal(first[0], state["stem.0.weight"]), "train() rebuilds the model; it must read the file again"

    (tmp_path / "atto.pth").unlink()
    best = runs / "first" / "weights" / "best.pt"
    words = (str(best), str(made_set), str(runs), str(imgsz), json.dumps(TINY))
    found = answer(run_python(_AGAIN, *words, cwd=tmp_path))
    assert found["epochs"] == 1
    assert "atto.pth" not in found["rows"]
    assert YOLO(best).model.yaml["backbone"][0][2] == "convnextv2_atto"
