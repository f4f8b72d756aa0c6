"""Single values of tables: as they are written, read, told and looked for."""

from dataclasses import replace
from pathlib import Path

import pytest

from latency import LatencyTable, Measurement, OpSpec, Setting, TableError
from latency.operators.network import peak_bytes
from latency.tables.csv_file import read_table
from latency.tables.library import user_folder

OP = OpSpec("conv", 8, 8, 3, 4)


def table_of(**told):
    row = replace(Measurement(0.5, 0.05, 9, 0.5), **told)
    return LatencyTable(Setting("d", "h", runtime="r"), {OP: row})


def test_latencies_are_written_to_a_tenth_of_a_nanosecond(tmp_path):
    table = table_of(median_ms=0.12345678, ci95_ms=0.01234567, min_ms=0.11111119, traced_ms=0.1)
    replace(table, in_network_ms={OP: 0.22222228}).save(tmp_path / "t.csv")
    read = read_table(tmp_path / "t.csv")
    row = read.rows[OP]
    assert (row.median_ms, row.ci95_ms, row.min_ms) == (0.1234568, 0.0123457, 0.1111112)
    assert (row.traced_ms, read.in_network_ms[OP]) == (0.1, 0.2222223)


@pytest.mark.parametrize("converged", [True, False, None])
def test_whether_a_row_converged_is_read_as_it_was_written(tmp_path, converged):
    table_of(converged=converged).save(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv").rows[OP].converged is converged


def test_a_row_is_of_one_run_at_least(tmp_path):
    table_of(runs=1).save(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv").rows[OP].runs == 1
    with pytest.raises(TableError, match="runs is 0, which is not within 1 and"):
        table_of(runs=0).save(tmp_path / "t.csv")


def test_a_users_tables_are_in_the_platforms_data_folder(monkeypatch):
    monkeypatch.delenv("LAT_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", "/some/data")
    assert user_folder() == Path("/some/data/lat-search")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert user_folder() == Path("/home/ada/.local/share/lat-search")


def test_a_measurement_is_told_with_its_interval_in_per_cent():
    assert str(Measurement(2.0, 1.0, 9, 1.9)) == "2.00 ms ± 50.0 %"


def test_the_interval_of_an_operator_is_its_share_of_what_it_costs_inside_a_network():
    inside = replace(table_of(), in_network_ms={OP: 2.0}).predict_op(OP)
    assert (inside.low_ms, inside.ms, inside.high_ms) == pytest.approx((1.8, 2.0, 2.2))


def test_activations_are_alive_for_every_image_of_a_batch():
    assert peak_bytes(OP) == 4 * (8 * 8 * 3 + 8 * 8 * 4)
    assert peak_bytes(replace(OP, batch=3)) == 3 * peak_bytes(OP)


def test_probabilities_of_another_shape_are_refused_with_the_shape_expected(toy_space, toy_table):
    import torch

    from latency.candidates import candidate_latency
    from latency.expected import ExpectedLatency

    costs = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    blocks, candidates = costs.matrix.shape
    with pytest.raises(ValueError, match="of shape") as caught:
        ExpectedLatency(costs)(torch.ones(2, 3))
    expected = f"probabilities of shape (2, 3); expected (..., {blocks}, {candidates})"
    assert str(caught.value) == expected
