from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretrain_support import image_folder
from torch.utils.data import DataLoader

from detgraft.errors import DataError
from detgraft.pretraining.images import centre_box, find_images, read_image, to_tensor, why_broken
from detgraft.pretraining.views import EpochBatches, Views, collate, prepare, restore_pixels


def write_yaml(file: Path, train: str, extra: str = "") -> Path:
    file.write_text(f"{extra}train: {train}\nval: {train}\nnames: [cell]\n", encoding="utf-8")
    return file


def test_a_folder_is_searched_with_its_subfolders(tmp_path: Path) -> None:
    image_folder(tmp_path / "set" / "a", 2)
    image_folder(tmp_path / "set" / "b c" / "细胞", 3)
    (tmp_path / "set" / "notes.txt").write_text("no image")
    found = find_images(tmp_path / "set")
    assert len(found.paths) == 5
    assert list(found.paths) == sorted(found.paths)
    assert found.held_out == ()


def test_held_out_folders_are_pointed_out(tmp_path: Path) -> None:
    image_folder(tmp_path / "set" / "train" / "images", 2)
    image_folder(tmp_path / "set" / "val" / "images", 2)
    assert find_images(tmp_path / "set").held_out == ("val",)


def test_fingerprint_follows_the_names_not_the_place(tmp_path: Path) -> None:
    first = find_images(image_folder(tmp_path / "one", 3)).digest
    assert find_images(image_folder(tmp_path / "two", 3)).digest == first
    assert find_images(image_folder(tmp_path / "two", 4)).digest != first


@pytest.mark.parametrize("train", ["images/train", r"images\train", "[images/train, images/more]", "train.txt"])
def test_a_data_yaml_gives_its_training_images(tmp_path: Path, train: str) -> None:
    root = tmp_path / "数据 set"
    image_folder(root / "images" / "train", 3)
    image_folder(root / "images" / "more", 2)
    image_folder(root / "images" / "val", 4)
    (root / "train.txt").write_text("./images/train/picture_00.png\nimages\\train\\picture_01.png\n", encoding="utf-8")
    found = find_images(write_yaml(root / "data.yaml", train))
    assert len(found.paths) == {"[": 5, "t": 2}.get(train[0], 3)
    assert all(path.is_file() for path in found.paths)
    assert found.held_out == ()


def test_path_of_a_data_yaml_counts_from_the_current_folder(tmp_path: Path) -> None:
    image_folder(tmp_path / "set" / "images", 2)
    file = write_yaml(tmp_path / "elsewhere.yaml", "images", "path: set\n")
    assert len(find_images(file).paths) == 2


def test_places_without_images_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.md").write_text("nothing")
    with pytest.raises(DataError, match=r"no image found in .*empty"):
        find_images(tmp_path / "empty")
    with pytest.raises(DataError, match="no such file or folder"):
        find_images(tmp_path / "emty")
    with pytest.raises(DataError, match="folder of images or a data YAML"):
        find_images(tmp_path / "empty" / "readme.md")
    with pytest.raises(DataError, match=r"data\.yaml.*'train:' leads to"):
        find_images(write_yaml(tmp_path / "data.yaml", "nowhere"))
    with pytest.raises(DataError, match="no image found"):
        find_images(write_yaml(tmp_path / "data.yaml", "empty"))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 30), 40_000, dtype=np.uint16))
    else:
        image = Image.new("RGB", (30, 20), (200, 30, 60)).convert(mode)
    file = tmp_path / ("picture.tif" if mode in ("CMYK", "I;16") else "picture.png")
    image.save(file)
    read = read_image(file)
    assert read.mode == "RGB"
    assert read.size == (30, 20)
    if mode in ("RGBA", "P"):
        assert abs(read.getpixel((5, 5))[0] - 200) < 40


def test_rotated_photographs_are_put_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # "rotate by 90 degrees to see it upright"
    Image.new("RGB", (30, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert read_image(tmp_path / "photo.jpg").size == (20, 30)


def test_broken_pictures_are_replaced_and_reported(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "set", 4)
    whole = (folder / "picture_01.png").read_bytes()
    (folder / "picture_01.png").write_bytes(whole[: len(whole) // 2])
    (folder / "picture_02.png").write_bytes(b"not a picture")
    assert why_broken(folder / "picture_01.png") is not None
    assert why_broken(folder / "picture_00.png") is None
    paths = find_images(folder).paths
    views = Views(paths, 96, 0.6, seed=0)
    view = views[0, 0, 1]
    assert [Path(path).name for path, _ in view.broken] == ["picture_01.png", "picture_02.png"]
    assert torch.equal(view.picture, Views(paths[3:], 96, 0.6, seed=0)[0, 0, 0].picture)
    assert views[0, 0, 0].broken == []


def test_only_broken_pictures_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    (tmp_path / "b.png").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 2 images can be read"):
        Views([tmp_path / "a.png", tmp_path / "b.png"], 96, 0.6, seed=0)[0, 0, 0]


def test_views_depend_on_seed_epoch_and_place_only(tmp_path: Path) -> None:
    paths = find_images(image_folder(tmp_path / "set", 3)).paths
    views = Views(paths, 96, 0.6, seed=5)
    view = views[2, 7, 1]
    torch.manual_seed(99)
    again = Views(paths, 96, 0.6, seed=5)[2, 7, 1]
    assert torch.equal(view.picture, again.picture)
    assert torch.equal(view.mask, again.mask)
    assert view.picture.shape == (3, 96, 96)
    assert view.picture.dtype == torch.uint8
    assert int((~view.mask).sum()) == 3
    for other in (views[3, 7, 1], views[2, 8, 1], Views(paths, 96, 0.6, seed=6)[2, 7, 1]):
        assert not torch.equal(view.picture, other.picture)


def test_views_are_mirrored_half_of_the_time_and_of_many_sizes(tmp_path: Path) -> None:
    ramp = np.zeros((64, 64, 3), dtype=np.uint8)
    ramp[:, :, 0] = np.arange(64) * 4
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    views = Views([tmp_path / "ramp.png"], 64, 0.5, seed=0)
    mirrored, spans = 0, []
    for place in range(200):
        row = views[0, place, 0].picture[0, 32].float()
        mirrored += int(row[0] > row[-1])
        spans.append(float((row[0] - row[-1]).abs()) / 252)
    assert 70 <= mirrored <= 130
    assert min(spans) < 0.5  # a crop of a fifth of the area is less than half as wide
    assert max(spans) > 0.9


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    paths = find_images(image_folder(tmp_path / "set", 8)).paths
    batches = []
    for workers in (0, 2):
        sampler = EpochBatches(8, 4, 1, seed=0)
        loader = DataLoader(Views(paths, 96, 0.6, 0), batch_sampler=sampler, collate_fn=collate, num_workers=workers)
        batches.append(list(loader))
    for ours, theirs in zip(*batches, strict=True):
        assert torch.equal(ours.pictures, theirs.pictures)
        assert torch.equal(ours.masks, theirs.masks)


def test_an_epoch_takes_every_image_once_in_a_new_order() -> None:
    sampler = EpochBatches(23, 5, 1, seed=0)
    orders = []
    for epoch in range(2):
        sampler.start_at(epoch, 0)
        draws = [draw for batch in sampler for draw in batch]
        assert [draw[:2] for draw in draws] == [(epoch, place) for place in range(20)]
        assert len({draw[2] for draw in draws}) == 20
        orders.append([draw[2] for draw in draws])
    assert orders[0] != orders[1]


def test_continuing_an_epoch_gives_the_rest_of_it() -> None:
    sampler = EpochBatches(23, 5, 2, seed=0)
    whole = list(sampler)
    assert len(whole) == len(sampler) == 4
    sampler.start_at(0, 3)
    assert list(sampler) == whole[3:]


def test_processes_share_one_global_batch() -> None:
    alone = list(EpochBatches(24, 4, 1, seed=3))
    pair = [list(EpochBatches(24, 2, 1, seed=3, rank=rank, processes=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*pair, strict=True)] == alone


def test_a_small_set_is_repeated_to_fill_a_step() -> None:
    draws = [draw for batch in EpochBatches(3, 4, 2, seed=0) for draw in batch]
    assert [place for _, place, _ in draws] == list(range(8))
    assert {number for _, _, number in draws} == {0, 1, 2}


def test_input_scales() -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    plain = prepare(pixels, "none")
    assert torch.equal(plain, pixels.float() / 255)
    scaled = prepare(pixels, "imagenet")
    assert torch.allclose(scaled[:, 1], (plain[:, 1] - 0.456) / 0.224, atol=1e-6)
    assert torch.allclose(restore_pixels(scaled, "imagenet"), plain, atol=1e-6)


def test_centre_box_and_tensor() -> None:
    assert centre_box((100, 50), 1.0) == (25, 0, 75, 50)
    assert centre_box((10, 100), 0.75) == (0, 43, 10, 56)
    image = Image.new("RGB", (4, 2), (1, 2, 3))
    assert to_tensor(image)[:, 0, 0].tolist() == [1, 2, 3]
