"""`Target`: files of one kind that are damaged and read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzzing.damage import Change, damaged, put, removed


@dataclass(frozen=True)
class Target:
    """`restore` writes sound files, `damage` writes damaged ones (a pure function of the
    generator), `read` does with them what the commands do; chance may choose which of it."""

    restore: Callable[[], None]
    damage: Callable[[Random], None]
    read: Callable[[Random], object]


def one_file(path: Path, read: Callable[[Random], object], *changes: Change) -> Target:
    """The file that is at `path` now, sound."""
    content = path.read_bytes()

    def restore() -> None:
        removed(path)
        path.write_bytes(content)

    def damage(generator: Random) -> None:
        put(path, damaged(content, generator, changes), generator)

    return Target(restore, damage, read)
