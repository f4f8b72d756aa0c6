"""Steps of a training, as they are shown while it runs."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.progress import Progress

from search.searcher import StepReport

_log = logging.getLogger(__name__)


def show_steps(
    bar: Progress, doing: str, limits: Mapping[str, float] | None = None
) -> Callable[[StepReport], None]:
    """Show steps as a bar on a terminal, and log a line now and then where there is none. Of a
    search with `limits` by their names: the loss, the expected costs as shares of these, their
    multipliers, and the entropy."""
    task = bar.add_task(doing, total=None)
    said = ""

    def show(report: StepReport) -> None:
        nonlocal said
        if limits and report.expected and report.entropy is not None:
            multipliers = report.multipliers or {}
            shares = [
                f"{Path(name).stem} {value / limits[name]:.0%}"
                + (f" x{multipliers[name]:.2f}" if name in multipliers else "")
                for name, value in report.expected.items()
            ]
            said = f" {' '.join(shares)} entropy {report.entropy:.2f}"
        line = f"{doing}: loss {report.train_loss:.2f}{said}"
        bar.update(task, description=line, completed=report.step, total=report.total_steps)
        if bar.disable and report.step % max(1, report.total_steps // 10) == 0:
            _log.info("%s: step %d of %d", line, report.step, report.total_steps)

    return show
