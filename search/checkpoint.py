"""Checkpoints: written whole or not at all, read without unpickling code."""

import os
import time
from pathlib import Path
from typing import Any

import torch

from latency.errors import UsageError


class Checkpoint:
    """One file that holds the state of one phase of a run.

    `identity` says what the state belongs to (space, seed, settings, ...): a file of another
    identity is refused with `UsageError`.
    """

    def __init__(self, path: Path, identity: dict[str, Any], every_seconds: float = 10.0) -> None:
        self.path = path
        self.identity = identity
        self.every_seconds = every_seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self._last >= self.every_seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write to a temporary file, then rename."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        torch.save({"identity": self.identity, "state": state}, temporary)
        os.replace(temporary, self.path)
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state last saved; None where there is none."""
        if not self.path.exists():
            return None
        content = torch.load(self.path, weights_only=True)
        differing = [
            key
            for key in {**self.identity, **content["identity"]}
            if self.identity.get(key) != content["identity"].get(key)
        ]
        if differing:
            raise UsageError(
                f"{self.path} belongs to a run with another {', '.join(sorted(differing))}; "
                "give the same words with --resume, or another --out"
            )
        return content["state"]
