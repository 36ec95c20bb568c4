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


Rectangle = tuple[float, float, float, float]


def draw_boxes(pen: ImageDraw.ImageDraw, boxes: Sequence[tuple[Sequence[float], str, str]], top: float = 0) -> None:
    """Draw boxes, then their texts: no line runs through a text, and where there is room no text covers another.

    Args:
        pen: Of the picture.
        boxes: Corners (left, top, right, bottom in pixels), kind and text of each.
        top: First row of pixels that texts may take.
    """
    for corners, kind, _ in boxes:
        draw_box(pen, corners, kind)
    taken: list[Rectangle] = []
    for corners, kind, text in boxes:
        if text:
            taken.append(_label(pen, corners, f"{MARKS[kind]}{text}", _COLOURS[kind], taken, top))


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
        pieces = [(start, end)] if dashes is None else list(_pieces(start, end, dashes))
        for piece in pieces:  # a light seam, so that a line is seen on whatever is behind it
            pen.line([*piece[0], *piece[1]], fill="#ffffff", width=width + 2)
        for piece in pieces:
            pen.line([*piece[0], *piece[1]], fill=colour, width=width)
    if kind == "false":
        size = min(6.0, (x2 - x1) / 2, (y2 - y1) / 2)
        pen.line([x2 - size, y1, x2, y1 + size], fill=colour, width=width)
        pen.line([x2, y1, x2 - size, y1 + size], fill=colour, width=width)
    if text:
        _label(pen, corners, f"{MARKS[kind]}{text}", colour, [], 0)


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


def _label(
    pen: ImageDraw.ImageDraw,
    corners: Sequence[float],
    text: str,
    colour: str,
    taken: Sequence[Rectangle],
    top_row: float,
) -> Rectangle:
    """Write a box's text above it, or in the nearest place at its edges that covers no other text; return its place."""
    font = font_of(11)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 5
    across, down = pen.im.size if pen.im is not None else (corners[2] + width, corners[3] + height)
    x1, y1, x2, y2 = corners
    places: list[Rectangle] = []
    for x in (x1, x2 - width):
        for y in (y1 - height, y1, y2, y2 - height):
            if top_row <= y <= down - height:
                at = min(max(x, 0), max(across - width - 1, 0))
                places.append((at, y, at + width, y + height))
    places = places or [(min(max(x1, 0), max(across - width - 1, 0)), top_row, x1 + width, top_row + height)]
    best = min(places, key=lambda place: sum(_common(place, other) for other in taken))
    pen.rectangle(best, fill="#ffffff", outline=colour)
    pen.text((best[0] + 3 - left, best[1] + 2 - top), text, fill="#1c2430", font=font)
    return best


def _common(one: Rectangle, other: Rectangle) -> float:
    """The area that two rectangles share, in pixels."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)


def font_of(size: int) -> Any:
    """Return Pillow's own font in a size; releases before 10.1 have one size only."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()
