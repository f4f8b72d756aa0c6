"""What ends a training is said in one line, and leaves a checkpoint to go on from."""

import random
import signal
import time
import weakref

import forked
import killed_search
import pytest
import torch
from shared_search import small_search
from torch import nn

from latency import LatError, UsageError
from search.commands import search_command
from search.runs.folder import run_folder
from search.settings import RESUMABLE, SearchSettings
from search.training.checkpoint import Checkpoint
from search.training.compute import Compute
from search.training.distributed import Ranks
from search.training.failures import DivergedError, explained, fitting, is_out_of_memory
from search.training.optimizer import Cosines, WeightOptimizer


def run(folder, on_step=lambda report: None, **words):
    training = small_search(**words)
    training.run(Checkpoint(folder / "search.pt", {"seed": 0}, every_seconds=0), on_step)
    return training


def same(one, other):
    return all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(
            one.supernet.state_dict().values(), other.supernet.state_dict().values(), strict=True
        )
    )


class StoppedError(Exception):
    """Stands for the user's Ctrl-C."""


def stop_at(step):
    def on_step(report):
        if report.step == step:
            raise StoppedError

    return on_step


def test_a_search_killed_again_and_again_ends_like_an_unbroken_one(tmp_path):
    """`kill -9` at random moments, also while a checkpoint is written."""
    whole = run(tmp_path / "whole")
    generator = random.Random(0)
    codes: list[int | None] = []
    while 0 not in codes:
        steps, told = forked.CONTEXT.Pipe(duplex=False)
        process = forked.start(killed_search.search, tmp_path / "killed", told)
        told.close()
        if len(codes) < 3:
            for _ in range(2):  # so that it gets on
                steps.recv()
            time.sleep(generator.uniform(0, 0.1))
            process.kill()
        process.join(120)
        codes.append(process.exitcode)
    assert codes == [-signal.SIGKILL] * 3 + [0]
    resumed = run(tmp_path / "killed")
    assert resumed.history == whole.history
    assert same(resumed, whole)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_search_in_half_precision_resumes_like_an_unbroken_one(tmp_path, precision):
    whole = run(tmp_path / "whole", precision=precision)
    with pytest.raises(StoppedError):
        run(tmp_path / "b", stop_at(5), precision=precision)
    assert same(run(tmp_path / "b", precision=precision), whole)


def test_a_full_disk_is_named_with_the_checkpoint(tmp_path):
    (tmp_path / "x.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: .*x\.pt"):
        Checkpoint(tmp_path / "x.pt", {}).save({"step": 1})
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize(
    ("every", "took", "rest"), [(10.0, 0.1, 10.0), (10.0, 2.0, 40.0), (0.0, 2.0, 0.0)]
)
def test_checkpoints_that_take_long_are_rarer(tmp_path, every, took, rest):
    times = iter([0.0, 100.0, 100.0 + took, 99.9 + took + rest, 100.1 + took + rest])
    checkpoint = Checkpoint(tmp_path / "x.pt", {}, every, clock=lambda: next(times))
    checkpoint.save({"step": 1})
    assert [checkpoint.is_due(), checkpoint.is_due()] == [False, True]


def test_a_half_written_checkpoint_is_not_read(tmp_path):
    checkpoint = Checkpoint(tmp_path / "x.pt", {})
    checkpoint.save({"step": 1})
    checkpoint.hold({"step": 2})
    assert Checkpoint(tmp_path / "x.pt", {}).load() == {"step": 1}
    (tmp_path / "x.tmp").write_bytes(b"half")
    again = Checkpoint(tmp_path / "x.pt", {})
    again.release()
    assert again.load() == {"step": 1}


def test_a_loss_that_is_no_number_stops_the_search_before_a_good_checkpoint_is_lost(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "b", stop_at(4))
    training = small_search()

    def break_at_step_5(report):
        if report.step == 5:
            with torch.no_grad():
                training.supernet.head[-1].layers["linear"].core.bias.fill_(torch.nan)

    checkpoint = Checkpoint(tmp_path / "b" / "search.pt", {"seed": 0}, every_seconds=0)
    with pytest.raises(
        DivergedError, match=r"step 6: the training loss is nan; lower `learning_rate` \(now"
    ):
        training.run(checkpoint, break_at_step_5)
    assert same(run(tmp_path / "b"), whole)


def test_a_validation_loss_that_is_no_number_moves_no_architecture(tmp_path):
    training = small_search(warmup_steps=0)
    with torch.no_grad():
        training.supernet.head[-1].layers["linear"].core.bias.fill_(torch.nan)
    images, labels = training._arch_batches.at(0)
    before = training.supernet.alpha.detach().clone()
    with pytest.raises(DivergedError, match="the validation loss is nan"):
        training.strategy.step(images, labels, training._generator(0))
    assert torch.equal(training.supernet.alpha, before)


def test_out_of_memory_says_which_batch_fits(tmp_path, monkeypatch):
    """An allocator that has room for five images."""
    training = small_search()
    forward = training.supernet.forward

    def short_of_memory(x, path):
        if len(x) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return forward(x, path)

    monkeypatch.setattr(training.supernet, "forward", short_of_memory)
    expected = "step 1: out of memory for a batch of 16 images; `resume` with `batch_size` 4"
    with pytest.raises(LatError, match=expected):
        training.run(Checkpoint(tmp_path / "x.pt", {}), lambda report: None)


@pytest.mark.parametrize(
    ("size", "world", "group", "said"),
    [
        (16, 1, 4, "`resume` with `batch_size` 4"),
        (24, 1, 4, "`resume` with `batch_size` 4"),  # a quarter is 6
        (16, 1, 8, "`resume` with `batch_size` 4 and `norm_batch` 4"),
        (24, 2, 8, "`resume` with `batch_size` 16"),  # half is 12 a process
        (8, 2, 8, "`resume` with `batch_size` 8 and `norm_batch` 4"),
        (2, 2, 2, "not even 2 fit: use a smaller space or `resolution`"),
    ],
)
def test_a_batch_that_fits_falls_into_the_groups_of_batch_norm(size, world, group, said):
    """An allocator that has room for seven images."""

    def attempt(images):
        if images > 7:
            raise MemoryError

    compute = Compute(ranks=Ranks(0, world), norm_batch_size=group)
    with pytest.raises(LatError) as error, explained(0, 0.1, size, attempt, compute):
        raise MemoryError
    assert str(error.value).endswith(f"images; {said}")


def test_a_run_is_resumed_with_the_batches_that_a_lack_of_memory_asks_for(tmp_path):
    settings = SearchSettings(norm_batch_size=8)
    Checkpoint(tmp_path / "x.pt", settings.as_dict).save({"step": 1})
    smaller = settings.with_choices(batch_size=4, norm_batch_size=4)
    resumed = Checkpoint(tmp_path / "x.pt", smaller.as_dict, may_change=RESUMABLE)
    assert resumed.load() == {"step": 1}


def test_an_allocation_that_fails_is_known_as_such():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60)
    assert is_out_of_memory(failed.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_what_a_step_held_is_free_before_smaller_batches_are_tried(monkeypatch):
    layer, settings = nn.Linear(4, 10), SearchSettings()
    optimizer = WeightOptimizer(layer.parameters(), settings, Cosines(((0.1, 10),)))
    held = []

    def forward(images):
        scores = layer(images)
        held.append(
            (len(images), weakref.ref(scores), [size for size, one, _ in held if one() is not None])
        )
        return scores

    def out_of_memory(scores, labels):
        raise MemoryError

    monkeypatch.setattr(optimizer, "_backward", out_of_memory)
    with pytest.raises(LatError, match="out of memory for a batch of 8 images"):
        optimizer.step(0, forward, torch.zeros(8, 4), torch.zeros(8).long())
    assert [(size, alive) for size, _, alive in held] == [(8, []), (4, []), (2, [])]


def test_where_nothing_fits_no_batch_is_named():
    def never(size):
        raise MemoryError

    assert fitting(64, never) == 0


def test_lat_search_tells_of_divergence_in_one_line_and_goes_on(invoke, mini_csv, tmp_path):
    words = ["--target", mini_csv, "--space", "mini", "--budget", "50%", "--steps", 6]
    words += ["--train-steps", 2, "--batch-size", 8, "--baselines", 0, "--out", tmp_path / "run"]
    code, _, said = invoke(search_command.main, *words, "--learning-rate", "1e30")
    assert code == 1
    assert "Traceback" not in said
    assert "lower --learning-rate (now 1e+30)" in said
    code, _, said = invoke(search_command.main, *words, "--learning-rate", "0.01", "--resume")
    assert code == 0, said


def test_a_folder_is_of_one_search_at_a_time_and_its_lock_follows_no_link(tmp_path):
    with (
        run_folder(tmp_path / "run", False, False),
        pytest.raises(UsageError, match="another search is running in it"),
        run_folder(tmp_path / "run", True, False),
    ):
        pass
    diary = tmp_path / "diary.txt"
    diary.write_text("dear diary")
    (tmp_path / ".lock").symlink_to(diary)
    with (
        pytest.raises(LatError, match="is a symbolic link"),
        run_folder(tmp_path, False, False),
    ):
        pass
    assert diary.read_text() == "dear diary"
