"""Checks what a caller asks for before anything is built, trained or written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ultralytics.nn import tasks

from detgraft.errors import ArgumentError, nearest
from detgraft.plan.document import Document
from detgraft.plan.keys import check_keys, with_channels
from detgraft.plan.rows import PYRAMID_LAYERS
from detgraft.upstream.model.transfer import open_checkpoint


def check_counts(*, nc: Any = None, ch: Any = 3) -> None:
    """Check a number of classes and of image channels.

    Raises:
        ArgumentError: Not a whole number of at least 1; Ultralytics takes a 0 for "not given".
    """
    if nc is not None and (isinstance(nc, bool) or not isinstance(nc, int) or not 1 <= nc <= 100_000):
        raise ArgumentError(f"nc must be a number of classes from 1 to 100000, found {nc!r:.80}")
    if isinstance(ch, bool) or not isinstance(ch, int) or not 1 <= ch <= 65_536:
        raise ArgumentError(f"ch must be a number of image channels of at least 1, found {ch!r:.80}")


def described(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description that was given as a mapping; one that somebody wrote by hand is checked like a file.

    Raises:
        PlanError: A key that was meant to have an effect and has none.
    """
    if mapping.get("yaml_file"):  # read from a file or a checkpoint before
        return dict(mapping)
    document = Document("model description", dict(mapping))
    for note in check_keys(document):
        tasks.LOGGER.warning(note)
    return with_channels(document)


RESUMABLE = ("epochs",)
"""What an interrupted training brings with it and a resumed one cannot change."""


def check_transfer(transfer: object, minimum: object) -> None:
    """Refuse a smallest share of transferred tensors where nothing is transferred.

    Raises:
        ArgumentError: ``transfer_min`` without ``transfer``.
    """
    if transfer is None and minimum:
        raise ArgumentError(f"transfer_min={minimum} needs transfer=CHECKPOINT; without it nothing is transferred")


def with_settings_file(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training's arguments with those of the file that ``cfg=`` names; what is given beside it wins.

    Raises:
        ArgumentError: No such file, or it holds no settings.
    """
    given = dict(kwargs)
    if not given.get("cfg"):
        return given
    from ultralytics.utils import YAML, checks

    try:
        settings = YAML.load(checks.check_yaml(given["cfg"]))
    except Exception as error:  # whatever PyYAML and the search for files raise
        raise ArgumentError(f"cfg={given['cfg']} cannot be read as a file of settings: {error}") from error
    if not isinstance(settings, dict):
        raise ArgumentError(f"cfg={given['cfg']} holds no settings (KEY: VALUE lines)")
    return {**settings, **given}


def check_training(wrapper: Any, kwargs: Mapping[str, Any]) -> None:
    """Check a training's arguments that Ultralytics would take for something else without a word.

    Args:
        wrapper: The model's wrapper.
        kwargs: The arguments.

    Raises:
        ArgumentError: Says what the argument takes.
    """
    batch = kwargs.get("batch")
    if batch is not None and not _is_batch(batch):
        raise ArgumentError(
            f"batch must be a number of pictures from 1, -1 or a share of the memory such as 0.7 for an automatic "
            f"choice; found {batch!r:.40}"
        )
    frozen_layers(wrapper.model, kwargs.get("freeze"))
    _check_resume(wrapper, kwargs)


def _is_batch(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return value == -1 or 0 < value < 1 or (value >= 1 and value == int(value))


def frozen_layers(model: Any, freeze: Any) -> list[int]:
    """Return the numbers of the layers that ``freeze=`` freezes.

    Args:
        model: An Ultralytics model.
        freeze: The argument: None, a number of layers from the first one, or a list of layer numbers.

    Raises:
        ArgumentError: Anything else, for which Ultralytics freezes nothing, or a layer that the model does not have.
    """
    if freeze is None:
        return []
    count = len(model.model)
    listed = list(freeze) if isinstance(freeze, (list, tuple)) else [freeze]
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in listed)
    if isinstance(freeze, int) and whole and 0 <= freeze <= count:
        return list(range(freeze))
    if isinstance(freeze, (list, tuple)) and whole and all(0 <= n < count for n in listed):
        return sorted(set(listed))
    backbone = len((getattr(model, "yaml", None) or {}).get("backbone") or ())
    hint = f"; the rows of this model's backbone are freeze={backbone}" if freeze == "backbone" and backbone else ""
    if hint and any(hasattr(layer, "reductions") for layer in model.model):
        hint = f"; this model's backbone with what stands behind it is freeze={backbone + PYRAMID_LAYERS - 1}"
    raise ArgumentError(
        f"freeze takes a number of layers up to {count}, or a list of layer numbers from 0 to {count - 1}; "
        f"found {freeze!r:.60}{hint}"
    )


def refuse_random_freeze(model: Any, frozen: list[int], given: Mapping[int, int], freeze: Any) -> None:
    """Refuse to freeze layers whose weights came from no checkpoint: they would stay random for the whole training.

    Args:
        model: An Ultralytics model.
        frozen: Layer numbers.
        given: Number of tensors that each layer received.
        freeze: The argument as written.

    Raises:
        ArgumentError: Names the layers.
    """
    named, random = [], 0
    for number in frozen:
        layer = model.model[number]
        missing = len(layer.state_dict()) - given.get(number, 0)
        if missing > 0:
            named.append(f"{number} ({str(layer.type).rpartition('.')[2]})")
            random += missing
    if named:
        shown = ", ".join(named[:12]) + (f" and {len(named) - 12} more" if len(named) > 12 else "")
        raise ArgumentError(
            f"freeze={freeze} freezes layers {shown}, whose {random} tensors were given by no checkpoint and would "
            "stay random. Freeze other layers, give transfer= or weights=, or say freeze_random=True"
        )


def random_text(model: Any, given: Mapping[int, int]) -> str:
    """Say which weights a training begins with, and which layers are random.

    Args:
        model: An Ultralytics model.
        given: Number of tensors that each layer received from a checkpoint or a weights file.
    """
    counts = [(number, len(layer.state_dict())) for number, layer in enumerate(model.model)]
    total, arrived = sum(count for _, count in counts), sum(min(given.get(n, 0), count) for n, count in counts)
    if arrived == 0:
        return "weights: all are random; transfer=CHECKPOINT takes those of the base model over"
    random = [number for number, count in counts if given.get(number, 0) < count]
    names = [f"{number} {str(model.model[number].type).rpartition('.')[2]}" for number in random]
    if not names:
        return f"weights: all {total} tensors are given"
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"weights: {arrived} of {total} tensors are given; random, in whole or part, are layers {shown}"


def _check_resume(wrapper: Any, kwargs: Mapping[str, Any]) -> None:
    resume = kwargs.get("resume")
    if not resume:
        return
    name = str(wrapper.overrides.get("model", ""))
    if resume is True and name.lower().endswith((".yaml", ".yml")):
        raise ArgumentError(
            f"resume=True goes on with a training's own checkpoint; '{name.removesuffix('.yaml')}' is a description: "
            "give model=.../last.pt, or leave resume= out"
        )
    if not any(key in kwargs for key in RESUMABLE):
        return
    known: Any = {}
    if resume is True:
        known = (getattr(wrapper, "ckpt", None) or {}).get("train_args") or {}
    elif Path(str(resume)).is_file():
        known = open_checkpoint(str(resume)).args
    for key in RESUMABLE:
        if key in kwargs and key in known and kwargs[key] != known[key]:
            raise ArgumentError(
                f"a resumed training has the {key}={known[key]} that it began with; {key}={kwargs[key]} needs a new "
                "training, with model=last.pt and without resume="
            )


def check_format(wanted: object) -> None:
    """Check an export format; Ultralytics takes the most similar name for one that it does not know.

    Raises:
        ArgumentError: Names the nearest format.
    """
    from ultralytics.engine.exporter import export_formats

    known = [str(name) for name in export_formats()["Argument"] if name != "-"] + ["safetensors"]
    if str(wanted).lower() in ("engine", "tensorrt", "trt") and not torch.cuda.is_available():
        raise ArgumentError(f"format={wanted} needs an NVIDIA GPU, and torch sees none here; format=onnx needs none")
    if str(wanted).lower() not in (*known, *_FORMATS):
        raise ArgumentError(
            f"there is no export format '{wanted}'.{nearest(str(wanted), known)} Formats: {', '.join(known)}"
        )


_FORMATS = ("tensorrt", "trt", "mlmodel", "mlpackage", "mlprogram", "apple", "ios", "tflite", "tfjs")
"""Further names that Ultralytics' exporter has for its formats."""


def warn_untrained(wrapper: Any, mode: str) -> None:
    """Say that what follows comes from random weights."""
    described_only = str(wrapper.overrides.get("model", "")).lower().endswith((".yaml", ".yml"))
    pretrained = isinstance(wrapper.overrides.get("pretrained"), (str, Path))
    if described_only and not pretrained and not getattr(wrapper, "ckpt", None):
        tasks.LOGGER.warning(
            f"{mode}: '{wrapper.overrides['model']}' was built from a description and has random weights; train it, or "
            "open a checkpoint"
        )
