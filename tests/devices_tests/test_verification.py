"""A tenth of a table measured again tells whether the table still holds."""

from dataclasses import replace
from itertools import cycle

import pytest
from doubles import ShakyDevice

from devices.card import Measuring
from devices.verification import verify
from latency.errors import DeviceError
from latency.tables.measurement import Origin

RULE = Measuring(sessions=2, min_samples=8, max_samples=40)


def test_a_table_that_still_holds_is_said_to(toy_table):
    found = verify(ShakyDevice(toy_table, seed=5), toy_table, RULE, seed=1)
    assert len(found.rechecks) == 8  # a tenth would be three: too few to tell drift from noise
    assert abs(found.drift) < 0.01
    assert found.still_holds
    assert "8 operators measured again" in str(found)


@pytest.mark.parametrize("slower", [1.05, 0.93])
def test_a_device_that_has_changed_is_found_out(toy_table, slower):
    device = ShakyDevice(toy_table, seed=5, slower=slower)
    found = verify(device, toy_table, RULE, seed=1)
    assert found.drift == pytest.approx(slower - 1, abs=0.01)
    assert found.levelled_spread < 0.01 < 0.04 < found.spread
    assert not found.still_holds
    assert found.probability == pytest.approx(2 / 2**8)
    assert all(recheck.is_significant for recheck in found.rechecks)


def test_one_operator_that_has_changed_is_named(toy_table):
    changed = next(iter(toy_table))
    slow = replace(toy_table[changed], median_ms=1.3 * toy_table[changed].median_ms)
    table = replace(toy_table, rows={**toy_table.rows, changed: slow})
    found = verify(ShakyDevice(toy_table, seed=5), table, RULE, seed=1, share=1.0)
    assert [r.op for r in found.rechecks if r.is_significant and r.ratio < 0.9] == [changed]
    assert found.still_holds


def test_other_operators_are_drawn_with_another_seed(toy_table):
    drawn = {
        frozenset(r.op for r in verify(ShakyDevice(toy_table), toy_table, RULE, seed=s).rechecks)
        for s in range(3)
    }
    assert len(drawn) == 3


def test_an_operator_that_cannot_be_measured_any_more_is_named(toy_table):
    op = next(iter(toy_table))
    device = ShakyDevice(toy_table, refused=[op.key])
    found = verify(device, toy_table, RULE, share=1.0)
    assert found.failures == {op.key: "cannot load it"}
    assert len(found.rechecks) == len(toy_table) - 1


def test_where_nothing_can_be_measured_any_more_why_is_said(toy_table):
    device = ShakyDevice(toy_table, refused=[op.key for op in toy_table])
    with pytest.raises(DeviceError, match="nothing could be measured again"):
        verify(device, toy_table, RULE)


def test_only_what_was_measured_alone_is_measured_alone_again(toy_table):
    origins = [Origin.TRANSFERRED, Origin.INSIDE_NETWORKS, Origin.SUITE_ALONE]
    pairs = zip(toy_table.rows.items(), cycle(origins), strict=False)
    rows = {op: replace(row, origin=origin) for (op, row), origin in pairs}
    found = verify(ShakyDevice(toy_table), replace(toy_table, rows=rows), RULE, share=1.0)
    assert {r.before.origin for r in found.rechecks} == {Origin.SUITE_ALONE}
    rows = {op: row for op, row in rows.items() if row.origin is not Origin.SUITE_ALONE}
    with pytest.raises(DeviceError, match="there is nothing to measure again"):
        verify(ShakyDevice(toy_table), replace(toy_table, rows=rows), RULE)
