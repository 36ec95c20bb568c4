"""What somebody meant who typed the name of a model that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from detgraft.catalog.registry import TIMM_PREFIX, catalogue
from detgraft.errors import CatalogError, Location, nearest
from detgraft.upstream.describe.resolve import known_models, locate
from detgraft.upstream.release.capabilities import stock_yamls

EXAMPLE = "yolo11n"
"""The base that examples in messages stand on."""

_ENDING = re.compile(r"\.(ya?ml|pt)$", re.I)
_FAMILY = re.compile(r"(yolo)v?(\d+)([a-z]?)(6?u?)((?:-[\w.]+)?)")
_SCALES = "nsmlx"


def meant(name: str, others: tuple[str, ...] = (), *, rest: str = "") -> str:
    """Return the sentence that leads on from a model's name that does not exist, or an empty text.

    Args:
        name: As typed: the whole name, or the base of an expression.
        others: Names beside it, such as the files of its folder.
        rest: What follows the base in an expression, from its first ``+`` on.
    """
    bare = _ENDING.sub("", name.strip())
    stem = bare.replace("\\", "/").rpartition("/")[2]
    spelled = _spelled(stem) if stem == bare else None
    if spelled:
        return f" Did you mean '{spelled}{rest}'?"
    entry = catalogue.find(stem) or catalogue.find(stem.lower())
    if entry is not None and stem == bare:
        graft = entry.name if entry.name.lower() != stem.lower() else stem.lower()
        return f" '{stem}' is a graft; write {EXAMPLE}+{graft}{rest}"
    if _ENDING.search(name) is None and "/" not in name and is_timm(stem):
        return f" '{stem}' is a backbone of timm; write {EXAMPLE}+{TIMM_PREFIX}{stem}{rest}"
    if stem.lower() in ("data", "dataset", "coco", "voc"):
        return f" If this is the data, give it as data= and a model as model=, such as model={EXAMPLE}+carafe"
    family = _other_generation(stem) if stem == bare else []
    if family:
        return f" Did you mean {' or '.join(repr(found + rest) for found in family)}?"
    return nearest(stem, [*(Path(known).stem for known in (*others, *known_models())), *_scaled()])


def refuse_no_graft(name: str, where: Location) -> None:
    """Refuse the name of a term that means something else: a backbone of timm, or a second base.

    Raises:
        CatalogError: Says what to write.
    """
    if catalogue.find(name) is not None or catalogue.find(name.lower()) is not None:
        return
    if is_timm(name):
        raise CatalogError(f"there is no graft '{name}'; it is a backbone of timm: write '{TIMM_PREFIX}{name}'", where)
    if locate(f"{name}.yaml") is not None:
        raise CatalogError(f"'{name}' is a base model, and an expression has one, in front", where)


def is_timm(name: str) -> bool:
    """Say whether timm has a model of this name; timm is asked only for what looks like a name of one."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{3,}(\.[\w.]+)?", name):
        return False
    import timm

    return bool(timm.is_model(name.partition(".")[0]))


def _spelled(stem: str) -> str | None:
    """The stock or zoo name that differs from this one in spelling only."""
    small = re.sub(r"[\s_]+", "-", stem.strip().lower())
    forms = [stem, small, small.replace("yolo-", "yolo", 1), small.replace("yolov-", "yolov", 1)]
    forms += [form.replace("rt-detr", "rtdetr", 1) for form in forms]
    for form in dict.fromkeys(forms):
        versions = (form, re.sub(r"^yolov(?=\d)", "yolo", form), re.sub(r"^yolo(?=\d)", "yolov", form))
        for candidate in dict.fromkeys((*versions, *(re.sub(r"(\d)-(?=[nslmx](?:-|$))", r"\1", v) for v in versions))):
            if locate(f"{candidate}.yaml") is not None:
                return candidate
    return None


def _other_generation(stem: str) -> list[str]:
    """For ``yolo13n`` the same scale and task of the generations that exist, the nearest numbers first."""
    found = _FAMILY.fullmatch(stem.lower())
    if found is None:
        return []
    number, scale, task = int(found.group(2)), found.group(3) or "", found.group(5)
    scale = scale if scale in _SCALES else "n"
    there: dict[int, str] = {}
    for known in stock_yamls():
        match = re.fullmatch(r"yolo(v?)(\d+)\.yaml", known)
        if match and locate(f"yolo{match.group(1)}{match.group(2)}{scale}{task}.yaml") is not None:
            there[int(match.group(2))] = f"yolo{match.group(1)}{match.group(2)}{scale}{task}"
    # 11 is the newest with tutorials behind it, so it leads where several are as near.
    order = sorted(there, key=lambda generation: (abs(generation - number) > 2, generation != 11, -generation))
    return [there[generation] for generation in order[:3]]


def _scaled() -> list[str]:
    """Stock names with a scale letter, as people write them."""
    return [f"{match.group(1)}n" for known in stock_yamls() if (match := re.fullmatch(r"(yolov?\d+)\.yaml", known))]
