"""Settings in TOML files: shipped ones in this folder, and a user's own.

The keys are the fields of `SearchSettings`, with its defaults. A file may give `warmup_epochs`,
`search_epochs` and `train_epochs` instead of steps; an epoch is as many steps as the training
images make full batches.
"""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model

from latency.errors import UsageError, unknown_name
from latency.toml_file import Section, read_toml
from search.settings import SearchSettings, check_bounds

_FOLDER = Path(__file__).parent
_BATCHES = {"warmup": "batch_size", "search": "batch_size", "train": "train_batch_size"}
"""The batch size of each phase."""
Epochs = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


def known() -> tuple[str, ...]:
    """Names of the shipped settings."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_settings(name: str, images: int, batch_size: int | None = None) -> SearchSettings:
    """Shipped settings by name, or those of a file FILE.toml. `images`: number of training images,
    and `batch_size`: batch size (by default the file's own), to convert epochs to steps.

    Raises `UsageError`, one line, that names the file, the key and what is allowed.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if name not in known():
            unknown = unknown_name("settings", name, known())
            raise UsageError(f"{unknown}; for your own settings, name a file FILE.toml")
        path = _FOLDER / f"{name}.toml"
    content: dict[str, Any] = read_toml(path, _File).model_dump(exclude_none=True)
    try:
        return SearchSettings(**_in_steps(content, images, batch_size))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _in_steps(content: dict[str, Any], images: int, batch_size: int | None) -> dict[str, Any]:
    """Convert epochs to steps."""
    given = {key: value for key, value in content.items() if not key.endswith("_epochs")}
    sizes = SearchSettings(**given)
    for phase, batches in _BATCHES.items():
        epochs, key = content.get(f"{phase}_epochs"), f"{phase}_steps"
        if epochs is not None:
            if key in content:
                raise UsageError(f"{phase}_epochs: give either it or {key}, not both")
            given[key] = steps_of(epochs, images, batch_size or getattr(sizes, batches))
            check_bounds(key, given[key], f"{phase}_epochs, in steps")
    return given


def steps_of(epochs: float, images: int, batch_size: int) -> int:
    """The number of steps of some epochs; an epoch leaves out the last, incomplete batch.

    >>> steps_of(2, 1000, 256)
    6
    """
    return round(epochs * max(1, images // batch_size))


_TYPES: dict[str, Any] = {one.name: one.type for one in fields(SearchSettings)}
_TYPES |= {f"{phase}_epochs": Epochs for phase in _BATCHES}
_KEYS: dict[str, Any] = {name: (kind | None, None) for name, kind in _TYPES.items()}
_File = create_model("_File", __base__=Section, **_KEYS)
"""A file of settings."""
