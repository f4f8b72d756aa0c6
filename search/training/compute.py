"""`Compute`: device, precision and processes of a training."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from latency.errors import UsageError, unknown_name
from search.settings import SearchSettings
from search.training.batch_norm import share_batch_norms
from search.training.distributed import ALONE, Ranks, require_gpus

DEVICES = ("auto", "cpu", "cuda")

Module = TypeVar("Module", bound=nn.Module)

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

_GATE_SCALE = 1024.0
"""Loss scale of the gates' gradients in float16, where small gradients underflow."""

_FIRST_SCALE = 4096.0
"""Initial loss scale in float16. With torch's default of 65536 the gradients of a newly initialised
network overflow, and its first steps are skipped."""


@dataclass(frozen=True)
class Compute:
    """`precision`: of autocast (float32, bfloat16 or float16; weights and architecture parameters
    stay float32). `ranks`: the processes that share each batch. `norm_batch_size`: images per batch
    norm group, 0 for the whole batch."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"
    ranks: Ranks = ALONE
    norm_batch_size: int = 0

    @classmethod
    def on(
        cls, device: str, settings: SearchSettings = SearchSettings(), ranks: Ranks = ALONE
    ) -> "Compute":
        """With the precision and batch norm of the settings, on a device of `DEVICES`; `auto` is a
        GPU if there is one. Raises `UsageError` for `cuda` with fewer GPUs than processes."""
        if device not in DEVICES:
            raise unknown_name("device to train on", device, DEVICES)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("`train_on` cuda: torch finds no CUDA device; use `train_on` cpu")
        if device == "cuda" and ranks.world > 1:
            require_gpus()
        return cls(torch.device(device), settings.precision, ranks, settings.norm_batch_size)

    def check(self, *batch_sizes: int) -> None:
        """Raises `UsageError` for a batch that does not divide into equal parts per rank and batch
        norm groups."""
        world, group = self.ranks.world, self.norm_batch_size
        parts = world * max(1, group)
        for size in batch_sizes:
            if size % parts:
                groups = f", each into groups of {group}" if group else ""
                raise UsageError(
                    f"a batch of {size} images does not divide into {world} equal parts{groups}; "
                    f"`batch_size` must be a multiple of {parts}"
                )

    def autocast(self) -> AbstractContextManager[object]:
        """The autocast context of forward passes."""
        dtype = _DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss in float16, so that small gradients do not underflow; disabled otherwise.
        Skips steps whose gradients overflow."""
        return torch.amp.GradScaler(
            self.device.type, init_scale=_FIRST_SCALE, enabled=self.precision == "float16"
        )

    @property
    def gate_scale(self) -> float:
        """Factor of the loss when its gradient with respect to the gates is taken."""
        return _GATE_SCALE if self.precision == "float16" else 1.0

    def place(self, module: Module) -> Module:
        """Move a module to the device, channels last, with the batch norms of `norm_batch_size`."""
        share_batch_norms(module, self.ranks.world, self.norm_batch_size)
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def bring(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Copy a batch to the device."""
        images = images.to(self.device, non_blocking=True)
        return images, labels.to(self.device, non_blocking=True)


ON_CPU = Compute()


def widened(scores: Tensor) -> Tensor:
    """Class scores in single precision or more, for computing a loss."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
