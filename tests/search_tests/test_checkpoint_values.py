"""One checkpoint: what it holds, what it belongs to, and what is refused of it."""

import os
from dataclasses import replace

import pytest
import torch

from latency import LatError, UsageError
from search.runs.checkpoints import RunCheckpoints
from search.runs.plan import SearchPlan
from search.settings import SearchSettings
from search.training.checkpoint import Checkpoint

IDENTITY = {"space": "mini", "seed": 3, "steps": 10}


def test_a_state_is_read_as_it_was_saved(tmp_path):
    checkpoint = Checkpoint(tmp_path / "folder" / "x.pt", IDENTITY)
    assert checkpoint.load() is None
    checkpoint.save({"step": 7, "weights": torch.arange(3.0)})
    state = Checkpoint(tmp_path / "folder" / "x.pt", dict(reversed(IDENTITY.items()))).load()
    assert state["step"] == 7
    assert torch.equal(state["weights"], torch.arange(3.0))
    assert os.listdir(tmp_path / "folder") == ["x.pt"]


def test_what_is_held_becomes_the_checkpoint_once(tmp_path):
    checkpoint = Checkpoint(tmp_path / "x.pt", IDENTITY)
    checkpoint.release()
    assert checkpoint.load() is None
    checkpoint.hold({"step": 1})
    assert checkpoint.load() is None
    checkpoint.release()
    checkpoint.release()
    assert checkpoint.load() == {"step": 1}


def test_a_state_is_on_the_disk_before_it_takes_the_place_of_the_last(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        events.append(("fsync", name, os.fstat(handle).st_size > 0))
        fsync(handle)

    def replaced(source, target):
        events.append(("replace", os.path.basename(source), os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    Checkpoint(tmp_path / "x.pt", {}).save({"step": 1})
    assert events == [
        ("fsync", "x.tmp", True),
        ("replace", "x.tmp", "x.pt"),
        ("fsync", tmp_path.name, True),
    ]


@pytest.mark.parametrize(
    ("ours", "differs"),
    [
        ({**IDENTITY, "seed": 4}, r"another seed \(3 there, 4 here\);"),
        ({"space": "mini", "seed": 3}, r"another steps \(10 there, None here\);"),
        ({**IDENTITY, "width": 2}, r"another width \(None there, 2 here\);"),
        ({**IDENTITY, "seed": 4, "space": "x"}, r"seed \(3 there, 4 here\), space \(mini there, x"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path, ours, differs):
    Checkpoint(tmp_path / "x.pt", IDENTITY).save({"step": 1})
    with pytest.raises(UsageError, match=rf"x\.pt belongs to a run with .*{differs}"):
        Checkpoint(tmp_path / "x.pt", ours).load()


def test_a_run_goes_on_with_another_of_what_may_change(tmp_path):
    Checkpoint(tmp_path / "x.pt", IDENTITY).save({"step": 1})
    longer = Checkpoint(tmp_path / "x.pt", {**IDENTITY, "steps": 20}, may_change=["steps"])
    assert longer.load() == {"step": 1}
    with pytest.raises(UsageError, match="another steps"):
        Checkpoint(tmp_path / "x.pt", {**IDENTITY, "steps": 20}, may_change=["seed"]).load()


def test_the_state_of_another_run_need_agree_in_the_keys_that_are_asked_for(tmp_path):
    Checkpoint(tmp_path / "x.pt", IDENTITY).save({"step": 1})
    other = Checkpoint(tmp_path / "x.pt", {"space": "mini", "seed": 4})
    assert other.load_of("space") == {"step": 1}
    with pytest.raises(UsageError, match=r"another seed \(3 there, 4 here\)"):
        other.load_of("space", "seed")
    with pytest.raises(UsageError, match=r"y\.pt: no such checkpoint; name the folder of a search"):
        Checkpoint(tmp_path / "y.pt", {}).load_of("space")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(LatError, match=r"x\.pt is not a valid checkpoint: \S"):
        Checkpoint(tmp_path / "x.pt", {}).load()


@pytest.mark.parametrize("content", [{"weight": torch.zeros(2)}, [1, 2], 3])
def test_another_file_of_torch_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(LatError, match=r"x\.pt is not a valid checkpoint"):
        Checkpoint(tmp_path / "x.pt", {}).load()


@pytest.mark.parametrize(("since", "due"), [(9.9, False), (10.0, True), (10.1, True)])
def test_a_save_is_due_when_its_time_has_passed(tmp_path, since, due):
    times = iter([5.0, 5.0 + since])
    checkpoint = Checkpoint(tmp_path / "x.pt", {}, 10.0, clock=lambda: next(times))
    assert checkpoint.is_due() is due


@pytest.fixture
def plan(toy_space, digits, tmp_path):
    return SearchPlan(
        budgets=(),
        targets={},
        space=toy_space,
        whole=toy_space,
        settings=SearchSettings(),
        data=digits,
        seed=0,
        folder=tmp_path,
    )


def test_a_supernet_of_other_data_is_refused_in_one_sentence(plan, tmp_path):
    theirs = RunCheckpoints(tmp_path / "a", plan).of("search")
    theirs.save({"step": 1})
    other = replace(plan, data=replace(plan.data, name="cifar10"))
    with pytest.raises(UsageError) as caught:
        RunCheckpoints(tmp_path / "b", other).taken_over(theirs.path)
    assert str(caught.value) == (
        f"{theirs.path} belongs to a run with another data (digits there, cifar10 here); "
        "a supernet can be used only with the data, space, resolution, width and memory budget "
        "that it was trained with, or with less memory"
    )


def test_a_run_from_another_supernet_is_another_run(plan, tmp_path):
    one, other = tmp_path / "one.pt", tmp_path / "other.pt"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    identities = {
        RunCheckpoints(tmp_path, replace(plan, trained=trained)).identity["from"]
        for trained in (None, one, other)
    }
    assert len(identities) == 3
    assert None in identities


def test_a_run_of_another_seed_is_refused_by_that_name(plan, tmp_path):
    RunCheckpoints(tmp_path, plan).of("search").save({"step": 1})
    with pytest.raises(UsageError, match=r"another seed \(0 there, 1 here\)"):
        RunCheckpoints(tmp_path, replace(plan, seed=1)).of("search").load()
