"""The one place where detgraft reaches into ``ultralytics.engine.model``.

``Model._smart_load`` gives grafted models, and those with a grafted loss, a trainer class that a fresh process can
import, and builds a model with the image channels that its YAML asks for. This module is imported in the middle of
Ultralytics' own import, so nothing of Ultralytics is imported on top of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detgraft.plan.losses import KEY
from detgraft.upstream.hooks.tasks import wrap
from detgraft.upstream.model.marks import is_grafted


def install() -> None:
    """Install the hook on Ultralytics' wrapper class, unless it is there already.

    Raises:
        UpstreamError: The installed Ultralytics lacks the name that it needs.
    """
    from ultralytics.engine.model import Model

    wrap(Model, "_smart_load", _smart_load)


def _with_own_channels(kind: Any) -> Callable[..., Any]:
    """Let a model be built with the image channels that its YAML asks for, which the stock wrapper leaves at three."""

    def build(cfg: Any, *args: Any, **kwargs: Any) -> Any:
        asked = cfg.get("ch") if isinstance(cfg, dict) and not args else None
        return kind(cfg, *args, **(kwargs if asked is None else {"ch": asked, **kwargs}))

    return build


def _smart_load(original: Any) -> Callable[..., Any]:
    def _smart_load(self: Any, key: str) -> Any:
        found = original(self, key)
        if key == "trainer" and (is_grafted(self.model) or KEY in (getattr(self.model, "yaml", None) or ())):
            from detgraft.upstream.hooks.trainers import grafted_trainer

            return grafted_trainer(found)
        return _with_own_channels(found) if key == "model" else found

    return _smart_load
