"""Every place where detgraft reaches into ``ultralytics.nn.tasks``, in one list.

Each hook wraps the original and calls it; stock models take the original path unchanged. Installed once per process:
at once when Ultralytics is already imported, otherwise right after its import (see ``detgraft/_on_import.py``). So
nothing of Ultralytics is imported on top of this file, and whatever a hook needs beyond asking whether there are grafts
is imported when there are.

| hooked name | why |
|---|---|
| ``parse_model`` | builds model descriptions with grafted rows |
| ``yaml_model_load`` | finds the zoo's YAMLs and expressions, reports YAML errors with their line |
| ``torch_safe_load`` | runs no code of a file that detgraft opens; knows a grafted checkpoint's classes and plug-ins |
| ``DetectionModel/ClassificationModel.__init__`` | marks grafted models; drops weights files from the stored YAML |
| ``BaseModel.fuse`` | visits every graft's own ``fuse()`` |
| ``BaseModel.load`` | lets weights follow layers that a graft has moved |
| ``BaseModel.forward`` | checks the image size; lays pictures out channels-last on the CPU; tells of a static export |

One more stands in ``hooks/engine.py``, those for losses in ``hooks/losses.py``.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from detgraft.catalog.plugins import answer_for_missing, load_inherited, watch
from detgraft.catalog.registry import catalogue
from detgraft.errors import ArgumentError, DetgraftError, UpstreamError
from detgraft.plan import meanings
from detgraft.plan.losses import KEY as LOSSES
from detgraft.upstream.model.marks import MARK, is_composed, is_grafted, is_stock, settle_rows, source_of


def install() -> None:
    """Install the hooks; those that are installed stay as they are.

    Raises:
        UpstreamError: The installed Ultralytics lacks a name that a hook needs.
        CatalogError: An own block was registered under a name of stock Ultralytics.
    """
    from ultralytics.nn import tasks

    hooks = _hooks(tasks)
    for owner, name in ((tasks, "CBLinear"), *((owner, name) for owner, name, _ in hooks)):
        require(owner, name)
    catalogue.reserve(_is_stock)
    catalogue.supplied_by(load_inherited)
    answer_for_missing()
    watch(_allow_plugin)
    for owner, name, make in hooks:
        wrap(owner, name, make)
    _rebind_imported(tasks)


def _hooks(tasks: ModuleType) -> list[tuple[Any, str, Callable[[Any], Callable[..., Any]]]]:
    """Return what is hooked: owner, name, and what makes the wrapper."""
    detection, classification, base = (
        require(tasks, name) for name in ("DetectionModel", "ClassificationModel", "BaseModel")
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


def require(owner: Any, name: str) -> Any:
    """Return what is to be hooked.

    Raises:
        UpstreamError: The installed Ultralytics does not have it.
    """
    found = vars(owner).get(name)
    if found is None:
        import ultralytics

        raise UpstreamError(
            f"ultralytics {ultralytics.__version__} has no {getattr(owner, '__name__', owner)}.{name}, which detgraft "
            "needs; docs/compatibility.md lists the releases that were tried"
        )
    return found


def wrap(owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
    """Put a hook in a function's place, unless it is there already.

    Args:
        owner: The module or class that holds the function.
        name: The function's name.
        make: Makes the hook from the original, which it keeps as ``__detgraft_original__``.
    """
    original = require(owner, name)
    if hasattr(original, "__detgraft_original__"):
        return
    wrapper = functools.wraps(original)(make(original))
    wrapper.__detgraft_original__ = original  # type: ignore[attr-defined]
    setattr(owner, name, wrapper)


def _rebind_imported(tasks: ModuleType) -> None:
    """Modules that imported a hooked function by name before the hooks came keep the original; point them to ours."""
    for name in ("parse_model", "yaml_model_load", "torch_safe_load"):
        hooked = getattr(tasks, name)
        for module_name, module in list(sys.modules.items()):
            if module_name.startswith("ultralytics.") and vars(module).get(name) is hooked.__detgraft_original__:
                setattr(module, name, hooked)


def _is_stock(name: str) -> bool:
    from detgraft.upstream.release.capabilities import stock_module

    return stock_module(name) is not None


def _allow_plugin(module: ModuleType) -> None:
    from detgraft.upstream.model.portable import allow_module

    allow_module(module)


def _parse_model(original: Any) -> Callable[..., Any]:
    def parse_model(*args: Any, **kwargs: Any) -> Any:
        from detgraft.plan.keys import refuse_other_channels
        from detgraft.upstream.describe.bounds import refuse_absurd
        from detgraft.upstream.describe.plans import plan_of, refuse_unknown
        from detgraft.upstream.parser.names import names_grafts
        from detgraft.upstream.parser.parse import Call, parse_grafted, parse_stock

        call = Call.of(original, *args, **kwargs)
        refuse_unknown(call.mapping)
        refuse_other_channels(call.mapping, call.ch)
        refuse_absurd(call.mapping, call.ch)
        if LOSSES in call.mapping:
            from detgraft.upstream.describe.description import description_of
            from detgraft.upstream.model.criteria import refuse_unfit

            refuse_unfit(call.mapping, description_of(call.mapping).document.at(LOSSES))
        if names_grafts(call.mapping):
            return parse_grafted(call, plan_of(call.mapping))
        return parse_stock(call, lambda: plan_of(call.mapping))

    return parse_model


def _yaml_model_load(original: Any) -> Callable[..., Any]:
    def yaml_model_load(path: Any) -> Any:
        from detgraft.upstream.describe.expressions import read_description

        return read_description(str(path), original).copied()

    return yaml_model_load


def _torch_safe_load(original: Any) -> Callable[..., Any]:
    def torch_safe_load(weight: Any, *args: Any, **kwargs: Any) -> Any:
        from detgraft.upstream.model.opening import is_restricted, load_arguments, opening_error
        from detgraft.upstream.model.portable import allow_named, missing_plugin_of

        if not args and "safe_only" not in kwargs:
            kwargs = {**kwargs, **load_arguments(weight)}
        allow_named(weight)
        try:
            found = original(weight, *args, **kwargs)
        except DetgraftError:
            raise
        except Exception as error:
            missing = missing_plugin_of(weight)
            if missing is not None:
                raise missing from error
            if is_restricted():
                raise opening_error(weight, error) from error
            raise
        checkpoint = found[0] if isinstance(found, tuple) else found
        for key in ("ema", "model"):
            settle_rows(checkpoint.get(key) if isinstance(checkpoint, dict) else None)
        return found

    return torch_safe_load


def _after_init(original: Any) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            original(self, *args, **kwargs)
        except Exception as error:
            # A block's own refusal of its inputs knows no row yet.
            if isinstance(error, DetgraftError) and not (isinstance(error, ArgumentError) and error.location is None):
                raise
            from detgraft.upstream.describe.layers import explain_failed_build

            mapping = vars(self).get("yaml")
            raise explain_failed_build(mapping, int(kwargs.get("ch") or 3), error) from error
        from detgraft.upstream.parser.names import meanings_of, names_grafts

        mapping = getattr(self, "yaml", None)
        if isinstance(mapping, dict) and LOSSES in mapping:
            _say_losses(mapping, args, kwargs)
        if isinstance(mapping, dict) and names_grafts(mapping):
            from detgraft._version import __version__
            from detgraft.plan.weights_files import without_files
            from detgraft.upstream.model.input_scales import record_inputs

            setattr(self, MARK, __version__)
            self.yaml = {**without_files(copy.deepcopy(mapping)), meanings.RECORD: meanings_of(mapping)}
            record_inputs(self)
        if is_composed(self):
            from detgraft.upstream.model.sizes import widen_stride

            widen_stride(self)

    return __init__


def _say_losses(mapping: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Name the losses behind the layers in the build log."""
    if kwargs.get("verbose", args[3] if len(args) > 3 else True):
        from ultralytics.utils import LOGGER

        from detgraft.plan.losses import sentences

        for sentence in sentences(mapping):
            LOGGER.info(sentence)


def _fuse(original: Any) -> Callable[..., Any]:
    def fuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_grafted(self):
            from detgraft.blocks.parts.fusing import fuse_tree

            # Ultralytics fuses its own modules, and knows when: a head's fuse() may remove half of the head.
            fuse_tree(self.model, leave=is_stock)
        return original(self, *args, **kwargs)

    return fuse


def _load(original: Any) -> Callable[..., Any]:
    def load(self: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
        if any(asks(model) for asks in (is_grafted, is_composed) for model in (self, source_of(weights))):
            from detgraft.upstream.model.transfer import load_across

            return load_across(original, self, weights, *args, **kwargs)
        return original(self, weights, *args, **kwargs)

    return load


def _forward(original: Any) -> Callable[..., Any]:
    def forward(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if is_grafted(self):
            from detgraft.kernels.recording import fixed_batch
            from detgraft.upstream.model.inputs import exports_static_onnx, ready_input

            if kwargs.get("embed"):
                from detgraft.upstream.model.features import refuse_embedding

                refuse_embedding(self, kwargs["embed"])
            with fixed_batch() if exports_static_onnx(self) else contextlib.nullcontext():
                return original(self, ready_input(self, x), *args, **kwargs)
        if "stride" not in vars(self) and self.training:  # being made: runs once to find its strides
            from detgraft.upstream.model.inputs import statistics_kept
            from detgraft.upstream.parser.names import names_grafts

            mapping = vars(self).get("yaml")
            if isinstance(mapping, dict) and names_grafts(mapping):
                with statistics_kept(self):
                    return original(self, x, *args, **kwargs)
        return original(self, x, *args, **kwargs)

    return forward
