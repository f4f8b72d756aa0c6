"""Checkpoints that were damaged, are of earlier versions, or of another form."""

import io
import os
import random

import pytest
import torch
from shared_search import small_search

from latency import LatError
from search.training.checkpoint import Checkpoint

STATE = {"step": 3, "weights": torch.arange(600.0), "history": {"loss": torch.ones(9)}}


def _write(path, *, state=STATE, has_digest=True):
    """A checkpoint as it is written now, or as versions before the digest wrote it."""
    if has_digest:
        Checkpoint(path, {"seed": 1}).save(state)
    else:
        torch.save({"identity": {"seed": 1}, "state": state}, path)
    return path.read_bytes()


@pytest.mark.parametrize("has_digest", [True, False])
def test_a_checkpoint_is_read_as_it_was_written_or_not_at_all(tmp_path, has_digest):
    path = tmp_path / "x.pt"
    content = _write(path, has_digest=has_digest)
    assert torch.equal(Checkpoint(path, {"seed": 1}).load()["weights"], STATE["weights"])
    generator, said = random.Random(0), []
    for _ in range(150):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            state = Checkpoint(path, {"seed": 1}).load()
        except LatError as error:
            said.append(str(error))
        else:  # a flip that changes nothing, such as that of a date
            assert torch.equal(state["weights"], STATE["weights"])
            assert torch.equal(state["history"]["loss"], STATE["history"]["loss"])
            assert state["step"] == 3
    assert all(one.startswith(f"{path} ") and "\n" not in one for one in said)
    assert len(said) == 150 if has_digest else len(said) > 100


def _saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"lat-search checkpoint, blake2b ",
        b"PK\x03\x04",
        b"no checkpoint",
        b"\x80\x02}q\x00.",  # a pickle
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
        with pytest.raises(LatError, match=r"x\.pt is not a checkpoint that can be read") as raised:
            load()
        assert "\n" not in str(raised.value)


def test_a_pipe_is_no_checkpoint_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(LatError, match=r"x\.pt is not a checkpoint .* not a regular file"):
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
    with pytest.raises(LatError, match=r"x\.pt is not a checkpoint that can be read") as raised:
        search.run(checkpoint, lambda report: None)
    assert "\n" not in str(raised.value)
