"""The progress of a training: on the terminal, and as TensorBoard's curves."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from rich.progress import Progress

from latency.errors import extra
from search.training.network_training import StepReport

_log = logging.getLogger(__name__)

_WIDEST = 48
"""Characters beside which there is room for a bar and the time left, in 80 columns."""


def show_steps(
    bar: Progress, doing: str, limits: Mapping[str, float] | None = None
) -> Callable[[StepReport], None]:
    """Show steps as a bar on a terminal, and log ten of them otherwise. With the `limits` of a
    search by budget name, show the expected costs as shares of these, too."""
    task = bar.add_task(doing, total=None)
    costs = ""

    def show(report: StepReport) -> None:
        nonlocal costs
        if limits and report.expected:
            shares = {name: value / limits[name] for name, value in report.expected.items()}
            costs = "".join(f" {Path(name).stem} {share:.0%}" for name, share in shares.items())
        loss = f"{doing}: loss {report.train_loss:.2f}"
        line = loss + costs if len(loss + costs) <= _WIDEST else loss
        bar.update(task, description=line, completed=report.step, total=report.total_steps)
        if bar.disable and report.step % max(1, report.total_steps // 10) == 0:
            _log.info("%s%s: step %d of %d", loss, costs, report.step, report.total_steps)

    return show


class Curves:
    """Writes the steps of a search to `folder`; show them with `tensorboard --logdir FOLDER`.

    Scalars: `loss/train`, `loss/valid`, `learning_rate`, `entropy`; by the name of each budget,
    `expected/NAME` as a share of `limits[NAME]`, and `multiplier/NAME`. Steps that a resumed run
    repeats replace those of the interrupted one.
    """

    def __init__(self, folder: Path, limits: Mapping[str, float]) -> None:
        with extra("train"):
            from torch.utils.tensorboard import SummaryWriter
        self.limits = limits
        self._open = partial(SummaryWriter, str(folder))
        self._writer: SummaryWriter | None = None

    def __call__(self, report: StepReport) -> None:
        """Add a step to the curves."""
        writer = self._writer = self._writer or self._open(purge_step=report.step)
        values = {"loss/train": report.train_loss, "learning_rate": report.learning_rate}
        if report.valid_loss is not None and report.entropy is not None:
            values |= {"loss/valid": report.valid_loss, "entropy": report.entropy}
        for name, cost in (report.expected or {}).items():
            values[f"expected/{name}"] = cost / self.limits[name]
        for name, multiplier in (report.multipliers or {}).items():
            values[f"multiplier/{name}"] = multiplier
        for name, value in values.items():
            writer.add_scalar(name, value, report.step)
        writer.flush()
        if report.step == report.total_steps:
            writer.close()
