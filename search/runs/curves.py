"""The curves of a training in TensorBoard's event files, where its package is installed."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from search.training.network_training import StepReport

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)


class Curves:
    """Writes what a search reports to `folder`; look at it by `tensorboard --logdir FOLDER`.

    Scalars: `loss/train`, `loss/valid`, `learning_rate`, `entropy/mean`; by the name of each
    budget, `expected/NAME` as a share of `limits[NAME]` and `multiplier/NAME`; and, of the few
    steps that report the probabilities, `entropy/block_N` and `probability/block_N/candidate_N`.
    Steps that a resumed run repeats replace those that the interrupted one wrote.
    """

    def __init__(self, folder: Path, limits: dict[str, float]) -> None:
        self.folder, self.limits = folder, limits
        self._writer: SummaryWriter | None = None
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            _log.info("no curves: the package tensorboard is not installed")
            self._is_off = True
        else:
            self._is_off = False

    def __call__(self, report: StepReport) -> None:
        """Add a step to the curves."""
        if self._is_off:
            return
        for name, value in _scalars(report, self.limits).items():
            self._at(report.step).add_scalar(name, value, report.step)
        self._at(report.step).flush()
        if report.step == report.total_steps:
            self._at(report.step).close()

    def _at(self, step: int) -> "SummaryWriter":
        """The writer, opened at the first step of this run."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        return self._writer


def _scalars(report: StepReport, limits: dict[str, float]) -> dict[str, float]:
    values = {"loss/train": report.train_loss, "learning_rate": report.learning_rate}
    if report.valid_loss is None or report.entropy is None:
        return values
    values |= {"loss/valid": report.valid_loss, "entropy/mean": report.entropy}
    for name, cost in (report.expected or {}).items():
        values[f"expected/{name}"] = cost / limits[name]
    for name, multiplier in (report.multipliers or {}).items():
        values[f"multiplier/{name}"] = multiplier
    if report.probabilities is not None:
        values |= _of_blocks(report.probabilities.double())
    return values


def _of_blocks(probabilities: Tensor) -> dict[str, float]:
    """Those of each block, of path probabilities (blocks, candidates)."""
    values = {}
    entropies = torch.special.entr(probabilities).sum(-1)
    for block, (row, entropy) in enumerate(zip(probabilities.tolist(), entropies, strict=True)):
        values[f"entropy/block_{block}"] = float(entropy)
        values |= {f"probability/block_{block}/candidate_{i}": p for i, p in enumerate(row)}
    return values
