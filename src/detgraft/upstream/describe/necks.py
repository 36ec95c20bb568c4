"""The necks of the catalogue as structural terms, and ``+neck(from=FILE)``; see :mod:`detgraft.plan.fragments`.

Each function is the target of a catalogue entry: it reads the fragment of ``zoo/necks`` and puts it into the base.
Paper, source and licence of each stand on top of its fragment. All of them are written for any levels from P2 to P6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detgraft.errors import ArgumentError, Location, PlanError, nearest
from detgraft.plan import levels, meanings
from detgraft.plan.compose import Composition, sections
from detgraft.plan.document import SECTIONS, read_document
from detgraft.plan.fragments import read_neck
from detgraft.plan.necks import Neck, levels_of, neck_of, put_neck
from detgraft.plan.structure import Base
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.describe.resolve import ZOO, known_models, locate
from detgraft.upstream.describe.strides import strides_of
from detgraft.upstream.parser.names import meaning

FOLDER = ZOO / "necks"


def fragments() -> list[str]:
    """Return the names of the packaged fragments."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def bifpn(base: Base, width: int = 256, layers: int = 3) -> Composition:
    """EfficientDet's bidirectional pyramid: weighted sums, an edge from each input to its output, several layers.

    Args:
        base: A detector whose levels follow each other, such as P3 to P5.
        width: Channels of every level, before the model scale.
        layers: How often the whole pyramid is built, one behind the other.
    """
    return _packaged(base, "bifpn", width=width, layers=layers)


def afpn(base: Base) -> Composition:
    """AFPN: the low levels fused first, then the high one; each pixel decides whose value counts.

    Args:
        base: A detector whose levels follow each other, such as P3 to P5.
    """
    return _packaged(base, "afpn")


def slimneck(base: Base) -> Composition:
    """The slim neck: PAN of GSConv and VoVGSCSP.

    Args:
        base: A detector whose levels follow each other, such as P3 to P5.
    """
    return _packaged(base, "slimneck")


def asf(base: Base) -> Composition:
    """ASF-YOLO's neck: triple feature encoding, scale sequence fusion, channel and position attention.

    Args:
        base: A detector whose backbone has a feature below the head's lowest level: one of stride 4 for P3.
    """
    return _packaged(base, "asf")


def hsfpn(base: Base, width: int = 256) -> Composition:
    """HS-FPN: channels of each level chosen, the lower levels filtered by the highest one.

    Args:
        base: A detector whose levels follow each other, such as P3 to P5.
        width: Channels of every level, before the model scale.
    """
    return _packaged(base, "hsfpn", width=width)


def gfpn(base: Base) -> Composition:
    """RepGFPN of DAMO-YOLO: levels joined across, with CSPStage as the fusion.

    Args:
        base: A detector whose levels follow each other, such as P3 to P5.
    """
    return _packaged(base, "gfpn")


def neck(base: Base, from_: str) -> Composition:
    """The neck of a file: of any model YAML, stock or one's own, or a fragment.

    Args:
        base: A detector.
        from_: A path, a stock model YAML's name, or the name of a packaged fragment.

    Raises:
        PlanError: No such file, no neck in it, or one that does not fit the base.
    """
    return put_neck(base, _neck_from(from_, levels_of(base), Location(f"{base.name}+{base.term}")))


def _packaged(base: Base, name: str, **options: int) -> Composition:
    try:
        found = read_neck(FOLDER / f"{name}.yaml", f"{name}.yaml", meaning, options, levels_of(base))
    except PlanError as error:  # its rows are sound; what can be wrong is the value of an option
        raise ArgumentError(str(error), Location(f"{base.name}+{base.term}")) from error
    return put_neck(base, found)


def _neck_from(name: str, wanted: list[str], where: Location) -> Neck:
    path = Path(name)
    if not path.is_file() and path.name == name and path.stem in fragments():
        path = FOLDER / f"{path.stem}.yaml"
        return read_neck(path, path.name, meaning, levels=wanted)
    text = name if path.suffix.lower() in (".yaml", ".yml") else f"{name}.yaml"
    found = locate(text)
    if found is None:
        known = [*fragments(), *(known.removesuffix(".yaml") for known in known_models())]
        raise PlanError(f"there is no file '{name}' to take a neck from.{nearest(path.stem, known)}", where)
    if not any(section in read_document(found, text).mapping for section in SECTIONS):
        return read_neck(found, text, meaning, levels=wanted)
    return neck_of(_with_levels(text, load_yaml(text), f"neck(from={name})", wanted))


def _with_levels(text: str, mapping: dict[str, Any], term: str, wanted: list[str]) -> Base:
    """Give a model whose neck is taken the further levels that the head reads, in the model's own pattern."""
    model = Base(text, term, plan_of(mapping), strides_of(mapping, text))
    for level, add in (("P2", levels.p2), ("P6", levels.p6)):
        if level in wanted and level not in levels_of(model):
            changed = add(model)
            mapping = {**mapping, **sections(changed), meanings.RECORD: changed.meanings}
            model = Base(text, term, plan_of(mapping), strides_of(mapping, text))
    return model
