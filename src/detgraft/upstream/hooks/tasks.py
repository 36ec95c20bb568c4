"""Every place where detgraft reaches into Ultralytics, in one list.

Each hook wraps the original and calls it; stock models take the original path unchanged. Installed once per process:
at once when Ultralytics is already imported, otherwise right after its import (see ``detgraft/_on_import.py``).

| hooked name | why |
|---|---|
| ``tasks.parse_model`` | builds model descriptions with grafted rows |
| ``tasks.yaml_model_load`` | finds the zoo's YAMLs and expressions, reports YAML errors with their line |
| ``tasks.torch_safe_load`` | names the plug-in file that a checkpoint lacks, under restricted loading too |
| ``DetectionModel/ClassificationModel.__init__`` | marks grafted models; drops weights files from the stored YAML |
| ``BaseModel.fuse`` | visits every graft's own ``fuse()`` |
| ``BaseModel.load`` | lets weights follow layers that a graft has moved |
| ``BaseModel.forward`` | checks the image size; lays pictures out channels-last on the CPU; tells of a static export |
| ``Model._smart_load`` | gives grafted models a trainer class that a fresh process can import |
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks

from detgraft.blocks.parts.fusing import fuse_tree
from detgraft.catalog.plugins import answer_for_missing, load_inherited, watch
from detgraft.catalog.registry import catalogue
from detgraft.errors import DetgraftError, UpstreamError
from detgraft.kernels.layout import in_fast_layout
from detgraft.kernels.recording import fixed_batch, is_graph
from detgraft.plan.expression import is_expression
from detgraft.plan.weights_files import without_files
from detgraft.upstream.describe.bounds import refuse_absurd
from detgraft.upstream.describe.expressions import compose_mapping
from detgraft.upstream.describe.layers import explain_failed_build
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.describe.plans import plan_of, refuse_unknown
from detgraft.upstream.model.marks import MARK, is_grafted, is_stock
from detgraft.upstream.model.portable import allow_module, allow_safe_loading, missing_plugin_of
from detgraft.upstream.model.sizes import check_size, largest_stride
from detgraft.upstream.model.transfer import load_across, source_of
from detgraft.upstream.parser.names import names_grafts
from detgraft.upstream.parser.parse import Call, parse_grafted, parse_stock
from detgraft.upstream.release.capabilities import ULTRALYTICS_VERSION, stock_module

_installed = False


def install() -> None:
    """Install all hooks; calling it again does nothing.

    Raises:
        UpstreamError: The installed Ultralytics lacks a name that a hook needs.
        CatalogError: An installed or inherited plug-in fails.
    """
    global _installed
    if _installed:
        return
    for owner, name in ((tasks, "CBLinear"), *((owner, name) for owner, name, _ in _hooks())):
        _require(owner, name)
    _installed = True
    try:
        catalogue.reserve(lambda name: stock_module(name) is not None)
        answer_for_missing()
        load_inherited()
    except DetgraftError:
        _installed = False  # nothing is hooked yet; the next attempt says again what is wrong with the plug-in
        raise
    allow_safe_loading()
    watch(allow_module)
    for owner, name, make in _hooks():
        _wrap(owner, name, make)
    _rebind_imported()
    engine = sys.modules.get("ultralytics.engine.model")
    if engine is not None and not getattr(engine.__spec__, "_initializing", False):
        install_in_engine()  # otherwise it is still being imported; detgraft/__init__.py calls once that is done


def _hooks() -> list[tuple[Any, str, Callable[[Any], Callable[..., Any]]]]:
    """Return what is hooked: owner, name, and what makes the wrapper."""
    detection, classification, base = (
        _require(tasks, name) for name in ("DetectionModel", "ClassificationModel", "BaseModel")
    )
    return [
        (tasks, "parse_model", _parse_model),
        (tasks, "yaml_model_load", _yaml_model_load),
        (tasks, "torch_safe_load", _torch_safe_load),
        (detection, "__init__", _after_init),
        (classification, "__init__", _after_init),
        (base, "fuse", _fuse),
        (base, "forward", _forward),
        (base, "load", _load),
    ]


def install_in_engine() -> None:
    """Install the hook on Ultralytics' wrapper class; calling it again does nothing."""
    from ultralytics.engine.model import Model

    if not hasattr(Model._smart_load, "__detgraft_original__"):
        _wrap(Model, "_smart_load", _smart_load)


def _require(owner: Any, name: str) -> Any:
    """Return what is to be hooked.

    Raises:
        UpstreamError: The installed Ultralytics does not have it.
    """
    found = vars(owner).get(name)
    if found is None:
        raise UpstreamError(
            f"ultralytics {ULTRALYTICS_VERSION} has no {getattr(owner, '__name__', owner)}.{name}, which detgraft "
            "needs; docs/compatibility.md lists the releases that were tried"
        )
    return found


def _wrap(owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
    original = _require(owner, name)
    wrapper = functools.wraps(original)(make(original))
    wrapper.__detgraft_original__ = original  # type: ignore[attr-defined]
    setattr(owner, name, wrapper)


def _rebind_imported() -> None:
    """Modules that imported a hooked function by name before the hooks came keep the original; point them to ours."""
    for name in ("parse_model", "yaml_model_load", "torch_safe_load"):
        hooked = getattr(tasks, name)
        for module_name, module in list(sys.modules.items()):
            if module_name.startswith("ultralytics.") and vars(module).get(name) is hooked.__detgraft_original__:
                setattr(module, name, hooked)


def _parse_model(original: Any) -> Callable[..., Any]:
    def parse_model(*args: Any, **kwargs: Any) -> Any:
        call = Call.of(original, *args, **kwargs)
        refuse_unknown(call.mapping)
        refuse_absurd(call.mapping, call.ch)
        if names_grafts(call.mapping):
            return parse_grafted(call, plan_of(call.mapping))
        return parse_stock(call, lambda: plan_of(call.mapping))

    return parse_model


def _yaml_model_load(original: Any) -> Callable[..., Any]:
    def yaml_model_load(path: Any) -> Any:
        name = str(path)
        return compose_mapping(name) if is_expression(name) else load_yaml(name, original)

    return yaml_model_load


def _torch_safe_load(original: Any) -> Callable[..., Any]:
    def torch_safe_load(weight: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(weight, *args, **kwargs)
        except DetgraftError:
            raise
        except Exception as error:
            missing = missing_plugin_of(weight)
            if missing is None:
                raise
            raise missing from error

    return torch_safe_load


def _after_init(original: Any) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            original(self, *args, **kwargs)
        except DetgraftError:
            raise
        except Exception as error:
            mapping = vars(self).get("yaml")
            raise explain_failed_build(mapping, int(kwargs.get("ch") or 3), error) from error
        mapping = getattr(self, "yaml", None)
        if isinstance(mapping, dict) and names_grafts(mapping):
            from detgraft._version import __version__

            setattr(self, MARK, __version__)
            self.yaml = without_files(copy.deepcopy(mapping))

    return __init__


def _fuse(original: Any) -> Callable[..., Any]:
    def fuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_grafted(self):
            # Ultralytics fuses its own modules, and knows when: a head's fuse() may remove half of the head.
            fuse_tree(self.model, leave=is_stock)
        return original(self, *args, **kwargs)

    return fuse


def _load(original: Any) -> Callable[..., Any]:
    def load(self: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
        if is_grafted(self) or is_grafted(source_of(weights)):
            return load_across(original, self, weights, *args, **kwargs)
        return original(self, weights, *args, **kwargs)

    return load


def _forward(original: Any) -> Callable[..., Any]:
    def forward(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if is_grafted(self) and not is_graph():  # a graph would keep what is done here, or break at it
            x = _pictures_ready(self, x)
        with fixed_batch() if is_grafted(self) and _exports_static_onnx(self) else contextlib.nullcontext():
            return original(self, x, *args, **kwargs)

    return forward


def _exports_static_onnx(model: nn.Module) -> bool:
    """Whether Ultralytics' exporter is recording an ONNX graph for one batch size; it says so on the head."""
    layers = getattr(model, "model", None)
    head = layers[-1] if isinstance(layers, nn.Sequential) else None
    exporting = bool(getattr(head, "export", False)) and getattr(head, "format", None) == "onnx"
    return exporting and not getattr(head, "dynamic", True)


def _pictures_ready(model: nn.Module, x: Any) -> Any:
    """Return a grafted model's input, a batch of pictures or a training batch, with the pictures in the fast layout.

    Raises:
        SizeError: The pictures' size is not a multiple of the model's stride.
    """
    if isinstance(x, dict) and isinstance(x.get("img"), torch.Tensor):
        return {**x, "img": in_fast_layout(x["img"])}
    if isinstance(x, torch.Tensor) and x.ndim == 4:
        check_size(tuple(x.shape[-2:]), largest_stride(model))
        return in_fast_layout(x)
    return x


def _smart_load(original: Any) -> Callable[..., Any]:
    def _smart_load(self: Any, key: str) -> Any:
        found = original(self, key)
        if key == "trainer" and is_grafted(self.model):
            from detgraft.upstream.hooks.trainers import grafted_trainer

            return grafted_trainer(found)
        return found

    return _smart_load
