"""`lat-profile`: cards, devices that are not at hand, and tables that are checked again."""

import json
import re
from dataclasses import replace

import pytest

from devices.card import DeviceCard
from devices.replay import ReplayDevice
from latency import LatencyTable, Measurement, OpSpec, Setting, machine
from latency.errors import DeviceError
from latency.graphs.fusion import SUITE
from latency.tables.calibration import Calibration, Validation
from latency.tables.measurement import Origin
from search import spaces
from search.commands.profile_command import main as lat_profile
from search.commands.search_command import main as lat_search
from search.jobs import bench
from search.jobs.bench import Bench
from search.jobs.profiling import measure_missing

pytestmark = pytest.mark.identity


@pytest.fixture
def replay_card(tmp_path, mini_csv):
    """A card whose device answers from a table; `devices` share the work."""

    def write(devices=1):
        path = tmp_path / "replayed.toml"
        path.write_text(
            'transport = "replay"\n'
            "[measuring]\nmax_samples = 12\nmax_sessions = 3\n"
            f"[replay]\ntable = '{mini_csv}'\ndevices = {devices}\n"
        )
        return path

    return write


@pytest.mark.parametrize("devices", [1, 3])
def test_a_replayed_profile_has_the_numbers_of_its_table(
    invoke, replay_card, mini_csv, tmp_path, devices
):
    words = ["--device", replay_card(devices), "--space", "mini", "--out", tmp_path / "o"]
    code, out, err = invoke(lat_profile, *words, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["operators"] == 41
    assert answer["failed"] == {}
    table, truth = LatencyTable.load(answer["table"]), LatencyTable.load(mini_csv)
    for op in table:
        assert table[op].median_ms == pytest.approx(truth[op].median_ms, rel=0.02)
        assert table[op].sessions >= 3
        assert table[op].converged is not None
    said = table.measured["mini@32"]
    assert ("3 devices agree on 2 anchors" in said) == (devices == 3)
    assert not list((tmp_path / "o").glob("*.journal"))


@pytest.fixture
def two_spaces(tmp_path):
    """A card whose device answers for `mini` and for `mini-tree`, in as few samples as may be."""
    ops = [op for name in ("mini", "mini-tree") for op in spaces.load(name).operators]
    rows = {op: Measurement(0.01 + op.macs * 1e-8, 1e-6, 50, 0.01) for op in ops}
    setting = Setting("phone", "some phone", "", "someruntime 2", transport="adb")
    LatencyTable(setting, rows).save(tmp_path / "both.csv")
    rules = "sessions = 1\nmax_sessions = 1\nmin_samples = 6\nmax_samples = 6\n"
    path = tmp_path / "both.toml"
    path.write_text(
        f'transport = "replay"\n[measuring]\n{rules}max_network_samples = 6\n'
        f"[replay]\ntable = '{tmp_path / 'both.csv'}'\n"
    )
    return path


def test_a_space_that_is_resumed_leaves_what_another_had_measured(
    invoke, two_spaces, appended, tmp_path
):
    words = ["--device", two_spaces, "--out", tmp_path / "o", "--json"]
    appended.at = 100
    assert invoke(lat_profile, *words, "--space", "mini")[0] == 1
    (journal,) = (tmp_path / "o").glob("*.journal")
    appended.at = None
    assert invoke(lat_profile, *words, "--space", "mini-tree", "--resume")[0] == 0
    assert journal.read_text().count("workload") == 100
    appended.clear()
    assert invoke(lat_profile, *words, "--space", "mini", "--resume")[0] == 0
    lacking = 6 * (41 + 28) - 100
    assert lacking <= len(appended) <= lacking + 16  # beside the last few, some are made again
    assert not list((tmp_path / "o").glob("*.journal"))


def test_a_resume_with_other_classes_goes_on_with_the_operators_and_with_no_network(
    invoke, two_spaces, appended, tmp_path
):
    truth = LatencyTable.load(tmp_path / "both.csv")
    many = spaces.load("mini", classes=20_000)
    head = {op: Measurement(20.0, 1e-3, 50, 20.0) for op in truth.missing(many.operators)}
    replace(truth, rows={**truth.rows, **head}).save(tmp_path / "both.csv")
    truth = LatencyTable.load(tmp_path / "both.csv")
    words = ["--device", two_spaces, "--space", "mini", "--out", tmp_path / "o", "--json"]
    appended.at = 6 * (41 + 28) - 1
    assert invoke(lat_profile, *words, "--classes", 10)[0] == 1
    appended.at = None
    appended.clear()
    code, out, err = invoke(lat_profile, *words, "--classes", 20_000, "--resume")
    assert code == 0, err
    table = LatencyTable.load(json.loads(out)["table"])
    network = many.network(many.largest)
    assert table.predict(network).ms == pytest.approx(truth.predict(network).ms, rel=0.01)
    known = set(spaces.load("mini", classes=10).operators)
    assert known & set(many.operators)
    assert sum(name in {op.key for op in known} for name in appended) <= 6 * 15  # beside the head


def test_what_is_killed_in_its_second_space_measures_neither_again(
    invoke, two_spaces, appended, tmp_path
):
    words = ["--device", two_spaces, "--space", "mini", "--space", "mini-tree"]
    words += ["--out", tmp_path / "o", "--json"]
    appended.at = 6 * (41 + 28) + 50
    assert invoke(lat_profile, *words)[0] == 1
    appended.at = None
    assert not list((tmp_path / "o").glob("*.old"))
    before = len(appended)
    code, out, _ = invoke(lat_profile, *words, "--resume")
    assert code == 0
    assert {"mini@32", "mini-tree@32"} == set(json.loads(out)["validation"])
    again = [name for name in appended[before:] if name.startswith(("mbconv", "mini@32-"))]
    assert again == []
    assert not list((tmp_path / "o").glob("*.journal"))


def test_a_fleet_goes_on_without_the_device_that_is_gone(
    invoke, replay_card, appended, tmp_path, monkeypatch
):
    connect_all = bench.connect_all
    words = ["--device", replay_card(devices=2), "--space", "mini", "--out", tmp_path, "--json"]
    appended.at = 700
    assert invoke(lat_profile, *words)[0] == 1
    journals = list(tmp_path.glob("*.journal"))
    assert len(journals) == 2
    kept = [sample for sample in appended if journals[1].read_text().count(f'"{sample}"') == 12]

    class Gone(ReplayDevice):
        @property
        def setting(self):
            raise DeviceError("it is unplugged")

    def without_the_second(card):
        first, second = connect_all(card)
        second.__class__ = Gone
        return first, second

    monkeypatch.setattr(bench, "connect_all", without_the_second)
    appended.clear()
    appended.at = None
    code, out, err = invoke(lat_profile, *words, "--resume")
    assert code == 0, err
    assert "replay-1 cannot be reached (it is unplugged): continuing without it" in err
    assert kept
    assert not set(kept) & set(appended)
    assert json.loads(out)["operators"] == 41
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.parametrize("way", [["--suite", "kernels"], ["--few-shot", 3]])
def test_what_only_one_device_of_a_fleet_measures_is_said(
    invoke, replay_card, mini_csv, monkeypatch, way
):
    table = LatencyTable.load(mini_csv)
    monkeypatch.setattr("search.jobs.profiling.profile_kernels", lambda *_: table)
    monkeypatch.setattr(
        "search.commands.profile_command.profile_few_shot", lambda *_, **options: table
    )
    code, _, err = invoke(lat_profile, "--device", replay_card(devices=2), *way)
    assert code == 0, err
    assert f"{way[0]} measures on one device: replay-0" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--suite", "kernels", "--resolution", 96], "not a space: leave out --resolution"),
        (["--suite", "kernels", "--width", 2.0], "not a space: leave out --width"),
        (["--suite", "kernels", "--classes", 5], "not a space: leave out --classes"),
        (["--suite", "kernels", "--space", "mini"], "not a space: leave out --space"),
        (["--suite", "kernels", "--few-shot", 5], "not a space: leave out --few-shot"),
        (["--suite", "kernels", "--from", "x"], "not a space: leave out --from"),
        (["--suite", "conv"], "Invalid value for '--suite'"),
        (["--from", "cpu"], "--from needs --few-shot N"),
        (["--list", "--device", "gpu"], "--list shows all cards: leave out --device"),
        (["--check", "--out", "x"], "--check measures nothing: leave out --out"),
        (["--verify", "--resume"], "--verify measures a table again: leave out --resume"),
        (["--verify", "--check"], "--check measures nothing: leave out --verify"),
        (["--width", "nan"], "--width nan: must be a positive number"),
        (["--width", "inf"], "--width inf: must be a positive number"),
        (["--width", "0"], "--width 0: must be a positive number"),
        (["--width", "-1"], "--width -1: must be a positive number"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(invoke, words, said):
    code, out, err = invoke(lat_profile, *words)
    assert (code, out) == (2, "")
    assert said in err


def test_what_a_table_lacks_is_kept_where_another_operator_of_it_fails(mini_csv, tmp_path):
    truth = LatencyTable.load(mini_csv)
    *known, good, bad = truth
    rows = {op: truth[op] for op in known}
    table = replace(truth, rows=rows, calibrations={"mini@32": Calibration()})
    replayed = replace(truth, rows={**rows, good: truth[good]})
    path = tmp_path / "t.csv"
    there = Bench(DeviceCard(name="x"), (ReplayDevice(replayed),), path)
    with pytest.raises(DeviceError, match=rf"1 of 2 .*{re.escape(bad.key)}.*t\.csv"):
        measure_missing(there, table, "mini@32", [bad, good])
    assert set(LatencyTable.load(path)) == {*known, good}
    assert not list(tmp_path.glob("*.journal"))


def test_missing_operators_that_were_measured_before_a_kill_are_not_measured_again(
    mini_csv, tmp_path, appended
):
    truth = LatencyTable.load(mini_csv)
    *known, first, second = truth
    table = replace(
        truth,
        rows={op: truth[op] for op in known},
        calibrations={"mini@32": Calibration()},
    )
    there = Bench(DeviceCard(name="x"), (ReplayDevice(truth),), tmp_path / "t.csv")
    appended.at = 10
    with pytest.raises(KeyboardInterrupt):
        measure_missing(there, table, "mini@32", [first, second])
    appended.at = None
    again = measure_missing(there, table, "mini@32", [first, second])
    assert set(again) == set(truth)
    assert len(appended) == 2 * there.card.measuring.min_samples


def test_the_list_shows_every_card_its_reachability_and_its_table(invoke, own_data_folder):
    code, out, _ = invoke(lat_profile, "--list", "--json")
    assert code == 0
    cards = {card["card"]: card for card in json.loads(out)}
    shipped = "android cpu cpu-litert cpu-torch gpu pixel1 raspberrypi ssh-example"
    assert set(shipped.split()) <= set(cards)
    assert cards["cpu"]["reachable"]
    assert not cards["ssh-example"]["reachable"]
    assert cards["ssh-example"]["why"]


def test_the_list_tells_a_tables_age_and_error_and_a_users_own_cards(
    invoke, replay_card, own_data_folder, tmp_path
):
    folder = tmp_path / "user-data" / "cards"
    folder.mkdir(parents=True)
    replay_card().rename(folder / "mine.toml")
    assert invoke(lat_profile, "--device", "mine", "--space", "mini")[0] == 0
    code, out, _ = invoke(lat_profile, "--list")
    assert code == 0
    assert "mine" in out
    code, out, _ = invoke(lat_profile, "--list", "--json")
    (mine,) = (card for card in json.loads(out) if card["card"] == "mine")
    assert mine["reachable"]


def test_a_check_names_each_step_and_measures_nothing(invoke, tmp_path):
    code, out, _ = invoke(lat_profile, "--device", "cpu", "--check", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["ready"]
    assert [step["ok"] for step in answer["steps"]] == [True] * 4
    assert machine.hardware() in answer["steps"][1]["found"]
    assert not (tmp_path / "user-data").exists()


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("ssh-example", "board.example:22 cannot"),
        ("android", "benchmark_model"),
    ],
)
def test_a_check_says_what_is_missing(invoke, card, said):
    code, out, err = invoke(lat_profile, "--device", card, "--check")
    assert code == 1
    assert "MISSING" in out
    assert said in out
    assert "is not ready to be measured" in err
    assert "Traceback" not in err


def test_what_is_unsteady_is_said_once_in_lines_of_80_columns(invoke, mini_csv, tmp_path):
    table = LatencyTable.load(mini_csv)
    for op, row in table.rows.items():
        table.rows[op] = replace(row, ci95_ms=0.3 * row.median_ms)
    table.save(mini_csv)
    words = f"[replay]\ntable = '{mini_csv}'\n"
    (tmp_path / "noisy.toml").write_text(
        'transport = "replay"\n[measuring]\nmax_samples = 15\nmax_sessions = 3\n' + words
    )
    code, out, _ = invoke(lat_profile, "--device", tmp_path / "noisy.toml", "--space", "mini")
    assert code == 0
    assert out.count("set the governor to performance") == 1
    assert "and 36 more" in " ".join(out.split())
    prose = (line for line in out.splitlines() if "/" not in line)
    assert max(map(len, prose)) <= 80


def test_verify_finds_that_a_device_has_become_slower(invoke, replay_card, mini_csv):
    assert invoke(lat_profile, "--device", replay_card(), "--space", "mini")[0] == 0
    code, out, _ = invoke(lat_profile, "--device", replay_card(), "--verify", "--json")
    assert code == 0
    assert json.loads(out)["significant"] is False
    text = mini_csv.read_text().splitlines()
    start = next(i for i, line in enumerate(text) if line.startswith("kind,"))
    column = text[start].split(",").index("latency_ms")
    for i in range(start + 1, len(text)):
        cells = text[i].split(",")
        cells[column] = f"{1.1 * float(cells[column]):.7f}"
        text[i] = ",".join(cells)
    mini_csv.write_text("\n".join(text) + "\n")
    code, out, _ = invoke(lat_profile, "--device", replay_card(), "--verify", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["significant"] is True
    assert answer["drift"] == pytest.approx(0.1, abs=0.02)
    code, out, _ = invoke(lat_profile, "--device", replay_card(), "--verify")
    assert "the table is out of date" in out


def test_verify_looks_where_the_profile_was_written_and_repeats_the_users_words(
    invoke, replay_card, tmp_path
):
    words = ["--device", replay_card(), "--out", tmp_path / "o"]
    code, _, err = invoke(lat_profile, *words, "--verify")
    assert code == 1
    assert f"no table of replayed as it is set up now in {tmp_path / 'o'}" in err
    said = f"lat-profile --device {tmp_path / 'replayed.toml'} --out {tmp_path / 'o'}"
    assert err.endswith(said)
    assert invoke(lat_profile, *words, "--space", "mini")[0] == 0
    (table,) = (tmp_path / "o").glob("*.csv")
    for out in (tmp_path / "o", table):
        code, out, err = invoke(lat_profile, *words[:2], "--out", out, "--verify", "--json")
        assert code == 0, err
        assert json.loads(out)["table"] == str(table)
    other = replace(LatencyTable.load(table), setting=Setting("other", "other", runtime="r 1"))
    other.save(table)
    code, _, err = invoke(lat_profile, *words, "--verify")
    assert code == 1
    assert "another setting" in err


def test_verify_without_a_table_says_how_to_measure_one(invoke, replay_card):
    code, _, err = invoke(lat_profile, "--device", replay_card(), "--verify")
    assert code == 1
    assert "there is no table of replayed" in err


def test_a_phone_without_phone_or_table_names_both_ways_out(invoke):
    code, _, err = invoke(lat_search, "--target", "pixel1", "--budget", "80ms")
    assert code == 1
    assert "lat-profile --device pixel1" in err
    assert "lat-table import" in err


def test_a_device_out_of_reach_stands_for_its_newest_table(invoke, mini_csv, own_data_folder):
    table = LatencyTable.load(mini_csv)
    setting = Setting("ssh-example", "some board", runtime="x 1", transport="ssh")
    path = mini_csv.parent / "user-data" / "board.csv"
    LatencyTable(setting, table.rows).save(path)
    words = ["--target", "ssh-example", "--space", "mini", "--range", "--json"]
    code, out, err = invoke(lat_search, *words)
    assert code == 0
    assert "cannot be reached" in err
    assert "using its table" in err
    assert json.loads(out)["fastest_ms"] > 0


def test_tables_are_named_by_all_that_sets_them_apart():
    space = spaces.load("mini")
    assert len(space.operators) == 41
    usual = Setting("gpu", "NVIDIA H200", runtime="torch 2.11.0")
    other = Setting("gpu", "NVIDIA H200", "", "torch 2.11.0", 2, "float16", 8)
    assert usual.stem == "nvidia-h200-torch-2.11.0"
    assert other.stem == "nvidia-h200-torch-2.11.0-2-threads-float16-batch-8"


@pytest.mark.parametrize("what", [["--space", "mini"], ["--suite", "kernels"]])
def test_a_table_of_another_setting_is_refused_before_anything_is_measured(
    invoke, replay_card, mini_csv, tmp_path, monkeypatch, what
):
    other = LatencyTable.load(mini_csv)
    setting = replace(other.setting, device="somebody-elses", runtime="another 1")
    replace(other, setting=setting).save(tmp_path / "there.csv")
    monkeypatch.setattr("search.jobs.profiling.profile", None)
    monkeypatch.setattr("search.jobs.profiling.profile_kernels", None)
    words = ["--device", replay_card(), "--out", tmp_path / "there.csv"]
    code, out, err = invoke(lat_profile, *words, *what)
    assert (code, out) == (1, "")
    assert "cannot be merged; write to another file" in err


def test_a_suite_of_kernels_replaces_the_one_before_and_nothing_else(
    invoke, replay_card, mini_csv, tmp_path, monkeypatch
):
    measured = LatencyTable.load(mini_csv)
    conv, other = (OpSpec("conv", 14, 14, 32, 32, kernel) for kernel in (3, 5))
    own = next(op for op in measured if op.kind == "conv")
    validation = Validation(3, 0.1, 0.2, 0.1)

    def suite(device, *_):
        """A kernel that no suite had, and one that a space has too."""
        traced = Measurement(9.0, 0.1, 5, 9.0, origin=Origin.INSIDE_NETWORKS)
        rows = dict.fromkeys((drawn, own), traced)
        return LatencyTable(device.setting, rows, validations={SUITE: validation})

    monkeypatch.setattr("search.jobs.profiling.profile_kernels", suite)
    words = ["--device", replay_card(), "--out", tmp_path / "o", "--json"]
    code, out, _ = invoke(lat_profile, *words, "--space", "mini")
    profiled = LatencyTable.load(json.loads(out)["table"])
    for drawn in (conv, other):
        code, out, err = invoke(lat_profile, *words, "--suite", "kernels")
        assert code == 0, err
        table = LatencyTable.load(json.loads(out)["table"])
        assert set(table) == {*measured, drawn}
        assert set(table.validations) == {"mini@32", SUITE}
        for op in measured:
            assert table[op] == profiled[op]
            assert table.in_network_ms[op] == profiled.in_network_ms[op]
    code, out, _ = invoke(lat_profile, *words[:-1], "--suite", "kernels")
    assert f"{len(measured)} operators; 95 % interval" in out
    assert "1 kernels of the suite; 95 % interval: median ± 1.1 %" in out
    assert Origin.INSIDE_NETWORKS.value not in out
