"""Trainer classes for grafted models that a fresh process can import by name.

Ultralytics starts its DDP workers as new processes, which find the trainer class by module and name. Importing that
class from here imports detgraft there, hence its hooks, so the worker can build what the parent built. One class per
stock trainer, made on first use; the name must contain "Trainer" or Ultralytics skips its callbacks.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from detgraft.upstream.model.transfer import open_checkpoint

PREFIX = "Grafted"
_STOCK_PACKAGES = ("yolo.detect", "yolo.segment", "yolo.pose", "yolo.obb", "yolo.classify", "yolo.world", "rtdetr")


class _FullDescription:
    """Lets a training begin with all weights that the model's name asks for.

    Older releases (8.3.0) hand over the description of the model in memory, which names no weights files any more, and
    forget ``pretrained=`` for a model that comes from a YAML.
    """

    args: Any
    resume: Any

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """Build the model that is trained; see Ultralytics."""
        if weights is None and not self.resume and str(self.args.model).lower().endswith((".yaml", ".yml")):
            cfg = str(self.args.model)
            if isinstance(self.args.pretrained, (str, Path)):
                weights = open_checkpoint(self.args.pretrained)
        return super().get_model(cfg=cfg, weights=weights, verbose=verbose)  # type: ignore[misc]


def grafted_trainer(stock: type) -> type:
    """Return the grafted counterpart of a stock trainer class; an own trainer class is returned as it is."""
    if not stock.__module__.startswith("ultralytics."):
        return stock
    name = PREFIX + stock.__name__
    known = globals().get(name)
    if isinstance(known, type):
        return known
    made = type(
        name, (_FullDescription, stock), {"__module__": __name__, "__doc__": f"{stock.__name__} for grafted models."}
    )
    globals()[name] = made
    return made


def __getattr__(name: str) -> Any:
    """Make ``GraftedDetectionTrainer`` and the like on demand, for unpickling and for generated DDP scripts."""
    if name.startswith(PREFIX):
        wanted = name.removeprefix(PREFIX)
        for package in _STOCK_PACKAGES:
            try:
                module = importlib.import_module(f"ultralytics.models.{package}")
            except ImportError:
                continue
            stock = getattr(module, wanted, None) or getattr(getattr(module, "train", None), wanted, None)
            if isinstance(stock, type):
                return grafted_trainer(stock)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
