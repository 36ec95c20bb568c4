"""Draws boxes on a picture so that right, false and missed ones are told apart without their colours.

Right boxes have a whole line, false ones a dashed line and a cross, missed ones a dotted line and an open corner mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import ImageDraw, ImageFont

# Okabe and Ito's blue, vermilion and reddish purple (2008), which colour-blind readers can tell apart.
RIGHT, FALSE, MISSED = "#0072B2", "#D55E00", "#CC79A7"
_DASHES = {"right": None, "labelled": None, "false": (7.0, 4.0), "missed": (2.0, 3.0)}
_COLOURS = {"right": RIGHT, "false": FALSE, "missed": MISSED, "labelled": "#009E73"}
MARKS = {"right": "", "labelled": "", "false": "x ", "missed": "? "}
"""What stands in front of a box's text."""


def draw_box(pen: ImageDraw.ImageDraw, corners: Sequence[float], kind: str, text: str = "", width: int = 2) -> None:
    """Draw one box.

    Args:
        pen: Of the picture.
        corners: Left, top, right, bottom in the picture's pixels.
        kind: ``right``, ``false``, ``missed`` or ``labelled``.
        text: Stands at the box's upper edge, behind the mark of its kind.
        width: Of the line in pixels.
    """
    x1, y1, x2, y2 = corners[0], corners[1], max(corners[2], corners[0]), max(corners[3], corners[1])
    colour, dashes = _COLOURS[kind], _DASHES[kind]
    for start, end in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        for piece in [(start, end)] if dashes is None else _pieces(start, end, dashes):
            pen.line([*piece[0], *piece[1]], fill=colour, width=width)
    if kind == "false":
        size = min(6.0, (x2 - x1) / 2, (y2 - y1) / 2)
        pen.line([x2 - size, y1, x2, y1 + size], fill=colour, width=width)
        pen.line([x2, y1, x2 - size, y1 + size], fill=colour, width=width)
    if text:
        _label(pen, x1, y1, f"{MARKS[kind]}{text}", colour)


def _pieces(
    start: tuple[float, float], end: tuple[float, float], dashes: tuple[float, float]
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    length = abs(end[0] - start[0]) + abs(end[1] - start[1])
    if length <= 0:
        return
    dx, dy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    position = 0.0
    while position < length:
        stop = min(position + dashes[0], length)
        yield (start[0] + dx * position, start[1] + dy * position), (start[0] + dx * stop, start[1] + dy * stop)
        position = stop + dashes[1]


def _label(pen: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: str) -> None:
    font = font_of(11)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 5
    x = min(max(x, 0), max(pen.im.size[0] - width, 0)) if pen.im is not None else x
    y = y - height if y - height >= 0 else y
    pen.rectangle((x, y, x + width, y + height), fill="#ffffff", outline=colour)
    pen.text((x + 3 - left, y + 2 - top), text, fill="#1c2430", font=font)


def font_of(size: int) -> Any:
    """Return Pillow's own font in a size; releases before 10.1 have one size only."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()
