"""The kinds of files; what reads one is loaded with it alone."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from fuzzing.target import Target

_MODULES = {
    "graphs": ("onnx",),
    "tables": ("table", "published", "network"),
    "settings": ("card", "settings", "space"),
    "runs": ("result", "front"),
    "measuring": ("journal", "answers"),
    "states": ("checkpoint",),
    "images": ("images", "cifar"),
}


def _opened(module: str, kind: str, folder: Path) -> Target:
    return getattr(import_module(f"fuzzing.{module}"), kind)(folder)


KINDS: dict[str, Callable[[Path], Target]] = {
    kind: partial(_opened, module, kind) for module, kinds in _MODULES.items() for kind in kinds
}
"""Kind to what makes its sound files in a folder."""
