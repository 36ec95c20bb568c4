"""Box and class losses written again for one pair of boxes and one score, with plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = Sequence[float]


def iou(a: Box, b: Box) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = wide * high
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union


def inner_iou(a: Box, b: Box, ratio: float) -> float:
    def resized(box: Box) -> Box:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        w, h = (box[2] - box[0]) * ratio, (box[3] - box[1]) * ratio
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2

    return iou(resized(a), resized(b))


def focaler_iou(value: float, low: float, high: float) -> float:
    return 0.0 if value < low else 1.0 if value > high else (value - low) / (high - low)


def parts(a: Box, b: Box) -> dict[str, float]:
    outer = min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
    cw, ch = outer[2] - outer[0], outer[3] - outer[1]
    dx = (a[0] + a[2]) / 2 - (b[0] + b[2]) / 2
    dy = (a[1] + a[3]) / 2 - (b[1] + b[3]) / 2
    w, h, v, g = a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]
    return {"cw": cw, "ch": ch, "dx": dx, "dy": dy, "w": w, "h": h, "wt": v, "ht": g, "d2": dx**2 + dy**2}


def giou(a: Box, b: Box, overlap: float) -> float:
    p = parts(a, b)
    area = p["cw"] * p["ch"]
    both = iou(a, b)
    sizes = p["w"] * p["h"] + p["wt"] * p["ht"]
    return 1 - overlap + (area - sizes / (1 + both)) / area  # the union is the sizes' sum over 1 + IoU


def diou(a: Box, b: Box, overlap: float) -> float:
    p = parts(a, b)
    return 1 - overlap + p["d2"] / (p["cw"] ** 2 + p["ch"] ** 2)


def aspect(a: Box, b: Box) -> float:
    p = parts(a, b)
    v = 4 / math.pi**2 * (math.atan2(p["wt"], p["ht"]) - math.atan2(p["w"], p["h"])) ** 2
    return v and v * v / (1 - iou(a, b) + v)


def ciou(a: Box, b: Box, overlap: float) -> float:
    return diou(a, b, overlap) + aspect(a, b)


def eiou(a: Box, b: Box, overlap: float) -> float:
    p = parts(a, b)
    return diou(a, b, overlap) + (p["w"] - p["wt"]) ** 2 / p["cw"] ** 2 + (p["h"] - p["ht"]) ** 2 / p["ch"] ** 2


def alpha_iou(a: Box, b: Box, overlap: float, alpha: float = 3.0, form: str = "ciou") -> float:
    found = 1 - overlap**alpha
    if form == "giou":
        found += (giou(a, b, overlap) - 1 + overlap) ** alpha
    if form in ("diou", "ciou"):
        found += (diou(a, b, overlap) - 1 + overlap) ** alpha
    if form == "ciou":
        found += aspect(a, b) ** alpha
    return found


def siou(a: Box, b: Box, overlap: float, theta: float = 4.0) -> float:
    p = parts(a, b)
    sigma = math.hypot(p["dx"], p["dy"])
    angle = 1 - 2 * math.sin(math.asin(min(abs(p["dy"]) / sigma, 1.0)) - math.pi / 4) ** 2 if sigma else 0.0
    gamma = 2 - angle
    distance = sum(1 - math.exp(-gamma * r) for r in ((p["dx"] / p["cw"]) ** 2, (p["dy"] / p["ch"]) ** 2))
    return 1 - overlap + (distance + sides(p, 1, 1, theta)) / 2


def sides(p: dict[str, float], ww: float, hh: float, theta: float) -> float:
    wide = ww * abs(p["w"] - p["wt"]) / max(p["w"], p["wt"])
    high = hh * abs(p["h"] - p["ht"]) / max(p["h"], p["ht"])
    return (1 - math.exp(-wide)) ** theta + (1 - math.exp(-high)) ** theta


def wiou(
    a: Box,
    b: Box,
    overlap: float,
    mean: float = 1.0,
    version: int = 3,
    alpha: float = 1.9,
    delta: float = 3.0,
    gamma: float = 0.5,
) -> float:
    p = parts(a, b)
    found = math.exp(p["d2"] / (p["cw"] ** 2 + p["ch"] ** 2)) * (1 - overlap)
    beta = (1 - iou(a, b)) / mean
    if version == 2:
        return found * beta**gamma
    return found if version == 1 else found * beta / (delta * alpha ** (beta - delta))


def mpdiou(a: Box, b: Box, overlap: float, image: tuple[float, float] = (480, 640)) -> float:
    first = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    second = (a[2] - b[2]) ** 2 + (a[3] - b[3]) ** 2
    return 1 - overlap + (first + second) / (image[0] ** 2 + image[1] ** 2)


def shape_iou(a: Box, b: Box, overlap: float, scale: float = 0.0, theta: float = 4.0) -> float:
    p = parts(a, b)
    ww = 2 * p["wt"] ** scale / (p["wt"] ** scale + p["ht"] ** scale)
    hh = 2 * p["ht"] ** scale / (p["wt"] ** scale + p["ht"] ** scale)
    distance = (hh * p["dx"] ** 2 + ww * p["dy"] ** 2) / (p["cw"] ** 2 + p["ch"] ** 2)
    return 1 - overlap + distance + sides(p, hh, ww, theta) / 2


def piou(a: Box, b: Box, overlap: float, version: int = 2, lam: float = 1.3) -> float:
    wide, high = b[2] - b[0], b[3] - b[1]
    far = (abs(a[0] - b[0]) + abs(a[2] - b[2])) / wide + (abs(a[1] - b[1]) + abs(a[3] - b[3])) / high
    found = 1 - overlap + 1 - math.exp(-((far / 4) ** 2))
    if version == 1:
        return found
    x = lam * math.exp(-far / 4)
    return 3 * x * math.exp(-(x**2)) * found


def nwd(a: Box, b: Box, overlap: float, ratio: float = 0.5, constant: float = 12.8) -> float:
    p = parts(a, b)
    distance = math.sqrt(p["d2"] + ((p["w"] - p["wt"]) ** 2 + (p["h"] - p["ht"]) ** 2) / 4)
    return ratio * (1 - math.exp(-distance / constant)) + (1 - ratio) * ciou(a, b, overlap)


def cross_entropy(x: float, y: float) -> float:
    p = 1 / (1 + math.exp(-x))
    return -y * math.log(p) - (1 - y) * math.log(1 - p)


def focal(x: float, y: float, gamma: float = 2.0, alpha: float = 0.25) -> float:
    p = 1 / (1 + math.exp(-x))
    right = y * p + (1 - y) * (1 - p)
    weight = 1.0 if alpha < 0 else y * alpha + (1 - y) * (1 - alpha)
    return weight * (1 - right) ** gamma * cross_entropy(x, y)


def varifocal(x: float, y: float, gamma: float = 2.0, alpha: float = 0.75) -> float:
    p = 1 / (1 + math.exp(-x))
    return (y if y > 0 else alpha * p**gamma) * cross_entropy(x, y)


def quality_focal(x: float, y: float, beta: float = 2.0) -> float:
    return abs(y - 1 / (1 + math.exp(-x))) ** beta * cross_entropy(x, y)


def slide(x: float, y: float, quality: float, mean: float) -> float:
    m = max(mean, 0.2)
    weight = 1.0 if quality <= m - 0.1 else math.exp(1 - m) if quality < m else math.exp(1 - quality)
    return weight * cross_entropy(x, y)
