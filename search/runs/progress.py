"""Steps of a training, as they are shown while it runs."""

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
    """Show steps as a bar on a terminal, and log a line now and then where there is none. Of a
    search with `limits` by their names: the loss, the expected costs as shares of these, their
    multipliers, and the entropy; on a terminal as much of it as there is room for."""
    task = bar.add_task(doing, total=None)
    details = [""]

    def show(report: StepReport) -> None:
        nonlocal details
        if limits and report.expected and report.entropy is not None:
            details = _costs(report, limits)
        begin = f"{doing}: loss {report.train_loss:.2f}"
        is_last = report.step == report.total_steps
        fitting = (begin + costs for costs in details if len(begin + costs) <= _WIDEST)
        line = begin if is_last else next(fitting, begin)
        bar.update(task, description=line, completed=report.step, total=report.total_steps)
        if bar.disable and report.step % max(1, report.total_steps // 10) == 0:
            _log.info("%s%s: step %d of %d", begin, details[0], report.step, report.total_steps)

    return show


def _costs(report: StepReport, limits: Mapping[str, float]) -> list[str]:
    """What an architecture step reports, from all of it to the least."""
    multipliers = report.multipliers or {}
    shares = {
        name: f" {Path(name).stem} {value / limits[name]:.0%}"
        for name, value in (report.expected or {}).items()
    }
    weighed = "".join(
        share + (f" x{multipliers[name]:.2f}" if name in multipliers else "")
        for name, share in shares.items()
    )
    return [f"{weighed} entropy {report.entropy:.2f}", weighed, "".join(shares.values())]
