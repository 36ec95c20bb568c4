"""Classes whose construction is hooked stay Ultralytics' own for everybody but a build of detgraft."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support import answer, run_python
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import C3k2, CBLinear, Concat, Conv, Detect

from detgraft import build
from detgraft.catalog.registry import catalogue, register
from detgraft.upstream.parser.carriers import Construction, RowKey, hook, under_construction

MADE: dict[Any, dict[str, Any]] = {
    C3k2: {"c1": 8, "c2": 8},
    CBLinear: {"c1": 8, "c2s": [4, 4]},
    Concat: {"dimension": 1},
    Conv: {"c1": 8, "c2": 8},
    Detect: {"nc": 3, "ch": (8, 8, 8)},
}
HOOKED = pytest.mark.parametrize("kind", list(MADE), ids=lambda kind: kind.__name__)


@pytest.fixture(autouse=True, scope="module")
def _hooked() -> None:
    for kind in MADE:
        hook(kind)


def made(kind: Any) -> nn.Module:
    torch.manual_seed(5)
    module: nn.Module = kind(**MADE[kind])
    return module


_LOOK = """
import collections, json, inspect, pickle, pickletools, sys, torch
from ultralytics.nn import tasks
from ultralytics.nn.modules import C3k2, CBLinear, Concat, Conv, Detect
# Older releases mark the classes and the activation of whatever they build.
tasks.DetectionModel("yolo11n.yaml", verbose=False)
if sys.argv[1] == "hooked":
    from detgraft import build
    build("yolo11n+c3k2_dynamicconv@backbone.2+weightedconcat+carafe+dynamicconv@head")

def pickled(module, protocol):  # the operations; the tensors' bytes hold addresses
    text = pickle.dumps(module, protocol)
    return [len(text), collections.Counter(operation.name for operation, _, _ in pickletools.genops(text))]

found = {}
for kind, args in (
    (C3k2, {"c1": 8, "c2": 8}),
    (CBLinear, {"c1": 8, "c2s": [4, 4]}),
    (Concat, {"dimension": 1}),
    (Conv, {"c1": 8, "c2": 8}),
    (Detect, {"nc": 3, "ch": (8, 8, 8)}),
):
    torch.manual_seed(5)
    one = kind(**args)
    entry = {"signature": str(inspect.signature(kind)), "pickle": [pickled(one, p) for p in (0, 1, 2, 4)]}
    # Older releases write the count of parameters (np) into the class of a layer that repeats.
    entry["members"] = sorted(name for name in dir(kind) if not name.startswith("__") and name != "np")
    entry["source"] = inspect.getsource(kind)
    entry["text"] = repr(one) + repr(kind)
    class Own(kind):
        def __init__(self, words, *rest):
            super().__init__(**args)
            self.words = words
    entry["own"] = [str(inspect.signature(Own)), Own("a", "b").words, type(Own("a")).__mro__[1].__name__]
    class Plain(kind):
        pass
    entry["plain"] = [str(inspect.signature(Plain)), type(Plain(**args)).__name__]
    for wrong in ((), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)):
        try:
            kind(*wrong)
        except Exception as error:
            entry[str(len(wrong))] = f"{type(error).__name__}: {error}"
    found[kind.__name__] = entry
print(json.dumps(found))
"""


def test_a_process_with_grafts_sees_the_same_classes() -> None:
    """Signature, pickle, subclasses and refusals, compared with a process that knows nothing of detgraft."""
    stock, hooked = (answer(run_python(_LOOK, word)) for word in ("stock", "hooked"))
    assert hooked == stock


@HOOKED
def test_a_stock_module_is_made_copied_and_reopened(kind: Any) -> None:
    module = made(kind)
    assert type(module) is kind
    for again in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(again) is kind
        assert again.state_dict().keys() == module.state_dict().keys()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    needed: Any = torch.serialization
    if not hasattr(needed, "safe_globals"):
        pytest.skip("torch before 2.5 cannot be told which classes are safe for a while")
    with needed.safe_globals([kind, *{type(m) for m in module.modules()}, set]):
        assert type(torch.load(file, weights_only=True)) is kind


@HOOKED
def test_a_key_means_nothing_outside_of_a_build(kind: Any) -> None:
    with pytest.raises(Exception):  # noqa: B017 - whatever the class says to an argument too many
        kind(*MADE[kind].values(), *([1] * 9), RowKey(3))
    assert type(Concat(RowKey(1))) is Concat


def test_another_thread_sees_no_build() -> None:
    seen: list[Any] = []
    with under_construction(Construction(lambda _key, _args: nn.Identity(), blank=True), [CBLinear]):
        worker = threading.Thread(target=lambda: seen.append(CBLinear(8, [4])))
        worker.start()
        worker.join()
        assert type(CBLinear(8, 4, RowKey(0))) is nn.Identity
        assert not list(CBLinear(8, [4]).parameters())
    assert type(seen[0]) is CBLinear
    assert type(CBLinear(8, [4])) is CBLinear


def test_a_class_with_a_new_of_its_own_keeps_it() -> None:
    class Counted(nn.Module):
        count = 0

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            cls.count += 1
            return super().__new__(cls)

        def __init__(self, width: int = 1) -> None:
            super().__init__()
            self.width = width

    class Mixed(Concat, Counted):  # type: ignore[misc]
        pass

    hook(Counted)
    assert Counted(3).width == 3
    assert (Counted.count, Mixed(1).d) == (1, 1)
    assert Mixed.count == 2, "a class behind a hooked one is still asked"


def test_genuine_rows_of_a_carrier_are_stock() -> None:
    layers = tasks.parse_model(tasks.yaml_model_load("yolov9e.yaml"), 3, verbose=False)[0]
    assert sum(type(layer) is CBLinear for layer in layers) == 5


def test_hooked_modules_compile_trace_and_export() -> None:
    block = nn.Sequential(made(Conv), made(C3k2)).eval()
    x = torch.rand(1, 8, 16, 16)
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), block(x))
    assert torch.equal(torch.jit.trace(block, x)(x), block(x))
    assert torch.allclose(torch.export.export(block, (x,)).module()(x), block(x))


@pytest.fixture
def derived() -> Iterator[None]:
    """Own blocks that derive from the class that carries them."""

    class Joined(Concat):  # type: ignore[misc]
        calls = 0

        def __init__(self, inputs: list[int], gain: float = 1.0) -> None:
            type(self).calls += 1
            super().__init__(1)
            self.gain = nn.Parameter(torch.full((sum(inputs), 1, 1), gain))

        def forward(self, x: Any) -> torch.Tensor:
            joined: torch.Tensor = super().forward(x) * self.gain
            return joined

    class Wide(CBLinear):  # type: ignore[misc]
        def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1) -> None:
            super().__init__(c1, [c2], k, s, k // 2)

        def forward(self, x: Any) -> torch.Tensor:
            only: torch.Tensor = super().forward(x)[0]
            return only

    register("joined_own", channels="concat", site="Concat")(Joined)
    register("wide_own", channels="scaled", site="Conv")(Wide)
    yield
    for name in ("joined_own", "wide_own"):
        catalogue.remove(name)


def test_a_graft_may_derive_from_its_carrier(derived: None) -> None:
    model: Any = build("yolo11n+joined_own+wide_own@head.6", nc=3)
    joined = [layer for layer in model.model if type(layer).__name__ == "Joined"]
    assert len(joined) == 4
    assert {layer.type for layer in joined} == {"joined_own"}
    assert all(layer.np == layer.gain.numel() and layer.f == [-1, layer.f[1]] for layer in joined)
    assert type(joined[0]).calls == 4, "each is initialised once"
    assert model.eval()(torch.zeros(1, 3, 64, 64))[0].shape[-1] == 84
