"""The progress of a training on the terminal."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.progress import Progress

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
