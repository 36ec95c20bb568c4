"""Make the pictures of docs/seeing.md in docs/assets: drawings, a comparison and heat maps.

Usage: detgraft demo && python scripts/make_screenshots.py [DEMO_FOLDER]

DEMO_FOLDER (detgraft-demo) is what `detgraft demo` wrote. Drawings are opened in headless Chromium, whose name the
environment variable CHROMIUM gives where it is another than ``chromium``; nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from detgraft import YOLO
from detgraft.drawing.api import draw
from detgraft.study.report.boxes import font_of
from detgraft.study.report.compare import compare

ASSETS = Path(__file__).resolve().parents[1] / "docs" / "assets"
MOST_BYTES = 400_000

DRAWINGS: dict[str, tuple[str, str | None, int, int, bool]] = {
    "drawing-convnextv2-carafe.png": ("yolo11n+convnextv2_atto+carafe", None, 1400, 1500, False),
    "drawing-rtdetr-repvit-dark.png": ("rtdetr-l+repvit_m0_9", None, 1400, 1500, True),
    "drawing-yolo26x-seg-420.png": ("yolo26x-seg", None, 420, 1100, False),
}
"""By file: the model, what stands beside it, width and height of the window in pixels, and whether it is dark."""


def main(demo: Path) -> None:
    """Make all pictures."""
    for name, (model, beside, width, height, dark) in DRAWINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            page = draw(model, beside).write("html", Path(folder) / "page.html")
            shoot(page, Path(folder) / "shot.png", width, height, dark)
            keep(Image.open(Path(folder) / "shot.png"), name)
    models = [str(demo / "runs" / arm / "weights" / "last.pt") for arm in ("yolo11n", "yolo11n+carafe")]
    pictures = demo / "data" / "images" / "val"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "compare.png"
        compare(*models, pictures, out, imgsz=160, count=2)
        keep(Image.open(out), "compare-demo.jpg")
        keep(heat_maps(models, sorted(pictures.iterdir())[1:3], Path(folder)), "heat-maps-demo.jpg")


def shoot(page: Path, out: Path, width: int, height: int, dark: bool) -> None:
    """Take a picture of a page in a window of this size."""
    browser = os.environ.get("CHROMIUM", "chromium")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
    ]
    options += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    options += [f"--user-data-dir={out.parent / 'profile'}", f"--screenshot={out}"]
    subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True, timeout=120)


def heat_maps(models: list[str], pictures: list[Path], folder: Path) -> Image.Image:
    """Each picture and both models' heat maps beside it, as Ultralytics' ``predict visualize=True`` writes them."""
    side, bar = 320, 26
    sheet = Image.new("RGB", (side * 3 + 16, (side + bar) * len(pictures)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, model in enumerate([None, *models]):
        for row, picture in enumerate(pictures):
            path = picture if model is None else heat_map(model, picture, folder, side)
            x, y = column * (side + 8), row * (side + bar)
            title = picture.name if model is None else Path(model).parents[1].name
            pen.text((x + 2, y + 5), title, fill="#1c2430", font=font_of(13))
            sheet.paste(Image.open(path).convert("RGB").resize((side, side)), (x, y + bar))
    return sheet


def heat_map(model: str, picture: Path, folder: Path, side: int) -> Path:
    """The heat map that Ultralytics writes beside a prediction."""
    runs: dict[str, Any] = {"project": str(folder), "name": Path(model).parents[1].name, "exist_ok": True}
    YOLO(model).predict(str(picture), imgsz=side, visualize=True, verbose=False, device="cpu", **runs)
    return next((folder / runs["name"]).glob(f"{picture.stem}*cam*"))


def keep(picture: Image.Image, name: str) -> None:
    """Write a picture: drawings with few colours, photographs as JPEG; refuse what is too large for the site."""
    out = ASSETS / name
    if out.suffix == ".png":
        picture.convert("RGB").quantize(64).save(out, optimize=True)
    else:
        picture.convert("RGB").save(out, quality=85, optimize=True)
    if out.stat().st_size >= MOST_BYTES:
        raise SystemExit(f"{name} has {out.stat().st_size} bytes, more than {MOST_BYTES}")
    print(f"{out.name}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "detgraft-demo"))
