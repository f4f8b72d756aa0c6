"""Tables of a device of which a few networks were measured: marked, honest, and they give way."""

from dataclasses import replace

import numpy as np
import pytest

from latency import CoverageError, LatencyTable, Measurement, Setting, UsageError, fit, validate
from latency.operators.features import physical_terms
from latency.tables.calibration import Calibration
from latency.tables.measurement import Origin
from latency.transfer.table import choose, transfer
from search.jobs.few_shot import pool_of

SETTING = Setting("new", "new hardware", runtime="newruntime 1")


def _table(space, cost, name):
    """A table of a device on which an operator costs `cost(op)` ms."""
    rows = {op: Measurement(cost(op), 0.005 * cost(op), 50, cost(op)) for op in space.operators}
    return LatencyTable(Setting(name, f"{name} hardware"), rows, source=f"folder/{name}.csv")


def _by_macs(op):
    return 0.01 + op.macs * 1e-7


def _by_bytes(op):
    return 0.004 * len(op.layers) + op.bytes * 2e-8


def _slow_sevens(op):
    """Half of each, and a depthwise kernel of 7x7 that has no fast code."""
    sevens = physical_terms(op, sized=True).get(("depthwise 7x7", "macs"), 0.0)
    return 0.5 * (_by_macs(op) + _by_bytes(op)) + 0.5 * sevens


@pytest.fixture
def pool(toy_space):
    sources = (_table(toy_space, _by_macs, "a"), _table(toy_space, _by_bytes, "b"))
    return pool_of(toy_space, sources, 400)


def _measured(pool, truth, n=10, noise=0.005):
    generator = np.random.default_rng(3)
    return {
        i: Measurement(
            truth.predict(pool.networks[i]).ms * np.exp(noise * generator.standard_normal()),
            0.001,
            40 + i,
            0.001,
            "2026-01-01T00:00:00Z",
            3,
        )
        for i in choose(pool, n)
    }


def _ranks(values):
    return np.argsort(np.argsort(values))


@pytest.mark.parametrize(
    ("cost", "within"),
    [
        (lambda op: 3 * _by_macs(op), 0.02),
        (lambda op: 0.3 * _by_macs(op) + 2 * _by_bytes(op), 0.02),
        (_slow_sevens, 0.06),
    ],
)
def test_networks_of_a_transformed_source_are_recovered_and_covered(
    pool, toy_space, generator, cost, within
):
    truth = _table(toy_space, cost, "new")
    table = transfer(pool, _measured(pool, truth), SETTING, "toy@16")
    choices = toy_space.random_choices(200, generator)
    networks = [toy_space.network(row.tolist()) for row in choices]
    predicted = [table.predict(network) for network in networks]
    ms = np.array([truth.predict(network).ms for network in networks])
    errors = np.array([one.ms for one in predicted]) / ms - 1
    assert np.abs(errors).mean() < within
    assert np.corrcoef(_ranks([one.ms for one in predicted]), _ranks(ms))[0, 1] > 0.98
    covered = [one.low_ms <= m <= one.high_ms for one, m in zip(predicted, ms, strict=True)]
    assert np.mean(covered) >= 0.9
    ops = [row.low_ms <= cost(op) <= row.high_ms for op, row in table.rows.items()]
    assert np.mean(ops) >= 0.85


def test_the_interval_is_as_wide_as_the_device_is_strange(pool, toy_space):
    plain = _measured(pool, _table(toy_space, lambda op: 2 * _by_macs(op), "new"))
    strange = {
        i: replace(row, median_ms=row.median_ms * (1.3 if k % 2 else 0.7))
        for k, (i, row) in enumerate(plain.items())
    }
    known, unknown = (transfer(pool, m, SETTING, "toy@16") for m in (plain, strange))
    assert known.relative_ci95 < 0.05
    assert unknown.relative_ci95 > 0.4


def test_a_transferred_table_says_what_it_is_wherever_one_looks(pool, toy_space, tmp_path):
    measured = _measured(pool, _table(toy_space, _by_macs, "new"))
    transfer(pool, measured, SETTING, "toy@16", {"date": "today"}).save(tmp_path / "t.csv")
    table = LatencyTable.load(tmp_path / "t.csv")
    assert (
        "# transferred toy@16: from a, b; 10 networks measured\n"
        in (tmp_path / "t.csv").read_text()
    )
    assert table.transfers == {"toy@16": "from a, b; 10 networks measured"}
    assert "10 networks, cross-validated; transferred from a, b" in table.stated_error("toy@16")
    assert table.validations["toy@16"].networks == 10
    assert table.circumstances["date"] == "today"
    assert set(table) == set(toy_space.operators)
    for row in table.rows.values():
        assert row.origin is Origin.TRANSFERRED
        assert row.runs == sum(one.runs for one in measured.values())
        assert row.relative_ci95 >= 0.99 * table.relative_ci95
        assert row.median_ms > 0
    network = toy_space.network(toy_space.largest)
    for model in (table, fit(table)):
        assert {part.source for part in model.predict(network).per_op} == {"predicted"}


def test_measured_rows_win_over_transferred_ones_both_ways(pool, toy_space):
    truth = _table(toy_space, _by_macs, "new")
    transferred = transfer(pool, _measured(pool, truth), SETTING, "toy@16")
    first, *_ = toy_space.operators
    row = Measurement(9.0, 0.1, 50, 8.0)
    some = LatencyTable(SETTING, {first: row}, {first: 8.5})
    for merged in (some.merge(transferred), transferred.merge(some)):
        assert merged[first] == row
        assert merged.predict_op(first).ms == 8.5
        assert merged.predict_op(first).source == "measured"
        assert len(merged) == len(transferred)
        assert merged.transfers == transferred.transfers
        assert merged.validations == transferred.validations


def test_a_profile_of_the_space_replaces_a_transfer_both_ways(pool, toy_space):
    truth = _table(toy_space, _by_macs, "new")
    transferred = replace(
        transfer(pool, _measured(pool, truth), SETTING, "toy@16"),
        measured={"toy@16": "ten networks"},
    )
    failed, *rest = toy_space.operators
    profile = LatencyTable(
        SETTING,
        {op: truth[op] for op in rest},
        calibrations={"toy@16": Calibration()},
        validations={"toy@16": validate([1.0, 1.01], [1.0, 1.0])},
        measured={"toy@16": "all of it"},
    )
    for merged in (profile.merge(transferred), transferred.merge(profile)):
        assert merged.rows == profile.rows
        assert merged.missing([failed]) == (failed,)
        assert merged.validations == profile.validations
        assert merged.measured == {"toy@16": "all of it"}
        assert not merged.transfers


def test_a_transfer_of_one_space_does_not_blur_what_was_measured_of_another(pool, toy_space):
    truth = _table(toy_space, _by_macs, "new")
    transferred = transfer(pool, _measured(pool, truth, noise=0.1), SETTING, "toy@16")
    rows = {replace(op, batch=2): row for op, row in truth.rows.items()}
    accurate = {"toy2@16": validate([1.0, 1.01], [1.0, 1.0])}
    measured = LatencyTable(SETTING, rows, validations=accurate)
    merged = measured.merge(transferred)
    network = toy_space.network(toy_space.largest)
    doubled = type(network).of("n", tuple(replace(op, batch=2) for op in network.ops))
    assert merged.predict(doubled).high_ms == measured.predict(doubled).high_ms
    assert merged.predict(network).high_ms == transferred.predict(network).high_ms


def test_too_few_networks_and_sources_that_lack_operators_are_refused(pool, toy_space):
    with pytest.raises(UsageError, match="measure at least 3, better 10"):
        choose(pool, 2)
    with pytest.raises(UsageError, match="`n` is 9999; expected 1 to"):
        choose(pool, 9999)
    measured = _measured(pool, _table(toy_space, _by_macs, "new"), 3)
    with pytest.raises(UsageError, match="at least 3"):
        transfer(pool, dict(list(measured.items())[:2]), SETTING, "toy@16")
    first, *_ = pool.sources
    lacking = replace(first, rows=dict(list(first.rows.items())[1:]))
    with pytest.raises(CoverageError, match=r"1 operator\(s\) are missing"):
        choose(replace(pool, sources=(lacking,)), 10)


def test_no_two_networks_of_a_pool_are_alike(pool):
    assert len({network.ops for network in pool.networks}) == len(pool.networks)
    assert pool.sources_ms[7, 0] == pytest.approx(pool.sources[0].predict(pool.networks[7]).ms)
    macs = pool.one_hots.shape[1]
    assert pool.features[7, macs] == pool.networks[7].macs
