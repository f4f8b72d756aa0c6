"""Images as networks see them, in training and when evaluated, by Pillow."""

import math
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from latency.files import open_file

_SCALE = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_BRIGHTNESS, _SATURATION = 32 / 255, 0.5
_MARGIN = 256 / 224
"""The shorter side of an evaluated image over the side of the crop at its centre."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
"""What is read, whatever a file is named: no other decoder of Pillow's is started, some of which
run programs."""
_MOST_PIXELS = 100_000_000
"""Of an image as it is decoded: a few copies of it take more than a gigabyte."""
BROKEN = (Exception,)
"""What reading a broken file raises: decoders raise whatever they stumble upon."""
_SMALLEST = 2.0
"""A JPEG is decoded at a fraction of its size where that leaves so many times the resolution, so
that all but the smallest crops still have a pixel for each that is asked."""


def read_image(path: str, resolution: int) -> Image.Image:
    """A regular file of an image of `FORMATS` as RGB, upright; a large JPEG decoded at a half, a
    quarter or an eighth of its size. Raises one of `BROKEN` for any other file; what Pillow only
    warns of is let pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_file(path) as content, Image.open(content, formats=FORMATS) as file:
            if file.format == "JPEG" and file.mode in ("RGB", "L"):
                least = math.ceil(_SMALLEST * _MARGIN * resolution)
                if min(file.size) > least:
                    file.draft(file.mode, (least, least))
            if file.width * file.height > _MOST_PIXELS:
                raise ValueError(f"more than {_MOST_PIXELS} pixels")
            file.load()
            image = _upright(file)
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
            return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """As the camera was held; as it is where the EXIF data are broken."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except BROKEN:
        return image
    return image if turn is None else image.transpose(turn)


def random_crop(image: Image.Image, resolution: int, generator: np.random.Generator) -> Image.Image:
    """The augmentation of ProxylessNAS on ImageNet: a crop of 8 to 100 % of the area and an aspect
    of 3:4 to 4:3 (Szegedy et al., CVPR 2015), flipped every second time, brightness within 32/255
    and saturation within a half."""
    box = _random_box(*image.size, generator)
    cropped = image.resize((resolution, resolution), Image.Resampling.BILINEAR, box, 3.0)
    if generator.random() < 0.5:
        cropped = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    brightness = generator.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)
    saturation = generator.uniform(1 - _SATURATION, 1 + _SATURATION)
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda one: ImageEnhance.Brightness(one).enhance(brightness),
        lambda one: ImageEnhance.Color(one).enhance(saturation),
    ]
    for number in generator.permutation(2):
        cropped = changes[number](cropped)
    return cropped


def _random_box(
    width: int, height: int, generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """(left, upper, right, lower) of a random crop; where none fits, the middle of the image."""
    for _ in range(_ATTEMPTS):
        area = width * height * generator.uniform(*_SCALE)
        ratio = math.exp(generator.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        wide, high = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if wide <= width and high <= height:
            left = generator.uniform(0, width - wide)
            upper = generator.uniform(0, height - high)
            return left, upper, left + wide, upper + high
    wide = min(width, height * _RATIO[1])
    high = min(height, width / _RATIO[0])
    left, upper = (width - wide) / 2, (height - high) / 2
    return left, upper, left + wide, upper + high


def centred(image: Image.Image, resolution: int) -> Image.Image:
    """The middle of the image, after a resize of its shorter side to 256/224 of the resolution."""
    side = min(image.size) / _MARGIN
    left, upper = (image.width - side) / 2, (image.height - side) / 2
    box = (left, upper, left + side, upper + side)
    return image.resize((resolution, resolution), Image.Resampling.BILINEAR, box, 3.0)
