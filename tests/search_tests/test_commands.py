"""The commands: what they print, and each of the user's mistakes as a clear line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from latency import LatencyTable, Measurement, NetworkSpec, Setting, candidate_latency, fit
from latency.graphs.fusion import USUAL
from latency.units import format_bytes
from search import spaces
from search.budget import memory_of
from search.commands.search_command import main as lat_search
from search.jobs.networks import read_network
from search.report.run.report import summary
from search.report.run.saved_run import SavedRun
from search.runs.retraining import network_to_train, space_of
from search.settings import MINI

QUICK = ("--space", "mini", "--steps", "6", "--train-steps", "3", "--baselines", "0")


def test_range_is_known_without_training(invoke, mini_csv):
    code, out, _ = invoke(lat_search, "--target", mini_csv, "--space", "mini", "--range", "--json")
    assert code == 0
    answer = json.loads(out)
    space = spaces.load("mini")
    table = LatencyTable.load(mini_csv)
    assert answer["slowest_ms"] == pytest.approx(table.predict(space.network(space.largest)).ms)
    assert 0 < answer["fastest_ms"] < answer["slowest_ms"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "1us"], "below the fastest network: the space reaches from"),
        (["--budget", "ms"], "not a positive duration"),
        (["--budget", "5"], "not a positive duration"),
        (["--budget", "5parsec"], "units: ns, us"),
        (["--budget", "0ms"], "not a positive duration"),
        (["--budget", "-1ms"], "not a positive duration"),
        (["--budget", "nanms"], "not a positive duration"),
        ([], "no --budget given"),
        (["--budget", "1ms", "--space", "minni"], "did you mean 'mini'"),
        (["--budget", "1ms", "--data", "digit"], "did you mean 'digits'"),
        (
            ["--budget", "1ms", "--penalty", "mul#lag"],
            "is not one of 'lagrangian', 'add#linear', 'mul#log'",
        ),
        (["--budget", "1ms", "--binarisation", "three"], "Invalid value for '--binarisation'"),
        (["--budget", "1ms", "--steps", "0"], "Invalid value for '--steps'"),
        (["--budget", "1ms", "--strategy", "magic"], "Invalid value for '--strategy'"),
        (["--budgett", "1ms"], "No such option"),
    ],
)
def test_words_that_are_off_are_one_line_and_exit_code_2(invoke, mini_csv, words, said):
    space = [] if "--space" in words else ["--space", "mini"]
    code, out, err = invoke(lat_search, "--target", mini_csv, *space, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("lat-search: ")
    assert "Traceback" not in err


def test_an_unknown_target_lists_cards_and_tables(invoke):
    code, _, err = invoke(lat_search, "--target", "cpuu", "--budget", "1ms")
    assert code == 2
    assert "did you mean 'cpu'" in err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: "", "format version unknown"),
        (lambda text: text[: len(text) // 2], "broken row"),
        (lambda text: text.replace("format: 1", "format: 9"), "format version 9"),
        (lambda text: text + text.splitlines()[-1] + "\n", "is in the table twice"),
    ],
)
def test_a_broken_table_is_named_and_exit_code_1(invoke, mini_csv, damage, said):
    mini_csv.write_text(damage(mini_csv.read_text()))
    code, _, err = invoke(lat_search, "--target", mini_csv, "--space", "mini", "--budget", "1ms")
    assert code == 1
    assert said in err
    assert "far-away.csv" in err


def test_a_table_that_lacks_an_operator_names_it_and_the_way_out(invoke, mini_csv):
    words = ["--target", mini_csv, "--space", "mini", "--resolution", "48", "--budget", "1ms"]
    code, _, err = invoke(lat_search, *words)
    assert code == 1
    assert "40 operator(s) are missing from" in err
    assert "lat-profile --device phone --space mini --resolution 48 --classes 10 there" in err
    assert "or predict them: --predicted" in err


def test_a_search_without_the_device_is_predicted_and_says_so(invoke, mini_csv, tmp_path):
    words = ["--target", mini_csv, *QUICK, "--budget", "400us", "--out", "run"]
    code, out, _ = invoke(lat_search, *words)
    assert code == 0
    assert "not measured" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["measured_ms"] is None
    assert result["predicted_ms"] <= 0.4
    assert result["meets_budget"] is True
    network = NetworkSpec.load(tmp_path / "run" / "network.json")
    assert LatencyTable.load(mini_csv).predict(network).ms == pytest.approx(result["predicted_ms"])
    session = onnxruntime.InferenceSession(tmp_path / "run" / "model.onnx")
    assert session.run(None, {"input": np.zeros((1, 3, 32, 32), np.float32)})[0].shape == (1, 10)
    needed = "target space strategy budget_ms predicted_ms measured_ms valid_accuracy macs params"
    assert set(needed.split()) <= set(result)

    code, _, err = invoke(lat_search, *words)
    assert code == 2
    assert "run holds another run" in err
    assert invoke(lat_search, *words, "--overwrite")[0] == 0
    code, _, err = invoke(lat_search, *words, "--resume", "--seed", "1")
    assert code == 2
    assert "another seed" in err


def test_budgets_of_a_target_and_of_sizes_hold_together(invoke, mini_csv):
    words = ["--target", mini_csv, *QUICK, "--budget", "400us", "--budget", "params=40%"]
    code, out, err = invoke(lat_search, *words, "--budget", "macs=9M", "--out", "run", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert [budget["name"] for budget in result["budgets"]] == [str(mini_csv), "params", "macs"]
    assert all(budget["meets"] for budget in result["budgets"])
    assert result["params"] <= result["budgets"][1]["limit"]
    assert result["macs"] <= 9e6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "params=3M"], "no budget for the target"),
        (["--budget", "1ms", "--budget", "2ms"], "two budgets for"),
        (["--budget", "1ms", "--budget", "macs=1"], "is below the smallest network"),
        (
            ["--budget", "1ms", "--budget", "memory=1kB"],
            "every network of the space takes at least",
        ),
        (
            ["--budget", "1ms", "--strategy", "proxyless-r", "--reward", "most"],
            "Invalid value for '--reward'",
        ),
        (["--pareto", "1"], "Invalid value for '--pareto'"),
        (["--pareto", "3", "--from", "nowhere", "--out", "f"], "no such checkpoint"),
        (["--budget", "1ms", "--measure-as-you-go"], "nothing can be measured as you go"),
        (["--budget", "1ms", "--reward", "mul"], "--reward needs --strategy proxyless-r"),
        (
            ["--budget", "1ms", "--strategy", "proxyless-r", "--binarisation", "full"],
            "--binarisation needs --strategy proxyless-g",
        ),
        (
            ["--budget", "1ms", "--strategy", "evolution", "--penalty", "lagrangian"],
            "--penalty needs --strategy proxyless-g or proxyless-r",
        ),
        (["--pareto", "3", "--baselines", "2"], "leave out --baselines"),
        (
            ["--range", "--steps", "9", "--out", "r"],
            "--range does not train: leave out --out, --steps",
        ),
        (["--range", "--retrain", "zoo:resnet18"], "leave out --space, --range"),
        (
            ["--retrain", "zoo:resnet18", "--budget", "1ms", "--pareto", "3", "--predicted"],
            "--retrain does not search: leave out --budget, --space, --predicted, --pareto",
        ),
    ],
)
def test_words_of_several_budgets_and_fronts_that_are_off(invoke, mini_csv, words, said):
    code, _, err = invoke(lat_search, "--target", mini_csv, "--space", "mini", *words)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("strategy", ["proxyless-r", "evolution"])
def test_every_strategy_ends_in_a_network_within_the_budget(invoke, mini_csv, strategy):
    words = ["--target", mini_csv, *QUICK, "--budget", "400us", "--strategy", strategy, "--json"]
    code, out, err = invoke(lat_search, *words, "--out", "run")
    assert code == 0, err
    result = json.loads(out)
    assert result["strategy"] == strategy
    assert result["predicted_ms"] <= 0.4


def test_a_front_comes_out_of_a_trained_supernet_without_training(
    invoke, mini_csv, tmp_path, monkeypatch
):
    monkeypatch.setattr("search.derivation.fitness._IMAGES", 16)
    words = ["--target", mini_csv, "--space", "mini"]
    assert invoke(lat_search, *words, "--steps", "6", "--pareto", "2", "--out", "a")[0] == 0
    trained = (tmp_path / "a" / "checkpoint" / "search.pt").read_bytes()
    front = ["--pareto", "4", "--from", "a", "--budget", "90%", "--out", "b", "--json"]
    code, out, err = invoke(lat_search, *words, *front)
    assert code == 0, err
    assert not (tmp_path / "b" / "checkpoint").exists()
    assert (tmp_path / "a" / "checkpoint" / "search.pt").read_bytes() == trained
    table, space = LatencyTable.load(mini_csv), spaces.load("mini")
    rows = json.loads(out)["networks"]
    assert len(rows) == 4
    taken = []
    for row in rows:
        network = NetworkSpec.load(tmp_path / "b" / row["network"])
        taken.append(table.predict(network).ms)
        assert taken[-1] <= row["budget_ms"] * (1 + 1e-9)
        assert network.ops == space.network(row["choices"]).ops
    assert taken == sorted(taken)
    code, _, err = invoke(lat_search, *words, *front[:4], "--resolution", "48", "--out", "c")
    assert code == 1
    assert "are missing from" in err


def test_a_front_that_measures_as_it_goes_tells_what_it_measured_and_left_out(
    invoke, mini_csv, monkeypatch
):
    monkeypatch.setattr("search.derivation.fitness._IMAGES", 16)
    rules = "[measuring]\nsessions = 2\nmax_sessions = 2\nmin_samples = 6\nmax_samples = 8\n"
    Path("replayed.toml").write_text(
        f"transport = 'replay'\n[replay]\ntable = '{mini_csv}'\n{rules}"
    )
    told = {"a.png": "cannot identify image"}
    monkeypatch.setattr("search.data.Dataset.broken", told)
    words = ["--target", "replayed.toml", "--space", "mini", "--steps", "4", "--pareto", "2"]
    code, out, err = invoke(lat_search, *words, "--measure-as-you-go", "--out", "a")
    assert code == 0, err
    assert "of 41 operators during the search" in err
    assert "broken images left out: 1, e.g. a.png: cannot identify image" in err
    assert "not measured" not in out
    rows = json.loads(Path("a/pareto.json").read_text())["networks"]
    assert all(row["meets"] and row["measured_high_ms"] <= row["budget_ms"] for row in rows)


def test_a_network_found_is_trained_from_scratch_and_exported(invoke, mini_csv, tmp_path):
    words = ["--target", mini_csv, *QUICK, "--budget", "400us"]
    assert invoke(lat_search, *words, "--out", "run")[0] == 0
    again = ["--retrain", "run", "--train-steps", "4", "--out", "trained", "--json"]
    code, out, err = invoke(lat_search, *again)
    assert code == 0, err
    answer = json.loads(out)
    assert answer == json.loads((tmp_path / "trained" / "retrain.json").read_text())
    assert answer["settings"] == MINI.with_choices(train_steps=4).as_dict  # as of its search
    images = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "trained" / "model.onnx")
    (scores,) = session.run(None, {"input": images})
    interpreter = Interpreter(str(tmp_path / "trained" / "model.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(
        interpreter.get_input_details()[0]["index"], images.transpose(0, 2, 3, 1).copy()
    )
    interpreter.invoke()
    mobile = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(mobile, scores, rtol=1e-3, atol=1e-4)
    assert invoke(lat_search, *again)[0] == 2  # another run is in the folder
    code, _, err = invoke(lat_search, "--retrain", "zoo:resnet18", "--out", "z")
    assert code == 2
    assert "cannot be trained" in err


@pytest.mark.parametrize(
    ("name", "resolution", "size"),
    [
        ("zoo:proxyless_cifar", None, 32),
        ("zoo:mobilenet_v2", None, 224),
        ("zoo:mobilenet_v2", 64, 64),
    ],
)
def test_published_networks_are_of_their_own_resolution_where_none_is_asked(name, resolution, size):
    trained = network_to_train(name, resolution, classes=7)
    assert trained.input_shape == (size, size, 3)
    assert trained.ops[-1].out_channels == 7
    assert space_of(trained) == ""
    read = read_network(name, 1, USUAL, resolution=resolution)
    assert read.ops[:-1] == trained.ops[:-1]


def test_multiply_accumulates_are_told_of_one_image_of_a_batch(invoke, tmp_path):
    rows = {}
    for op in spaces.load("mini", batch=8).operators:
        ms = 0.002 + op.macs * 1e-8
        rows[op] = Measurement(ms, 0.005 * ms, 50, ms)
    setting = Setting("far", "a GPU", runtime="someruntime 2", batch=8, transport="ssh")
    LatencyTable(setting, rows).save(tmp_path / "far.csv")
    words = ["--target", tmp_path / "far.csv", *QUICK, "--budget", "50%", "--budget", "macs=9M"]
    code, out, err = invoke(lat_search, *words, "--out", "run", "--json")
    assert code == 0, err
    result = json.loads(out)
    network = NetworkSpec.load(tmp_path / "run" / "network.json")
    assert network.batch == 8
    assert result["macs"] == network.macs / 8 <= 9e6
    assert result["budgets"][1]["predicted"] == result["macs"]
    told = dict(summary(SavedRun.load(tmp_path / "run")))
    assert told["MACs"] == f"{result['macs'] / 1e6:.1f} M"


def test_a_memory_budget_is_in_the_certificate(invoke, mini_csv, tmp_path):
    words = ["--target", mini_csv, *QUICK, "--budget", "400us", "--budget", "memory=200kB"]
    code, out, err = invoke(lat_search, *words, "--out", "run")
    assert code == 0, err
    network = NetworkSpec.load(tmp_path / "run" / "network.json")
    memory = json.loads((tmp_path / "run" / "result.json").read_text())["budgets"][-1]
    assert (memory["name"], memory["unit"], memory["limit"]) == ("memory", "bytes", 2e5)
    assert memory["predicted"] == memory_of(network) <= 2e5
    assert "memory budget" in out
    assert "200 kB" in out
    assert format_bytes(memory["predicted"]) in out


def test_a_command_that_measures_nothing_loads_no_onnx():
    code = "import sys, search.commands.predict_command; sys.exit('onnx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_baselines_are_as_fast_as_the_network_found(invoke, mini_csv):
    words = ["--target", mini_csv, *QUICK, "--budget", "400us", "--baselines", "2", "--json"]
    code, out, err = invoke(lat_search, *words, "--out", "run")
    assert code == 0, err
    result = json.loads(out)
    random = result["baselines"][0]
    assert random["name"] == "random, best of 2"
    assert 0.9 * result["predicted_ms"] <= random["predicted_ms"] <= result["predicted_ms"]
    assert "no MobileNetV2 to compare with" in err  # its widths are far from that table


def test_predicted_operators_count_with_their_uncertainty(invoke, mini_csv, tmp_path):
    table = LatencyTable.load(mini_csv)
    blocks = [op for op in table if op.kind == "mbconv"]
    rows = {op: row for op, row in table.rows.items() if op not in blocks[::3]}
    LatencyTable(table.setting, rows).save(tmp_path / "partial.csv")
    words = ["--target", tmp_path / "partial.csv", *QUICK, "--budget", "400us", "--json"]
    assert invoke(lat_search, *words, "--out", "a")[0] == 1  # not without being told to
    code, out, err = invoke(lat_search, *words, "--predicted", "--out", "b")
    assert code == 0, err
    assert "operators are predicted, not measured" in err
    result, space = json.loads(out), spaces.load("mini")
    model = fit(LatencyTable.load(tmp_path / "partial.csv"))
    careful = candidate_latency(model, space.blocks, space.fixed, sigmas=2.0)
    assert result["predicted_ms"] < careful.predict(result["choices"])[0] <= 0.4


def test_a_budget_above_the_slowest_network_goes_on(invoke, mini_csv):
    words = ["--target", mini_csv, *QUICK, "--budget", "1s", "--out", "run", "--json"]
    code, out, err = invoke(lat_search, *words)
    assert code == 0
    assert "above the slowest network" in err
    assert json.loads(out)["meets_budget"] is True


def test_a_folder_that_cannot_be_written_to_is_refused(invoke, mini_csv, tmp_path):
    (tmp_path / "file").write_text("")
    words = ["--target", mini_csv, *QUICK, "--budget", "400us", "--out", tmp_path / "file" / "x"]
    code, _, err = invoke(lat_search, *words)
    assert code == 2
    assert "cannot be written to" in err
