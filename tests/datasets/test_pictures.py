"""Pictures are read as Ultralytics' training reads them, or refused by name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from ultralytics.utils.patches import imread

from detgraft.datasets.pictures import read_picture
from detgraft.errors import DataError

pytestmark = pytest.mark.trust

RANDOM = np.random.default_rng(0)


def as_ultralytics(path: Path) -> np.ndarray:
    read = imread(path)
    assert read is not None
    assert read.dtype == np.uint8
    return np.broadcast_to(read[..., ::-1], (*read.shape[:2], 3))


def scene(channels: int | None, kind: type = np.uint8, low: int = 0, high: int = 256) -> np.ndarray:
    shape = (40, 50) if channels is None else (40, 50, channels)
    small = RANDOM.integers(low, high, (5, 5, *shape[2:])).astype(np.float32)
    return cv2.resize(small, (50, 40)).reshape(shape).astype(kind)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [None, 3, 4])
@pytest.mark.parametrize(("kind", "high"), [(np.uint8, 256), (np.uint16, 4000), (np.uint16, 65536)])
def test_bits_and_channels(tmp_path: Path, ending: str, channels: int | None, kind: type, high: int) -> None:
    path = tmp_path / f"图 picture.{ending}"
    pixels = scene(channels, kind, high // 10, high)
    ok, encoded = cv2.imencode(path.suffix, pixels)
    assert ok
    path.write_bytes(encoded.tobytes())
    read = read_picture(path)
    assert read.shape == (40, 50, 3)
    assert np.array_equal(read, as_ultralytics(path))
    expected = pixels >> 8 if kind is np.uint16 else pixels
    first = expected if channels is None else expected[..., 2]  # OpenCV writes blue first
    assert np.abs(read[..., 0].astype(int) - first).max() <= 1
    if kind is np.uint16:
        assert 1 < len(np.unique(read)) <= 256
        assert read.max() <= high / 256


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp", "webp"])
def test_modes(tmp_path: Path, mode: str, ending: str) -> None:
    image = Image.fromarray(scene(3)).convert(mode)
    path = tmp_path / f"picture.{ending}"
    try:
        image.save(path)
    except OSError:
        pytest.skip(f"no {ending} of mode {mode}")
    if imread(path) is None:
        with pytest.raises(DataError, match="no picture that OpenCV can read"):
            read_picture(path)
    else:
        assert np.array_equal(read_picture(path), as_ultralytics(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_orientation(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"photo.{ending}"
    Image.fromarray(scene(3)).save(path, exif=exif)
    read = read_picture(path)
    assert np.array_equal(read, as_ultralytics(path))
    if ending == "jpg":
        assert read.shape[:2] == ((50, 40) if orientation > 4 else (40, 50))


def test_a_tiff_of_four_pages_is_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(scene(None)) for _ in range(4)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"pages\.tif.*has 4 pages"):
        read_picture(tmp_path / "pages.tif")


@pytest.mark.parametrize(("kind", "ending"), [(np.float32, "tif"), (np.float32, "pfm"), (np.float32, "hdr")])
def test_numbers_without_a_scale_are_refused(tmp_path: Path, kind: type, ending: str) -> None:
    ok, encoded = cv2.imencode(f".{ending}", scene(3, kind))
    assert ok
    path = tmp_path / f"depth.{ending}"
    path.write_bytes(encoded.tobytes())
    read = imread(path)
    if read is not None and read.dtype == np.uint8:
        assert np.array_equal(read_picture(path), as_ultralytics(path))
    else:
        with pytest.raises(DataError, match="float32"):
            read_picture(path)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_file_that_breaks_off_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"picture\."):
        read_picture(path)


def test_bytes_after_the_end_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(scene(3)).save(path)
    path.write_bytes(path.read_bytes() + b"appended by a camera")
    assert np.array_equal(read_picture(path), as_ultralytics(path))
