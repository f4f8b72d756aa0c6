"""Image preprocessing with Pillow, for training and for evaluation."""

import math
import warnings

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from latency.files import open_file

_SCALE = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_BRIGHTNESS, _SATURATION = 32 / 255, 0.5
_MARGIN = 256 / 224
"""Ratio of the shorter side of an evaluated image to the side of its central crop."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
"""Formats that are read, whatever a file is named; some of Pillow's other decoders run programs."""
_MAX_PIXELS = 100_000_000
"""Limit of a decoded image: a few copies of it take more than a gigabyte."""
BROKEN = (Exception,)
"""What reading a broken file raises: decoders raise errors of any type."""
_DRAFT_SCALE = 2.0
"""A JPEG is decoded at a reduced size of at least this multiple of the resolution, so that all but
the smallest crops are not upsampled."""


def read_image(path: str, resolution: int) -> Image.Image:
    """Read an image in one of `FORMATS` as RGB, upright. A large JPEG is decoded at a half, a
    quarter or an eighth of its size. Raises one of `BROKEN` for any other file; Pillow's warnings
    are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_file(path) as content, Image.open(content, formats=FORMATS) as file:
            if file.format == "JPEG" and file.mode in ("RGB", "L"):
                least = math.ceil(_DRAFT_SCALE * _MARGIN * resolution)
                if min(file.size) > least:
                    file.draft(file.mode, (least, least))
            if file.width * file.height > _MAX_PIXELS:
                raise ValueError(f"more than {_MAX_PIXELS} pixels")
            file.load()
            image = _upright(file)
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
            return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, if it is readable."""
    try:
        return ImageOps.exif_transpose(image)
    except BROKEN:
        return image


def random_crop(image: Image.Image, resolution: int, generator: np.random.Generator) -> Image.Image:
    """The augmentation of ProxylessNAS on ImageNet: a crop of 8 to 100 % of the area with an
    aspect ratio of 3:4 to 4:3 (Szegedy et al., CVPR 2015), a flip with probability 1/2, brightness
    within 32/255 and saturation within 1/2."""
    box = _random_box(*image.size, generator)
    cropped = image.resize((resolution, resolution), Image.Resampling.BILINEAR, box, 3.0)
    if generator.random() < 0.5:
        cropped = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    jitters = [
        (ImageEnhance.Brightness, generator.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)),
        (ImageEnhance.Color, generator.uniform(1 - _SATURATION, 1 + _SATURATION)),
    ]
    for number in generator.permutation(2):
        enhancer, factor = jitters[number]
        cropped = enhancer(cropped).enhance(factor)
    return cropped


def _random_box(
    width: int, height: int, generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """(left, upper, right, lower) of a random crop; of a central crop if no attempt fits."""
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
    """Resize the shorter side to 256/224 of the resolution, and crop the centre."""
    side = min(image.size) / _MARGIN
    left, upper = (image.width - side) / 2, (image.height - side) / 2
    box = (left, upper, left + side, upper + side)
    return image.resize((resolution, resolution), Image.Resampling.BILINEAR, box, 3.0)
