"""Stores a model without pickle: its weights as safetensors, its description as text in the same file.

The file's metadata holds the model description (rows, as a checkpoint's ``yaml`` has them), the class names, the task
and the training arguments as JSON. Opening builds the model from the description and fills in the weights, so nothing
in the file can run code. An own block must be loaded first (``plugins=``), as for any description.
"""

from __future__ import annotations

import contextlib
import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT

from detgraft.base.files import write_atomic
from detgraft.errors import ArgumentError, CatalogError, DetgraftError, Location, PlanError, WeightsError
from detgraft.plan.weights_files import without_files
from detgraft.upstream.model.arguments import check_counts
from detgraft.upstream.model.build import build
from detgraft.upstream.release.capabilities import ULTRALYTICS_VERSION
from detgraft.upstream.release.quiet import quiet
from detgraft.weights.archive import refuse_unfit

KEY = "detgraft"
"""Metadata key that holds everything but the tensors, as JSON."""

ENDING = ".safetensors"


def write_safetensors(model: nn.Module, path: str | Path) -> Path:
    """Write a model's weights, description and class names into one file without pickle.

    Args:
        model: An Ultralytics model object, grafted or not, fused or not.
        path: The new file; it appears whole or not at all.

    Returns:
        The path.

    Raises:
        WeightsError: The model carries no description to rebuild it from.
    """
    source: Any = model
    mapping = getattr(source, "yaml", None)
    if not isinstance(mapping, dict):
        raise WeightsError("the model carries no description, so a file without pickle cannot describe it")
    args = getattr(source, "args", None)
    args = args if isinstance(args, dict) else vars(args) if hasattr(args, "__dict__") else {}
    from detgraft._version import __version__

    record = {
        "description": without_files(copy.deepcopy(mapping)),
        "names": [[int(index), str(name)] for index, name in dict(source.names).items()],
        "task": str(getattr(source, "task", "") or tasks.guess_model_task(source)),
        "args": {key: value for key, value in args.items() if isinstance(value, (bool, int, float, str, type(None)))},
        "stride": [float(s) for s in source.stride.tolist()],
        "fused": _is_fused(source),
        "kpt_shape": list(getattr(source, "kpt_shape", ()) or ()),
        "detgraft": __version__,
        "ultralytics": ULTRALYTICS_VERSION,
    }
    # Cloned, because safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in source.state_dict().items()}
    # Not save_file: that makes files which only their owner may read.
    write_atomic(Path(path), save(tensors, {KEY: json.dumps(record, ensure_ascii=False)}))
    return Path(path)


def read_safetensors(path: str | Path) -> nn.Module:
    """Open a file that :func:`write_safetensors` wrote.

    Args:
        path: The file.

    Returns:
        The Ultralytics model object in evaluation mode, in float32, as opening a checkpoint gives it.

    Raises:
        WeightsError: No such file, not a safetensors file, not written by detgraft, or weights that do not fit.
        DetgraftError: The description cannot be built here (a missing plug-in, say).
    """
    where = Location(str(path))
    record = _record(path, where)
    stored = _stored(record, where)
    # The weights come from the file: building moves nobody's random numbers, reads no other file and fetches nothing.
    mapping = without_files(copy.deepcopy(record["description"]))
    try:
        with torch.random.fork_rng(devices=[]), quiet():
            model: Any = build(mapping, nc=mapping.get("nc"), ch=stored.channels)
            if stored.fused:
                model = model.eval().fuse(verbose=False)
    except (PlanError, ArgumentError, CatalogError) as error:
        raise type(error)(f"its description cannot be built: {error}", where) from error
    tensors = _tensors(path, where)
    refuse_unfit(tensors, model.state_dict(), where)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise WeightsError(f"its weights do not fit its description: {' '.join(lines[1:3])[:300]}", where) from error
    strides = [float(s) for s in model.stride.tolist()]
    if stored.stride != strides:
        raise WeightsError(f"says that its strides are {stored.stride}, and its description has {strides}", where)
    if len(stored.names) != int(mapping.get("nc") or len(stored.names)):
        raise WeightsError(f"has {len(stored.names)} class names for {mapping.get('nc')} classes", where)
    model.names, model.task, model.pt_path = stored.names, stored.task, str(path)
    model.args = {**DEFAULT_CFG_DICT, **stored.args, "model": str(path), "task": stored.task}
    opened: nn.Module = model.eval()
    return opened


@dataclass(frozen=True)
class _Stored:
    """What a file says about its model, checked."""

    names: dict[int, str]
    args: dict[str, Any]
    stride: list[float]
    task: str
    fused: bool
    channels: int


def _stored(record: dict[str, Any], where: Location) -> _Stored:
    try:
        mapping = record["description"]
        names = {int(index): str(name) for index, name in record["names"]}
        stride = [float(value) for value in record["stride"]]
        channels = int(mapping.get("channels") or mapping.get("ch") or 3)
        given = {str(key): value for key, value in dict(record["args"]).items() if key in DEFAULT_CFG_DICT}
        plain = all(isinstance(value, (bool, int, float, str, type(None))) for value in given.values())
        task, fused = record["task"], record["fused"]
        if not plain or not isinstance(task, str) or not isinstance(fused, bool):
            raise TypeError("an argument, the task or 'fused' is of a wrong kind")
        if sorted(names) != list(range(len(names))):
            raise ValueError("the class names are not numbered from 0")
        check_counts(nc=mapping.get("nc"), ch=channels)
        with quiet():
            get_cfg(DEFAULT_CFG_DICT, {key: value for key, value in given.items() if value is not None})
    except DetgraftError as error:
        raise WeightsError(f"its description is damaged: {error}", where) from error
    except Exception as error:  # Ultralytics' own check of arguments raises several kinds
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"its description is damaged: {text:.200}", where) from error
    return _Stored(names, given, stride, task, fused, channels)


def _tensors(path: str | Path, where: Location) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"is not a safetensors file, or a damaged one: {error}", where) from error


def _record(path: str | Path, where: Location) -> dict[str, Any]:
    if not Path(path).is_file():
        raise WeightsError("there is no such file", where)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"is not a safetensors file, or a damaged one: {error}", where) from error
    if KEY not in metadata:
        raise WeightsError(
            "holds weights but no model description; write such a file with `detgraft export model=best.pt "
            "format=safetensors`, or give this one to a backbone with weights=",
            where,
        )
    try:
        record = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"its description is damaged: {error}", where) from error
    if not isinstance(record, dict) or not isinstance(record.get("description"), dict):
        raise WeightsError("its description is damaged: no mapping", where)
    return record


def _is_fused(model: Any) -> bool:
    with contextlib.suppress(DetgraftError, AttributeError, TypeError):
        return bool(model.is_fused())
    return False
