"""`lat-predict`: network files and published networks, operator by operator."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from devices.card import load_card
from devices.connection import connect
from devices.export.onnx_model import onnx_model, random_weights
from devices.replay import ReplayDevice
from latency import LatencyTable, zoo
from latency.files import read_file
from latency.graphs.fusion import SUITE
from latency.tables.library import shipped_folder
from search import spaces
from search.commands.predict_command import main as lat_predict

pytestmark = pytest.mark.identity


def test_an_interval_that_is_open_is_none_in_json(invoke, mini_csv, tmp_path):
    table = LatencyTable.load(mini_csv)
    rows = {op: replace(row, ci95_ms=math.inf) for op, row in table.rows.items()}
    replace(table, rows=rows, validations={}).save(tmp_path / "open.csv")
    space = spaces.load("mini")
    (tmp_path / "n.json").write_text(space.network(space.largest).to_json())
    code, out, _ = invoke(lat_predict, "n.json", "--target", "open.csv", "--json")
    answer = json.loads(out, parse_constant=pytest.fail)
    assert (code, answer["low_ms"], answer["high_ms"]) == (0, 0.0, None)
    assert {op["high_ms"] for op in answer["ops"]} == {None}


def test_a_network_file_is_predicted_operator_by_operator(invoke, mini_csv, tmp_path):
    space = spaces.load("mini")
    (tmp_path / "n.json").write_text(space.network(space.largest).to_json())
    code, out, _ = invoke(lat_predict, "n.json", "--target", mini_csv, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["latency_ms"] == pytest.approx(sum(op["latency_ms"] for op in answer["ops"]))
    assert answer["low_ms"] < answer["latency_ms"] < answer["high_ms"]
    assert {op["source"] for op in answer["ops"]} == {"measured"}
    code, out, _ = invoke(lat_predict, "n.json", "--target", mini_csv)
    assert code == 0
    assert "mbconv-16x16x24-24-k7-s1-e6-relu6" in out
    assert invoke(lat_predict, "absent.json", "--target", mini_csv)[0] == 2


def test_a_file_is_read_once(invoke, kernels_csv, tmp_path, monkeypatch):
    network = zoo.load("proxyless_mobile")
    model = onnx_model(network.ops, random_weights(), network.name)
    (tmp_path / "n.onnx").write_bytes(model)
    read = []

    def counted(path, *arguments):
        read.append(str(path))
        return read_file(path, *arguments)

    monkeypatch.setattr("latency.graphs.reader.read_file", counted)
    assert invoke(lat_predict, "n.onnx", "--target", kernels_csv)[0] == 0
    assert read == ["n.onnx"]


def test_operators_that_the_table_lacks_are_predicted_and_said_to_be(invoke, mini_csv, tmp_path):
    table = LatencyTable.load(mini_csv)
    space = spaces.load("mini")
    network = space.network(space.largest)
    removed = network.ops[4]
    rows = {op: row for op, row in table.rows.items() if op != removed}
    LatencyTable(table.setting, rows).save(tmp_path / "partial.csv")
    (tmp_path / "n.json").write_text(network.to_json())
    code, out, err = invoke(lat_predict, "n.json", "--target", tmp_path / "partial.csv", "--json")
    assert code == 0, err
    answer = json.loads(out)
    sources = {op["key"]: op["source"] for op in answer["ops"]}
    assert [key for key, source in sources.items() if source == "predicted"] == [removed.key]
    assert answer["latency_ms"] == pytest.approx(table.predict(network).ms, rel=0.05)
    assert answer["low_ms"] < table.predict(network).ms < answer["high_ms"]


@pytest.fixture
def kernels_csv(tmp_path) -> Path:
    """A table of kernels alone: those that the shipped one has of random networks."""
    shipped = next(shipped_folder().glob("*25*onnxruntime*.csv"))
    table = LatencyTable.load(shipped)
    rows = {op: row for op, row in table.rows.items() if row.is_inside}
    validations = {SUITE: table.validations[SUITE]}
    only = LatencyTable(table.setting, rows, validations=validations, fusion=table.fusion)
    only.save(tmp_path / "kernels.csv")
    return tmp_path / "kernels.csv"


def test_blocks_are_predicted_by_their_kernels_where_a_table_has_nothing_else(
    invoke, kernels_csv, tmp_path
):
    network = zoo.load("proxyless_mobile")
    (tmp_path / "n.json").write_text(network.to_json())
    model = onnx_model(network.ops, random_weights(), network.name)
    (tmp_path / "n.onnx").write_bytes(model)
    answers = []
    for name in ("zoo:proxyless_mobile", "n.json", "n.onnx"):
        code, out, err = invoke(lat_predict, name, "--target", kernels_csv, "--json")
        assert code == 0, err
        answers.append(json.loads(out))
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]["ops"]) > len(network.ops)
    assert "predicted" in {op["source"] for op in answers[0]["ops"]}
    assert answers[0]["low_ms"] < answers[0]["latency_ms"] < answers[0]["high_ms"]


def test_operators_far_from_the_table_are_refused_with_the_nearest_named(invoke, mini_csv):
    words = ["zoo:mobilenet_v2", "--target", mini_csv]
    code, out, err = invoke(lat_predict, *words)
    assert (code, out) == (1, "")
    assert "conv-224x224x3-32-k3-s2-relu6" in err
    assert "nearest" in err
    code, out, _ = invoke(lat_predict, *words, "--extrapolate", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["low_ms"] < answer["latency_ms"] < answer["high_ms"]
    code, _, err = invoke(lat_predict, "zoo:mobilenet_v3", "--target", mini_csv)
    assert code == 2
    assert "did you mean 'mobilenet_v2'" in err


@pytest.fixture
def own_card(tmp_path, mini_csv, monkeypatch):
    """A card of the user's own for a device that answers from a table, and a list that grows each
    time the device is asked for its setting."""
    cards = tmp_path / "user-data" / "cards"
    cards.mkdir(parents=True)
    (cards / "mine.toml").write_text(f"transport = 'replay'\n[replay]\ntable = '{mini_csv}'\n")
    asked: list[str] = []
    replayed = ReplayDevice.setting

    def counted(self):
        asked.append(self.label)
        return replayed.__get__(self)

    monkeypatch.setattr(ReplayDevice, "setting", property(counted))
    return asked


def test_a_card_without_a_table_is_refused(invoke, own_card):
    code, _, err = invoke(lat_predict, "zoo:mobilenet_v2", "--target", "mine")
    assert code == 2
    assert "no measurements of mine yet; measure it: lat-profile --device mine" in err


def test_a_cards_table_is_used_only_in_the_setting_that_its_device_has_now(
    invoke, own_card, mini_csv, tmp_path
):
    setting = connect(load_card("mine")).setting
    table = LatencyTable.load(mini_csv)
    space = spaces.load("mini")
    (tmp_path / "n.json").write_text(space.network(space.largest).to_json())
    kept = tmp_path / "user-data" / "kept.csv"
    replace(table, setting=setting).save(kept)
    code, out, err = invoke(lat_predict, "n.json", "--target", "mine", "--json")
    assert code == 0, err
    expected = table.predict(space.network(space.largest)).ms
    assert json.loads(out)["latency_ms"] == pytest.approx(expected, rel=1e-3)
    updated = replace(setting, runtime="someruntime 1")
    replace(table, setting=updated).save(kept)
    code, _, err = invoke(lat_predict, "n.json", "--target", "mine")
    assert code == 2
    assert "kept.csv is of another setting (someruntime 1): not used" in err


@pytest.mark.parametrize("name", ["kept", "user-data/kept.csv"])
def test_a_table_by_name_or_path_asks_no_device(invoke, own_card, mini_csv, tmp_path, name):
    setting = connect(load_card("mine")).setting
    replace(LatencyTable.load(mini_csv), setting=setting).save(tmp_path / "user-data" / "kept.csv")
    own_card.clear()
    space = spaces.load("mini")
    (tmp_path / "n.json").write_text(space.network(space.largest).to_json())
    assert invoke(lat_predict, "n.json", "--target", name)[0] == 0
    assert own_card == []
