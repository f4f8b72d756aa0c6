"""Device cards that we ship, as data."""

from importlib.resources import files
from pathlib import Path

from latency.tables.library import user_folder


def own_cards_folder() -> Path:
    """Where a user keeps cards to be known by name: `cards` in the user's data folder."""
    return user_folder() / "cards"


def known_cards() -> dict[str, Path]:
    """Name to file of the shipped cards and the user's own, which stand before them."""
    folders = (Path(str(files("devices"))) / "cards", own_cards_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}
