"""How public model YAMLs spell modules that exist here under another name.

Only names whose rows mean the same are read as ours. Where a form of a module may differ, or its row is written in
another way, the name is only proposed: `detgraft.catalog.spec.Graft.known_as`, and the sentences below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAME: Mapping[str, str] = {
    "Upsample": "nn.Upsample",
    "torch.nn.Upsample": "nn.Upsample",
    "Identity": "nn.Identity",
    "torch.nn.Identity": "nn.Identity",
    "MaxPool2d": "nn.MaxPool2d",
    "AvgPool2d": "nn.AvgPool2d",
    "torch.nn.MaxPool2d": "nn.MaxPool2d",
    "torch.nn.AvgPool2d": "nn.AvgPool2d",
    "Concat_BiFPN": "WeightedConcat",
    "BiFPN_Concat2": "WeightedConcat",
    "BiFPN_Concat3": "WeightedConcat",
    "C3K2": "C3k2",
    "C3K": "C3k",
}
"""Public name to ours; the same arguments in the same order, see :func:`ours`."""


def ours(source: Any, name: str, args: list[Any]) -> str:
    """Return our name for a row of a public YAML, or the row's own where it may mean something else.

    Args:
        source: The row's ``from``.
        name: Its module.
        args: Its arguments.
    """
    same = SAME.get(name, name)
    if same == "nn.Upsample":  # elsewhere a row begins with channels
        return same if args[:1] in ([None], ["None"]) else name
    if same == "WeightedConcat":
        return same if isinstance(source, list) and args in ([], [1]) else name
    return same


_SPACE_TO_DEPTH = "It is half of SPDConv: one row [-1, 1, SPDConv, [CHANNELS, 3, 2]] for it and the Conv behind it"
_ADDS = "It adds its inputs, as BiFPNAdd, [CHANNELS] does; WeightedConcat concatenates them with a learned weight each"
_HEAD = "Heads stay Ultralytics' own, so that losses and exports do: write Detect"
_DCN = "The version decides what is meant; DCNv2 is here"

OTHERWISE: Mapping[str, str] = {
    **dict.fromkeys(("space_to_depth", "SPD"), _SPACE_TO_DEPTH),
    **dict.fromkeys(("BiFPN_Add2", "BiFPN_Add3"), _ADDS),
    **dict.fromkeys(("Detect_DyHead", "Detect_ASFF", "ASFF_Detect", "Detect_AFPN4", "DetectAux"), _HEAD),
    **dict.fromkeys(("DCN", "DCNConv"), _DCN),
}
"""Public name to the sentence that leads on."""
