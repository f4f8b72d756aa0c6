"""The names of targets, without reaching for a device."""

import os

from devices.cards import known_cards
from latency.errors import unknown_name
from latency.tables.library import known_tables


def known_targets() -> list[str]:
    """The targets that need no path: cards and tables."""
    return sorted({*known_cards(), *known_tables()})


def is_card(name: str) -> bool:
    """Whether a target is a device card, by name or path."""
    return name in known_cards() or name.endswith(".toml")


def is_table(name: str) -> bool:
    """Whether a target is a table, by path or stem; a card of the same name takes precedence."""
    looks_so = name.endswith(".csv") or os.sep in name or name in known_tables()
    return looks_so and not is_card(name)


def require_known(name: str) -> None:
    """Raise `UsageError`, which lists the known targets, if `name` is neither card nor table."""
    if not is_card(name) and not is_table(name):
        raise unknown_name("target", name, known_targets())
