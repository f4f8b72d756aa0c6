"""The curves of a training in TensorBoard's event files, if its package is installed."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from search.training.network_training import StepReport

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)


class Curves:
    """Writes the steps of a search to `folder`; show them with `tensorboard --logdir FOLDER`.

    Scalars: `loss/train`, `loss/valid`, `learning_rate`, `entropy`; by the name of each budget,
    `expected/NAME` as a share of `limits[NAME]`, and `multiplier/NAME`. Steps that a resumed run
    repeats replace those of the interrupted one.
    """

    def __init__(self, folder: Path, limits: dict[str, float]) -> None:
        self.folder, self.limits = folder, limits
        self._writer: SummaryWriter | None = None
        self._is_on = find_spec("tensorboard") is not None
        if not self._is_on:
            _log.info("no curves: the package tensorboard is not installed")

    def __call__(self, report: StepReport) -> None:
        """Add a step to the curves."""
        if not self._is_on:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=report.step)
        for name, value in _scalars(report, self.limits).items():
            self._writer.add_scalar(name, value, report.step)
        self._writer.flush()
        if report.step == report.total_steps:
            self._writer.close()


def _scalars(report: StepReport, limits: dict[str, float]) -> dict[str, float]:
    values = {"loss/train": report.train_loss, "learning_rate": report.learning_rate}
    if report.valid_loss is not None and report.entropy is not None:
        values |= {"loss/valid": report.valid_loss, "entropy": report.entropy}
    for name, cost in (report.expected or {}).items():
        values[f"expected/{name}"] = cost / limits[name]
    for name, multiplier in (report.multipliers or {}).items():
        values[f"multiplier/{name}"] = multiplier
    return values
