"""What a search shows of itself: TensorBoard's curves, read back, and a line on the terminal."""

from io import StringIO

import pytest
from rich.console import Console
from shared_search import small_search

from search import console
from search.runs.progress import Curves, show_steps
from search.training.checkpoint import Checkpoint
from search.training.network_training import StepReport

pytest.importorskip("tensorboard")


class StoppedError(Exception):
    """Stands for a kill."""


def search(folder, last=None):
    training = small_search()
    curves = Curves(folder / "tensorboard", {"macs": training.hardware.budgets[0].limit})

    def on_step(report):
        curves(report)
        if report.step == last:
            raise StoppedError

    training.run(Checkpoint(folder / "search.pt", {}, every_seconds=0), on_step)
    return training


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_the_curves_of_a_resumed_search_are_those_of_an_unbroken_one(tmp_path):
    whole = search(tmp_path / "whole")
    with pytest.raises(StoppedError):
        search(tmp_path / "b", last=5)
    search(tmp_path / "b")
    curves = read(tmp_path / "whole")
    assert read(tmp_path / "b") == curves
    assert [step for step, _ in curves["loss/train"]] == list(range(1, 9))
    assert [step for step, _ in curves["expected/macs"]] == list(range(3, 9))
    for entry, (_, share), (_, multiplier) in zip(
        whole.history, curves["expected/macs"], curves["multiplier/macs"], strict=True
    ):
        limit = whole.hardware.budgets[0].limit
        assert share == pytest.approx(entry["expected"]["macs"] / limit, rel=1e-5)
        assert multiplier == pytest.approx(entry["multiplier"]["macs"], rel=1e-5)


@pytest.fixture
def screen(monkeypatch) -> StringIO:
    """What is shown on a terminal of 80 columns."""
    screen = StringIO()
    terminal = Console(file=screen, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "notices", terminal)
    return screen


def test_the_live_display_of_a_search_fits_a_terminal_of_80_columns(screen):
    with console.progress_bar() as bar:
        show = show_steps(bar, "searching", limits={"cpu": 2.0})
        show(StepReport(438, 900, 1.2345, 0.05, {"cpu": 1.974}, {"cpu": 0.4211}, 1.5, 1.234))
    line = screen.getvalue().splitlines()[-2]
    assert "searching: loss 1.23 cpu 99%" in line
    assert "438/900 0:00:00" in line


def test_the_live_display_of_many_budgets_shows_only_the_loss(screen):
    limits = {"cpu": 2.0, "gpu": 1.0, "params": 3e5, "macs": 1e7}
    with console.progress_bar() as bar:
        show = show_steps(bar, "searching", limits)
        show(StepReport(438, 900, 1.2345, 0.05, limits, limits, 1.5, 1.234))
    line = screen.getvalue().splitlines()[-2]
    assert "searching: loss 1.23 " in line
    assert "cpu" not in line
    assert "438/900 0:00:00" in line
