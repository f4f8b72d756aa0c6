"""Several processes train as one does: the same architecture from the same global batches."""

import socket
from multiprocessing.context import ForkServerProcess

import forked
import pytest
import torch
from shared_search import exact_search, lose, share
from torch import distributed

from latency import LatError, UsageError
from search.runs.tasks import assist
from search.settings import SearchSettings
from search.training.checkpoint import Checkpoint
from search.training.compute import Compute
from search.training.distributed import Ranks, join


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def environments(world: int) -> list[dict[str, str]]:
    """What torchrun says to each of so many processes."""
    port = str(free_port())
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


def _codes(started: list[ForkServerProcess]) -> list[int | None]:
    """How the processes end."""
    for process in started:
        process.join(300)
        process.kill()
    return [process.exitcode for process in started]


@pytest.mark.parametrize(
    ("strategy", "norm_batch"), [("proxyless-g", 0), ("proxyless-r", 0), ("proxyless-g", 4)]
)
def test_two_processes_find_the_architecture_that_one_does(tmp_path, strategy, norm_batch):
    started = [
        forked.start(share, tmp_path, strategy, norm_batch, environment=ours)
        for ours in environments(2)
    ]
    assert _codes(started) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    training = exact_search(strategy=strategy, norm_batch_size=norm_batch)
    training.run(Checkpoint(tmp_path / "alone.pt", {}), lambda report: None)
    alone = training.supernet.state_dict()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-5, msg=name)
    assert alone["alpha"].std() > 0.01
    torch.testing.assert_close(first["alpha"], alone["alpha"], rtol=0, atol=1e-5)
    assert (tmp_path / "checkpoint-0.pt").exists()
    assert not (tmp_path / "checkpoint-1.pt").exists()


def test_batches_that_do_not_fall_into_equal_parts_are_refused():
    with pytest.raises(UsageError, match="33 images does not divide into 2 equal parts"):
        Compute(ranks=Ranks(0, 2)).check(32, 33)


def test_batches_that_do_not_fall_into_groups_are_refused():
    with pytest.raises(UsageError, match=r"groups of 32; .* a multiple of 128"):
        Compute(ranks=Ranks(0, 4), norm_batch_size=32).check(64)
    Compute(ranks=Ranks(0, 2), norm_batch_size=32).check(64)


@pytest.mark.parametrize(("local_rank", "taken"), [(0, [0]), (1, [])])
def test_of_more_processes_than_gpus_each_starts_and_some_have_none(monkeypatch, local_rank, taken):
    """A machine with one GPU, which its second process does not ask for."""
    asked = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, timeout: None)
    monkeypatch.setattr(distributed, "get_rank", lambda: local_rank)
    assert join() == Ranks(local_rank, 2)
    assert asked == taken


def test_a_process_whose_first_one_is_gone_says_so(tmp_path):
    started = [forked.start(lose, tmp_path, environment=ours) for ours in environments(2)]
    assert _codes(started) == [0, 0]
    assert (tmp_path / "said.txt").read_text().startswith("process 1 lost the others: ")


class _Failing:
    """An order that cannot be carried out."""

    settings = SearchSettings()

    def __init__(self, error):
        self.error = error

    def training(self, data, compute):
        raise self.error


class _Ordered(Ranks):
    """The rank that gets an order of the first one."""

    order: _Failing

    def from_first(self, make):
        return self.order


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "^mat1 and mat2 shapes"),
        (NotImplementedError("not on this device"), "^not on this device"),
        (distributed.DistBackendError("NCCL error"), "^process 1 lost the others: NCCL error"),
    ],
)
def test_only_errors_of_the_process_group_are_said_to_be_lost_contact(monkeypatch, error, said):
    monkeypatch.setattr(_Ordered, "order", _Failing(error), raising=False)
    monkeypatch.setattr("search.training.distributed.join", lambda: _Ordered(1, 2))
    lost = isinstance(error, distributed.DistError)
    with pytest.raises(LatError if lost else type(error), match=said):
        assist("digits", "cpu")


def test_lat_search_started_as_two_processes_writes_one_run(tmp_path, mini_csv):
    out = tmp_path / "run"
    words = ["--target", str(mini_csv), "--space", "mini", "--budget", "50%", "--steps", "4"]
    words += ["--train-steps", "2", "--baselines", "0", "--batch-size", "8", "--out", str(out)]
    printed = [tmp_path / f"printed-{rank}" for rank in range(2)]
    started = [
        forked.start_search(words, file, ours | {"LAT_DATA": str(tmp_path / "data")})
        for file, ours in zip(printed, environments(2), strict=True)
    ]
    assert _codes(started) == [0, 0]
    assert (out / "result.json").exists()
    first, second = (file.read_text() for file in printed)
    assert "valid" in first or "accuracy" in first
    assert second == ""
