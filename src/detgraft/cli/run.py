"""``detgraft train | val | predict | track | export | benchmark``: hands everything through to Ultralytics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from detgraft.catalog.plugins import load_plugins
from detgraft.cli.arguments import check_keys, image_size, parse_pairs
from detgraft.cli.pretrain import pop_first_step, pretrain_backbone
from detgraft.errors import ArgumentError

_OWN = ("transfer", "transfer_min", "plugins", "trust")
"""Arguments that detgraft adds to Ultralytics' and that open the model."""

_OF_MODE = {"train": ("download", "freeze_random"), "val": ("download",)}
"""Arguments that detgraft adds to one of Ultralytics' modes."""


def command(mode: str, words: Sequence[str], *, as_json: bool = False) -> None:
    """Run one of Ultralytics' modes on a model.

    Args:
        mode: The name of the model's method.
        words: ``key=value`` words.
        as_json: Print the metrics as JSON at the end.

    Raises:
        DetgraftError: Wrong arguments, model or data; nothing was started then.
    """
    from detgraft.upstream.model.models import YOLO, argument_names, check_model_size

    flags, names = argument_names()
    pairs = parse_pairs(words, (*flags, "trust", "download", "freeze_random"))
    first = pop_first_step(pairs) if mode == "train" else {}
    check_keys(pairs, [*names, *_OWN, *_OF_MODE.get(mode, ()), *(("pretrain",) if mode == "train" else ())])
    own = {key: pairs.pop(key) for key in _OWN if key in pairs}
    name = _model_name(mode, pairs)
    if first:
        load_plugins(str(own.get("plugins", "")))
        _check_training(pairs)
        name = str(pretrain_backbone(name, pairs, first))
    model = YOLO(name, task=pairs.pop("task", None), **own)
    if "imgsz" in pairs:
        check_model_size(model, image_size(pairs["imgsz"]))
    if mode == "train":
        _check_training(pairs)
    if mode in ("predict", "track") and pairs.get("source") is None:
        raise ArgumentError(f"{mode} needs source=: a picture, a folder, a video or a camera number")
    if mode in ("predict", "track"):
        _stream(getattr(model, mode), pairs)
        return
    result = getattr(model, mode)(**pairs)
    if mode == "export":
        print(result)
    if as_json:
        print(json.dumps(_metrics(result), ensure_ascii=False))


def _check_training(pairs: dict[str, Any]) -> None:
    if "data" not in pairs and not pairs.get("resume"):
        raise ArgumentError("train needs data=: a data YAML, or a folder with train/images, train/labels, val/...")


def _model_name(mode: str, pairs: dict[str, Any]) -> str:
    name = pairs.pop("model", None)
    resume = pairs.get("resume")
    if name is None and isinstance(resume, str):  # resume=last.pt says which model it is
        name, pairs["resume"] = resume, True
    if name is None:
        raise ArgumentError(f"{mode} needs model=: a YAML such as yolo11n-carafe.yaml, or a checkpoint such as best.pt")
    return str(name)


def _stream(method: Any, pairs: dict[str, Any]) -> None:
    """Go through the results one by one, so that a long video does not fill the memory; files as Ultralytics' own."""
    pairs.setdefault("save", True)
    folder = None
    for result in method(stream=True, **pairs):
        folder = result.save_dir
    if folder:
        print(f"Results saved to {folder}")


def _metrics(result: Any) -> dict[str, float]:
    """The named metrics of a training or validation, as plain numbers."""
    found = getattr(result, "results_dict", None) or {}
    return {name: float(value) for name, value in found.items()}
