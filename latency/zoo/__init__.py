"""Published networks by name."""

from latency.zoo.chains import PUBLISHED, check, expand, known, load

__all__ = ["PUBLISHED", "check", "expand", "known", "load"]
