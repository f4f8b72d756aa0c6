"""`lat-compare`: networks side by side, measured in the same rounds or predicted."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from devices.card import load_card
from devices.connection import connect
from devices.device import Timing
from devices.export.onnx_model import onnx_model
from devices.measuring.record import Sample
from latency import LatencyTable, Measurement, NetworkSpec, OpSpec, Setting, zoo
from latency.modules import NetworkModule
from search import spaces
from search.commands.compare_command import PUBLISHED_NETWORKS
from search.commands.compare_command import main as lat_compare
from search.jobs.comparison import _measured_ratios

SIZE = 64


def made_up_ms(op: OpSpec) -> float:
    return 0.02 + op.macs * 1e-8


def total_ms(name: str) -> float:
    return sum(made_up_ms(op) for op in zoo.load(name, SIZE).ops)


@pytest.fixture
def far_csv(tmp_path):
    """A table of the published networks, of a device that is not at hand."""
    networks = [zoo.load(word.removeprefix("zoo:"), SIZE) for word in PUBLISHED_NETWORKS]
    ops = {op for network in networks for op in network.ops}
    rows = {op: Measurement(made_up_ms(op), 1e-4, 50, made_up_ms(op)) for op in ops}
    setting = Setting("far", "some phone", runtime="someruntime 2", transport="adb")
    LatencyTable(setting, rows).save(tmp_path / "far.csv")
    return tmp_path / "far.csv"


@pytest.fixture
def replayed(tmp_path, far_csv):
    """A card whose device answers from that table, and is 10 % slower than its own table says."""
    path = tmp_path / "there.toml"
    rules = "sessions = 2\nmax_sessions = 2\nmin_samples = 6\nmax_samples = 8\n"
    path.write_text(f"transport = 'replay'\n[measuring]\n{rules}[replay]\ntable = '{far_csv}'\n")
    rows = LatencyTable.load(far_csv).rows.items()
    faster = {op: replace(row, median_ms=row.median_ms / 1.1) for op, row in rows}
    kept = tmp_path / "user-data" / "there.csv"
    LatencyTable(connect(load_card(str(path))).setting, faster).save(kept)
    return path


def test_the_published_networks_are_held_against_mobilenet_v2(invoke, replayed):
    words = ["--target", replayed, "--resolution", SIZE]
    code, out, err = invoke(lat_compare, *words, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["measured"] is True
    assert [row["network"] for row in answer["networks"]] == list(PUBLISHED_NETWORKS)
    for row in answer["networks"]:
        name = row["network"].removeprefix("zoo:")
        ratio = total_ms(name) / total_ms("mobilenet_v2")
        assert row["latency_ms"] == pytest.approx(total_ms(name), rel=0.01)
        assert row["low_ms"] <= row["latency_ms"] <= row["high_ms"]
        assert row["predicted_ms"] == pytest.approx(total_ms(name) / 1.1, rel=1e-4)
        assert row["ratio"] == pytest.approx(ratio, rel=0.01)
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["macs"] == zoo.load(name, SIZE).macs
    top1 = {row["network"]: row["published_top1"] for row in answer["networks"]}
    assert top1["zoo:proxyless_gpu"] - top1["zoo:mobilenet_v2"] == pytest.approx(3.1)  # the paper
    code, out, _ = invoke(lat_compare, *words)
    assert code == 0
    table = out.splitlines()[:7]
    assert max(map(len, table)) <= 80
    assert table[-1].startswith("proxyless_mobile_14 ")
    assert "ImageNet, published, not measured by us: Sandler et al." in out


def test_networks_of_the_same_file_name_are_told_apart(invoke, far_csv, tmp_path):
    network = zoo.load("mobilenet_v2", SIZE)
    for run in ("one", "two"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "network.json").write_text(network.to_json())
    words = ["runs/one/network.json", "--against", "runs/two/network.json", "--target", far_csv]
    code, out, err = invoke(lat_compare, *words)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[2:4]] == [
        "two/network.json",
        "one/network.json",
    ]


def test_a_device_that_is_not_at_hand_is_predicted_and_said_to_be(invoke, far_csv):
    words = ["--target", far_csv, "--resolution", SIZE]
    code, out, err = invoke(lat_compare, *words, "--json")
    assert code == 0
    assert "cannot be reached: latencies are predicted, not measured" in err
    answer = json.loads(out)
    assert answer["measured"] is False
    for row in answer["networks"]:
        name = row["network"].removeprefix("zoo:")
        assert (row["latency_ms"], row["ratio_low"]) == (None, None)
        assert row["predicted_ms"] == pytest.approx(total_ms(name), rel=1e-4)
        ratio = total_ms(name) / total_ms("mobilenet_v2")
        assert row["ratio"] == pytest.approx(ratio, rel=1e-4)


def test_what_cannot_be_known_is_left_blank_with_the_reason(invoke, replayed, far_csv, tmp_path):
    code, out, err = invoke(lat_compare, "zoo:resnet18", "--target", replayed, "--resolution", SIZE)
    assert code == 1
    assert "1 of 2 were not measured: resnet18" in err
    assert "resnet18: not measured: someruntime 2 cannot run its graph" in out
    far = NetworkSpec.of("far", (OpSpec("conv", 512, 512, 3, 512, 31, activation="silu"),))
    (tmp_path / "far.json").write_text(far.to_json())
    words = ["far.json", "--target", far_csv, "--resolution", SIZE, "--json"]
    code, out, _ = invoke(lat_compare, *words)
    assert code == 0
    row = json.loads(out)["networks"][1]
    assert (row["predicted_ms"], row["ratio"]) == (None, None)
    assert "conv-512x512x3-512-k31-s1-silu" in row["notes"][0]
    code, out, _ = invoke(lat_compare, *words, "--extrapolate")
    assert json.loads(out)["networks"][1]["predicted_ms"] > 0


def test_networks_of_another_batch_are_refused(invoke, replayed, tmp_path):
    network = NetworkSpec.of("many", (OpSpec("conv", 8, 8, 3, 8, 3, batch=4),))
    (tmp_path / "many.json").write_text(network.to_json())
    code, _, err = invoke(lat_compare, "many.json", "--target", replayed)
    assert code == 2
    assert "many.json has batch 4" in err
    code, _, err = invoke(lat_compare, "zoo:mobilenet", "--target", replayed)
    assert code == 2
    assert "did you mean" in err


def test_files_are_measured_on_the_real_cpu(invoke, quick_cpu, tmp_path):
    """An ONNX file that leaves its batch open, and a network.json four times as deep."""
    space = spaces.load("mini")
    network = space.network(space.largest)
    short = NetworkSpec.of("short", network.ops[:4])
    content = onnx_model(short.ops, NetworkModule(short.ops).eval().folded, "short")
    model = onnx.ModelProto.FromString(content)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    (tmp_path / "short.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "long.json").write_text(network.to_json())
    words = ["long.json", "--against", "short.onnx", "--target", quick_cpu, "--json"]
    code, out, err = invoke(lat_compare, *words)
    assert code == 0, err
    assert "nothing is predicted" in err
    first, second = json.loads(out)["networks"]
    assert (first["network"], first["ratio"]) == ("short.onnx", 1.0)
    assert second["ratio"] > 1.5
    assert first["latency_ms"] < second["latency_ms"]
    assert first["published_top1"] is None


def test_drift_that_hits_all_networks_of_a_round_leaves_their_ratio(generator):
    covered = []
    for _ in range(50):
        samples = [Sample(40, 4, "b", Timing((9.0,), 1))]  # a round without the other network
        for number in range(40):
            slow = np.exp(generator.normal(0, 0.5))
            for name, ms in (("a", 2.0), ("b", 3.0)):
                noisy = slow * ms * np.exp(generator.normal(0, 0.01))
                samples.append(Sample(number, number // 10, name, Timing((noisy,), 1)))
        ratio = _measured_ratios(samples, "a")["b"]
        assert ratio.value == pytest.approx(1.5, rel=0.02)
        assert ratio.high / ratio.low < 1.05
        covered.append(ratio.low <= 1.5 <= ratio.high)
    assert np.mean(covered) > 0.85
