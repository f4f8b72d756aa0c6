"""Checkpoints that were damaged, or are of another form."""

import io
import os
import random

import pytest
import torch
from shared_search import small_search

from latency import LatError
from search.training.checkpoint import Checkpoint, first_line

STATE = {"step": 3, "weights": torch.arange(600.0), "history": {"loss": torch.ones(9)}}


def test_a_checkpoint_is_read_as_it_was_written_or_not_at_all(tmp_path):
    path = tmp_path / "x.pt"
    Checkpoint(path, {"seed": 1}).save(STATE)
    content = path.read_bytes()
    assert torch.equal(Checkpoint(path, {"seed": 1}).load()["weights"], STATE["weights"])
    generator, said = random.Random(0), []
    for _ in range(150):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(LatError) as caught:
            Checkpoint(path, {"seed": 1}).load()
        said.append(str(caught.value))
    assert all(one.startswith(f"{path} ") and "\n" not in one for one in said)


def _saved(content, has_digest=True):
    file = io.BytesIO()
    torch.save(content, file)
    return first_line(file.getvalue()) * has_digest + file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"lat-search checkpoint, blake2b ",
        b"PK\x03\x04",
        b"no checkpoint",
        b"\x80\x02}q\x00.",  # a pickle
        _saved({"identity": {}, "state": {}}, has_digest=False),
        _saved(3),
        _saved({"state": {}}),
        _saved({"identity": {}}),
        _saved({"identity": [], "state": {}}),
        _saved({"identity": {}, "state": 5}),
        _saved({"identity": {1: "a", "b": 2}, "state": {}}),
        _saved({"identity": {"seed": torch.zeros(2)}, "state": {}}),
    ],
)
def test_what_is_no_checkpoint_is_said_in_one_line(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    for load in (Checkpoint(path, {}).load, Checkpoint(path, {}).load_of):
        with pytest.raises(LatError, match=r"x\.pt is not a valid checkpoint") as raised:
            load()
        assert "\n" not in str(raised.value)


def test_a_pipe_is_no_checkpoint_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(LatError, match=r"x\.pt is not a valid checkpoint.* not a regular file"):
        Checkpoint(tmp_path / "x.pt", {}).load()


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("supernet"),
        lambda state: state.pop("step"),
        lambda state: state.update(step=-1),
        lambda state: state.update(step=10**9),
        lambda state: state.update(step="3"),
        lambda state: state.update(history=[]),
        lambda state: state["supernet"].update(alpha=torch.zeros(1, 1)),
        lambda state: state["optimizer"].pop("sgd"),
        lambda state: state.update(strategy={}),
    ],
)
def test_a_state_of_another_form_is_said_in_one_line_that_names_the_file(tmp_path, change):
    search = small_search()
    state = search._state()
    change(state)
    checkpoint = Checkpoint(tmp_path / "x.pt", {})
    checkpoint.save(state)
    with pytest.raises(LatError, match=r"x\.pt is not a valid checkpoint") as raised:
        search.run(checkpoint, lambda report: None)
    assert "\n" not in str(raised.value)
