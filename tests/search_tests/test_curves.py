"""TensorBoard's curves of a search, read back from its event files."""

import sys

import pytest
from shared_search import small_search

from search.checkpoint import Checkpoint
from search.commands.curves import Curves

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
    blocks = len(whole.space.blocks)
    last = [curves[f"entropy/block_{block}"][-1][1] for block in range(blocks)]
    assert sum(last) / blocks == pytest.approx(whole.history[-1]["entropy"], rel=1e-5)
    assert curves["probability/block_0/candidate_1"][-1][1] == pytest.approx(
        whole.history[-1]["probabilities"][0][1], rel=1e-5
    )


def test_without_tensorboard_a_search_has_no_curves(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    search(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
