"""`lat-profile --few-shot`: a table of a device from ten of its networks and others' tables."""

import json
from dataclasses import replace

import numpy as np
import pytest

from latency import LatencyTable, Measurement, Setting
from latency.tables.library import shipped_folder
from search import spaces
from search.commands.predict_command import main as lat_predict
from search.commands.profile_command import main as lat_profile
from search.commands.search_command import main as lat_search
from search.commands.table_command import main as lat_table


@pytest.fixture
def replay_card(tmp_path, mini_csv):
    """A card, known by name, of a device that answers from a table of `mini`."""
    folder = tmp_path / "user-data" / "cards"
    folder.mkdir(parents=True)
    rules = "[measuring]\nmin_samples = 6\nmax_samples = 8\nsessions = 2\nmax_sessions = 2\n"
    (folder / "newcomer.toml").write_text(
        f"transport = \"replay\"\n{rules}[replay]\ntable = '{mini_csv}'\n"
    )
    return "newcomer"


@pytest.fixture
def sources(tmp_path):
    """Two tables of other devices: one counts bytes, the other bytes and multiply-accumulates."""
    paths = []
    for name, per_mac in (("bytes", 0.0), ("both", 3e-8)):
        rows = {}
        for op in spaces.load("mini").operators:
            ms = 0.004 + op.bytes * 1e-8 + op.macs * per_mac
            rows[op] = Measurement(ms, 0.005 * ms, 50, ms)
        paths.append(tmp_path / f"{name}.csv")
        LatencyTable(Setting(name, f"{name} hardware", runtime="r 1"), rows).save(paths[-1])
    return [word for path in paths for word in ("--from", path)]


def test_ten_networks_make_a_table_that_every_command_takes(
    invoke, replay_card, sources, mini_csv, tmp_path
):
    words = ["--device", replay_card, "--space", "mini", "--few-shot", 10, *sources, "--json"]
    code, out, err = invoke(lat_profile, *words)
    assert code == 0, err
    assert "10 networks of mini@32 are measured" in err
    answer = json.loads(out)
    said = "from bytes, both; 10 networks measured"
    assert answer["transferred"] == {"mini@32": said}
    table, truth = LatencyTable.load(answer["table"]), LatencyTable.load(mini_csv)
    assert not list((tmp_path / "user-data").glob("*.journal"))
    space = spaces.load("mini")
    assert not table.missing(space.operators)
    choices = space.random_choices(200, np.random.default_rng(1))
    networks = [space.network(row.tolist()) for row in choices]
    predicted = [table.predict(network) for network in networks]
    ms = np.array([truth.predict(network).ms for network in networks])
    errors = np.array([one.ms for one in predicted]) / ms - 1
    assert np.abs(errors).mean() < 0.03
    assert (
        np.mean([one.low_ms < m < one.high_ms for one, m in zip(predicted, ms, strict=True)]) > 0.9
    )

    (tmp_path / "n.json").write_text(space.network(space.largest).to_json())
    code, out, _ = invoke(lat_predict, "n.json", "--target", replay_card, "--json")
    assert code == 0
    answer = json.loads(out)
    assert {op["source"] for op in answer["ops"]} == {"predicted"}
    assert answer["transferred"] == {"mini@32": said}
    code, out, _ = invoke(lat_predict, "n.json", "--target", replay_card)
    assert f"cross-validated; transferred {said}" in out
    code, out, err = invoke(lat_search, "--target", replay_card, "--space", "mini", "--range")
    assert code == 0
    assert f"transferred {said}" in err
    code, out, _ = invoke(lat_profile, "--list", "--json")
    (mine,) = (card for card in json.loads(out) if card["card"] == replay_card)
    assert mine["transferred"] == {"mini@32": said}
    code, out, _ = invoke(lat_table, "show", replay_card)
    assert f"cross-validated; transferred {said}" in out
    code, _, err = invoke(lat_profile, "--device", replay_card, "--verify")
    assert code == 1
    assert "nothing to measure again" in err


def test_a_full_profile_replaces_the_transfer_and_is_never_replaced_by_one(
    invoke, replay_card, sources, tmp_path
):
    words = ["--device", replay_card, "--space", "mini", "--json"]
    few = [*words, "--few-shot", 4, *sources]
    code, out, err = invoke(lat_profile, *few)
    assert code == 0, err
    assert json.loads(out)["transferred"]
    code, out, err = invoke(lat_profile, *words)
    assert code == 0, err
    answer = json.loads(out)
    assert answer["transferred"] == {}
    assert answer["validation"]["mini@32"]["networks"] == 12
    assert not any(row.is_transferred for row in LatencyTable.load(answer["table"]).rows.values())
    code, _, err = invoke(lat_profile, *few)
    assert code == 2
    assert "measurements of every operator of" in err
    assert "write to another file: --out FILE.csv" in err


def test_without_from_all_tables_that_cover_the_space_are_taken(invoke, replay_card, tmp_path):
    words = ["--device", replay_card, "--space", "mini", "--few-shot", 3, "--out", tmp_path / "o"]
    code, out, err = invoke(lat_profile, *words)
    assert code == 0, err
    (path,) = (tmp_path / "o").glob("*.csv")
    (said,) = LatencyTable.load(path).transfers.values()
    assert all(table.stem in said for table in shipped_folder().glob("*.csv"))
    assert "cross-validated; transferred from" in " ".join(out.split())
    assert "41 operators transferred from other devices, not measured" in out


def test_what_was_measured_before_a_kill_is_not_measured_again(
    invoke, replay_card, sources, tmp_path, monkeypatch
):
    from devices.measuring.journal import Journal

    out = tmp_path / "o"
    words = ["--device", replay_card, "--space", "mini", "--few-shot", 5, *sources, "--out", out]
    appended: list = []
    append = Journal.append

    def killing(self, sample):
        if len(appended) == 20:
            raise KeyboardInterrupt
        appended.append(sample)
        append(self, sample)

    monkeypatch.setattr(Journal, "append", killing)
    code, _, err = invoke(lat_profile, *words)
    assert code == 1
    assert "--resume" in err
    (journal,) = out.glob("*.few-shot.journal")
    assert len(journal.read_text().splitlines()) == 21
    monkeypatch.setattr(Journal, "append", lambda self, sample: appended.append(sample))
    code, _, err = invoke(lat_profile, *words, "--resume", "--json")
    assert code == 0, err
    most = 5 * 8
    assert 5 * 6 <= len(appended) <= most
    assert not list(out.glob("*.journal"))


def test_what_cannot_be_meant_is_one_line_that_says_what_to_do(
    invoke, replay_card, sources, mini_csv, tmp_path
):
    words = ["--device", replay_card, "--space", "mini", "--out", tmp_path / "o"]
    for n in (-1, 0, 2):
        code, _, err = invoke(lat_profile, *words, "--few-shot", n, *sources)
        assert code == 2
        assert "measure at least 3, better 10" in err
    code, _, err = invoke(lat_profile, *words, "--few-shot", 5000, *sources)
    assert code == 2
    assert "expected 1 to 1500, the number of networks" in err
    code, _, err = invoke(lat_profile, *words, *sources)
    assert code == 2
    assert "--from needs --few-shot" in err
    code, _, err = invoke(lat_profile, *words, "--width", 0.5, "--few-shot", 10)
    assert code == 2
    assert "no table of another device covers mini-w0.5@32" in err
    assert "--from TABLE" in err
    code, _, err = invoke(lat_profile, *words, "--width", 0.5, "--few-shot", 10, *sources)
    assert code == 1
    assert "operator(s) are missing from" in err
    table = LatencyTable.load(mini_csv)
    setting = replace(
        table.setting, device=replay_card, hardware="replay of some phone", transport="replay"
    )
    LatencyTable(setting, table.rows).save(tmp_path / "self.csv")
    code, _, err = invoke(lat_profile, *words, "--few-shot", 10, "--from", tmp_path / "self.csv")
    assert code == 2
    assert "a table of the device that is to be predicted" in err
    assert not (tmp_path / "o").exists()
