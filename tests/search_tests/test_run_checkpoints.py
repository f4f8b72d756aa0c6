"""What a run's checkpoints belong to, and where their tensors go."""

from dataclasses import replace

import pytest
import torch

from latency import UsageError
from search.runs.checkpoints import RunCheckpoints
from search.runs.plan import SearchPlan
from search.settings import SearchSettings
from search.training.checkpoint import Checkpoint


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


def test_what_was_released_is_not_released_again(tmp_path):
    checkpoint = Checkpoint(tmp_path / "x.pt", {})
    checkpoint.release()
    checkpoint.save({"step": 1})
    checkpoint.release()
    assert checkpoint.load() == {"step": 1}


def test_tensors_of_an_accelerator_are_read_without_one(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "x.pt", {})
    with monkeypatch.context() as patched:
        patched.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
        checkpoint.save({"weights": torch.ones(3)})
    weights = checkpoint.load()["weights"]
    assert weights.device.type == "cpu"
    assert weights.tolist() == [1, 1, 1]


def test_a_run_is_not_resumed_with_another_seed(plan, tmp_path):
    RunCheckpoints(tmp_path, replace(plan, seed=1)).of("search").save({"step": 1})
    path = tmp_path / "search.pt"
    with pytest.raises(UsageError) as caught:
        RunCheckpoints(tmp_path, replace(plan, seed=2)).of("search").load()
    assert str(caught.value) == (
        f"{path} belongs to a run with another seed (1 there, 2 here); "
        "`resume` with the same options, or choose another `out`"
    )


def test_a_supernet_of_other_data_is_refused_by_the_whole_name_of_its_file(plan, tmp_path):
    folder = tmp_path / "a;b"
    RunCheckpoints(folder, plan).of("search").save({"step": 1})
    path = folder / "search.pt"
    other = replace(plan, data=replace(plan.data, name="letters"), trained=path)
    with pytest.raises(UsageError) as caught:
        RunCheckpoints(tmp_path / "new", other).taken_over(path)
    assert str(caught.value) == (
        f"{path} belongs to a run with another data (digits there, letters here); a supernet "
        "can be used only with the data, space, resolution, width and memory budget that it was "
        "trained with, or with less memory"
    )


def test_a_supernet_of_another_seed_is_taken_over(plan, tmp_path):
    other = replace(plan, settings=replace(plan.settings, search_steps=7))
    RunCheckpoints(tmp_path, other).of("search").save({"step": 1})
    path = tmp_path / "search.pt"
    ours = replace(plan, seed=2, trained=path)
    assert RunCheckpoints(tmp_path, ours).taken_over(path) == {"step": 1}
