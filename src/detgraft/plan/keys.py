"""The top-level keys of a model YAML: which have a meaning, and what a key without one was probably meant to be.

Ultralytics reads the keys that it knows and ignores all others, so a misspelt one gives another model without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detgraft.errors import Location, PlanError, nearest
from detgraft.plan.document import SECTIONS, Document
from detgraft.plan.losses import KEY as LOSSES
from detgraft.plan.losses import losses_of

MEANINGFUL = (
    "nc",
    "scales",
    "scale",
    "depth_multiple",
    "width_multiple",
    "channels",
    "ch",
    "activation",
    "inplace",
    "kpt_shape",
    "end2end",
    "reg_max",
    "text_model",
    LOSSES,
    *SECTIONS,
)
"""What the parsers of Ultralytics 8.0 to 8.4 read, what its own YAMLs hold, and detgraft's own."""

_RECORDS = frozenset(("yaml_file", "detgraft"))  # written by Ultralytics and by an expression, not by people

_ELSEWHERE: Mapping[str, str] = {
    "depth": "depth_multiple",
    "gd": "depth_multiple",
    "width": "width_multiple",
    "gw": "width_multiple",
    "act": "activation",
    "num_classes": "nc",
    "classes": "nc",
    "input_channels": "channels",
    "in_channels": "channels",
}
"""Names that other repositories give to a key."""


def check_keys(document: Document) -> list[str]:
    """Check the top-level keys of a model YAML that a person wrote.

    Args:
        document: The parsed YAML.

    Returns:
        A sentence for each key that has no effect.

    Raises:
        PlanError: A key that was certainly meant to have an effect and has none; names line and the right key.
    """
    mapping = document.mapping
    if not any(section in mapping for section in SECTIONS) and {"names", "train", "val"} & mapping.keys():
        raise PlanError(
            f"this is a data YAML; give it as data={document.source} and a model as model=, such as "
            "model=yolo11n+carafe",
            document.at(),
        )
    losses_of(mapping, document.at(LOSSES))
    notes = []
    for key, value in mapping.items():
        if key in MEANINGFUL or key in _RECORDS:
            continue
        _refuse_meant(document, str(key), value)
        if key == "anchors":
            notes.append(
                f"{document.at('anchors')}: 'anchors:' belongs to the format of the YOLOv5 repository and has no "
                "effect here; the heads of Ultralytics have no anchors"
            )
        else:
            notes.append(f"{document.at(str(key))}: the key '{key}:' has no effect on the model")
    if mapping.get("scales"):
        notes += [
            f"{document.at(key)}: '{key}:' has no effect beside 'scales:'"
            for key in ("depth_multiple", "width_multiple")
            if key in mapping
        ]
    return notes


def _refuse_meant(document: Document, key: str, value: Any) -> None:
    where = document.at(key)
    if _is_scale(value) and not document.mapping.get("scales"):
        raise PlanError(
            f"'{key}: {list(value)}' stands at the top level, where it has no effect; indent it under 'scales:'", where
        )
    if key == "neck" and isinstance(value, list):
        raise PlanError("rows of a neck stand in 'head:', in front of the head's own rows; 'neck:' is not read", where)
    right = _ELSEWHERE.get(key.lower())
    if right is not None:
        raise PlanError(f"'{key}:' is not read by Ultralytics; write '{right}:'", where)
    hint = nearest(key, MEANINGFUL, count=1)
    if hint:
        raise PlanError(f"there is no key '{key}:'; known are {', '.join(MEANINGFUL)}.{hint}", where)


def _is_scale(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in value)
    )


def with_channels(document: Document) -> dict[str, Any]:
    """Return a description's content in which old and new releases find the number of image channels.

    Releases up to 8.3 read ``ch:``; later ones call it ``channels:`` and, but for classifiers, only write it.

    Args:
        document: The parsed YAML.

    Raises:
        PlanError: The two differ, or are no number of channels.
    """
    mapping = dict(document.mapping)
    given = {key: mapping[key] for key in ("ch", "channels") if mapping.get(key) is not None}
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PlanError(f"'{key}:' must be a number of image channels, found {value!r:.80}", document.at(key))
    if len(set(given.values())) > 1:
        raise PlanError(
            f"'ch: {given['ch']}' and 'channels: {given['channels']}' differ; give one of them", document.at("ch")
        )
    for value in given.values():
        mapping["channels"] = mapping["ch"] = value
    return mapping


def refuse_other_channels(mapping: Mapping[str, Any], channels: int) -> None:
    """Raise where a description asks for other image channels than the model gets, from its data set for example.

    Args:
        mapping: A model description, as :func:`with_channels` returns it.
        channels: The image channels that the model is built for.

    Raises:
        PlanError: ``ch:`` says another number.
    """
    value = mapping.get("ch")
    if value is not None and value != channels:
        raise PlanError(
            f"asks for {value!r:.40} image channels (ch:, channels:), but the model is to be built for {channels}. In "
            "training the data YAML's 'channels:' decides, which is 3 where it has none",
            Location(str(mapping.get("yaml_file") or "model description")),
        )
