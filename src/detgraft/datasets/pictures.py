"""Reading a picture as a detector's training reads it, and saying by name what cannot be read so.

Ultralytics decodes with OpenCV: 16 bits become 8 by dropping the low byte, a palette is looked up, alpha is dropped,
CMYK is converted, and the EXIF orientation is followed, except in a TIFF. The same is done here, without Ultralytics.
What its releases read differently, or what no picture of 8 bits can hold, is refused.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from detgraft.errors import DataError, Location

Pixels = npt.NDArray[np.uint8]

_TIFF = (".tif", ".tiff")
_BY_PILLOW = (".avif", ".heic", ".heif")  # OpenCV's wheels do not read these
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def read_picture(path: Path) -> Pixels:
    """Return a picture's pixels, (height, width, 3), RGB of 0 to 255.

    Args:
        path: File in a format that Ultralytics takes.

    Raises:
        DataError: Not a picture, broken off in the middle, of several pages, or of numbers that do not become 8 bits.
        OSError: The file cannot be read.
    """
    content = path.read_bytes()
    where = Location(str(path))
    if not content:
        raise DataError("is empty", where)
    _refuse_broken_off(content, where)
    if path.suffix.lower() in _BY_PILLOW:
        return _with_pillow(content, where)
    encoded = np.frombuffer(content, np.uint8)
    pixels = _tiff_in_colour(encoded, where) if path.suffix.lower() in _TIFF else None
    if pixels is None:
        pixels = _decoded(encoded)
    if pixels is None:
        raise DataError("is no picture that OpenCV can read", where)
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.uint16) >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"has pixels of {pixels.dtype}, which have no scale of 0 to 255; save it with 8 or 16 bits", where
        )
    return np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8)


def _decoded(encoded: Pixels) -> npt.NDArray[np.generic] | None:
    try:
        found: npt.NDArray[np.generic] | None = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return found


def _tiff_in_colour(encoded: Pixels, where: Location) -> npt.NDArray[np.generic] | None:
    """Decode a TIFF of one page in colour as it is stored; None for a grey one, which is read like any other file."""
    try:
        is_read, pages = cv2.imdecodemulti(encoded, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if not is_read or not pages:
        return None
    if len(pages) > 1:
        raise DataError(
            f"has {len(pages)} pages, of which a detector of three channels would see one or none by the release of "
            "Ultralytics; save the pages as pictures of their own",
            where,
        )
    page: npt.NDArray[np.generic] = pages[0]
    if page.dtype not in (np.uint8, np.uint16):
        return page  # refused by its name; turned to grey values it would be cut off at 0 and 255
    return page[..., :3] if page.ndim == 3 and page.shape[2] >= 3 else None


def _with_pillow(content: bytes, where: Location) -> Pixels:
    try:
        with ImageOps.exif_transpose(Image.open(io.BytesIO(content))) as image:
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except ModuleNotFoundError:
        # Ultralytics replaces Image.open by one that tries HEIF next, and misses its package instead of saying this.
        raise DataError("cannot be read here; HEIC needs the package pi-heif", where) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", where) from error


def _refuse_broken_off(content: bytes, where: Location) -> None:
    """Refuse a file that ends too early: OpenCV fills the rest with grey. Pillow decodes where that is in doubt."""
    if content.startswith(_JPEG) and content.endswith(_JPEG_END):
        return
    if content.startswith(_PNG) and content.endswith(_PNG_END):
        return
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (UnidentifiedImageError, ModuleNotFoundError):
        return  # a format that Pillow does not know; OpenCV decides
    except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, struct.error, zlib.error ...
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"is broken: {text}", where) from error
