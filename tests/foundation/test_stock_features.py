"""What stock Ultralytics offers by layer number works on grafted models: freezing, embedding, profiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import BY_KEY, KEYS, NC, TINY, main_output, ultralytics_log

from detgraft import YOLO, build

BACKBONES = ("convnextv2", "repvit", "rtdetr")


@pytest.mark.parametrize("key", BACKBONES)
def test_layers_0_to_4_are_the_backbone_and_nothing_else(key: str) -> None:
    model: Any = build(BY_KEY[key].zoo, nc=NC)
    assert [layer.i for layer in model.model] == list(range(len(model.model)))
    own = sum(p.numel() for p in model.model[0].parameters())
    assert own > 0
    assert sum(p.numel() for layer in model.model[1:5] for p in layer.parameters()) == 0
    frozen = [n for n, _ in model.named_parameters() if n.startswith(tuple(f"model.{i}." for i in range(5)))]
    assert frozen
    assert all(name.startswith("model.0.") for name in frozen)


def test_freezing_five_layers_freezes_the_backbone_alone(made_set: Path, tmp_path: Path) -> None:
    model = YOLO("yolo11n-repvit.yaml")
    states: list[dict[str, torch.Tensor]] = []

    def keep(trainer: Any) -> None:
        states.append({n: p.detach().clone() for n, p in trainer.model.named_parameters()})

    model.add_callback("on_train_start", keep)
    model.add_callback("on_train_end", keep)
    options = {**TINY, "optimizer": "SGD", "nbs": 4, "warmup_epochs": 0.0}
    options |= {"freeze": 5, "freeze_random": True, "project": str(tmp_path), "name": "run"}
    model.train(data=str(made_set), epochs=1, imgsz=64, **options)
    first, last = states
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert not any(name.startswith("model.0.") for name in moved)
    assert any(name.startswith("model.5.") for name in moved), "layer 5 is the row after the backbone"


@pytest.mark.parametrize("key", BACKBONES)
def test_a_selector_gives_an_embedding(key: str) -> None:
    model: Any = build(BY_KEY[key].zoo, nc=NC).eval()
    with torch.no_grad():
        vectors = model.predict(torch.rand(2, 3, 128, 128), embed=[2, 4])
    channels = model.model[0].channels
    assert [tuple(vector.shape) for vector in vectors] == [(channels[1] + channels[3],)] * 2


@pytest.mark.parametrize("key", [key for key in KEYS if key != "rtdetr"])
def test_profiling_prints_every_layer(key: str) -> None:
    model: Any = build(BY_KEY[key].zoo, nc=NC).eval()
    with ultralytics_log() as lines, torch.no_grad():
        model.predict(torch.rand(1, 3, 64, 64), profile=True)
    assert BY_KEY[key].graft in "\n".join(lines)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("key", ["repvit", "carafe"])
def test_images_with_other_channels(channels: int, key: str) -> None:
    model = build(BY_KEY[key].zoo, nc=NC, ch=channels).eval()
    assert main_output(model, torch.rand(1, channels, 64, 96)).isfinite().all()


@pytest.mark.parametrize("key", ["convnextv2", "dynamicconv"])
def test_a_batch_gives_what_its_pictures_give_alone(key: str) -> None:
    model = build(BY_KEY[key].zoo, nc=NC).eval()
    x = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    together = main_output(model, x)
    alone = torch.cat([main_output(model, picture[None]) for picture in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
