"""`Compute`: where and in which precision a training computes, and with which other processes."""

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

_USUAL = SearchSettings()

_GATE_SCALE = 1024.0
"""By what the validation loss is multiplied in float16, whose small gradients would be zero."""

_FIRST_SCALE = 4096.0
"""By what the training loss is multiplied in float16 at first. At torch's own 65536 a network that
was just initialised overflows, and its first steps are left out."""


@dataclass(frozen=True)
class Compute:
    """A device, the precision of what autocast lowers (`search.settings.PRECISIONS`; weights and
    architecture parameters stay float32), the ranks that share each batch, and how many images a
    batch norm goes by (0: the batch)."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"
    ranks: Ranks = ALONE
    norm_batch_size: int = 0

    @classmethod
    def on(cls, device: str, settings: SearchSettings = _USUAL, ranks: Ranks = ALONE) -> "Compute":
        """As the settings say, on a device of `DEVICES`; `auto` is a GPU where there is one.
        Raises `UsageError` where there is none, or not one for each of several processes."""
        if device not in DEVICES:
            raise unknown_name("device to train on", device, DEVICES)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--train-on cuda: torch sees no CUDA device; give --train-on cpu")
        if device == "cuda" and ranks.world > 1:
            require_gpus()
        return cls(torch.device(device), settings.precision, ranks, settings.norm_batch_size)

    def check(self, *batch_sizes: int) -> None:
        """Raises `UsageError` for batches that do not fall into the ranks' equal parts, and those
        into the groups that a batch norm goes by."""
        self.ranks.check(*batch_sizes)
        group, world = self.norm_batch_size, self.ranks.world
        for size in batch_sizes if group else ():
            if size // world % group:
                raise UsageError(
                    f"a batch of {size} images, {size // world} a process, does not fall into "
                    f"groups of {group}; give a --norm-batch that divides {size // world}"
                )

    def autocast(self) -> AbstractContextManager[object]:
        """In which forward passes run."""
        dtype = _DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps the small gradients of float16 from becoming zero; does nothing else. It leaves
        out the steps whose scaled gradients are too large, and doubles its scale now and then."""
        return torch.amp.GradScaler(
            self.device.type, init_scale=_FIRST_SCALE, enabled=self.precision == "float16"
        )

    @property
    def gate_scale(self) -> float:
        """By what a loss is to be multiplied before its gradient by the gates is taken."""
        return _GATE_SCALE if self.precision == "float16" else 1.0

    def place(self, module: Module) -> Module:
        """The module on the device, channels last, in step with the other ranks."""
        share_batch_norms(module, self.ranks.world, self.norm_batch_size)
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def bring(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A batch on the device."""
        return tuple(part.to(self.device, non_blocking=True) for part in (images, labels))  # type: ignore[return-value]


ON_CPU = Compute()


def widened(scores: Tensor) -> Tensor:
    """Scores as a loss is computed of: of single precision or more."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
