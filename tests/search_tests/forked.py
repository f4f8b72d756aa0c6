"""Processes that train, forked from a server that has imported already what takes seconds."""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["search.searcher", "torch._dynamo", "sklearn.datasets"])


def start(
    target: Callable[..., None], *arguments: object, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """A process that runs a function with these arguments and one thread."""
    process = CONTEXT.Process(target=_alone, args=(target, arguments, dict(environment or {})))
    process.start()
    return process


def _alone(target: Callable[..., None], arguments: tuple, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    target(*arguments)
