"""Stock modules that other blocks can be put into, and the rule by which names such as ``C3k2_SE`` mean that.

A shell is a stock module that repeats a small unit: C3k2 its Bottleneck, C2PSA its PSABlock. What is replaced is the
unit or a part of it; all else stays the stock module's, made by the stock rule. There is no entry per pair: any block
that keeps channels and size goes into any shell.

Names are those of Ultralytics' classes; nothing of it is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from detgraft.catalog.spec import Filling, Graft

CSP = "csp"
"""In an expression: every shell that the base has, but for the attention stages (C2PSA)."""

_BOTTLENECK: Mapping[str, str] = {"bottleneck": "", "cv1": "cv1", "cv2": "cv2", "after": "cv2"}

UNITS: Mapping[str, Mapping[str, str]] = {
    "Bottleneck": _BOTTLENECK,
    "RepBottleneck": _BOTTLENECK,
    "GhostBottleneck": {"bottleneck": ""},
    "CIB": {"bottleneck": "", "after": "cv1"},
    "PSABlock": {"bottleneck": "", "attn": "attn", "ffn": "ffn"},
    "ABlock": {"bottleneck": "", "attn": "attn", "ffn": "mlp"},
    "RepConv": {"bottleneck": ""},
}
"""The units by class name, and where in each the places are: an attribute, or nothing for the unit as a whole."""

PLACES: Mapping[str, str] = {
    "bottleneck": "in place of the whole unit",
    "cv1": "in place of its first convolution",
    "cv2": "in place of its second convolution",
    "after": "behind its second convolution, in front of the shortcut",
    "attn": "in place of its attention",
    "ffn": "in place of its feed-forward part",
}


@dataclass(frozen=True)
class Shell:
    """A stock module that repeats a unit.

    Args:
        name: Class name, as in a YAML row.
        units: Classes of the units that it is made of, as far as they can be replaced.
        alias: A shorter name in expressions.
        is_csp: Whether ``csp(...)`` means it, too.
    """

    name: str
    units: tuple[str, ...] = ("Bottleneck",)
    alias: str = ""
    is_csp: bool = True

    @property
    def places(self) -> tuple[str, ...]:
        """The places that any of its units has."""
        return tuple(place for place in PLACES if any(place in UNITS[unit] for unit in self.units))


SHELLS: tuple[Shell, ...] = (
    Shell("C3k2"),
    Shell("C2f"),
    Shell("C3"),
    Shell("A2C2f", ("ABlock", "Bottleneck")),
    Shell("C2fCIB", ("CIB",)),
    Shell("RepNCSPELAN4", ("RepBottleneck",), alias="ELAN"),
    Shell("RepC3", ("RepConv",)),
    Shell("C2"),
    Shell("C3x"),
    Shell("C3Ghost", ("GhostBottleneck",)),
    Shell("BottleneckCSP"),
    Shell("C2PSA", ("PSABlock",), is_csp=False),
    Shell("C2fPSA", ("PSABlock",), is_csp=False),
)

_BY_NAME = {name.lower(): shell for shell in SHELLS for name in (shell.name, shell.alias) if name}
_SEPARATORS = "_-"


def shell_of(name: str) -> Shell | None:
    """Return the shell of a name, without regard to case, or None."""
    return _BY_NAME.get(name.lower())


def csp_modules() -> tuple[str, ...]:
    """Return the class names of the shells that ``csp(...)`` means."""
    return tuple(shell.name for shell in SHELLS if shell.is_csp)


def split_name(name: str) -> tuple[Shell, str] | None:
    """Split ``C3k2_SE`` or ``C2f-SE`` into the shell and the name of the block inside; None for any other name."""
    for position, character in enumerate(name):
        if character in _SEPARATORS and name[position + 1 :]:
            shell = shell_of(name[:position])
            if shell is not None:
                return shell, name[position + 1 :]
    return None


def by_rule(name: str, find: Callable[[str], Graft | None]) -> Graft | None:
    """Return the graft that a name means as a shell and a block inside, or None.

    Args:
        name: As written in a row.
        find: Looks a block up by name.
    """
    parts = split_name(name)
    if parts is None:
        return None
    shell, rest = parts
    block = find(rest)
    return shelled(name, shell, block) if block is not None and goes_inside(block) else None


def shelled(name: str, shell: Shell, block: Graft, filling: Filling | None = None) -> Graft:
    """Make the entry of a shell with a block inside; its row is the stock module's.

    Args:
        name: The row's name.
        shell: The shell.
        block: The block inside.
        filling: Where it goes and with which options; the block's own place and defaults otherwise.
    """
    return Graft(
        name=name,
        target="",
        channels="scaled",
        repeats="inside",
        like=shell.name,
        site=shell.name,
        summary=f"{shell.name} with {block.name} inside",
        provenance=block.provenance,
        origin=block.origin,
        filling=filling or Filling(shell.name, block.name),
    )


def goes_inside(block: Graft) -> bool:
    """Say whether a block's channel rule lets it stand inside a shell; its size is looked at when it is built."""
    return block.channels in ("same", "scaled", "fixed") and block.filling is None and block.like is None


def place_of(block: Graft) -> str:
    """Return where a block goes inside a shell by default."""
    if block.at:
        return block.at
    if block.channels in ("scaled", "fixed"):
        return "cv2"
    return "after" if block.site == "stage" else "bottleneck"


def place_in(unit: str, block: Graft, at: str = "") -> str:
    """Return where a block goes inside a unit: where it was told to, where it belongs, or what comes nearest to that.

    Args:
        unit: The unit's class name.
        block: The block.
        at: Where the user wants it; empty for the default.

    Returns:
        A key of :data:`PLACES`; empty where the unit does not have the place that the user wants.
    """
    places = UNITS[unit]
    if at:
        return at if at in places else ""
    wanted = place_of(block)
    if wanted in places:
        return wanted
    return "attn" if "attn" in places else "bottleneck"


def parts_of(name: str) -> tuple[Shell | None, str, str]:
    """Return shell, its part of the name with the separator, and the rest; of any other name nothing and the name."""
    parts = split_name(name)
    return (None, "", name) if parts is None else (parts[0], name[: -len(parts[1])], parts[1])


def names_inside(blocks: Iterable[Graft]) -> list[str]:
    """Return the names under which blocks go inside a shell.

    Args:
        blocks: Entries of the catalogue.
    """
    return [known for block in blocks if goes_inside(block) for known in (block.name, *block.aliases)]


def block_at_end(name: str, find: Callable[[str], Graft | None]) -> tuple[str, Graft] | None:
    """Find the block that an unknown module's name ends or begins with, and the name that would mean it in a shell.

    Args:
        name: For example ``C3SE``, ``MyC2f_EMA`` or ``EMA_C2f``.
        find: Looks a block up by name.
    """
    words = [name[i + 1 :] for i, character in enumerate(name) if character in _SEPARATORS]
    shells = sorted((shell for shell in SHELLS if shell.name.lower() in name.lower()), key=lambda s: -len(s.name))
    shell = shells[0].name if shells else "C2f"
    for other in shells:  # written together: C3SE, SEC3
        low, short = name.lower(), other.name.lower()
        words += [name[len(short) :]] if low.startswith(short) else []
        words += [name[: -len(short)].rstrip(_SEPARATORS)] if low.endswith(short) else []
    for word in words:
        block = find(word) if word else None
        if block is not None and goes_inside(block):
            return f"{shell}_{block.name}", block
    return None
