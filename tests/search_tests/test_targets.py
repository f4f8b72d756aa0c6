"""Targets: what is missing from a table is measured, or the error says what to do."""

from dataclasses import replace

import pytest

from devices.card import DeviceCard
from devices.replay import ReplayDevice
from latency import LatencyTable
from latency.errors import CoverageError, TableError
from search import spaces
from search.commands.search_command import main as lat_search
from search.jobs.bench import Bench
from search.jobs.targets import Target, covered

MINI = spaces.load("mini")


@pytest.fixture
def partial(mini_csv):
    """The table of `mini` without its last operator."""
    table = LatencyTable.load(mini_csv)
    *known, _ = table
    return replace(table, rows={op: table[op] for op in known})


def test_a_table_whose_device_cannot_be_reached_is_refused_where_an_operator_is_missing(partial):
    target = Target("far", partial)
    with pytest.raises(CoverageError, match="cannot be reached") as error:
        covered(target, MINI, quiet=True)
    assert len(error.value.missing) == 1


def test_lat_search_names_its_own_option_for_predicting_missing_operators(
    invoke, partial, tmp_path
):
    partial.save(tmp_path / "partial.csv")
    words = ["--target", "partial.csv", "--budget", "1ms", "--space", "mini"]
    code, _, err = invoke(lat_search, *words)
    assert code == 1
    assert err.endswith("there, or predict them: --predicted")


def test_a_table_of_another_setting_is_not_written_to_and_no_option_of_another_command_is_named(
    mini_csv, tmp_path
):
    truth = LatencyTable.load(mini_csv)
    path = tmp_path / "t.csv"
    replace(truth, setting=replace(truth.setting, runtime="another 1")).save(path)
    target = Target("x", None, Bench(DeviceCard(name="x"), (ReplayDevice(truth),), path))
    with pytest.raises(TableError, match=r"write to another file$"):
        covered(target, MINI, quiet=True)
