"""Checks the fields of a study file one by one; every refusal names the line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detgraft.base.located import Located
from detgraft.errors import nearest
from detgraft.study.design import terms
from detgraft.study.design.terms import Arm, Metrics

MOST_SEEDS = 1000


def read_fields(located: Located, default_name: str) -> dict[str, Any]:
    """Return the fields of a :class:`StudySpec` from the plain values.

    Args:
        located: The values and their lines.
        default_name: Name of the study when the file gives none.
    """
    base_model = _text(located, "base", required=True)
    name = _text(located, "name", default_name)
    base = Arm(base_model, base_model, "base")
    names = {base.name}
    variants = _variants(located, base_model, names)
    controls = _controls(located, base_model, names)
    executor = _choice(located, "executor", terms.EXECUTORS, "local")
    if "address" in located.values and executor != "ray":
        raise located.fail("address: belongs to 'executor: ray' only.", "address")
    init = _choice(located, "init", terms.INITS, "scratch")
    _check_arms_start_alike(located, init, (base, *variants, *controls))
    return {
        "name": name,
        "data": _text(located, "data", required=True),
        "base": base,
        "variants": variants,
        "controls": controls,
        "seeds": _seeds(located),
        "looks": _looks(located),
        "train": _train(located),
        "init": init,
        "weights": _weights(located, init, base_model),
        "transfer_min": _number(located, "transfer_min", 0.0, low=0.0, high=1.0),
        "metrics": _metrics(located),
        "plugins": tuple(_texts(located, "plugins")),
        "executor": executor,
        "address": _text(located, "address", None),
        "workers": _workers(located),
        "stall": _stall(located),
        "track": _track(located),
        "out": Path(_text(located, "out", f"runs/study/{name}")),
    }


def _text(located: Located, key: str, default: str | None = None, required: bool = False) -> Any:
    value = located.values.get(key, default)
    if value is None and required:
        raise located.fail(f"the key '{key}:' is missing.")
    if key in located.values and (not isinstance(value, str) or not value.strip()):
        raise located.fail(f"{key}: expected a text, found {value!r}.", key)
    return value.strip() if isinstance(value, str) else value


def _texts(located: Located, key: str) -> list[str]:
    value = located.values.get(key)
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    for index, item in enumerate(items):
        if not isinstance(item, str) or not item.strip():
            raise located.fail(f"{key}: expected a text, found {item!r}.", key, index)
    return [item.strip() for item in items]


def _choice(located: Located, key: str, known: tuple[str, ...], default: str) -> str:
    value = located.values.get(key, default)
    if value not in known:
        hint = nearest(str(value), known)
        raise located.fail(f"{key}: expected one of {', '.join(known)}, found {value!r}.{hint}", key)
    return str(value)


def _number(located: Located, key: str, default: float, low: float, high: float, group: str | None = None) -> float:
    """A number from ``low`` to ``high``, both allowed."""
    path = (group, key) if group else (key,)
    values = located.values.get(group) if group else located.values
    value = (values or {}).get(key, default)
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not low <= value <= high:
        raise located.fail(f"{key}: expected a number from {low:g} to {high:g}, found {value!r}.", *path)
    return float(value)


def _seeds(located: Located) -> tuple[int, ...]:
    value = located.values.get("seeds")
    expected = f"seeds: expected how many (1 to {MOST_SEEDS}) or a list of different whole numbers from 0 up"
    if value is None and "stop" in located.values:
        return tuple(range(terms.LOOKS[-1]))
    if value is None:
        raise located.fail("the key 'seeds:' is missing; 8 is a sensible number.")
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SEEDS:
        return tuple(range(value))
    if isinstance(value, list) and value and len(value) <= MOST_SEEDS:
        good = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**31 for seed in value)
        if good and len(set(value)) == len(value):
            return tuple(value)
    raise located.fail(f"{expected}, found {value!r}.", "seeds")


def _looks(located: Located) -> tuple[int, ...]:
    """Numbers of seeds after which a sequential study looks; none where it runs all its seeds."""
    value = located.values.get("stop")
    if value is None or value == "never":
        return ()
    count = len(_seeds(located))
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


def _train(located: Located) -> dict[str, Any]:
    values = located.values.get("train")
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise located.fail(f"train: expected 'key: value' lines, found {values!r}.", "train")
    for key, value in values.items():
        if key in terms.OWNED_TRAIN_KEYS:
            raise located.fail(f"'{key}' cannot be set here: {terms.OWNED_TRAIN_KEYS[key]}.", "train", key)
        if not isinstance(key, str) or isinstance(value, (dict, set, bytes)):
            raise located.fail(f"train: {key!r}: expected a number, a text or a list, found {value!r}.", "train", key)
    for key, default in (("epochs", 100), ("batch", 16), ("imgsz", 640)):
        value = values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            why = " (automatic batches would differ between the arms)" if key == "batch" else ""
            raise located.fail(f"{key}: expected a whole number from 1 up{why}, found {value!r}.", "train", key)
    return {"epochs": 100, "batch": 16, "imgsz": 640, **values}


def check_train_keys(located: Located, known: Iterable[str]) -> None:
    """Refuse training arguments that the installed Ultralytics does not know.

    Args:
        located: The values and their lines.
        known: Names of Ultralytics' arguments.
    """
    values = located.values.get("train") or {}
    for key in values:
        if key not in set(known):
            hint = nearest(str(key), known)
            raise located.fail(f"Ultralytics has no training argument {key!r}.{hint}", "train", key)


def _metrics(located: Located) -> Metrics:
    values = located.values.get("metrics")
    if values is None:
        return Metrics()
    if not isinstance(values, dict):
        raise located.fail(f"metrics: expected 'key: value' lines, found {values!r}.", "metrics")
    located.check_keys(values, terms.METRIC_KEYS, "key of metrics", "metrics")
    chosen: dict[str, Any] = {}
    for key, known in (("primary", terms.PRIMARY), ("split", terms.SPLITS)):
        value = values.get(key, getattr(Metrics, key))
        if value not in known:
            raise located.fail(f"{key}: expected one of {', '.join(known)}, found {value!r}.", "metrics", key)
        chosen[key] = value
    draws = values.get("bootstrap", Metrics.bootstrap)
    if not isinstance(draws, int) or isinstance(draws, bool) or not 0 <= draws <= 100_000:
        raise located.fail(f"bootstrap: expected a whole number to 100000, found {draws!r}.", "metrics", "bootstrap")
    return Metrics(
        **chosen,
        margin=_number(located, "margin", Metrics.margin, 1e-6, 1.0, "metrics"),
        alpha=_number(located, "alpha", Metrics.alpha, 1e-6, 0.5, "metrics"),
        bootstrap=draws,
    )


def _workers(located: Located) -> int | None:
    value = located.values.get("workers", "auto")
    if value == "auto":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
        raise located.fail(f"workers: expected 'auto' or how many runs at once, found {value!r}.", "workers")
    return value


def _stall(located: Located) -> float | None:
    if located.values.get("stall") == "none":
        return None
    return _number(located, "stall", terms.STALL, 2.0, 1e6)


def _track(located: Located) -> tuple[str, ...]:
    chosen = [item for item in _texts(located, "track") if item != "none"]
    for item in chosen:
        if item not in terms.TRACKERS:
            known = ", ".join(terms.TRACKERS)
            raise located.fail(
                f"track: expected {known} or none, found {item!r}.{nearest(item, terms.TRACKERS)}", "track"
            )
    return tuple(chosen)


NO_CHECKPOINT = "none"
"""``weights: none``: only what grafts ask for themselves is loaded, all else starts from random weights."""


def _weights(located: Located, init: str, base_model: str) -> str | None:
    weights = _text(located, "weights", None)
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
        return str(weights)
    stem = Path(base_model).name
    for suffix in terms.MODEL_SUFFIXES:
        stem = stem.removesuffix(suffix)
    return f"{stem}.pt"


def _variants(located: Located, base: str, names: set[str]) -> tuple[Arm, ...]:
    values = located.values.get("variants")
    if not isinstance(values, list) or not values:
        raise located.fail("variants: expected a list with at least one graft or model.", "variants")
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
