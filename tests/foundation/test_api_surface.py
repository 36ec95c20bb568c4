"""What others rely on is pinned: the public names with their signatures, and the zoo models' state-dict keys."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from support import BY_KEY, KEYS, NC

import detgraft
from detgraft import build
from detgraft.catalog.registry import catalogue

TESTS = Path(__file__).resolve().parents[1]
SURFACE = TESTS / "api_surface.json"
STATE_KEYS = TESTS / "golden" / "state_dict_keys.json"


def surface() -> dict[str, str]:
    """Every public name of the package with what it can be called with."""
    found: dict[str, str] = {}
    for name in detgraft.__all__:
        value = getattr(detgraft, name)
        if not callable(value):
            found[name] = type(value).__name__
            continue
        function = value.__init__ if inspect.isclass(value) else value
        found[name] = ("class" if inspect.isclass(value) else "function") + str(inspect.signature(function))
        if inspect.isclass(value):
            for method in ("train", "val", "export", "transfer"):
                found[f"{name}.{method}"] = "method" + str(inspect.signature(getattr(value, method)))
    return found


def test_the_public_names_are_as_pinned() -> None:
    pinned: dict[str, str] = json.loads(SURFACE.read_text("utf-8"))
    found = surface()
    removed = sorted(pinned.keys() - found.keys())
    added = sorted(found.keys() - pinned.keys())
    changed = [
        f"{name}: {pinned[name]} -> {found[name]}"
        for name in pinned.keys() & found.keys()
        if pinned[name] != found[name]
    ]
    assert not removed, f"{removed} are public and gone: keep them as deprecated names for one minor release"
    assert not changed, f"{changed}: new arguments go last and need defaults; otherwise this is a breaking change"
    assert not added, f"{added} are new: add them to {SURFACE.name} on purpose, with documentation"


def test_every_public_name_is_documented() -> None:
    undocumented = [name for name in detgraft.__all__ if callable(v := getattr(detgraft, name)) and not v.__doc__]
    assert undocumented == []


def grafted_keys(key: str) -> tuple[dict[str, Any], list[str]]:
    """The keys with shapes of a zoo model's grafted layers, and the layers they belong to."""
    model: Any = build(BY_KEY[key].zoo, nc=NC)
    layers = [f"model.{layer.i}." for layer in model.model if catalogue.find(layer.type) is not None]
    state = model.state_dict()
    return {k: list(v.shape) for k, v in state.items() if k.startswith(tuple(layers))}, list(state)


@pytest.mark.parametrize("key", KEYS)
def test_the_state_dict_keys_are_as_pinned(key: str) -> None:
    pinned: dict[str, Any] = json.loads(STATE_KEYS.read_text("utf-8"))[key]
    grafts, every = grafted_keys(key)
    lost = [k for k in pinned["grafts"] if k not in grafts]
    new = [k for k in grafts if k not in pinned["grafts"]]
    reshaped = [k for k in grafts if k in pinned["grafts"] and grafts[k] != pinned["grafts"][k]]
    advice = (
        "checkpoints of former versions would lose these weights; keep the names, or rename them while loading "
        "(as `_load_from_state_dict` can) and say so in the CHANGELOG before changing the pinned file"
    )
    assert [lost, new, reshaped] == [[], [], []], f"lost {lost[:5]}, new {new[:5]}, reshaped {reshaped[:5]}: {advice}"
    assert list(grafts) == list(pinned["grafts"]), f"the order changed, which optimiser states depend on: {advice}"
    assert digest(every) == pinned["all"], f"a stock layer's keys changed (another Ultralytics?): {every[:3]}..."


def digest(keys: list[str]) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()
