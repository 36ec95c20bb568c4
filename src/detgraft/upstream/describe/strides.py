"""The stride of every layer of a base model, which says what each of its rows is for."""

from __future__ import annotations

import copy
import functools
import json
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks

from detgraft.errors import DetgraftError, Location, PlanError, UpstreamError
from detgraft.plan.weights_files import without_files
from detgraft.upstream.describe.text import empty_text, run_layer
from detgraft.upstream.parser.names import names_grafts
from detgraft.upstream.release.quiet import quiet

PROBE_SIZE = 256
"""Image size for finding strides: the smallest in which strides up to 64 leave more than one pixel."""


def strides_of(mapping: dict[str, Any], source: str) -> dict[int, int]:
    """Find the stride of every layer of a base by running it on the meta device, which computes shapes only.

    Of a base without grafts once in a process: a third of a second. A graft's meaning may change with its plug-in.

    Args:
        mapping: A model description.
        source: How to call it in messages.

    Returns:
        The stride by layer index, for every layer but the head whose output is one feature.

    Raises:
        PlanError: The model cannot be run.
    """
    base = without_files(copy.deepcopy(mapping))
    try:
        if names_grafts(base):
            return _find_strides(base)
        return dict(_strides_once(json.dumps(base, default=str)))
    except DetgraftError as error:
        if error.location is None and not isinstance(error, UpstreamError):  # the release's fault is no row's
            raise PlanError(str(error), Location(source)) from error
        raise
    except Exception as error:
        raise PlanError(
            f"the strides of the base model's layers cannot be found: {type(error).__name__}: {error}", Location(source)
        ) from error


@functools.lru_cache(maxsize=64)
def _strides_once(mapping: str) -> dict[int, int]:
    return _find_strides(json.loads(mapping))


def _find_strides(base: dict[str, Any]) -> dict[int, int]:
    channels = int(base.get("channels") or base.get("ch") or 3)
    # Quiet: the stock parser's warning about an assumed scale would appear once for the base and once for real.
    with torch.device("meta"), quiet():
        layers, _ = tasks.parse_model(base, channels, verbose=False)
        return _run(layers, torch.zeros(1, channels, PROBE_SIZE, PROBE_SIZE))


def _run(layers: nn.Sequential, image: Tensor) -> dict[int, int]:
    outputs: list[Any] = []
    strides: dict[int, int] = {}
    x: Any = image
    text = empty_text(image)
    for index, layer in enumerate(list(layers)[:-1]):  # the head needs no stride and may not run on the meta device
        source: Any = layer.f
        if source != -1:
            x = outputs[source] if isinstance(source, int) else [x if j == -1 else outputs[j] for j in source]
        try:
            x, text = run_layer(layer, x, text)
        except DetgraftError as error:  # a block knows its inputs, not its row
            raise PlanError(f"layer {index} ({layer.type}): {error}", error.location) from error
        outputs.append(x)
        if isinstance(x, Tensor) and x.ndim == 4:
            strides[index] = round(PROBE_SIZE / x.shape[-1])
    return strides
