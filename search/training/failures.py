"""Failures of a training step, explained in one line: divergence, out of memory."""

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from latency.errors import LatError
from search.training.compute import Compute


class DivergedError(LatError):
    """A loss or gradient is infinite or NaN; no parameter was updated with it."""


def finite(value: float, what: str) -> float:
    """Return the value; raise `DivergedError` if it is infinite or NaN."""
    if not math.isfinite(value):
        raise DivergedError(f"the {what} is {value}")
    return value


@contextmanager
def explained(
    step: int,
    learning_rate: float,
    size: int,
    attempt: Callable[[int], object],
    compute: Compute,
) -> Iterator[None]:
    """Turn divergence and out-of-memory errors into a `LatError` that names the step (the first is
    0) and the remedy. `attempt` runs the step on a number of this rank's `size` images, to find the
    largest batch that fits; with several ranks, half the batch is suggested untried.
    """
    try:
        yield
        return
    except DivergedError as error:
        raise DivergedError(
            f"step {step + 1}: {error}; lower `learning_rate` (now {learning_rate:g}) and "
            "`resume` from the last good checkpoint"
        ) from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # frees their tensors, so that there is room
    world, group = compute.ranks.world, compute.norm_batch_size
    share = fitting(size, attempt) if world == 1 else size // 2
    if group > share > 1:
        remedy = f"`resume` with `batch_size` {world * share} and `norm_batch` {share}"
    elif share > bool(group):
        share -= share % (group or 1)
        remedy = f"`resume` with `batch_size` {world * share}"
    else:
        remedy = "not even 2 fit: use a smaller space or `resolution`"
    raise LatError(f"step {step + 1}: out of memory for a batch of {size * world} images; {remedy}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the CPU or GPU allocator raised this."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error)
    )


def fitting(size: int, compute: Callable[[int], object]) -> int:
    """The largest of size / 2, size / 4, ... images that fit into memory; 0 if fewer than the two
    that batch norm needs."""
    while (size := size // 2) > 1:
        try:
            compute(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return size
    return 0
