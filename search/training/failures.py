"""What can go wrong in a training step, said in one line: a loss that is no number, no memory."""

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from latency.errors import LatError
from search.training.distributed import Ranks


class DivergedError(LatError):
    """A loss or gradient is infinite or no number; nothing was moved by it."""


def finite(value: float, what: str) -> float:
    """The value; `DivergedError` where it is infinite or no number."""
    if not math.isfinite(value):
        raise DivergedError(f"the {what} is {value}")
    return value


@contextmanager
def explained(
    step: int,
    learning_rate: float,
    size: int,
    compute: Callable[[int], object],
    ranks: Ranks,
    group: int = 0,
) -> Iterator[None]:
    """Raise what ends a training inside as a `LatError` that says at which step (the first is
    0), and what to do. `compute` runs the step on so many of this rank's `size` images, to find
    out how many there is memory for; a rank of several cannot do that by itself. `group`: images
    that a batch norm goes by, 0 for the batch.
    """
    try:
        yield
        return
    except DivergedError as error:
        raise DivergedError(
            f"step {step + 1}: {error}; lower --learning-rate (now {learning_rate:g}) and "
            "--resume, which goes on from the last good checkpoint where there is one"
        ) from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # frees their tensors, so that there is room
    share = fitting(size, compute) if ranks.world == 1 else size // 2
    in_groups = share - share % group if group else share
    most = ranks.world * (in_groups or share)
    if share < (2 if group else 1):
        remedy = "not even 2 fit: take a smaller space or --resolution"
    else:
        fits = "fit" if ranks.world == 1 else "may fit"
        remedy = f"{most} {fits}: go on by --resume --batch-size {most}"
        if not in_groups:
            remedy += f" --norm-batch {share}"
    batch = size * ranks.world
    raise LatError(f"step {step + 1}: out of memory for a batch of {batch} images; {remedy}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator of a CPU or a GPU raised this."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error)
    )


def fitting(size: int, compute: Callable[[int], object]) -> int:
    """The largest of size / 2, size / 4, ... images that there is memory for; 0 where not even
    the two are that batch norm takes."""
    while (size := size // 2) > 1:
        try:
            compute(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return size
    return 0
