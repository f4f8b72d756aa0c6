"""Processes that train, forked from a server that has imported already what takes seconds."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from search.commands.search_command import main as lat_search

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["search.commands.search_command", "torch._dynamo", "sklearn.datasets"]
)


def start(
    target: Callable[..., None], *arguments: object, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """A process that runs a function with these arguments, and with as many threads as this one
    computes with, which may show in the last digits."""
    process = CONTEXT.Process(
        target=_alone, args=(target, arguments, dict(environment or {}), torch.get_num_threads())
    )
    process.start()
    return process


def start_search(
    words: Sequence[object], out: Path, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """The command `lat-search` as a process; what it prints goes into a file."""
    return start(_search, tuple(map(str, words)), out, environment=environment)


def _search(words: tuple[str, ...], out: Path) -> None:
    sys.argv = ["lat-search", *words]
    with out.open("w") as sys.stdout:
        lat_search()


def _alone(
    target: Callable[..., None], arguments: tuple, environment: dict[str, str], threads: int
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(threads)
    target(*arguments)
