"""Procedural drawings for the made detection set: backgrounds, clutter and three kinds of object.

Everything is float32 RGB in 0..1 and comes from the ``numpy.random.Generator`` handed in, so that a seed fixes a
picture. Objects are drawn larger than needed and averaged down, which gives soft, unaliased edges.

Shape legend: H, W = picture height and width; P = side of an object's square patch, in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_OVERSAMPLE = 2
_FIXED_POINT_BITS = 4


@dataclass(frozen=True)
class Sprite:
    """One object cut out of its patch.

    Args:
        colour_PP3: RGB, 0..1.
        alpha_PP: Coverage, 0 (nothing) to 1 (opaque).
    """

    colour_PP3: Array
    alpha_PP: Array


def _rgb(*values: int) -> Array:
    return np.array(values, dtype=np.float32) / 255.0


def _vary(rng: np.random.Generator, colour: Array, amount: float) -> Array:
    return np.clip(colour + rng.normal(0.0, amount, 3), 0.0, 1.0).astype(np.float32)


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[int, int], octaves: int = 4, decay: float = 0.55
) -> Array:
    """Smooth random texture: random grids, each twice as fine and ``decay`` as strong as the one before.

    Args:
        rng: Source of randomness.
        height: Rows of the result.
        width: Columns of the result.
        cells: Rows and columns of the coarsest grid; unequal numbers give streaks.
        octaves: Number of grids.
        decay: Strength of each grid relative to the coarser one.

    Returns:
        (H, W) with values in 0..1.
    """
    total_HW = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows, columns = (min(limit, count * 2**octave) for limit, count in zip((height, width), cells, strict=True))
        grid = rng.random((max(rows, 2), max(columns, 2)), dtype=np.float32)
        total_HW += decay**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = float(total_HW.min()), float(total_HW.max())
    return ((total_HW - low) / max(high - low, 1e-6)).astype(np.float32)


def _fill(mask_HW: Array, points_N2: NDArray[np.floating], value: float = 1.0) -> None:
    """Fill a closed polygon, given in pixels, with anti-aliased edges."""
    fixed = np.round(points_N2 * 2**_FIXED_POINT_BITS).astype(np.int32)
    cv2.fillPoly(mask_HW, [fixed], value, lineType=cv2.LINE_8, shift=_FIXED_POINT_BITS)


def _stroke(mask_HW: Array, points_N2: NDArray[np.floating], thickness: int) -> None:
    fixed = np.round(points_N2 * 2**_FIXED_POINT_BITS).astype(np.int32)
    cv2.polylines(mask_HW, [fixed], False, 1.0, thickness, cv2.LINE_8, _FIXED_POINT_BITS)


def _blend(base: Array, over: Array, alpha: Array) -> Array:
    return (base + (over - base) * alpha[..., None]).astype(np.float32)


def _rotate(points_N2: NDArray[np.floating], angle: float) -> NDArray[np.float64]:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.asarray(points_N2 @ np.array([[cos, sin], [-sin, cos]]), dtype=np.float64)


class _Canvas:
    """An oversampled square patch whose coordinates run from -1 to 1 over the object's diameter."""

    def __init__(self, size: float) -> None:
        self.side = math.ceil(size) + 4
        self.fine = self.side * _OVERSAMPLE
        self.scale = size / 2 * _OVERSAMPLE
        axis = (np.arange(self.fine, dtype=np.float32) - (self.fine - 1) / 2) / self.scale
        self.x, self.y = np.meshgrid(axis, axis)

    def pixels(self, points_N2: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(points_N2 * self.scale + (self.fine - 1) / 2, dtype=np.float64)

    def polygon(self, points_N2: NDArray[np.floating]) -> Array:
        mask = np.zeros((self.fine, self.fine), np.float32)
        _fill(mask, self.pixels(points_N2))
        return mask

    def line(self, points_N2: NDArray[np.floating], width: float) -> Array:
        mask = np.zeros((self.fine, self.fine), np.float32)
        _stroke(mask, self.pixels(points_N2), max(1, round(width * self.scale)))
        return mask

    def soften(self, mask: Array, sigma: float) -> Array:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(sigma * self.scale, 0.3)), dtype=np.float32)

    def sprite(self, colour: Array, alpha: Array) -> Sprite:
        shape = (self.side, self.side)
        small_alpha = cv2.resize(alpha, shape, interpolation=cv2.INTER_AREA)
        small_colour = cv2.resize(np.clip(colour, 0.0, 1.0), shape, interpolation=cv2.INTER_AREA)
        return Sprite(np.asarray(small_colour, dtype=np.float32), np.asarray(small_alpha, dtype=np.float32))


def _blob(rng: np.random.Generator, radius: float, wobble: float) -> NDArray[np.float64]:
    """Closed wavy outline around the origin; ``wobble`` is the relative size of its waves."""
    angle = np.linspace(0.0, 2 * math.pi, 72, endpoint=False)
    waves = np.zeros_like(angle)
    for order in (2, 3, 4, 5):
        waves += rng.normal(0.0, wobble / order) * np.cos(order * angle + rng.uniform(0.0, 2 * math.pi))
    reach = radius * np.clip(1.0 + waves, 0.6, None) / max(1.0, float(np.max(1.0 + waves)))
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)


def draw_cell(rng: np.random.Generator, size: float, light: tuple[float, float]) -> Sprite:
    """A translucent stained cell with a rim and a dark nucleus.

    Args:
        rng: Source of randomness.
        size: Diameter in pixels.
        light: Direction that the light comes from (x, y), length 1.
    """
    canvas = _Canvas(size)
    stretch = np.array([1.0, rng.uniform(0.78, 1.0)])
    outline = _rotate(_blob(rng, 0.98, 0.16) * stretch, rng.uniform(0.0, math.pi))
    body = canvas.polygon(outline)
    membrane = np.clip(body - canvas.polygon(outline * 0.86), 0.0, 1.0)

    plasm = _vary(rng, (_rgb(226, 150, 178), _rgb(205, 150, 205), _rgb(232, 166, 160))[rng.integers(3)], 0.03)
    dye = _vary(rng, (_rgb(92, 42, 118), _rgb(70, 52, 140), _rgb(120, 36, 92))[rng.integers(3)], 0.03)
    grain = fractal_noise(rng, canvas.fine, canvas.fine, (5, 5))
    colour = np.broadcast_to(plasm, (canvas.fine, canvas.fine, 3)) * (0.84 + 0.3 * grain[..., None])
    colour = _blend(np.asarray(colour, np.float32), plasm * 0.62, canvas.soften(membrane, 0.04) * 0.8)

    centre = rng.uniform(-0.2, 0.2, 2)
    nucleus = canvas.soften(canvas.polygon(_blob(rng, rng.uniform(0.36, 0.5), 0.3) + centre), 0.03)
    speckled = dye * (0.75 + 0.5 * fractal_noise(rng, canvas.fine, canvas.fine, (9, 9))[..., None])
    colour = _blend(colour, np.asarray(speckled, np.float32), nucleus * 0.95)
    colour = colour * (1.0 + 0.14 * (canvas.x * light[0] + canvas.y * light[1]))[..., None]
    return canvas.sprite(colour, body * np.float32(rng.uniform(0.84, 0.96)))


def _leaf_outline(rng: np.random.Generator, bend: float) -> NDArray[np.float64]:
    along = np.linspace(0.0, 1.0, 40)
    widest = rng.uniform(0.75, 1.15)
    half = rng.uniform(0.34, 0.52) * np.sin(math.pi * along**widest) ** rng.uniform(0.85, 1.2)
    teeth = 1.0 + rng.uniform(0.0, 0.07) * np.sin(along * rng.uniform(50.0, 80.0))
    spine = np.stack([along * 1.84 - 0.92, bend * np.sin(math.pi * along)], axis=1)
    side = np.stack([np.zeros_like(along), half * teeth], axis=1)
    return np.concatenate([spine + side, (spine - side)[::-1]])


def draw_leaf(rng: np.random.Generator, size: float, light: tuple[float, float]) -> Sprite:
    """A pointed leaf with a midrib, side veins and a short stalk; green to autumn colours.

    Args:
        rng: Source of randomness.
        size: Length in pixels.
        light: Direction that the light comes from (x, y), length 1.
    """
    canvas = _Canvas(size)
    turn, bend = rng.uniform(0.0, 2 * math.pi), rng.uniform(-0.16, 0.16)
    outline = _leaf_outline(rng, bend)
    body = canvas.polygon(_rotate(outline, turn))
    along = np.linspace(-0.08, 1.0, 30)
    spine = np.stack([along * 1.84 - 0.92, bend * np.sin(math.pi * np.clip(along, 0.0, 1.0))], axis=1)
    stalk = canvas.line(_rotate(spine[:8], turn), 0.06)
    veins = canvas.line(_rotate(spine, turn), 0.05)
    for start in np.linspace(0.14, 0.8, 6):
        root = np.array([start * 1.84 - 0.92, bend * math.sin(math.pi * start)])
        for sign in (-1.0, 1.0):
            veins = np.maximum(
                veins, 0.7 * canvas.line(_rotate(np.stack([root, root + np.array([0.3, 0.42 * sign])]), turn), 0.025)
            )

    pigments = (_rgb(74, 128, 44), _rgb(112, 150, 52), _rgb(48, 104, 58), _rgb(176, 150, 44), _rgb(178, 98, 36))
    first = _vary(rng, pigments[rng.integers(len(pigments))], 0.03)
    second = _vary(rng, first * np.array([1.15, 0.9, 0.8], np.float32), 0.03)
    patches = fractal_noise(rng, canvas.fine, canvas.fine, (4, 4))
    colour = _blend(np.broadcast_to(first, (canvas.fine, canvas.fine, 3)).astype(np.float32), second, patches * 0.7)
    across = canvas.y * math.cos(turn) - canvas.x * math.sin(turn)
    fold = np.tanh(across * 9.0) * (light[1] * math.cos(turn) - light[0] * math.sin(turn))
    colour = colour * (1.0 + 0.17 * fold + 0.2 * (patches - 0.5))[..., None]
    colour = _blend(
        np.asarray(colour, np.float32), np.clip(first * 1.3 + 0.12, 0, 1), canvas.soften(veins, 0.012) * 0.75
    )
    return canvas.sprite(colour, np.maximum(body, stalk))


def _hexagon(radius: float, corner: float) -> NDArray[np.float64]:
    """Hexagon whose corners are cut by an arc; ``corner`` is the share of each side that is cut."""
    tips = [np.array([math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)]) * radius for k in range(6)]
    points: list[NDArray[np.float64]] = []
    for k in range(6):
        before, here, after = tips[k - 1], tips[k], tips[(k + 1) % 6]
        start, end = here + (before - here) * corner, here + (after - here) * corner
        for t in np.linspace(0.0, 1.0, 6):
            points.append((1 - t) ** 2 * start + 2 * t * (1 - t) * here + t**2 * end)
    return np.array(points)


def draw_nut(rng: np.random.Generator, size: float, light: tuple[float, float]) -> Sprite:
    """A hexagonal metal nut seen slightly from the side; the background shows through its hole.

    Args:
        rng: Source of randomness.
        size: Diameter over the corners in pixels.
        light: Direction that the light comes from (x, y), length 1.
    """
    canvas = _Canvas(size)
    turn, tilt, tilt_turn = rng.uniform(0, math.pi / 3), rng.uniform(0.76, 1.0), rng.uniform(0, math.pi)

    def seen(points_N2: NDArray[np.floating]) -> NDArray[np.float64]:
        return _rotate(_rotate(points_N2, turn) * np.array([1.0, tilt]), tilt_turn)

    circle = np.stack([np.cos(np.linspace(0, 2 * math.pi, 60)), np.sin(np.linspace(0, 2 * math.pi, 60))], axis=1)
    bore = rng.uniform(0.42, 0.54)
    body, face = canvas.polygon(seen(_hexagon(0.98, 0.12))), canvas.polygon(seen(circle * 0.8))
    hole, thread = canvas.polygon(seen(circle * bore)), canvas.polygon(seen(circle * (bore + 0.09)))

    metal = _vary(
        rng, (_rgb(150, 154, 160), _rgb(186, 160, 92), _rgb(106, 110, 118), _rgb(150, 122, 104))[rng.integers(4)], 0.02
    )
    angle = np.arctan2(canvas.y, canvas.x)
    facet = np.cos(
        np.round((angle - turn - tilt_turn) / (math.pi / 3) - 0.5) * (math.pi / 3) - math.atan2(light[1], light[0])
    )
    brushed = fractal_noise(rng, canvas.fine, canvas.fine, (2, 24), 3) - 0.5
    shade = 0.78 + 0.24 * facet
    shade = shade + (1.02 + 0.16 * (canvas.x * light[0] + canvas.y * light[1]) - shade) * face
    shade = shade - thread * (0.42 + 0.25 * (canvas.x * light[0] + canvas.y * light[1]) / bore)
    gleam = np.exp(-(((canvas.x - 0.62 * light[0]) / 0.2) ** 2) - ((canvas.y - 0.62 * light[1]) / 0.2) ** 2)
    shade = shade + brushed * 0.22 + rng.uniform(0.1, 0.45) * gleam * (1 - thread)
    return canvas.sprite((metal * shade[..., None]).astype(np.float32), np.clip(body - hole, 0.0, 1.0))


CLASSES: tuple[tuple[str, Callable[[np.random.Generator, float, tuple[float, float]], Sprite]], ...] = (
    ("cell", draw_cell),
    ("leaf", draw_leaf),
    ("nut", draw_nut),
)
"""Class names in label order, each with the function that draws it."""


def draw_background(rng: np.random.Generator, size: int) -> Array:
    """A table of stone, wood or cloth, with uneven light and unlabelled clutter on it.

    Args:
        rng: Source of randomness.
        size: Side of the square picture in pixels.

    Returns:
        (H, W, 3), 0..1.
    """
    kind = int(rng.integers(3))
    if kind == 0:
        low, high = _rgb(120, 116, 110), _rgb(196, 190, 180)
        texture = fractal_noise(rng, size, size, (4, 4), octaves=6, decay=0.75)
    elif kind == 1:
        low, high = _rgb(122, 84, 56), _rgb(204, 164, 118)
        streaks = fractal_noise(rng, size, size, (12, 2), octaves=4)
        texture = (0.5 + 0.5 * np.sin(streaks * rng.uniform(14.0, 26.0))) * 0.5 + 0.5 * streaks
    else:
        low, high = (_rgb(92, 112, 138), _rgb(206, 202, 190), _rgb(138, 96, 92))[rng.integers(3)], _rgb(226, 224, 216)
        grid = np.arange(size, dtype=np.float32) * np.float32(rng.uniform(0.9, 1.5))
        weave = 0.25 * (np.sin(grid)[:, None] + np.sin(grid)[None, :]) * rng.uniform(0.4, 1.0)
        texture = 0.35 * fractal_noise(rng, size, size, (3, 3)) + weave * 0.4 + 0.2
    texture = np.clip(texture, 0.0, 1.0).astype(np.float32)
    picture = low + (_vary(rng, high, 0.04) - low) * texture[..., None]
    picture = _add_clutter(rng, np.asarray(picture, np.float32))
    if rng.random() < 0.5:
        picture = np.ascontiguousarray(picture.transpose(1, 0, 2))
    return picture


def _add_clutter(rng: np.random.Generator, picture: Array) -> Array:
    """Pebbles, twigs, scratches and paper scraps: things that a detector must learn to leave alone."""
    size = picture.shape[0]
    for _ in range(int(rng.integers(3, 9))):
        mask = np.zeros((size, size), np.float32)
        at = rng.uniform(0, size, 2)
        reach = size * rng.uniform(0.02, 0.09)
        kind = rng.integers(3)
        if kind == 0:
            _fill(mask, _blob(rng, reach * 0.7, 0.2) + at)
            tint = _vary(rng, _rgb(130, 126, 120), 0.08)
        elif kind == 1:
            way = np.cumsum(rng.normal(0.0, 0.35, 9)) + rng.uniform(0, 2 * math.pi)
            steps = np.stack([np.cos(way), np.sin(way)], axis=1) * reach * 0.6
            _stroke(mask, np.cumsum(steps, axis=0) + at, int(rng.integers(1, 4)))
            tint = _vary(rng, _rgb(86, 66, 48), 0.06)
        else:
            corners = _rotate(np.array([[-1, -0.6], [1, -0.6], [1, 0.6], [-1, 0.6]]) * reach, rng.uniform(0, math.pi))
            _fill(mask, corners + at)
            tint = _vary(rng, _rgb(214, 208, 196), 0.09)
        shadow = cv2.GaussianBlur(mask, (0, 0), 2.0)
        picture = picture * (1.0 - 0.25 * np.roll(shadow, 2, axis=0))[..., None]
        picture = _blend(
            np.asarray(picture, np.float32), tint, cv2.GaussianBlur(mask, (0, 0), 0.6) * rng.uniform(0.45, 0.95)
        )
    return picture
