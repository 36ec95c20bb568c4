"""Any timm backbone as a list of feature maps, in a form that survives other timm versions and safe loading.

Paper: that of the chosen model; timm names it in the model's own file.
Source: huggingface/pytorch-image-models (timm), Apache-2.0. Weights: each of timm's published weights has a licence of
its own (for example CC-BY-NC-4.0 for ConvNeXt V2); nothing is downloaded here.
Differences from using timm directly: features are chosen by reduction instead of position; outputs are always
``(B, C, H, W)``, channels-last in memory on the CPU, where everything runs in that layout; batch norms and activations
keep their own settings when a trainer resets those of plain ones; ConvNeXt V2 blocks run faster on the CPU
(`detgraft.blocks.backbones.convnext_fast`); a
pickle holds the model's name, arguments and tensors, never timm's class paths; pixels of 0..1 are brought to the scale
of the weights inside the backbone, where `TimmBackbone.set_input_scale` says so.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from json import dumps, loads
from pathlib import Path
from traceback import extract_tb
from typing import Any, TypeVar

import timm
import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from detgraft.blocks.backbones.convnext_fast import FastConvNeXtBlock, drawn_once
from detgraft.blocks.backbones.input_scale import InputScale, Scale, as_words
from detgraft.blocks.parts.fusing import fuse_tree
from detgraft.errors import ArgumentError, CatalogError, WeightsError, nearest
from detgraft.kernels.layout import in_fast_layout, prefers_channels_last

DEFAULT_REDUCTIONS = (4, 8, 16, 32)
_OPTIONAL_REDUCTION = 4  # detectors start at 8; many backbones have nothing finer
_PROBE_HW = (160, 224)  # odd multiples of 32, so that a hidden size or window constraint shows
_OWN_ARGUMENTS = frozenset({"features_only", "out_indices", "in_chans", "pretrained", "checkpoint_path", "feature_cls"})
_MODULE_INTERNALS = frozenset(vars(nn.Module()))
_STATE_VERSION = 2  # 2 may have an input scale; 1 has none and means pixels of 0..1
T = TypeVar("T")


class KeptBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose ``eps`` and ``momentum`` stay as its model chose them.

    Ultralytics sets both on every module whose type is exactly ``nn.BatchNorm2d``; pretrained statistics would then be
    used with another ``eps`` than they were made with.
    """


# Ultralytics also makes activations of exactly these types work in place. Some timm models need the value that would be
# overwritten: EfficientViT then fails in its backward pass, NFNet gives other numbers.
_OWN_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    ConvNeXtBlock: FastConvNeXtBlock,
    nn.BatchNorm2d: KeptBatchNorm2d,
    **{
        kind: type(f"Kept{kind.__name__}", (kind,), {"__doc__": f"{kind.__name__} whose ``inplace`` stays as it is."})
        for kind in (nn.Hardswish, nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.SiLU)
    },
}


@dataclass(frozen=True)
class _Plan:
    """How a timm model is built so that it yields the wanted reductions."""

    out_indices: tuple[int, ...]
    channels: tuple[int, ...]
    reductions: tuple[int, ...]
    any_size: bool  # built with strict_img_size=False


def pyramid_channels(
    name: str,
    c1: int = 3,
    model_args: Mapping[str, object] | None = None,
    reductions: tuple[int, ...] = DEFAULT_REDUCTIONS,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the channels and the reductions that `TimmBackbone` would give, without allocating weights.

    The model is tried on the meta device once per process: no numbers are computed and none are drawn.

    Args:
        name: timm model name, optionally with a pretrained tag.
        c1: Input channels.
        model_args: Further arguments of the timm model, plain values only.
        reductions: Wanted reductions, ascending; 4 may be absent from the model.

    Returns:
        ``(channels, reductions)``, equally long, ascending in reduction.

    Raises:
        CatalogError: for an unknown name, or a model that cannot serve as a feature pyramid.
        ArgumentError: for arguments that the model refuses.
    """
    plan = _checked_plan(name, c1, _as_json(name, model_args or {}), tuple(reductions))
    return plan.channels, plan.reductions


class TimmBackbone(nn.Module):
    """A timm model as a feature pyramid: ``(B, c1, H, W)`` to one ``(B, C, H / r, W / r)`` per reduction ``r``.

    Building draws from the global random generator only to initialise the weights. ``copy.deepcopy`` is exact. A pickle
    rebuilds the model by name; forward hooks and attributes that are not plain values are not part of it.

    Args:
        c1: Input channels.
        name: timm model name, optionally with a pretrained tag (the tag loads nothing).
        model_args: Further arguments of the timm model, plain values only.
        reductions: Wanted reductions, ascending; 4 may be absent from the model.

    Attributes:
        name: As given.
        model_args: As given, sequences as lists.
        channels: Channels of each output.
        reductions: Reduction of each output.
        fused: Whether `fuse` was called.
        input_scale: Mean and deviation that pixels of 0..1 are brought to in front of the model, or None.

    Raises:
        CatalogError: for an unknown name, or a model that cannot serve as a feature pyramid.
        ArgumentError: for arguments that the model refuses.
    """

    def __init__(
        self,
        c1: int,
        name: str,
        *,
        model_args: dict[str, object] | None = None,
        reductions: tuple[int, ...] = DEFAULT_REDUCTIONS,
    ) -> None:
        super().__init__()
        arguments = _as_json(name, model_args or {})
        plan = _checked_plan(name, c1, arguments, tuple(reductions))
        self.c1 = c1
        self.name = name
        self.model_args: dict[str, object] = loads(arguments)
        self.channels = plan.channels
        self.reductions = plan.reductions
        self.fused = False
        self.net = _build_net(name, c1, arguments, plan)
        self.channels_last = _is_channels_last(self.net)
        self.input_scale: Scale | None = None
        self.input: InputScale | None = None

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features, finest first."""
        x_BCHW = in_fast_layout(x_BCHW)
        features: list[Tensor] = list(self.net(x_BCHW if self.input is None else self.input(x_BCHW)))
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return features if prefers_channels_last(x_BCHW) else [feature.contiguous() for feature in features]

    def set_input_scale(self, scale: Scale | None) -> None:
        """Say which pixels the weights expect.

        Args:
            scale: Mean and deviation of each channel, in units of pixels of 0..1; None for pixels of 0..1.
        """
        self.input_scale = scale
        self.input = None
        if scale is not None:
            like = next(self.net.parameters())
            self.input = InputScale(scale).to(like.device, like.dtype)

    def fuse(self) -> TimmBackbone:
        """Re-parameterise in place whatever timm can; a second call changes nothing."""
        if not self.fused:
            fuse_tree(self.net)
            self.fused = True
        return self

    def extra_repr(self) -> str:
        """Name the model, its channels and its reductions."""
        scale = "" if self.input_scale is None else f", input: {as_words(self.input_scale)}"
        return f"{self.name!r}, channels={self.channels}, reductions={self.reductions}{scale}"

    def __deepcopy__(self, memo: dict[int, Any]) -> TimmBackbone:
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone

    def __getstate__(self) -> dict[str, Any]:
        parameters = dict(self.net.named_parameters())
        return {
            "version": _STATE_VERSION,
            "timm": str(timm.__version__),
            "parameters": {key: value.detach() for key, value in parameters.items()},
            "buffers": dict(self.net.named_buffers()),
            "frozen": [key for key, value in parameters.items() if not value.requires_grad],
            "training": self.training,
            # modules that are not in the root's mode, such as batch norms held in evaluation mode
            "switched": [key for key, module in self.net.named_modules() if module.training != self.training],
            "attributes": {
                key: value
                for key, value in self.__dict__.items()
                if key not in _MODULE_INTERNALS and key not in ("net", "input") and _is_plain(value)
            },
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__init__()
        if state["version"] > _STATE_VERSION:
            raise WeightsError("the checkpoint's backbone was made by a later detgraft; install that one")
        self.__dict__.update(state["attributes"])
        arguments = _as_json(self.name, self.model_args)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            self.net = _build_net(self.name, self.c1, arguments, _plan(self.name, self.c1, arguments, self.reductions))
            if self.fused:
                fuse_tree(self.net)
        self._put_back(state)
        self.set_input_scale(state["attributes"].get("input_scale"))
        self.train(state["training"])
        modules = dict(self.net.named_modules())
        for key in state["switched"]:
            modules[key].training = not state["training"]

    def _put_back(self, state: dict[str, Any]) -> None:
        parameters = dict(self.net.named_parameters())
        buffers = dict(self.net.named_buffers())
        differing = sorted(
            (parameters.keys() ^ state["parameters"].keys()) | (buffers.keys() ^ state["buffers"].keys())
        )
        differing = differing or [k for k, value in state["parameters"].items() if parameters[k].shape != value.shape]
        if differing:
            raise WeightsError(
                f"the checkpoint's backbone timm/{self.name} was made with timm {state['timm']} and timm "
                f"{timm.__version__} builds it differently, first at {differing[0]!r}; install the former version"
            )
        frozen = set(state["frozen"])
        for key, value in state["parameters"].items():
            parameters[key].data = value  # keeps tied parameters tied, and the stored dtype and device
            parameters[key].requires_grad_(key not in frozen)
        for key, value in state["buffers"].items():
            owner, _, leaf = key.rpartition(".")
            setattr(self.net.get_submodule(owner), leaf, value)


def full_state_keys(name: str, c1: int, model_args: Mapping[str, object]) -> set[str]:
    """Return the state-dict keys that the whole timm model has, head included; nothing is allocated."""
    model = _weightless(lambda: timm.create_model(name, pretrained=False, in_chans=c1, **model_args))
    return set(model.state_dict())


def published_state(module: TimmBackbone, path: str | Path) -> dict[str, Tensor]:
    """Read a file of timm's published weights with timm's own loader, into the whole model, where it is strict.

    The loader knows each model's changes of key names and fits the first convolution to other input channels. The
    global random generator stays untouched.

    Args:
        module: The backbone that the weights are for.
        path: File as timm publishes it for ``module.name``.

    Returns:
        The whole model's state dict, classifier included.

    Raises:
        Exception: whatever timm raises for a file that does not fit.
    """
    arguments = _as_json(module.name, module.model_args)
    plan = _plan(module.name, module.c1, arguments, module.reductions)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        model = timm.create_model(
            module.name,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path), "custom_load": False},
            in_chans=module.c1,
            **_options(arguments, plan),
        )
    return dict(model.state_dict())


def _as_json(name: str, model_args: Mapping[str, object]) -> str:
    reserved = sorted(_OWN_ARGUMENTS & model_args.keys())
    if reserved:
        raise ArgumentError(f"timm/{name}: the argument {reserved[0]!r} is set by detgraft and cannot be given")
    try:
        return dumps(dict(model_args), sort_keys=True)
    except TypeError as error:
        raise ArgumentError(f"timm/{name}: arguments must be plain values (numbers, text, lists): {error}") from error


def _checked_plan(name: str, c1: int, arguments: str, reductions: tuple[int, ...]) -> _Plan:
    plan = _plan(name, c1, arguments, reductions)
    reason = _why_unusable(name, c1, arguments, reductions)
    if reason:
        raise CatalogError(f"timm/{name} cannot serve as a backbone: {reason}")
    return plan


@lru_cache(maxsize=256, typed=True)  # True is no number of channels, though it equals 1
def _plan(name: str, c1: int, arguments: str, reductions: tuple[int, ...]) -> _Plan:
    if isinstance(c1, bool) or not isinstance(c1, int) or c1 < 1:
        raise ArgumentError(f"timm/{name}: the input channels must be a whole number of at least 1, found {c1!r}")
    if not reductions or list(reductions) != sorted(set(reductions)):
        raise ArgumentError(f"timm/{name}: reductions must ascend without repetition, found {reductions}")
    if not timm.is_model(name):
        raise CatalogError(f"timm {timm.__version__} has no model {name!r}.{nearest(name, timm.list_models())}")
    options = loads(arguments)
    any_size = (
        _bound_to_one_size(name)
        and "strict_img_size" not in options
        and _weightless(lambda: _accepts_any_size(name, c1, options))
    )
    tried = {**options, "strict_img_size": False} if any_size else options
    model = _weightless(lambda: _create(name, c1, tried, None))
    found = {int(entry["reduction"]): i for i, entry in enumerate(model.feature_info.info)}  # the deepest of each wins
    missing = [r for r in reductions if r not in found and r != _OPTIONAL_REDUCTION]
    if missing:
        raise CatalogError(
            f"timm/{name} cannot serve as a backbone: it has no features at reduction {missing[0]}; "
            f"its reductions are {sorted(found)}"
        )
    chosen = tuple(r for r in reductions if r in found)
    indices = tuple(found[r] for r in chosen)
    return _Plan(indices, tuple(int(model.feature_info.info[i]["num_chs"]) for i in indices), chosen, any_size)


def _bound_to_one_size(name: str) -> bool:
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:  # the tag after the dot
        raise CatalogError(f"timm {timm.__version__}: {error}") from error
    return bool(config is not None and config.fixed_input_size)


def _accepts_any_size(name: str, c1: int, options: dict[str, Any]) -> bool:
    try:
        timm.create_model(name, features_only=True, in_chans=c1, **options, strict_img_size=False)
    except TypeError:
        return False
    return True


def _create(name: str, c1: int, options: dict[str, Any], out_indices: tuple[int, ...] | None) -> Any:
    extra: dict[str, Any] = {} if out_indices is None else {"out_indices": out_indices}
    try:
        return timm.create_model(name, pretrained=False, features_only=True, in_chans=c1, **extra, **options)
    except (TypeError, ValueError, AssertionError, AttributeError, RuntimeError, KeyError, IndexError) as error:
        if _lacks_numbers(error):
            raise
        detail = str(error).strip() or type(error).__name__
        if options.keys() - {"strict_img_size"}:
            raise ArgumentError(f"timm/{name} refuses its arguments {options}: {detail}") from error
        raise CatalogError(f"timm/{name} cannot serve as a backbone: {detail}") from error


@lru_cache(maxsize=256)
def _why_unusable(name: str, c1: int, arguments: str, reductions: tuple[int, ...]) -> str:
    """Try a picture where nothing is computed; return what is wrong, or an empty string."""
    plan = _plan(name, c1, arguments, reductions)
    height, width = _PROBE_HW

    def shapes_of_a_picture() -> tuple[nn.Module, list[tuple[int, ...]]]:
        net = _build_net(name, c1, arguments, plan).eval()
        return net, [tuple(feature.shape) for feature in net(torch.zeros(1, c1, height, width))]

    try:
        net, shapes = _weightless(shapes_of_a_picture, trust_errors=False)
    except (AssertionError, RuntimeError, ValueError) as error:
        bound = " (it is bound to one input size)" if _bound_to_one_size(name) else ""
        detail = (str(error).strip() or f"{type(error).__name__} in {_raised_in(error)}").splitlines()[0]
        return f"a {height}x{width} picture fails{bound}: {detail}"
    if _is_channels_last(net):
        shapes = [(b, c, h, w) for b, h, w, c in shapes]
    expected = [(1, c, height // r, width // r) for c, r in zip(plan.channels, plan.reductions, strict=True)]
    for found, wanted, reduction in zip(shapes, expected, plan.reductions, strict=True):
        if found != wanted:
            return f"its features at reduction {reduction} of a {height}x{width} picture are {found}, expected {wanted}"
    return ""


def _raised_in(error: Exception) -> str:
    """The line that an error without words came from."""
    frames = [frame for frame in extract_tb(error.__traceback__) if "timm" in Path(frame.filename).parts]
    return f"timm's {Path(frames[-1].filename).name}: {frames[-1].line}" if frames else "timm"


def _build_net(name: str, c1: int, arguments: str, plan: _Plan) -> nn.Module:
    def create() -> nn.Module:
        net: nn.Module = _create(name, c1, _options(arguments, plan), plan.out_indices)
        return net

    net = drawn_once(create) if name.startswith("convnextv2_") else create()
    for module in net.modules():
        module.__class__ = _OWN_CLASSES.get(type(module), type(module))
    return net


def _options(arguments: str, plan: _Plan) -> dict[str, Any]:
    options: dict[str, Any] = loads(arguments)
    return {**options, "strict_img_size": False} if plan.any_size else options


def _weightless(build: Callable[[], T], trust_errors: bool = True) -> T:
    """Run on the meta device, or, where that cannot work, with real weights that leave no trace.

    Args:
        build: What to run.
        trust_errors: Run again only for want of numbers, which older timm needs while building; otherwise after any
            failure, because some operators fail on the meta device alone.
    """
    with torch.no_grad():
        try:
            with torch.device("meta"):
                return build()
        except (AssertionError, RuntimeError, ValueError) as error:
            if trust_errors and not _lacks_numbers(error):
                raise
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return build()


def _lacks_numbers(error: Exception) -> bool:
    return isinstance(error, NotImplementedError) or "meta tensor" in str(error)


def _is_channels_last(net: nn.Module) -> bool:
    layout = getattr(net, "output_fmt", None)
    return str(getattr(layout, "value", layout)) == "NHWC"


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(entry) for entry in value)
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(entry) for key, entry in value.items())
    return value is None or type(value) in (bool, int, float, str, Tensor)
