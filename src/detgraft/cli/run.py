"""``detgraft train | val | predict | track | export | benchmark``: hands everything through to Ultralytics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detgraft.base.values import read_size
from detgraft.catalog.plugins import load_plugins
from detgraft.cli.arguments import parse_pairs
from detgraft.cli.border import Stopped
from detgraft.cli.keys import check_keys
from detgraft.cli.pretrain import pop_first_step, pretrain_backbone
from detgraft.errors import ArgumentError

_OWN = ("transfer", "transfer_min", "plugins", "trust")
"""Arguments that detgraft adds to Ultralytics' and that open the model."""


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
    from detgraft.upstream.model.values import check_values

    flags, names = argument_names()
    pairs = parse_pairs(words, (*flags, "trust", "download", "freeze_random"))
    first = pop_first_step(pairs) if mode == "train" else {}
    check_keys(mode, pairs, names)
    own = {key: pairs.pop(key) for key in _OWN if key in pairs}
    name = _model_name(mode, pairs)
    if mode == "train":
        _check_training(pairs)
    if mode in ("predict", "track") and pairs.get("source") is None:
        raise ArgumentError(f"{mode} needs source=: a picture, a folder, a video or a camera number")
    check_values(mode, {**pairs, **{key: own[key] for key in ("trust",) if key in own}})
    pairs.pop("mode", None)
    if first:
        load_plugins(str(own.get("plugins", "")))
        name = str(pretrain_backbone(name, pairs, first))
    model = YOLO(name, task=pairs.pop("task", None), **own)
    if isinstance(pairs.get("imgsz"), (list, tuple)) and len(pairs["imgsz"]) == 1:
        pairs["imgsz"] = pairs["imgsz"][0]
    if "imgsz" in pairs:
        check_model_size(model, read_size(pairs["imgsz"]))
    if mode in ("val", "benchmark") and "data" not in pairs:
        _take_known_data(mode, model, pairs)
    if mode in ("predict", "track"):
        _stream(getattr(model, mode), pairs)
        return
    try:
        result = getattr(model, mode)(**pairs)
    except KeyboardInterrupt:
        raise Stopped(_how_to_go_on(model)) from None
    if mode == "export":
        print(result)
    if as_json:
        print(json.dumps(_metrics(result), ensure_ascii=False))


def _take_known_data(mode: str, model: Any, pairs: dict[str, Any]) -> None:
    """Take the data that the checkpoint was trained on; Ultralytics would fetch a set of its own where it has none."""
    known = model.overrides.get("data")
    if not known:
        raise ArgumentError(f"{mode} needs data=: a data YAML, or a folder with train/images, train/labels, val/...")
    if not Path(str(known)).exists():
        raise ArgumentError(f"{mode} needs data=; the set that this model was trained on, {known}, is not here")
    pairs["data"] = str(known)


def _how_to_go_on(model: Any) -> str:
    """Say with which command an interrupted training goes on."""
    last = getattr(getattr(model, "trainer", None), "last", None)
    if last is None or not Path(last).is_file():
        return "stopped before an epoch was saved; begin again with the same command"
    return (
        f"stopped. Everything up to the last complete epoch is kept; go on with: detgraft train resume={_quoted(last)}"
    )


def _quoted(path: Any) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text


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
    if folder is None and "://" not in str(pairs["source"]):
        raise ArgumentError(f"source={pairs['source']}: no picture in it could be read")
    if folder:
        print(f"Results saved to {folder}")


def _metrics(result: Any) -> dict[str, float]:
    """The named metrics of a training or validation, as plain numbers."""
    found = getattr(result, "results_dict", None) or {}
    return {name: float(value) for name, value in found.items()}
