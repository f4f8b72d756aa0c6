"""Where and in which precision a search trains."""

import pytest
import torch
from shared_search import small_search

from latency import UsageError
from search.settings import SearchSettings
from search.training.checkpoint import Checkpoint
from search.training.compute import Compute
from search.training.distributed import Ranks
from search.training.network_training import NetworkTraining

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def run(path, **words):
    training = small_search(**words)
    losses = []
    training.run(Checkpoint(path, {}), lambda report: losses.append(report.train_loss))
    return training, losses


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_near_single_precision_with_an_alpha_of_single(tmp_path, precision):
    _, single = run(tmp_path / "single.pt")
    training, half = run(tmp_path / "half.pt", precision=precision)
    assert half != single
    assert half[0] == pytest.approx(single[0], rel=0.02)
    assert half == pytest.approx(single, rel=0.2)  # steps diverge, by how much depends on the CPU
    assert training.supernet.alpha.dtype == torch.float32
    assert training.supernet.alpha.std() > 0
    assert all(value.dtype == torch.float32 for value in training.supernet.weights())


def test_float16_resumes_with_the_scale_of_its_gradients(tmp_path):
    training, _ = run(tmp_path / "x.pt", precision="float16")
    state = Checkpoint(tmp_path / "x.pt", {}).load()
    assert state["optimizer"]["scaler"]["scale"] == training.optimizer.scaler.get_scale() > 1


@pytest.mark.parametrize(("first", "then"), [("float32", "float16"), ("float16", "bfloat16")])
def test_a_search_goes_on_in_another_precision(first, then):
    before, after = small_search(precision=first), small_search(precision=then)
    scale = after.optimizer.scaler.get_scale()
    after.optimizer.restore(before.optimizer.state)
    assert after.optimizer.scaler.get_scale() == scale


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu():
    assert Compute.on("auto").device.type == "cpu"
    with pytest.raises(UsageError, match="torch finds no CUDA device"):
        Compute.on("cuda")


@pytest.mark.parametrize(
    ("environment", "gpus", "said"),
    [
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}, 2, "4 processes train on 2 GPUs"),
        ({"LOCAL_RANK": "1"}, 1, "2 processes train on 1 GPU of this machine; start 1"),
    ],
)
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_more_processes_than_gpus_are_told_by_each_of_them(
    monkeypatch, device, environment, gpus, said
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(UsageError, match=f"{said}.*use `train_on` cpu"):
        Compute.on(device, ranks=Ranks(0, 4))
    assert Compute.on("cpu", ranks=Ranks(0, 4)).device.type == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert Compute.on(device, ranks=Ranks(0, 4)).device.type == "cuda"


@pytest.mark.parametrize("name", ["batch_size", "arch_batch_size", "train_batch_size"])
@pytest.mark.parametrize(
    ("size", "norm_batch", "said"), [(33, 0, "2 equal parts"), (20, 4, "groups of 4")]
)
def test_batches_of_every_training_are_checked_before_the_search(name, size, norm_batch, said):
    sizes = dict.fromkeys(("batch_size", "arch_batch_size", "train_batch_size"), 16)
    with pytest.raises(UsageError, match=said):
        small_search(Ranks(0, 2), norm_batch_size=norm_batch, **{**sizes, name: size})


def test_an_unknown_device_is_named():
    with pytest.raises(UsageError, match="unknown device to train on 'gpu'"):
        Compute.on("gpu")


@pytest.mark.parametrize("precision", [pytest.param(None, marks=needs_gpu)])
def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(toy_space, tmp_path, precision):
    network = toy_space.network([0, 6, 1, 2])
    from search.data import load_dataset

    settings = SearchSettings(train_steps=4, train_batch_size=16)
    words = network, load_dataset("digits"), settings, 0
    on_gpu = NetworkTraining(*words, Compute.on("cuda"))
    on_gpu.run(Checkpoint(tmp_path / "x.pt", {}), lambda report: None)
    on_cpu = NetworkTraining(*words)
    on_cpu.run(Checkpoint(tmp_path / "x.pt", {}), lambda report: None)
    name, layer = next(iter((f"0.{layer.name}", layer) for layer in network.ops[0].layers))
    for ours, theirs in zip(
        on_gpu.module.folded(name, layer), on_cpu.module.folded(name, layer), strict=True
    ):
        assert ours == pytest.approx(theirs)
