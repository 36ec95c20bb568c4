"""Backbones by name, and their weights in timm's layout.

The inner network of `TimmBackbone` is a timm feature extractor, whose state-dict keys differ a little from those of
the whole timm model (``stages_0.`` instead of ``stages.0.``). Files carry the whole model's keys, without its head, so
that timm itself and everything built on it can read them.
"""

from __future__ import annotations

import timm
from torch import Tensor

from detgraft.blocks.backbones.convnextv2 import DIMS, convnextv2
from detgraft.blocks.backbones.repvit import SETTINGS, repvit
from detgraft.blocks.backbones.timm_backbone import TimmBackbone, full_state_keys
from detgraft.errors import ArgumentError, CatalogError, nearest

CHANNELS = 3
_CONVNEXT, _REPVIT, _TIMM = "convnextv2_", "repvit_", "timm/"


def known_names() -> list[str]:
    """Return the names with a width factor; besides them there is every ``timm/NAME``."""
    return [_CONVNEXT + size for size in DIMS] + [_REPVIT + size for size in SETTINGS]


def build_backbone(name: str, width: float = 1.0) -> TimmBackbone:
    """Build a three-channel backbone with fresh weights.

    Args:
        name: ``convnextv2_SIZE``, ``repvit_SIZE`` or ``timm/NAME``.
        width: Factor on its channels; not for ``timm/NAME``.

    Raises:
        CatalogError: If the name is unknown, or a timm model cannot serve as a backbone.
        ArgumentError: If the width is unusable.
    """
    if name.startswith(_TIMM):
        if width != 1.0:
            raise ArgumentError(f"width applies to convnextv2_* and repvit_* only, found width={width} with {name}")
        return TimmBackbone(CHANNELS, name.removeprefix(_TIMM))
    if name in known_names():
        family, _, size = name.partition("_")
        build = convnextv2 if family == "convnextv2" else repvit
        return build(size, CHANNELS, width)
    known = known_names()
    hint = nearest(name, known)
    if timm.is_model(name):
        hint = f" timm knows it: write 'timm/{name}'"
    raise CatalogError(f"no backbone is called {name!r}; there are {', '.join(known)} and timm/NAME.{hint}")


def timm_state_dict(backbone: TimmBackbone) -> dict[str, Tensor]:
    """Return the backbone's weights under the keys of timm's whole model, on the CPU.

    Raises:
        CatalogError: If a key has no counterpart in the whole model.
    """
    names = _full_names(full_state_keys(backbone.name, backbone.c1, backbone.model_args))
    state: dict[str, Tensor] = {}
    for key, value in backbone.net.state_dict().items():
        if key not in names:
            raise CatalogError(f"{backbone.name}: its tensor '{key}' has no name in timm's whole model")
        state[names[key]] = value.detach().cpu().contiguous()
    return state


def _full_names(full_keys: set[str]) -> dict[str, str]:
    """Map each spelling that timm's feature extractors give a key to its spelling in the whole model."""
    names: dict[str, str] = {}
    for key in full_keys:
        for spelling in (key, key.replace(".", "_", 1), f"model.{key}", f"body.{key}"):
            names.setdefault(spelling, key)
    return names
