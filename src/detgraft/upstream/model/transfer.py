"""Makes Ultralytics' own ``load`` follow layers that a graft has moved.

Wherever stock code loads weights into a grafted model (``YOLO.load``, ``pretrained=``, the trainer's own model, a DDP
worker), the source is first shown to it with the target's layer numbers. Everything else about loading stays stock.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from ultralytics.nn import tasks

from detgraft.errors import DetgraftError, Location, WeightsError
from detgraft.plan.meanings import COMPOSED
from detgraft.plan.rows import layers_of
from detgraft.plan.weights_files import is_input
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.model.input_scales import carry_inputs
from detgraft.upstream.model.marks import source_of
from detgraft.upstream.model.opening import opening_text, restricted
from detgraft.upstream.model.values import refuse_absent
from detgraft.upstream.parser.names import grafts_of
from detgraft.weights.transfer import TransferReport, align_rows, make_report, renumber

Rows = list[tuple[str, list[Any], int]]


class Renumbered(nn.Module):
    """A source model as ``BaseModel.load`` sees it, with its tensors under the target's layer numbers.

    Args:
        source: The model that the weights come from.
        layers: Target layer index to source layer index.
        branches: Modules of the target's head with a branch per level, and for each branch the source's, see
            :func:`moved_branches`.
    """

    def __init__(
        self, source: Any, layers: Mapping[int, int], branches: Mapping[str, Mapping[int, int]] | None = None
    ) -> None:
        super().__init__()
        self.__dict__["source"] = source.float()
        self.layers = dict(layers)
        self.branches = dict(branches or {})

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the source's tensors under the target's names."""
        return renumber(self.__dict__["source"].state_dict(*args, **kwargs), self.layers, self.branches)

    def float(self) -> Renumbered:
        """Return self; the source is in float32 already."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["source"], name)


def layer_map(source: Any, target: Any) -> dict[int, int]:
    """Find which layers of a target model continue which layers of a source model.

    Args:
        source: An Ultralytics model.
        target: An Ultralytics model, grafted or not.

    Returns:
        Target layer index to source layer index.
    """
    from_rows, to_rows = _rows(source.yaml), _rows(target.yaml)
    names = [module for module, _, _ in from_rows]
    if names == [module for module, _, _ in to_rows]:
        return {index: index for index in range(len(target.model))}
    record = target.yaml.get(COMPOSED)
    if isinstance(record, dict) and names == _base_modules(record):
        return {index: origin for index, origin in enumerate(record["origins"]) if origin is not None}
    return align_rows(from_rows, to_rows)


def moved_branches(source: Any, target: Any) -> dict[str, dict[int, int]]:
    """Find which branch of the target's head continues which of the source's, where a level was added to the base.

    A head keeps a branch per level in lists (``cv2.0`` for its finest level). With a level more in front of them the
    same number is another level's branch, whose tensors may fit by chance.

    Args:
        source: An Ultralytics model.
        target: An Ultralytics model.

    Returns:
        The name of each such list in the target (``model.28.cv2``), and for each of its branches that has a
        counterpart the number of that; empty where both heads read the same levels.
    """
    record = target.yaml.get(COMPOSED)
    ours, theirs = (list(record.get(key, ())) if isinstance(record, dict) else [] for key in ("levels", "base_levels"))
    if ours == theirs:
        return {}
    head, other = target.model[-1], source.model[-1]
    kept = {new: theirs.index(stride) for new, stride in enumerate(ours) if stride in theirs}
    return {
        f"model.{len(target.model) - 1}.{name}": kept
        for name, module in head.named_children()
        if isinstance(module, nn.ModuleList)
        and len(module) == len(ours)
        and isinstance(getattr(other, name, None), nn.ModuleList)
        and len(getattr(other, name)) == len(theirs)
    }


def _rows(mapping: Mapping[str, Any]) -> Rows:
    found: Rows = []
    rows = [*mapping["backbone"], *mapping["head"]]
    for (source, _, module, args), entry in zip(rows, grafts_of(dict(mapping)), strict=True):
        kept = [value for value in args if not is_input(value)]  # says nothing of which layer continues which
        found.append((module, kept, layers_of(entry, source)))
    return found


def _base_modules(record: Mapping[str, Any]) -> list[str] | None:
    try:
        return [module for module, _, _ in _rows(load_yaml(record["base"]))]
    except (DetgraftError, OSError):  # the base was the user's own file and is gone; rows are aligned instead
        return None


def load_across(original: Any, target: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
    """Run the stock ``load`` with the source's layers renumbered, and keep a report on the target.

    Args:
        original: The real ``BaseModel.load``.
        target: The grafted model.
        weights: A checkpoint dict or a model.
        *args: Handed on.
        **kwargs: Handed on.
    """
    source = source_of(weights)
    if not hasattr(source, "yaml") or not hasattr(target, "yaml"):
        return original(target, weights, *args, **kwargs)
    layers = layer_map(source, target)
    shown = Renumbered(source, layers, moved_branches(source, target))
    result = original(target, shown, *args, **kwargs)
    given = shown.state_dict()
    report = _report(source, given, target, layers)
    _reports[target] = report
    carry_inputs(source, target, layers, given)
    if kwargs.get("verbose", args[0] if args else True):
        for line in report.lines():
            tasks.LOGGER.info(line)
    return result


_reports: weakref.WeakKeyDictionary[nn.Module, TransferReport] = weakref.WeakKeyDictionary()


def report_on(source: Any, target: Any) -> TransferReport:
    """Compare a model with the source that Ultralytics' own ``load`` filled it from, layer by layer of one number.

    Args:
        source: An Ultralytics model.
        target: A stock Ultralytics model after loading.
    """
    return _report(source, source.float().state_dict(), target, {index: index for index in range(len(target.model))})


def _report(source: Any, given: Mapping[str, Tensor], target: Any, layers: Mapping[int, int]) -> TransferReport:
    return make_report(
        str(getattr(source, "pt_path", None) or "a model in memory"),
        given,
        target.state_dict(),
        layers,
        lambda index: str(target.model[index].type),
        len(target.model),
    )


def open_checkpoint(path: str | Path) -> Any:
    """Return the model of a checkpoint, through the release's own loader.

    Raises:
        WeightsError: No such file, not a checkpoint of Ultralytics, or one that would run code.
    """
    where = Location(str(path))
    if Path(path).suffix.lower() != ".pt":
        raise WeightsError("expected a checkpoint (.pt)", where)
    refuse_absent(str(path))
    loader = getattr(tasks, "load_checkpoint", None) or tasks.attempt_load_one_weight
    try:
        with restricted():
            return loader(str(path))[0]
    except DetgraftError:
        raise
    except Exception as error:  # whatever unpickling a truncated or foreign file comes upon
        raise WeightsError(opening_text(path, error), where) from error


def report_of(model: nn.Module) -> TransferReport | None:
    """Return the report of the last transfer into a model, or None."""
    return _reports.get(model)
