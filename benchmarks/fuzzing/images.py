"""Folders of images, and CIFAR's binary files, read as batches."""

import io
import os
import socket
import struct
import zlib
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from fuzzing.damage import damaged, put, rebyted, removed
from fuzzing.target import Target
from search.data import Dataset, draw_batch, evaluation_batches, load_dataset

_CLASSES, _EACH = ("cat", "dog"), 3
_NAMES = (b"\x1b]0;t\x07.jpg", b"a\nb.png", b"\xff\xfe.jpg", b"x" * 240 + b".jpg", b".hidden.jpg")


def images(folder: Path) -> Target:
    """A folder of two classes, of whose files some are damaged, or no images, or no files."""
    root = folder / "set"
    formats = _formats()
    paths = [
        root / part / name / f"{number}.{'png' if number % 2 else 'jpg'}"
        for part in ("train", "val")
        for name in _CLASSES
        for number in range(_EACH)
    ]

    def restore() -> None:
        removed(root)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(formats["PNG" if path.suffix == ".png" else "JPEG"])

    def damage(generator: Random) -> None:
        restore()
        for path in generator.sample(paths, generator.choice([1, 3, len(paths)])):
            _spoil(path, formats, generator)
        if generator.random() < 0.1:
            _rebuild(root, generator)

    return Target(restore, damage, partial(_read, f"imagenet:{root}"))


def _read(words: str, generator: Random) -> None:
    data = load_dataset(words)
    _train_on(data)


def _train_on(data: Dataset) -> None:
    draw_batch(data.train, 4, 0, (0,), 16)
    draw_batch(data.valid, 4, 0, (0,), 16, augment=False)
    for _ in evaluation_batches(data.test, 4, 16):
        pass
    assert all(why for why in data.broken.values())


def _spoil(path: Path, formats: dict[str, bytes], generator: Random) -> None:
    """Something else in place of an image file."""
    removed(path)
    how = generator.random()
    content = formats[generator.choice([*formats])]
    if how < 0.45:
        put(path, damaged(content, generator, (_rechunked,)), generator)
    elif how < 0.65:
        path.write_bytes(content[: generator.randrange(len(content))])
    elif how < 0.8:
        path.write_bytes(rebyted(content[:100], generator) + content[100:])
    elif how < 0.86:
        path.write_bytes(_bomb(generator))
    elif how < 0.89:
        os.mkfifo(path)
    elif how < 0.93:
        path.symlink_to(generator.choice(["/dev/zero", "/dev/random", "/dev/full", "/dev/ptmx"]))
    elif how < 0.95:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(path))
    elif how < 0.97:
        path.mkdir()
    else:
        path.write_bytes(generator.choice(_SCRIPTS))


_SCRIPTS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n{} loop\n%%EOF\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n%%EndComments\nshowpage\n%%EOF\n",
    b"P6\n999999999 999999999\n255\n" + b"\x00" * 100,
    b"P6\n16 16\n65535\n" + b"\x00" * 100,
    b"P6\n" + b"9" * 5000 + b" 16\n255\n",
    b"GIF89a" + b"\xff\xff\xff\xff\x00\x00\x00" + b"," + b"\x00" * 20,
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 60000, 60000, 1, 24, 1, 0, 0, 0, 0, 0),
    b"#define im_width 60000\n#define im_height 20000\nstatic char im_bits[] = {\n0x00\n};",
)


def _rebuild(root: Path, generator: Random) -> None:
    """Other folders, and other names in them."""
    place = root / generator.choice(["train", "val"]) / generator.choice(_CLASSES)
    how = generator.randrange(6)
    if how == 0:
        removed(place)
    elif how == 1:
        removed(place)
        place.mkdir()
    elif how == 2:
        removed(place)
        place.symlink_to(generator.choice([place, root, Path("/dev/null"), Path("/proc/self")]))
    elif how == 3:
        removed(place.parent)
        place.parent.write_bytes(b"")
    elif how == 4:
        name = os.fsdecode(generator.choice(_NAMES))
        (place / name).write_bytes(b"no image")
    else:
        name = os.fsdecode(generator.choice(_NAMES))
        for part in ("train", "val"):
            (root / part / _CLASSES[0]).is_dir() and (root / part / _CLASSES[0]).rename(
                root / part / name.replace(".hidden", "hidden")
            )


def _formats() -> dict[str, bytes]:
    """A picture in every format that Pillow writes, the commonest more often."""
    ramp = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8)
    picture = Image.fromarray(np.stack([ramp, ramp[::-1], ramp], -1))
    Image.init()
    found = {}
    for name in sorted(Image.SAVE):
        for mode in ("RGB", "L", "1", "P"):
            content = io.BytesIO()
            try:
                picture.convert(mode).save(content, name)
            except (OSError, ValueError, KeyError, ImportError):
                continue
            found.setdefault(name, content.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, words in (("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("TIFF", {})):
        content = io.BytesIO()
        picture.save(content, name, exif=exif, **words)
        found[f"{name} turned"] = content.getvalue()
    wide = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint16) * 257).save(wide, "PNG")
    return {**found, "PNG of 16 bits": wide.getvalue()}


def _rechunked(content: bytes, generator: Random) -> bytes:
    """A PNG of other sizes or with another chunk, under the right check sum; others by bytes."""
    if not content.startswith(b"\x89PNG"):
        return rebyted(content, generator)
    sizes = [generator.choice([0, 1, 40, 48, 9_000, 60_000, 1 << 31]) for _ in range(2)]
    kind = generator.choice([(8, 2), (8, 0), (16, 0), (16, 6), (8, 3), (1, 0), (4, 9)])
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", *sizes, *kind, 0, 0, generator.choice([0, 1])))
    text = zlib.compress(b"\x00" * generator.choice([10, 1 << 26]))
    extra = generator.choice(
        [b"", _chunk(b"zTXt", b"a\x00\x00" + text), _chunk(b"iCCP", b"a\x00\x00" + text)]
    )
    extra += generator.choice(
        [b"", _chunk(b"eXIf", generator.randbytes(40)), _chunk(b"tRNS", b"a")]
    )
    return content[:8] + header + extra + content[33:]


def _bomb(generator: Random) -> bytes:
    """A small PNG of many black pixels."""
    side, (depth, colour, each) = (
        generator.choice([9_000, 13_300, 20_000]),
        generator.choice([(8, 0, 1), (8, 2, 3), (8, 6, 4), (16, 0, 2), (1, 0, 1 / 8)]),
    )
    row = b"\x00" * (1 + int(side * each) + 1)
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def cifar(folder: Path) -> Target:
    """The binary files of CIFAR-10, twelve images each."""
    generator = np.random.default_rng(0)
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    rows = generator.integers(0, 256, (12, 1 + 3 * 32 * 32), np.uint8)
    rows[:, 0] %= 10
    content = rows.tobytes()

    def restore() -> None:
        for name in names:
            removed(folder / name)
            (folder / name).write_bytes(content)

    def damage(generator: Random) -> None:
        restore()
        for name in generator.sample(names, generator.choice([1, 1, len(names)])):
            put(folder / name, damaged(content, generator, (_relabelled,)), generator)

    return Target(restore, damage, lambda generator: _train_on(load_dataset(f"cifar10:{folder}")))


def _relabelled(content: bytes, generator: Random) -> bytes:
    """Fewer images, labels that are none, or all of one class."""
    rows = np.frombuffer(content, np.uint8).reshape(12, -1)[: generator.randint(0, 12)].copy()
    if generator.random() < 0.8:
        rows[:, 0] = generator.choice([0, 9, 10, 255])
    return rows.tobytes()
