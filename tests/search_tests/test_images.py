"""Image files of every kind and in every state, as the networks see them."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from search.data.augmentation import BROKEN, centred, random_crop, read_image

RAMP = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "png"),
        ("LA", "png"),
        ("P", "png"),
        ("RGBA", "png"),
        ("I;16", "png"),
        ("CMYK", "jpg"),
        ("L", "jpg"),
        ("1", "bmp"),
        ("RGB", "webp"),
    ],
)
def test_images_of_every_kind_become_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"x.{suffix}"
    if mode == "I;16":
        Image.fromarray(RAMP.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(RAMP).convert("RGB").convert(mode).save(path)
    read = read_image(str(path), 32)
    assert read.mode == "RGB"
    pixels = np.asarray(read, float)[:, :, 0]
    assert np.corrcoef(pixels.mean(0), np.arange(64))[0, 1] > 0.9
    assert pixels.mean() == pytest.approx(RAMP.mean(), abs=6)


def test_a_dark_image_of_16_bits_stays_dark(tmp_path):
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "x.png")
    assert np.asarray(read_image(str(tmp_path / "x.png"), 8)).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_the_camera_was_held(tmp_path, orientation):
    picture = Image.new("RGB", (48, 24), "white")
    picture.paste("black", (0, 0, 24, 12))  # one quarter
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "x.png", exif=exif)
    read = read_image(str(tmp_path / "x.png"), 16)
    assert read.size == ((48, 24) if orientation < 5 else (24, 48))
    corners = [(0, 0), (read.width - 1, 0), (read.width - 1, read.height - 1), (0, read.height - 1)]
    dark = [read.getpixel(corner) == (0, 0, 0) for corner in corners]
    # Where row 0 and column 0 of the stored image are to be seen (Exif 2.3, tag 274).
    place = {1: 0, 2: 1, 3: 2, 4: 3, 5: 0, 6: 1, 7: 2, 8: 3}[orientation]
    assert dark == [corner == place for corner in range(4)]


def test_a_large_photograph_is_decoded_at_a_fraction_of_its_size(tmp_path):
    Image.new("RGB", (1600, 1200)).save(tmp_path / "x.jpg")
    assert read_image(str(tmp_path / "x.jpg"), 64).size == (200, 150)
    assert read_image(str(tmp_path / "x.jpg"), 224).size == (800, 600)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2), (64, 48)])
def test_images_of_every_shape_are_cropped(size):
    image = Image.new("RGB", size, (10, 20, 30))
    assert centred(image, 24).size == (24, 24)
    assert set(centred(image, 24).get_flattened_data()) == {(10, 20, 30)}
    for seed in range(20):
        assert random_crop(image, 24, np.random.default_rng(seed)).size == (24, 24)


def test_the_middle_of_an_image_is_evaluated():
    pixels = np.zeros((512, 768, 3), np.uint8)
    pixels[32:-32, 160:-160] = 255  # 448 pixels, of a shorter side of 512
    seen = np.asarray(centred(Image.fromarray(pixels), 224))
    assert seen[1:-1, 1:-1].min() == 255
    assert 128 < seen.min() < 255  # the resize blends the outermost pixels with what is outside


def test_random_crops_are_of_the_published_sizes_and_colours():
    """Crops of 8 to 100 % of the area, half of them flipped, brightness within 32/255."""
    row, column = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    pixels = np.stack([row, column, np.zeros_like(row)], -1).astype(np.uint8)
    grey = Image.new("RGB", (64, 64), (100, 100, 100))
    areas, flipped, levels = [], [], []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        crop = np.asarray(random_crop(Image.fromarray(pixels), 64, generator), float)
        down = crop[-1, :, 0].mean() - crop[0, :, 0].mean()
        across = crop[:, -1, 1].mean() - crop[:, 0, 1].mean()
        areas.append(abs(down * across) / 255**2)
        flipped.append(across < 0)
        levels.append(np.asarray(random_crop(grey, 8, np.random.default_rng(seed))).mean() / 100)
    assert 0.02 < min(areas) < 0.12
    assert 0.75 < max(areas) < 1.3
    assert 0.4 < np.mean(flipped) < 0.6
    assert min(levels) == pytest.approx(1 - 32 / 255, abs=0.02)
    assert max(levels) == pytest.approx(1 + 32 / 255, abs=0.02)


def test_whatever_is_damaged_of_a_file_is_read_or_said_to_be_broken(tmp_path):
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 255, (20, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = []
    for form, mode in (("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P")):
        file = io.BytesIO()
        picture.convert(mode).save(file, form, exif=exif)
        whole.append(file.getvalue())
    for form in ("BMP", "WEBP", "PPM"):
        file = io.BytesIO()
        picture.save(file, form)
        whole.append(file.getvalue())
    path, broken = tmp_path / "x", 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for turn in range(700):
            content = bytearray(whole[turn % len(whole)])
            for place in generator.integers(0, min(len(content), 200), 3):
                content[place] = generator.integers(0, 256)
            path.write_bytes(content[: generator.integers(1, 2 * len(content))])
            try:
                image = read_image(str(path), 8)
            except BROKEN:
                broken += 1
            else:
                assert random_crop(image, 8, generator).size == (8, 8)
    assert 200 < broken < 690
