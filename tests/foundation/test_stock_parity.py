"""Stock models behave exactly as without detgraft: same keys, same weights, same outputs, same random state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import answer, run_python

from detgraft import build
from detgraft.upstream.release import capabilities

STOCK = ["yolo11n.yaml", "yolov8n.yaml", "yolov9e.yaml", "rtdetr-l.yaml"]
STOCK += ["yolo26n.yaml"] if capabilities.HAS_YOLO26 else []

_LOOK = """
import hashlib, json, random, sys
import numpy as np, torch
if sys.argv[1] == "with":
    import detgraft
from ultralytics import RTDETR, YOLO

def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from tensors(entry)

def digest(values):
    sha = hashlib.sha256()
    for value in values:
        sha.update(str((tuple(value.shape), value.dtype)).encode() + value.detach().contiguous().numpy().tobytes())
    return sha.hexdigest()

found = {}
for name in json.loads(sys.argv[2]):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    model = (RTDETR if name.startswith("rtdetr") else YOLO)(name).model
    state = model.state_dict()
    after = digest([torch.get_rng_state()]) + str(random.random()) + str(np.random.rand())
    x = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        outputs = digest(tensors(model.eval()(x)))
        fused = digest(tensors(model.fuse()(x)))
    found[name] = {
        "keys": hashlib.sha256("\\n".join(state).encode()).hexdigest(),
        "weights": digest(state.values()),
        "random": after,
        "classes": [type(m).__module__ + "." + type(m).__name__ for m in model.modules()].__repr__(),
        "attributes": sorted(vars(model)),
        "outputs": outputs,
        "fused": fused,
    }
found["hooked"] = "detgraft" in sys.modules
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def looks() -> dict[str, Any]:
    return {way: answer(run_python(_LOOK, way, json.dumps(STOCK))) for way in ("without", "with")}


@pytest.mark.parametrize("name", STOCK)
def test_a_stock_model_is_the_same_with_and_without_detgraft(name: str, looks: dict[str, Any]) -> None:
    assert looks["with"]["hooked"]
    assert not looks["without"]["hooked"]
    assert looks["with"][name] == looks["without"][name]


@pytest.mark.skipif(capabilities.HAS_YOLO26, reason="HAS_YOLO26: the release has it, the test above covers it")
def test_yolo26_needs_a_newer_release() -> None:
    assert "yolo26.yaml" not in capabilities.stock_yamls()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """YOLOv9e with its real CBLinear rows, stock and with CARAFE in place of nearest upsampling."""
    text = capabilities.stock_yamls()["yolov9e.yaml"].read_text("utf-8")
    assert text.count("CBLinear") >= 4
    path = tmp_path_factory.mktemp("mixed") / "mixed.yaml"
    path.write_text(
        text.replace("nn.Upsample, [None, 2, 'nearest']", "CARAFE, []").replace(
            'nn.Upsample, [None, 2, "nearest"]', "CARAFE, []"
        ),
        "utf-8",
    )
    return build("yolov9e.yaml", nc=5), build(path, nc=5)


def test_genuine_cblinear_rows_work_beside_a_graft(mixed: tuple[Any, Any]) -> None:
    stock, grafted = mixed
    kinds = [type(layer).__name__ for layer in grafted.model]
    assert kinds.count("CBLinear") == [type(layer).__name__ for layer in stock.model].count("CBLinear") > 0
    assert kinds.count("CARAFE") == 2
    upsamplers = {i for i, layer in enumerate(grafted.model) if type(layer).__name__ == "CARAFE"}
    for i, (ours, theirs) in enumerate(zip(grafted.model, stock.model, strict=True)):
        if i not in upsamplers:
            assert type(ours) is type(theirs)
            assert (ours.type, ours.f, ours.i, ours.np) == (theirs.type, theirs.f, theirs.i, theirs.np)


def test_a_mixed_model_differs_from_stock_by_its_grafts_keys_only(mixed: tuple[Any, Any]) -> None:
    stock, grafted = mixed
    own = {f"model.{i}." for i, layer in enumerate(grafted.model) if type(layer).__name__ == "CARAFE"}
    keys = [key for key in grafted.state_dict() if not key.startswith(tuple(own))]
    assert keys == list(stock.state_dict())
    assert grafted.save == stock.save


def test_a_mixed_models_stock_layers_compute_the_same(mixed: tuple[Any, Any]) -> None:
    stock, grafted = mixed
    grafted.load_state_dict(stock.state_dict(), strict=False)
    upsampler = next(i for i, layer in enumerate(grafted.model) if type(layer).__name__ == "CARAFE")
    seen: list[list[Any]] = [[], []]
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    image = image.contiguous(memory_format=torch.channels_last)  # as grafted models lay it out
    for kept, model in zip(seen, (stock, grafted), strict=True):
        for layer in model.model[:upsampler]:
            layer.register_forward_hook(lambda _m, _i, output, kept=kept: kept.append(output))
        with torch.no_grad():
            model.eval()(image)
    assert len(seen[0]) == upsampler
    for theirs, ours in zip(*seen, strict=True):
        for a, b in zip(*((value if isinstance(value, tuple) else (value,)) for value in (theirs, ours)), strict=True):
            assert torch.equal(a, b)


def test_nothing_of_a_build_stays_behind_in_ultralytics(tmp_path: Path) -> None:
    from ultralytics.nn import tasks

    before = {name: value for name, value in vars(tasks).items() if not name.startswith("__")}
    activation = tasks.Conv.default_act
    path = tmp_path / "yolo11-relu.yaml"
    path.write_text(
        "activation: nn.ReLU()\n"
        + (Path(capabilities.__file__).parents[2] / "zoo" / "yolo11-carafe.yaml").read_text("utf-8"),
        "utf-8",
    )
    build(path, nc=3)
    after = {name: value for name, value in vars(tasks).items() if not name.startswith("__")}
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert tasks.Conv.default_act is activation


@pytest.mark.skipif(not capabilities.HAS_LEGACY_HEAD, reason="HAS_LEGACY_HEAD: this release has one form of head")
def test_the_heads_form_does_not_leak_into_the_next_build() -> None:
    def head(name: str) -> int:
        model: Any = build(name, nc=25)
        return sum(p.numel() for p in model.model[-1].parameters())

    first = head("yolov8n.yaml")
    assert head("yolo11n-c3k2-dynamicconv.yaml") == 435_547
    assert head("yolov8n.yaml") == first
