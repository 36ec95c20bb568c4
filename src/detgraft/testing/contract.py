"""Contract tests for blocks: what a block must do to work as a graft, for authors of own blocks.

    from detgraft.testing import BlockContract

    class TestMyBlock(BlockContract):
        graft = "myblock"

pytest collects the subclass; each test method is one promise. Plain ``assert`` with words, since pytest explains
assertions only in the author's own files.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import math
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.utils.prune
from torch import Tensor, nn

from detgraft.base.extras import missing
from detgraft.blocks.parts.fusing import fuse_tree
from detgraft.catalog.registry import catalogue
from detgraft.catalog.spec import Graft
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.model.build import build

try:
    import pytest
except ImportError as error:
    raise missing("pytest") from error

FUSE_TOLERANCE = 1e-4
EXPORT_TOLERANCE = 1e-4
LAYOUT_TOLERANCE = 1e-4
_PARSERS_NAMES = ("f", "i", "type", "np")
_TRUSTED = ("torch.", "collections.", "ultralytics.nn.", "detgraft.blocks.", "detgraft.plugins.")


class BlockContract:
    """Tests that a registered block keeps its promises; subclass it and set ``graft``.

    Attributes:
        graft: The block's registered name.
        args: Arguments as a YAML row gives them, after the output channels where the row has some.
        inputs: Input channels; several for the rules ``concat``, ``fuse`` and ``refine``. Three, the image, for
            ``pyramid``.
        outputs: Output channels for the rules ``scaled``, ``fixed`` and ``fuse``.
        sizes: Heights and widths of the inputs that are tried; multiples of 32 for ``pyramid``. For ``refine`` those of
            the finest level, each further one having half of it.
        stride: Input size divided by output size, 0.5 for an upsampler; None takes it from the default site and the
            argument ``s`` or ``stride``.
        random: The block draws random numbers in training, as dropout does.
    """

    graft: ClassVar[str] = ""
    args: ClassVar[tuple[Any, ...]] = ()
    inputs: ClassVar[tuple[int, ...]] = (16,)
    outputs: ClassVar[int] = 24
    sizes: ClassVar[tuple[tuple[int, int], ...]] = ((16, 16), (15, 21), (32, 20))
    stride: ClassVar[float | None] = None
    random: ClassVar[bool] = False

    def test_forward_at_several_sizes(self) -> None:
        """Every size, batches of one and three, in both modes: the declared channels and the stride rule hold."""
        block = self.make()
        for size in self._sizes():
            for batch in (1, 3):
                expected = self.expected(batch, size)
                for training in (False, True):
                    output = block.train(training)(self.example(batch, size))
                    found = [tuple(value.shape) for value in _tensors(output)]
                    assert found == expected, f"input {batch} x {size}: output {found}, declared {expected}"

    def test_leaves_the_parsers_names_free(self) -> None:
        """Ultralytics' parser sets ``f``, ``i``, ``type`` and ``np`` on every layer, over what the block has there."""
        block = self.make()
        own = {**block._modules, **block._parameters, **block._buffers, **vars(block)}
        taken = [name for name in _PARSERS_NAMES if name in own]
        assert not taken, (
            f"{type(block).__name__} has attributes named {taken}; Ultralytics' parser sets these on every layer, "
            "over the block's own: rename them"
        )

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        """One backward pass reaches every parameter; DDP fails on parameters that it does not reach."""
        block, x = self.make().train(), self.example(3)
        for value in _tensors(x):
            value.requires_grad_()
        _backward(block(x))
        _check_gradients(block)
        assert all(torch.isfinite(_gradient(value)).all() for value in _tensors(x)), "no finite gradient to the input"

    def test_every_module_with_parameters_is_called(self) -> None:
        """Whoever prepares a module's parameters (pruning, norms of weights, FSDP) does so when it is called."""
        for training in (True, False):
            block = self.make().train(training)
            missed = {
                name or type(block).__name__: module
                for name, module in block.named_modules()
                if next(module.parameters(recurse=False), None) is not None
            }
            for name, module in list(missed.items()):
                module.register_forward_pre_hook(partial(_strike_out, missed, name))
            block(self.example(2))
            assert not missed, f"hold parameters and are never called with training={training}: {list(missed)}"

    def test_pruned_and_reparametrised_weights_train(self) -> None:
        """Two training steps run with half of the weights pruned, and with their spectral norm held at 1."""
        for prepare in (_prune_half, nn.utils.parametrizations.spectral_norm):
            block = self.make().train()
            weights = [
                (module, name)
                for module in block.modules()
                for name, value in module.named_parameters(recurse=False)
                if value.ndim >= 2
            ]
            if not weights:
                pytest.skip(f"'{self.graft}' has no weights of two or more dimensions")
            for module, name in weights:
                weight = getattr(module, name)
                if not weight.any():  # a norm of nothing is no number
                    nn.init.normal_(weight, std=0.1)
                prepare(module, name)
            optimizer = torch.optim.SGD(block.parameters(), lr=1e-3)
            for _ in range(2):
                optimizer.zero_grad()
                _backward(block(self.example(3)))
                _check_gradients(block)
                optimizer.step()

    def test_forward_draws_no_random_numbers(self) -> None:
        """The global random generator stays where it is, or two runs of one seed would differ from each other."""
        for training in (False,) if self.random else (False, True):
            block, x = self.make().train(training), self.example(3)
            before = torch.random.get_rng_state()
            block(x)
            assert torch.equal(before, torch.random.get_rng_state()), f"drawn with training={training}"

    def test_takes_channels_last_features(self) -> None:
        """The memory layout of the input does not matter: models run channels-last on the CPU (``view`` may fail)."""
        block, x = self.make().eval(), self.example(2)
        _assert_close(self.run(block, _channels_last(x)), self.run(block, x), LAYOUT_TOLERANCE, "channels-last input")
        for value in _tensors(x):
            value.requires_grad_()
        _backward(block.train()(_channels_last(x)))

    def test_evaluation_changes_nothing(self) -> None:
        """In evaluation mode a forward pass moves no statistics, and its result repeats exactly."""
        block, x = self.make().eval(), self.example(2)
        before = {key: value.clone() for key, value in block.state_dict().items()}
        with torch.no_grad():
            once, again = _tensors(block(x)), _tensors(block(x))
        changed = [key for key, value in block.state_dict().items() if not torch.equal(value, before[key])]
        assert not changed, f"changed by a forward pass in evaluation mode: {changed}"
        _assert_equal(again, once, "a second forward pass")

    def test_fused_equals_unfused(self) -> None:
        """Where the block or a part of it has ``fuse()``, outputs agree before and after; fusing twice is harmless."""
        block, x = nn.Sequential(self.make()).eval(), self.example(2)
        if not any(callable(getattr(module, "fuse", None)) for module in block.modules()):
            pytest.skip(f"'{self.graft}' has no fuse()")
        randomise_norms(block)
        with torch.no_grad():
            before = [output.clone() for output in _tensors(block(x))]
            once = [output.clone() for output in _tensors(fuse_tree(block)(x))]
            twice = _tensors(fuse_tree(block)(x))
        for name, found in (("fused", once), ("fused twice", twice)):
            _assert_close(found, before, FUSE_TOLERANCE, name)

    def test_pickle_and_deepcopy(self) -> None:
        """Checkpoints pickle the module, the running average of the weights deep-copies it."""
        block, x = self.make().eval(), self.example(2)
        expected = self.run(block, x)
        _assert_equal(self.run(pickle.loads(pickle.dumps(block)), x), expected, "the unpickled block")
        clone = copy.deepcopy(block)
        _assert_equal(self.run(clone, x), expected, "the deep copy")
        with torch.no_grad():
            for parameter in clone.parameters():
                parameter.add_(1.0)
        _assert_equal(self.run(block, x), expected, "the block after its deep copy changed")

    def test_state_dict_round_trip(self) -> None:
        """Another instance with the same state dict computes the same."""
        block, x = self.make().eval(), self.example(2)
        other = self.make(seed=1).eval()
        other.load_state_dict(block.state_dict())
        _assert_equal(self.run(other, x), self.run(block, x), "an instance with the same state dict")

    def test_restricted_loading(self) -> None:
        """A checkpoint opens with ``weights_only=True`` once the block's own classes are allowed."""
        needed = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
        if needed is None:
            pytest.skip("this torch has no restricted loading of modules")
        block, x = self.make().eval(), self.example(2)
        content = io.BytesIO()
        torch.save(block, content)
        content.seek(0)
        names = list(needed(content))
        own = {module.__module__.partition(".")[0] for module in block.modules()}
        foreign = [n for n in names if not n.startswith(_TRUSTED) and n.partition(".")[0] not in own]
        assert not foreign, f"the checkpoint needs {foreign}; keep plain values and modules as attributes"
        allowed = [_named(name) for name in names]
        functions = [name for name, value in zip(names, allowed, strict=True) if not isinstance(value, type)]
        assert not functions, f"the checkpoint needs the functions {functions}; keep none as attributes"
        content.seek(0)
        with torch.serialization.safe_globals(allowed):
            loaded = torch.load(content, weights_only=True)
        _assert_equal(self.run(loaded, x), self.run(block, x), "the block from restricted loading")

    def test_builds_and_learns_inside_yolo11n(self) -> None:
        """A YAML row of YOLO11n builds the block; forward and backward reach all its parameters."""
        mapping, index = self.description()
        torch.manual_seed(0)
        model: Any = build(mapping, nc=3)
        size = 64 if self._entry().channels != "pyramid" else max(max(pair) for pair in self._sizes())
        _backward(model.train()(torch.rand(2, 3, size, size)))
        _check_gradients(model.model[index])

    def test_onnx_export(self, tmp_path: Path) -> None:
        """The exported block computes the same at the exported size."""
        pytest.importorskip("onnx")
        block, x = self.make().eval(), self.example(1, self._sizes()[0])
        expected = self.run(block, x)
        path = tmp_path / "block.onnx"
        options: dict[str, Any] = (
            {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
        )
        torch.onnx.export(block, (x,), str(path), opset_version=17, **options)
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]
        values = [value.numpy() for value in (x if isinstance(x, list) else [x])]
        found = [torch.from_numpy(output) for output in session.run(None, dict(zip(names, values, strict=True)))]
        _assert_close(found, expected, EXPORT_TOLERANCE, "the exported block")

    # What the tests above are made of; a subclass may override these for an unusual block.

    def make(self, seed: int = 0) -> nn.Module:
        """Build the block with new weights."""
        entry = self._entry()
        torch.manual_seed(seed)
        channels: dict[str, list[Any]] = {
            "scaled": [self._inputs()[0], self.outputs],
            "fixed": [self._inputs()[0], self.outputs],
            "concat": [list(self._inputs())],
            "refine": [list(self._inputs())],
            "fuse": [list(self._inputs()), self.outputs],
        }
        leading = channels.get(entry.channels, [self._inputs()[0]])
        if entry.repeats == "inside":
            leading = [*leading, 1]
        if entry.channels == "pyramid":  # by name: what the graft's name presets may come first in the signature
            first = next(n for n in inspect.signature(entry.load()).parameters if n not in entry.preset)
            made: nn.Module = entry.load()(**{first: leading[0]}, **entry.preset, **self._bound(entry))
            return made
        return cast(nn.Module, entry.load()(*leading, **entry.preset, **self._bound(entry)))

    def example(self, batch: int, size: tuple[int, int] | None = None) -> Any:
        """Random input(s) of a size: ``(B, C, H, W)``, or a list for the rules ``concat``, ``fuse`` and ``refine``."""
        random = torch.Generator().manual_seed(2)
        size = size or self._sizes()[0]
        sizes = self._level_sizes(size)
        values = [torch.randn(batch, c, *s, generator=random) for c, s in zip(self._inputs(), sizes, strict=True)]
        return values if self._entry().channels in ("concat", "fuse", "refine") else values[0]

    def expected(self, batch: int, size: tuple[int, int]) -> list[tuple[int, ...]]:
        """The declared shape of each output."""
        entry = self._entry()
        if entry.channels == "pyramid":
            with torch.device("meta"):
                block: Any = self.make()
            pairs = zip(block.channels, block.reductions, strict=True)
            return [(batch, channels, size[0] // r, size[1] // r) for channels, r in pairs]
        if entry.channels == "refine":
            with torch.device("meta"):
                refiner: Any = self.make()
            return [(batch, c, *s) for c, s in zip(refiner.channels, self._level_sizes(size), strict=True)]
        channels = {"same": self._inputs()[0], "concat": sum(self._inputs())}.get(entry.channels, self.outputs)
        return [(batch, channels, *(math.ceil(side / self._stride()) for side in size))]

    def description(self) -> tuple[dict[str, Any], int]:
        """YOLO11n's description with a row of the block, and the index of its layer."""
        entry = self._entry()
        mapping = copy.deepcopy(load_yaml("yolo11n.yaml"))
        backbone, head = mapping["backbone"], mapping["head"]
        own = [512] if entry.channels in ("scaled", "fixed", "fuse") else []
        row = [-1, 1, entry.name, [*own, *self.args]]
        if entry.channels == "pyramid":
            mapping["backbone"] = [row]
            mapping["head"] = [[[2, 3, 4], 1, "Detect", ["nc"]]]
            return mapping, 0
        count = len(backbone)
        if entry.channels == "refine":
            levels = head[-1][0]
            head.insert(len(head) - 1, [levels, *row[1:]])
            index = count + len(head) - 2
            head[-1] = [[index + 1 + level for level in range(len(levels))], *head[-1][1:]]
            return mapping, index
        if entry.channels in ("concat", "fuse"):
            head[1] = [[-1, *[6] * (len(self._inputs()) - 1)], *row[1:]]
            return mapping, count + 1
        if self._stride() == 0.5:
            head[0] = row  # the first upsampling
            return mapping, count
        if self._stride() == 2:
            head[9] = row  # the last convolution with stride
            return mapping, count + 9
        head.insert(12, row)  # behind the last feature
        head[13][0] = [*head[13][0][:-1], count + 12]
        return mapping, count + 12

    def run(self, block: nn.Module, x: Any) -> list[Tensor]:
        """Outputs without gradients."""
        with torch.no_grad():
            return [output.clone() for output in _tensors(block(x))]

    def _entry(self) -> Graft:
        assert self.graft, f"set {type(self).__name__}.graft to the name that the block is registered under"
        return catalogue.get(self.graft)

    def _bound(self, entry: Graft) -> dict[str, Any]:
        return entry.bind(self.args, {}, None)

    def _inputs(self) -> tuple[int, ...]:
        rule = self._entry().channels
        if rule == "pyramid":
            return (3,)
        if rule == "refine" and len(self.inputs) == 1:
            return (16, 24, 32)
        return (*self.inputs, 8) if rule in ("concat", "fuse") and len(self.inputs) == 1 else self.inputs

    def _sizes(self) -> tuple[tuple[int, int], ...]:
        if self._entry().channels == "pyramid" and self.sizes is BlockContract.sizes:
            return ((64, 64), (96, 160), (128, 64))
        if self._entry().channels == "refine" and self.sizes is BlockContract.sizes:
            return ((16, 16), (24, 40), (32, 20))
        return self.sizes

    def _level_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """One size per input: the same for all, or half of it per level."""
        halved = self._entry().channels == "refine"
        return [(size[0] >> level, size[1] >> level) if halved else size for level in range(len(self._inputs()))]

    def _stride(self) -> float:
        if self.stride is not None:
            return self.stride
        entry = self._entry()
        if entry.site == "upsample":
            return 0.5
        defaults = {p.name: p.default for p in entry.parameters()} | self._bound(entry)
        return float(defaults.get("s", defaults.get("stride", 1)))


def randomise_norms(module: nn.Module) -> None:
    """Give every batch norm statistics and weights as after a training, so that folding them has work to do."""
    random = torch.Generator().manual_seed(3)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            size = norm.num_features
            norm.running_mean.copy_(0.1 * torch.randn(size, generator=random))
            norm.running_var.copy_(0.5 + torch.rand(size, generator=random))
            norm.weight.data.copy_(0.5 + torch.rand(size, generator=random))
            norm.bias.data.copy_(0.1 * torch.randn(size, generator=random))


def _tensors(value: Any) -> list[Tensor]:
    return list(_walk(value))


def _walk(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _walk(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _walk(entry)


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.contiguous(memory_format=torch.channels_last)
    return [_channels_last(entry) for entry in value]


def _backward(output: Any) -> None:
    """Weigh every output value by a random number, so that no gradient vanishes by symmetry (after a norm, say)."""
    random = torch.Generator().manual_seed(4)
    sums = [
        (value * torch.randn(value.shape, generator=random)).sum() for value in _walk(output) if value.requires_grad
    ]
    torch.stack(sums).sum().backward()  # type: ignore[no-untyped-call]


def _strike_out(names: dict[str, nn.Module], name: str, *_: object) -> None:
    names.pop(name, None)


def _prune_half(module: nn.Module, name: str) -> None:
    nn.utils.prune.l1_unstructured(module, name, amount=0.5)  # type: ignore[no-untyped-call]


def _check_gradients(module: nn.Module) -> None:
    without = [name for name, value in module.named_parameters() if value.grad is None]
    assert not without, f"no gradient reaches {without}"
    broken = [name for name, value in module.named_parameters() if not torch.isfinite(_gradient(value)).all()]
    assert not broken, f"the gradient of {broken} is not finite"


def _gradient(value: Tensor) -> Tensor:
    assert value.grad is not None, "no gradient arrives"
    return value.grad


def _assert_equal(found: list[Tensor], expected: list[Tensor], what: str) -> None:
    assert len(found) == len(expected), f"{what}: {len(found)} outputs, expected {len(expected)}"
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b), f"{what} gives other values (largest difference {float((a - b).abs().max()):.3g})"


def _assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float, what: str) -> None:
    assert len(found) == len(expected), f"{what}: {len(found)} outputs, expected {len(expected)}"
    for a, b in zip(found, expected, strict=True):
        difference = float((a - b).abs().max()) / max(float(b.abs().max()), 1e-12)
        assert difference <= tolerance, f"{what} differs by {difference:.3g} of the largest value"


def _named(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
