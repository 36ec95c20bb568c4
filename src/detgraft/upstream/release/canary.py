"""Asks the installed release, before the first grafted build, whether its parser does what grafts build on.

A description of a few tiny rows, one per kind of carrier, goes through the real parser. So a release that works another
way is named as the cause, with what it does differently, and not the row of a user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from detgraft._version import __version__
from detgraft.errors import UpstreamError
from detgraft.upstream.release.capabilities import TRIED, ULTRALYTICS_VERSION, stock_module

_JOINED, _READER, _FUSED = 3, 4, 5


@dataclass(frozen=True)
class Trial:
    """What the real parser made of a description.

    Args:
        returned: What it returned.
        given: What it passed to the class of each keyed row, without the key, by layer index.
        made: What that call returned.
    """

    returned: Any
    given: Mapping[int, tuple[Any, ...]]
    made: Mapping[int, nn.Module]


def check_release(
    ch: int,
    key: Callable[[int], Any],
    joined: Callable[[list[int]], Any],
    run: Callable[[dict[str, Any]], Trial],
) -> None:
    """Build a few tiny rows and look at what the parser did with them.

    Args:
        ch: Image channels that the parser is called with.
        key: Makes the last argument of a keyed row from its layer index.
        joined: Makes the sources of a row with several inputs and channels of its own.
        run: Runs the real parser on a description.

    Raises:
        UpstreamError: The installed release does not do what grafts build on; says what.
    """
    rows = _rows(key, joined)
    try:
        trial = run({"nc": 7, "scales": {"n": [0.5, 0.5, 1024]}, "scale": "n", "backbone": rows[:3], "head": rows[3:]})
    except Exception as error:
        raise _refusal(f"it builds a description of tiny rows ({type(error).__name__}: {error!s:.200})") from error
    broken = _broken(rows, trial, ch)
    if broken:
        raise _refusal(broken)


def _rows(key: Callable[[int], Any], joined: Callable[[list[int]], Any]) -> list[list[Any]]:
    like = ["C3k2", [64, False, 0.25, key(2)]] if stock_module("C3k2") else ["CBLinear", [32, key(2)]]
    return [
        [-1, 1, "CBLinear", [8, key(0)]],
        [-1, 1, "nn.Identity", []],
        [-1, 4, *like],
        [[-1, 0], 1, "Concat", [1, key(_JOINED)]],
        [-1, 1, "CBLinear", [8, key(_READER)]],
        [joined([-1, 2]), 1, "CBLinear", [16, key(_FUSED)]],
    ]


def _broken(rows: list[list[Any]], trial: Trial, ch: int) -> str:
    """Return what the release does differently, in words, or an empty text."""
    returned = trial.returned
    layers = returned[0] if isinstance(returned, tuple) and len(returned) > 1 else None
    if not isinstance(layers, nn.Sequential) or len(layers) != len(rows):
        return f"parse_model returns the layers, one per row, and which of them to keep; it returned {returned!r:.120}"
    like = "C3k2" in rows[2]
    expected = {
        0: ((ch, 8), "the input channels and the channels as written"),
        2: (
            (8, 32, 2, False, 0.25) if like else (8, 32),
            "the input channels, the scaled channels, the scaled repeats and the arguments as written",
        ),
        _JOINED: ((1,), "its arguments as written"),
        _READER: ((8 + 32, 8), "the sum of the joined channels as its input channels"),
        _FUSED: ((8, 16), "the channels of the first of several inputs and the channels as written"),
    }
    for index, (arguments, words) in expected.items():
        name = rows[index][2]
        if index not in trial.given:
            return f"the module of a {name} row is made by calling the class {name} with the row's last argument last"
        found = trial.given[index]
        if found != arguments:
            return f"{name} is given {words}: {arguments} for the row {rows[index][:3]}; it was given {found}"
        if layers[index] is not trial.made[index]:
            return f"what calling the class {name} returns becomes the layer; it was {type(layers[index]).__name__}"
    for index, row in enumerate(rows):
        layer = layers[index]
        if (getattr(layer, "i", None), getattr(layer, "f", None)) != (index, row[0]):
            return f"a layer carries its number and its sources as 'i' and 'f'; layer {index} does not"
    return "" if sorted(returned[1]) == [0, 2] else f"the outputs to keep are [0, 2]; it returned {returned[1]!r:.80}"


def _refusal(assumption: str) -> UpstreamError:
    return UpstreamError(
        f"the parser of ultralytics {ULTRALYTICS_VERSION} does not do what grafts build on: {assumption}. detgraft "
        f"{__version__} was tried with ultralytics {TRIED[0]} to {TRIED[-1]} (docs/compatibility.md); grafts need one "
        "of these, stock models are not affected"
    )
