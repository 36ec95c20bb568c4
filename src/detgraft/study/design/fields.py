"""Checks the fields of a study file one by one; every refusal names the line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detgraft.base.located import Located
from detgraft.base.values import read_scalar
from detgraft.errors import nearest
from detgraft.study.design import terms
from detgraft.study.design.arguments import REFUSED, reason_against
from detgraft.study.design.file import read_keys
from detgraft.study.design.terms import Arm, Metrics


def read_fields(located: Located, default_name: str) -> dict[str, Any]:
    """Return the fields of a :class:`StudySpec` from the plain values.

    Args:
        located: The values and their lines.
        default_name: Name of the study when the file gives none.
    """
    keys = read_keys(located)
    base_model = keys.base
    name = keys.name or default_name
    base = Arm(base_model, base_model, "base")
    names = {base.name}
    variants = _variants(located, base_model, names)
    controls = _controls(located, base_model, names)
    if "address" in located.values and keys.executor != "ray":
        raise located.fail("address: belongs to 'executor: ray' only.", "address")
    if keys.executor == "ray" and keys.device not in ((), ("cpu",)):
        raise located.fail(
            "device: Ray gives each run its GPU; only 'device: cpu' goes with 'executor: ray'.", "device"
        )
    seeds = keys.seeds or (tuple(range(terms.LOOKS[-1])) if "stop" in located.values else ())
    if not seeds:
        raise located.fail("the key 'seeds:' is missing; 8 is a sensible number.")
    _check_arms_start_alike(located, keys.init, (base, *variants, *controls))
    return {
        "name": name,
        "data": keys.data,
        "base": base,
        "variants": variants,
        "controls": controls,
        "seeds": seeds,
        "looks": _looks(located, len(seeds)),
        "train": _train(located, keys.train),
        "init": keys.init,
        "weights": _weights(located, keys.weights or None, keys.init, base_model),
        "transfer_min": keys.transfer_min,
        "metrics": Metrics(**keys.metrics.model_dump()),
        "plugins": tuple(keys.plugins),
        "executor": keys.executor,
        "address": keys.address or None,
        "workers": keys.workers,
        "stall": keys.stall,
        "device": keys.device,
        "track": tuple(item for item in keys.track if item != "none"),
        "out": Path(keys.out or f"runs/study/{name}"),
    }


def _looks(located: Located, count: int) -> tuple[int, ...]:
    """Numbers of seeds after which a sequential study looks; none where it runs all its seeds."""
    value = located.values.get("stop")
    if value is None or value == "never":
        return ()
    if value == terms.SEQUENTIAL and count > terms.LOOKS[0]:
        return (*(n for n in terms.LOOKS if n < count), count)
    if value == terms.SEQUENTIAL:
        raise located.fail(
            f"stop: a sequential study needs at least {terms.LOOKS[0] + 1} seeds, found {count}.", "stop"
        )
    looks = value.get(terms.SEQUENTIAL) if isinstance(value, dict) and len(value) == 1 else None
    whole = isinstance(looks, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in looks)
    if not whole or not looks or looks[0] < 2 or looks[-1] != count or sorted(set(looks)) != looks:
        raise located.fail(
            "stop: expected never, sequential, or {sequential: [3, 6, 10]}: numbers of seeds that rise from 2 or more"
            f" to all {count}, found {value!r}.{nearest(str(value), (terms.SEQUENTIAL, 'never'))}",
            "stop",
        )
    return tuple(looks)


def _train(located: Located, values: Mapping[Any, Any]) -> dict[str, Any]:
    values = {key: _number_in(value) for key, value in values.items()}
    for key, value in values.items():
        if key in REFUSED:
            raise located.fail(f"'{key}' cannot be set here: {REFUSED[key]}.", "train", key)
        if not isinstance(key, str) or not isinstance(value, (bool, int, float, str, list, tuple)):
            raise located.fail(f"train: {key!r}: expected a number, a text or a list, found {value!r}.", "train", key)
    if "classes" in values:
        values["classes"] = _classes(located, values["classes"])
    for key, default in (("epochs", 100), ("batch", 16), ("imgsz", 640)):
        value = values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            why = " (automatic batches would differ between the arms)" if key == "batch" else ""
            raise located.fail(f"{key}: expected a whole number from 1 up{why}, found {value!r}.", "train", key)
    return {"epochs": 100, "batch": 16, "imgsz": 640, **values}


def _number_in(value: Any) -> Any:
    """A number where YAML sees a text: to YAML, 1e-3 is one because it has no point."""
    number = read_scalar(value, {}) if isinstance(value, str) else value
    return number if isinstance(number, (int, float)) else value


def _classes(located: Located, value: Any) -> list[int]:
    items = value if isinstance(value, (list, tuple)) else [value]
    good = all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in items)
    if not items or not good or len(set(items)) != len(items):
        raise located.fail(f"classes: expected different class numbers from 0 up, found {value!r}.", "train", "classes")
    return sorted(items)


def check_train_keys(located: Located, known: Iterable[str]) -> None:
    """Refuse training arguments that the installed Ultralytics does not know, or that nobody has looked at.

    Args:
        located: The values and their lines.
        known: Names of Ultralytics' arguments.
    """
    known = list(known)
    for key in located.values.get("train") or {}:
        if key not in known:
            hint = nearest(str(key), [name for name in known if name not in REFUSED])
            raise located.fail(f"Ultralytics has no training argument {key!r}.{hint}", "train", key)
        reason = reason_against(str(key))
        if reason:
            raise located.fail(f"'{key}' cannot be set here: {reason}.", "train", key)


NO_CHECKPOINT = "none"
"""``weights: none``: only what grafts ask for themselves is loaded, all else starts from random weights."""


def _weights(located: Located, weights: str | None, init: str, base_model: str) -> str | None:
    if init == "scratch":
        if weights is not None:
            raise located.fail("weights: belongs to 'init: transfer' or 'init: pretrained', not to scratch.", "weights")
        return None
    if weights == NO_CHECKPOINT:
        if init == "pretrained":
            return None
        raise located.fail(
            "weights: none belongs to 'init: pretrained'; 'init: transfer' needs a checkpoint.", "weights"
        )
    if weights is not None:
        return weights
    stem = Path(base_model).name
    for suffix in terms.MODEL_SUFFIXES:
        stem = stem.removesuffix(suffix)
    return f"{stem}.pt"


def _variants(located: Located, base: str, names: set[str]) -> tuple[Arm, ...]:
    values = located.values["variants"]
    arms = []
    for index, value in enumerate(values):
        where = ("variants", index)
        name, model = _variant(located, value, base, where)
        if name in names:
            raise located.fail(f"the name {name!r} is used twice; give one of them another 'name:'.", *where)
        names.add(name)
        arms.append(Arm(name, model, "variant"))
    models = [arm.model for arm in arms]
    for index, model in enumerate(models):
        if model == base or model in models[:index]:
            what = "the base itself" if model == base else "already among the variants"
            raise located.fail(f"the model {model!r} is {what}.", "variants", index)
    return tuple(arms)


def _variant(located: Located, value: Any, base: str, where: tuple[str | int, ...]) -> tuple[str, str]:
    """Name and model of one entry: a graft, a model, or a mapping with one of the two and a name."""
    if isinstance(value, str) and value.strip():
        text = value.strip()
        whole = text.endswith(terms.MODEL_SUFFIXES) or text == base or text.startswith(f"{base}+")
        return (text.removeprefix(f"{base}+"), text) if whole else (text, f"{base}+{text}")
    if not isinstance(value, dict):
        raise located.fail(
            f"expected a graft such as 'carafe' or a mapping with graft: or model:, found {value!r}.", *where
        )
    located.check_keys(value, ("name", "graft", "model"), "key of a variant", *where)
    for key, item in value.items():
        if not isinstance(item, str) or not item.strip():
            raise located.fail(f"{key}: expected a text, found {item!r}.", *where, key)
    if ("graft" in value) == ("model" in value):
        raise located.fail("a variant has either graft: (added to the base) or model: (on its own).", *where)
    what = str(value.get("graft") or value.get("model")).strip()
    return str(value.get("name", what)).strip(), f"{base}+{what}" if "graft" in value else what


def _controls(located: Located, base: str, names: set[str]) -> tuple[Arm, ...]:
    values = located.values.get("controls", ["scale"])
    if values in (None, "none", ["none"], []):
        return ()
    items = values if isinstance(values, list) else [values]
    if len(items) != 1:
        raise located.fail(f"controls: expected 'scale', 'scale: MODEL' or 'none', found {values!r}.", "controls")
    item = items[0]
    if item == "scale":
        model = terms.next_scale(base)
        if model is None:
            raise located.fail(
                f"controls: no larger stock scale is known for the base {base!r};"
                " name one with 'controls: {scale: MODEL}' or write 'controls: none'.",
                "controls",
            )
    elif isinstance(item, dict) and set(item) == {"scale"} and isinstance(item["scale"], str):
        model = item["scale"].strip()
    else:
        hint = nearest(str(item), ("scale", "none"))
        raise located.fail(f"controls: expected 'scale', 'scale: MODEL' or 'none', found {item!r}.{hint}", "controls")
    name = f"scale: {model}"
    if model == base or name in names:
        raise located.fail(f"controls: {model!r} is already an arm of this study.", "controls")
    return (Arm(name, model, "control"),)


def _check_arms_start_alike(located: Located, init: str, arms: tuple[Arm, ...]) -> None:
    """Refuse an arm that would start from other weights than the study's ``init`` gives to all of them."""
    for arm in arms:
        path = (
            ("variants", [a.name for a in arms if a.role == "variant"].index(arm.name)) if arm.role == "variant" else ()
        )
        key = path or (("base",) if arm.role == "base" else ("controls",))
        if arm.model.endswith((".pt", ".safetensors")):
            raise located.fail(
                f"{arm.model!r} is a checkpoint, so this arm would start from trained weights that the others lack;"
                " name its YAML or expression and choose 'init:'.",
                *key,
            )
        if terms.asks_for_weights(arm.model) and init != "pretrained":
            raise located.fail(
                f"{arm.name!r} asks for pretrained weights, but 'init: {init}' holds for every arm;"
                " remove weights= or write 'init: pretrained'.",
                *key,
            )
