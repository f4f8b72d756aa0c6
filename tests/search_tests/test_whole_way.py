"""From a profile to a network that is measured, on this machine, also after a kill."""

import json
import time

import forked
import pytest

from latency import LatencyTable
from search.commands.profile_command import main as lat_profile
from search.commands.search_command import main as lat_search

QUICK = ("--steps", "6", "--train-steps", "3", "--baselines", "0")


def test_kill_9_of_a_search_and_resume_end_like_an_unbroken_run(mini_csv, tmp_path):
    words = ["--target", mini_csv, "--space", "mini", "--steps", "12", "--train-steps", "4"]
    words += ["--budget", "400us", "--baselines", "0", "--json"]
    whole = forked.start_search([*words, "--out", tmp_path / "a"], tmp_path / "whole")
    whole.join()
    assert whole.exitcode == 0
    broken = forked.start_search([*words, "--out", tmp_path / "b"], tmp_path / "broken")
    checkpoint = tmp_path / "b" / "checkpoint"
    deadline = time.monotonic() + 120
    while not (checkpoint / "search.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    broken.kill()
    broken.join()
    assert not (tmp_path / "b" / "result.json").exists()
    words += ["--out", tmp_path / "b", "--resume"]
    resumed = forked.start_search(words, tmp_path / "resumed")
    resumed.join()
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("whole", "resumed"))
    for key in ("choices", "probabilities", "history", "valid_accuracy", "predicted_ms"):
        assert one[key] == other[key], key
    files = [(tmp_path / run / "model.onnx").read_bytes() for run in ("a", "b")]
    assert files[0] == files[1]


def test_the_whole_way_on_this_machine(invoke, quick_cpu, tmp_path):
    """Profile the real CPU, search, train, export, and measure on the real CPU."""
    words = ["--device", quick_cpu, "--space", "mini", "--out", tmp_path / "tables", "--json"]
    code, out, _ = invoke(lat_profile, *words)
    assert code == 0
    profiled = json.loads(out)
    assert profiled["operators"] == 41
    table = LatencyTable.load(profiled["table"])
    assert table.setting.device == quick_cpu
    assert table.validations["mini@32"].networks == 12
    target = ["--target", profiled["table"], "--space", "mini"]
    code, out, _ = invoke(lat_search, *target, "--range", "--json")
    reach = json.loads(out)
    budget_ms = (reach["fastest_ms"] + reach["slowest_ms"]) / 2
    code, out, err = invoke(
        lat_search, *target, *QUICK, "--budget", f"{budget_ms}ms", "--out", "run", "--json"
    )
    result = json.loads(out)
    assert result["measured_ms"] > 0
    assert result["meets_budget"] == (result["measured_high_ms"] <= budget_ms)
    assert code == (0 if result["meets_budget"] else 1), err


def test_a_target_without_a_table_is_profiled_first_with_a_notice(invoke, tmp_path, at_once):
    rules = "[measuring]\nsessions = 2\nmax_sessions = 2\nmax_samples = 12\n"
    (tmp_path / "mine.toml").write_text("threads = 1\n" + rules)
    words = ["--target", "mine.toml", "--space", "mini", "--range", "--json"]
    code, out, err = invoke(lat_search, *words)
    assert code == 0
    assert "no measurements of mini@32 on mine.toml yet: profiling it first" in err
    reach = json.loads(out)
    assert reach.pop("space") == "mini@32"
    assert 0 < reach["fastest_ms"] < reach["slowest_ms"]
    code, out, err = invoke(lat_search, *words)
    again = json.loads(out)
    assert {key: again[key] for key in reach} == pytest.approx(reach, rel=1e-4)
    assert "profiling" not in err


def test_profiling_again_with_another_space_keeps_the_first(invoke, quick_cpu, tmp_path):
    words = ["--device", quick_cpu, "--space", "mini", "--out", tmp_path / "t.csv", "--json"]
    assert invoke(lat_profile, *words)[0] == 0
    first = set(LatencyTable.load(tmp_path / "t.csv"))
    assert invoke(lat_profile, *words, "--resolution", "24")[0] == 0
    both = LatencyTable.load(tmp_path / "t.csv")
    assert first < set(both)
    assert set(both.validations) == {"mini@32", "mini@24"}
