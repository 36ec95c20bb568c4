"""Whole training steps and the building of models."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Case, Work, unchecked
from benchmarks.rivals import PermutedConvNeXtV2, unfolded_carafe
from detgraft.blocks.backbones.convnextv2 import convnextv2
from detgraft.blocks.carafe import CARAFE
from detgraft.blocks.ema import EMA
from detgraft.upstream.model.models import build


class UnfoldedCARAFE(CARAFE):
    """The module with the operator's high-resolution form."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return unfolded_carafe(x_BCHW, self.mask(x_BCHW), self.k_up, self.scale)


def batch_of(model: Any, pictures: int, size: int) -> dict[str, torch.Tensor]:
    """Return a batch for the model, the same each time, and give the model what its loss asks for."""
    torch.manual_seed(0)
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, overlap_mask=True, epochs=1)
    boxes = 8 * pictures
    batch = {
        "img": torch.rand(pictures, 3, size, size),
        "batch_idx": torch.arange(boxes) // 8,  # sorted, as Ultralytics collates
        "cls": torch.randint(0, 80, (boxes, 1)).float(),
        "bboxes": torch.rand(boxes, 4) * 0.3 + 0.3,
    }
    return {key: value.to(next(model.parameters()).device) for key, value in batch.items()}


def training_step(
    model: Any, run: Callable[..., Any] | None = None, pictures: int = 8, size: int = 320
) -> Callable[[], list[torch.Tensor]]:
    """Return one step on the model's device; ``run`` is what is called in the model's place."""
    run = model if run is None else run
    batch = batch_of(model, pictures, size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # the weights stay, so that every step is the same work
    model.train()

    def step() -> list[torch.Tensor]:
        optimizer.zero_grad()
        loss = run(batch)[0].sum()
        torch.autograd.backward(loss)
        optimizer.step()
        return [loss.detach()]

    return step


def _carafe_models() -> Mapping[str, Work]:
    torch.manual_seed(0)
    ours = build("yolo11n-carafe.yaml")
    rival = copy.deepcopy(ours)
    for module in rival.modules():
        if type(module) is CARAFE:
            module.__class__ = UnfoldedCARAFE
    return {
        "ours": training_step(ours),
        "unfold": training_step(rival),
        "stock yolo11n": unchecked(training_step(build("yolo11n.yaml"))),
    }


def channels_last(model: Any) -> Callable[..., Any]:
    """Return the model as it is called with a batch whose pictures are channels-last."""

    def call(batch: dict[str, Any]) -> Any:
        return model({**batch, "img": batch["img"].contiguous(memory_format=torch.channels_last)})

    return call


def compiled(model: Any) -> Any:
    torch._dynamo.config.recompile_limit = 256  # one class's forward serves many shapes; 8 would leave most uncompiled
    return torch.compile(model, dynamic=False)


def _convnext_base() -> Mapping[str, Work]:
    def tutorial() -> None:
        """The stock model, and the backbone with its unused head, whose constructor runs 640x640 noise."""
        build("yolo11n.yaml")
        backbone = PermutedConvNeXtV2(convnextv2("base", 3).net)
        nn.LayerNorm(1024), nn.Linear(1024, 1000)
        [feature.size(1) for feature in backbone(torch.randn(1, 3, 640, 640))]

    return {"ours": unchecked(lambda: build("yolo11n+convnextv2_base")), "tutorial": tutorial}


def _direct_build() -> Mapping[str, Work]:
    """The same layers through Ultralytics' own parser, with the class put into its namespace and all sizes written."""
    from ultralytics.nn import tasks

    mapping = tasks.yaml_model_load("yolo11n.yaml")
    rows = [*mapping["backbone"], *mapping["head"]]
    widths = iter((256, 128))
    for row in rows:
        if row[2] == "nn.Upsample":
            row[2:] = ["DirectCARAFE", [next(widths)]]

    def direct() -> None:
        hooked = tasks.parse_model
        tasks.DirectCARAFE = CARAFE
        tasks.parse_model = hooked.__detgraft_original__
        try:
            tasks.DetectionModel(copy.deepcopy(mapping), verbose=False)
        finally:
            tasks.parse_model = hooked
            del tasks.DirectCARAFE

    return {"ours": unchecked(lambda: build("yolo11n-carafe.yaml")), "direct construction": direct}


def _help() -> Mapping[str, Work]:
    def ours() -> None:
        subprocess.run([sys.executable, "-m", "detgraft.cli.main", "--help"], check=True, stdout=subprocess.DEVNULL)

    def half_a_second() -> None:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)"], check=True)

    return {"ours": ours, "python that sleeps 0.5 s": half_a_second}


def _composed() -> Mapping[str, Work]:
    """A model by its expression, composed and built, against building the stock model that it stands on."""
    from ultralytics import YOLO as StockYOLO

    import detgraft

    def stock() -> None:
        StockYOLO("yolo11n.yaml")

    return {"ours": unchecked(lambda: detgraft.YOLO("yolo11n+carafe")), "stock yolo11n": stock}


def _shelled() -> Mapping[str, Work]:
    """Every C3k2 with another block inside, composed and built, against building the stock model."""
    return {
        "ours": unchecked(lambda: build("yolo11n+c3k2(faster)")),
        "stock yolo11n": lambda: build("yolo11n.yaml"),
    }


def _shelled_behind() -> Mapping[str, Work]:
    """Every shell with a block behind its units: the stock model's layers nearly all, and the blocks besides."""
    expression = "yolo11n+csp(ema)+c2psa(ema)"
    widths = [8 * module.width for module in build(expression).modules() if type(module) is EMA]

    def and_the_blocks() -> None:
        build("yolo11n.yaml")
        for width in widths:
            EMA(width)

    return {
        "ours": unchecked(lambda: build(expression)),
        "stock yolo11n": lambda: build("yolo11n.yaml"),
        f"stock yolo11n and {len(widths)} EMA": and_the_blocks,
    }


def _absurd() -> Mapping[str, Work]:
    """The look for absurd sizes, 20 times, beside two seconds: 0.1 s each."""
    from detgraft.upstream.describe.bounds import refuse_absurd
    from detgraft.upstream.describe.expressions import compose_mapping

    found = [compose_mapping(text) for text in ("yolov9c+carafe", "yolov9e+carafe")]

    def ours() -> None:
        for mapping in found * 10:
            refuse_absurd(mapping, 3)

    return {"ours": ours, "2 s": lambda: time.sleep(2)}


def cases() -> list[Case]:
    return [
        Case(
            "models/yolo11n+carafe batch 8 at 320/training step",
            _carafe_models,
            targets={"unfold": 1.5},
            rounds=7,
            seconds=50,
            memory_target={"unfold": 1.0},
        ),
        Case(
            "models/build yolo11 with convnextv2_base/build",
            _convnext_base,
            targets={"tutorial": 5.0},
            memory_target={"tutorial": 1 / 3},
            rounds=5,
            seconds=50,
        ),
        Case("models/build yolo11n-carafe/build", _direct_build, targets={"direct construction": 1 / 1.2}, rounds=15),
        Case("models/YOLO of yolo11n+carafe/build", _composed, rounds=9),
        Case("models/build yolo11n+c3k2(faster)/build", _shelled, targets={"stock yolo11n": 1 / 1.2}, rounds=25),
        Case(
            "models/build yolo11n+csp(ema)+c2psa(ema)/build",
            _shelled_behind,
            targets={"stock yolo11n": 1 / 1.2},
            rounds=25,
        ),
        Case(
            "models/absurd sizes of yolov9c and yolov9e with carafe/20 looks", _absurd, targets={"2 s": 1.0}, rounds=5
        ),
        Case("models/detgraft --help/process", _help, targets={"python that sleeps 0.5 s": 1.0}, rounds=7),
    ]
