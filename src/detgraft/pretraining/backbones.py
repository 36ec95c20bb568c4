"""Backbones by name, and their weights in timm's layout.

The inner network of `TimmBackbone` is a timm feature extractor, whose state-dict keys differ a little from those of
the whole timm model (``stages_0.`` instead of ``stages.0.``). Files carry the whole model's keys, without its head, so
that timm itself and everything built on it can read them.
"""

from __future__ import annotations

import timm
from torch import Tensor

from detgraft.blocks.backbones.timm_backbone import TimmBackbone, full_state_keys
from detgraft.catalog.registry import catalogue
from detgraft.catalog.spec import Graft
from detgraft.errors import ArgumentError, CatalogError, nearest

CHANNELS = 3
_TIMM = "timm/"


def known_names() -> list[str]:
    """Return the names with a width factor; besides them there is every ``timm/NAME``."""
    return [entry.name for entry in catalogue if _is_family(entry)]


def canonical_name(name: str) -> str:
    """Return a backbone's own name for any of its names in the catalogue; what is unknown is returned as it is."""
    entry = None if name.startswith(_TIMM) else catalogue.find(name)
    return entry.name if entry is not None and _is_family(entry) else name


def build_backbone(name: str, width: float = 1.0) -> TimmBackbone:
    """Build a three-channel backbone with fresh weights.

    Args:
        name: ``convnextv2_SIZE``, ``repvit_SIZE``, another name of one of them, or ``timm/NAME``.
        width: Factor on its channels; not for ``timm/NAME``.

    Raises:
        CatalogError: If the name is unknown, or a timm model cannot serve as a backbone.
        ArgumentError: If the width is unusable.
    """
    if name.startswith(_TIMM):
        if width != 1.0:
            raise ArgumentError(f"width applies to convnextv2_* and repvit_* only, found width={width} with {name}")
        return TimmBackbone(CHANNELS, name.removeprefix(_TIMM))
    entry = catalogue.find(name)
    if entry is not None and _is_family(entry):
        built = entry.load()(c1=CHANNELS, width=width, **entry.preset)
        assert isinstance(built, TimmBackbone)
        return built
    known = known_names()
    hint = nearest(name, known)
    if timm.is_model(name):
        hint = f" timm knows it: write 'timm/{name}'"
    raise CatalogError(f"no backbone is called {name!r}; there are {', '.join(known)} and timm/NAME.{hint}")


def _is_family(entry: Graft) -> bool:
    return entry.channels == "pyramid" and entry.takes_weights and not entry.name.startswith(_TIMM)


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
