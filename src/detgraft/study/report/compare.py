"""Two models beside the truth, on the pictures where they differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from detgraft.base.files import write_atomic
from detgraft.datasets.folder import load_data_yaml, pictures_in
from detgraft.datasets.labels import IMAGE_SUFFIXES, label_file, list_images
from detgraft.datasets.text import read_text
from detgraft.errors import DataError, DetgraftError, Location
from detgraft.study.judge.detections import SURE, Array, Detections, Truth, errors_by_picture
from detgraft.study.report.boxes import draw_boxes, font_of
from detgraft.study.report.pictures import marked
from detgraft.study.run.evaluation import OVERLAP, gather

MOST = 200
"""Pictures that are looked at; of more, as many at even distances."""

UNKNOWN_SIZE = 640
"""Of a model that does not say what it was trained with; Ultralytics' default."""

_PANEL, _BAR = 380, 26


@dataclass(frozen=True)
class Compared:
    """What two models found in the same pictures, at a score of 0.25 and an IoU of 0.5.

    Args:
        models: The two models.
        pictures: Number of pictures that were looked at, and of all.
        labelled: Number of those with labels.
        right: Right boxes of each model.
        false: False boxes of each.
        missed: Labelled boxes that each missed.
        differing: Pictures on which they differ, those with the largest difference first.
        picture: The drawing, a PNG; None where they differ nowhere.
        imgsz: Side of the pictures in pixels that each model looked at.
    """

    models: tuple[str, str]
    pictures: tuple[int, int]
    labelled: int
    right: tuple[int, int]
    false: tuple[int, int]
    missed: tuple[int, int]
    differing: tuple[str, ...]
    picture: Path | None
    imgsz: tuple[int, int]


def compare(
    first: str,
    second: str,
    source: str | Path,
    out: Path,
    *,
    imgsz: int | None = None,
    count: int = 6,
    device: str | None = None,
    trust: bool = False,
) -> Compared:
    """Find the pictures on which two checkpoints differ most, and draw both beside the truth.

    Labels are those that Ultralytics would read beside the pictures. Where there are none, the models are compared with
    each other: what only one of them found counts as the difference.

    Args:
        first: A checkpoint.
        second: Another one with the same classes.
        source: A picture, a folder of pictures, or a data YAML, whose validation split is taken.
        out: The PNG.
        imgsz: Side of the pictures in pixels; by default that which each model was trained with, as in Ultralytics'
            prediction.
        count: How many pictures are drawn.
        device: Where to run; the GPU that is visible by default.
        trust: Let a checkpoint run the code that it holds.

    Raises:
        DataError: No pictures, or models with other classes.
    """
    from detgraft.upstream.service.validation import detect, looking, names_in, trained_size

    everything = _pictures(Path(source))
    chosen = everything
    if len(everything) > MOST:
        chosen = [everything[round(i * (len(everything) - 1) / (MOST - 1))] for i in range(MOST)]
    files = [str(path) for path in chosen]
    found: list[Detections] = []
    sizes: Array = np.zeros((0, 2))
    names: list[dict[int, str]] = []
    sides: list[int] = []
    with looking(trust):
        for model in (first, second):
            names.append(names_in(model))
            sides.append(imgsz or trained_size(model) or UNKNOWN_SIZE)
            seen = detect(model, files, sides[-1], SURE, OVERLAP, device)
            gathered = gather(replace(one, masks_DHW=None, points_DKC=None) for one in seen)  # boxes are compared
            found.append(gathered.detections)
            sizes = gathered.sizes_I2
    if names[0] != names[1]:
        raise DataError(
            f"the two models have other classes: {_shown(names[0])} and {_shown(names[1])}; compare models that were "
            "trained on the same data"
        )
    labelled = [path for path in chosen if _labels(path).is_file()] if _has_labels(chosen) else []
    truth = _truth(chosen, sizes, names[0])
    if labelled:
        errors = [errors_by_picture(truth, one) for one in found]
        difference = np.abs(errors[1] - errors[0])
        # The same number of errors may be others: a box that one has right and the other not.
        difference = difference + 0.5 * _unlike(found, len(files))
    else:
        difference = _unlike(found, len(files))
    order = [int(i) for i in np.argsort(-difference, kind="stable") if difference[i] > 0]
    picture = None
    if order:
        labels = truth if labelled else None
        write_atomic(out, _sheet((first, second), chosen, labels, found, order[:count], names[0]))
        picture = out
    parts = [_totals(truth, one) for one in found] if labelled else [[len(one.scores_D), 0, 0] for one in found]
    right, false, missed = ((parts[0][k], parts[1][k]) for k in range(3))
    return Compared(
        (first, second),
        (len(files), len(everything)),
        len(labelled),
        right,
        false,
        missed,
        tuple(files[i] for i in order),
        picture,
        (sides[0], sides[1]),
    )


def side_by_side(
    models: Mapping[str, str], pictures: Sequence[Path], out: Path, *, imgsz: int, device: str | None = None
) -> None:
    """Draw what two checkpoints find in pictures, beside the truth where there are labels.

    Args:
        models: Two checkpoints by the title of their column.
        pictures: The pictures, one to a row.
        out: The PNG.
        imgsz: Side of the pictures in pixels.
        device: Where to run.

    Raises:
        DataError: A label file is damaged.
    """
    from detgraft.upstream.service.validation import detect, looking, names_in

    found: list[Detections] = []
    sizes: Array = np.zeros((0, 2))
    names: dict[int, str] = {}
    with looking(False):
        for model in models.values():
            names = names_in(model)
            gathered = gather(detect(model, [str(path) for path in pictures], imgsz, SURE, OVERLAP, device))
            found.append(gathered.detections)
            sizes = gathered.sizes_I2
    first, second = models
    truth = _truth(pictures, sizes, names) if _has_labels(pictures) else None
    write_atomic(out, _sheet((first, second), pictures, truth, found, range(len(pictures)), names))


def _shown(names: dict[int, str]) -> str:
    return ", ".join(list(names.values())[:4]) + ("..." if len(names) > 4 else "")


def _pictures(source: Path) -> list[Path]:
    where = Location(str(source))
    if source.is_dir():
        found = list_images(source)
    elif source.suffix.lower() in (".yaml", ".yml") and source.is_file():
        data = load_data_yaml(source, needed=("val",))
        places = data["val"] if isinstance(data["val"], list) else [data["val"]]
        found = [picture for place in places for picture in pictures_in(Path(place))]
    elif source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES:
        found = [source]
    elif source.exists():
        raise DataError("source= is a picture, a folder of pictures, or a data YAML", where)
    else:
        raise DataError("there is no such picture, folder or data YAML", where)
    if not found:
        raise DataError("there is no picture in it", where)
    return found


def _labels(picture: Path) -> Path:
    return label_file(picture.resolve())


def _has_labels(pictures: Sequence[Path]) -> bool:
    try:
        return any(_labels(picture).is_file() for picture in pictures)
    except DetgraftError:  # in no folder called images: there are no labels to find
        return False


def _truth(pictures: Sequence[Path], sizes_I2: Array, names: dict[int, str]) -> Truth:
    boxes: list[list[float]] = []
    classes: list[int] = []
    owners: list[int] = []
    for index, picture in enumerate(pictures):
        try:
            file = _labels(picture)
        except DetgraftError:
            continue
        height, width = (float(size) for size in sizes_I2[index])
        rows = read_text(file)[0].splitlines() if file.is_file() else []
        for number, row in enumerate(rows, start=1):
            if not row.strip():
                continue
            try:
                values = [float(field) for field in row.split()]
                box = _corners(values[1:])
            except (ValueError, IndexError) as error:
                raise DataError(
                    "is no label row: class and box, or class and polygon", Location(str(file), number)
                ) from error
            boxes.append([box[0] * width, box[1] * height, box[2] * width, box[3] * height])
            classes.append(int(values[0]))
            owners.append(index)
    return Truth(
        tuple(map(str, pictures)),
        sizes_I2,
        np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        np.asarray(classes, dtype=np.int64),
        np.asarray(owners, dtype=np.int64),
        tuple(names[key] for key in sorted(names)),
    )


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    """The box of a label row behind its class: four numbers, or a polygon's extent."""
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    xs, ys = values[0::2], values[1::2]
    if len(values) < 6 or len(xs) != len(ys):
        raise ValueError
    return min(xs), min(ys), max(xs), max(ys)


def _unlike(found: Sequence[Detections], count: int) -> Array:
    """How many boxes of each picture only one of the two models found."""
    total = np.zeros(count)
    for one, other in (found, tuple(reversed(found))):
        as_truth = Truth(
            tuple(map(str, range(count))), np.zeros((count, 2)), other.boxes_D4, other.classes_D, other.picture_D, ()
        )
        for index in np.unique(one.picture_D):
            kinds = [kind for _, kind, _, _ in marked(as_truth, one, int(index))]
            total[int(index)] += kinds.count("false")
    return total


def _totals(truth: Truth, found: Detections) -> list[int]:
    totals = dict.fromkeys(("right", "false", "missed"), 0)
    for index in range(len(truth.files)):
        for _, kind, _, _ in marked(truth, found, index):
            totals[kind] += 1
    return list(totals.values())


def _sheet(
    models: tuple[str, str],
    pictures: Sequence[Path],
    truth: Truth | None,
    found: Sequence[Detections],
    chosen: Sequence[int],
    names: dict[int, str],
) -> bytes:
    """Rows of panels: the truth where there is one, then both models, each with its title."""
    empty = Truth(tuple(map(str, pictures)), np.zeros((0, 2)), np.zeros((0, 4)), np.zeros(0), np.zeros(0), ())
    rows = []
    for index in chosen:
        panels = []
        if truth is not None:
            own = np.flatnonzero(truth.picture_G == index)
            labels = [(truth.boxes_G4[g], "labelled", int(truth.classes_G[g]), None) for g in own]
            panels.append(_panel(pictures[index], labels, names, f"truth: {pictures[index].name}"))
        for model, one in zip(models, found, strict=True):
            boxes: Any = marked(truth, one, index) if truth is not None else _plain(empty, one, index)
            title = f"{_short(model)}: {_counts([kind for _, kind, _, _ in boxes], truth is not None)}"
            panels.append(_panel(pictures[index], boxes, names, title))
        rows.append(panels)
    heights = [max(panel.height for panel in panels) for panels in rows]
    gap = 8
    sheet = Image.new(
        "RGB", ((_PANEL + gap) * len(rows[0]) + gap, sum(heights) + gap * (len(rows) + 1) + _BAR), "white"
    )
    legend = "whole line: right   dashed, x: false   dotted, ?: missed" if truth is not None else "no labels were found"
    ImageDraw.Draw(sheet).text((gap, 7), legend, fill="#1c2430", font=font_of(13))
    y = _BAR + gap
    for panels, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(panels):
            sheet.paste(panel, (gap + column * (_PANEL + gap), y))
        y += height + gap
    buffer = BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _plain(empty: Truth, found: Detections, index: int) -> list[tuple[Array, str, int, float | None]]:
    return [(box, "right", number, score) for box, _, number, score in marked(empty, found, index)]


def _short(model: str) -> str:
    path = Path(model)
    parts = [part for part in path.parts if part != "weights"]
    return "/".join(parts[-2:]) if path.suffix == ".pt" else model


def _counts(kinds: Sequence[str], labelled: bool) -> str:
    if not labelled:
        return f"{len(kinds)} found"
    return f"{kinds.count('right')} right, {kinds.count('false')} false, {kinds.count('missed')} missed"


def _panel(path: Path, boxes: Any, names: dict[int, str], title: str) -> Any:
    with Image.open(path) as opened:
        picture: Any = ImageOps.exif_transpose(opened).convert("RGB")
    factor = _PANEL / picture.width
    picture = picture.resize((_PANEL, max(round(picture.height * factor), 1)))
    panel = Image.new("RGB", (_PANEL, picture.height + _BAR), "white")
    panel.paste(picture, (0, _BAR))
    pen = ImageDraw.Draw(panel)
    drawn = []
    for box, kind, number, score in boxes:
        x1, y1, x2, y2 = (float(value) * factor for value in box)
        text = names.get(number, str(number)) + ("" if score is None else f" {score:.2f}")
        drawn.append(((x1, y1 + _BAR, x2, y2 + _BAR), kind, text))
    draw_boxes(pen, drawn, _BAR)
    pen.rectangle((0, 0, _PANEL, _BAR - 1), fill="#ffffff")
    while len(title) > 8 and pen.textlength(title, font=font_of(13)) > _PANEL - 4:
        title = f"{title[: len(title) // 2 - 2]}...{title[len(title) // 2 + 2 :]}"
    pen.text((2, 5), title, fill="#1c2430", font=font_of(13))
    return panel
