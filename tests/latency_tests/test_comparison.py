"""Differences between tables: which are named, and how often by mistake."""

import math
from dataclasses import replace

import numpy as np
import pytest

from latency import Measurement
from latency.tables.comparison import diff
from latency.units import LEAST_MS, MOST_MS


def again(table, generator, factor=None, relative_ci95=0.01):
    """The table measured once more: each row drawn anew by its interval; `factor` of some rows."""
    rows = {}
    for op, row in table.rows.items():
        true = row.median_ms * (factor or {}).get(op, 1.0)
        ms = true * (1 + generator.normal() * relative_ci95 / 1.96)
        rows[op] = Measurement(ms, relative_ci95 * ms, 50, ms)
    return replace(table, rows=rows)


def test_the_operator_that_got_slower_is_named_alone(toy_table, generator):
    slower = list(toy_table)[3]
    found = diff(again(toy_table, generator), again(toy_table, generator, {slower: 1.1}))
    assert [one.op for one in found.significant] == [slower]
    (one,) = found.significant
    assert one.ratio == pytest.approx(1.1, abs=0.02)
    assert one.low < 1.1 < one.high
    assert found.median_ratio == pytest.approx(1, abs=0.01)
    assert found.sign_p_value > 0.01


def test_tables_of_the_same_machine_rarely_differ_significantly(toy_table):
    mistaken = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        found = diff(again(toy_table, generator), again(toy_table, generator))
        mistaken += bool(found.significant)
    assert mistaken / 200 <= 0.09  # 5 % and three deviations of 200 coins


def test_a_machine_that_is_a_little_slower_everywhere_is_seen_by_the_sign_test(
    toy_table, generator
):
    factor = dict.fromkeys(toy_table, 1.01)
    found = diff(
        again(toy_table, generator, relative_ci95=0.02),
        again(toy_table, generator, factor, relative_ci95=0.002),
    )
    assert len(found.significant) < len(toy_table) / 4
    assert found.sign_p_value < 0.05
    assert found.median_ratio == pytest.approx(1.01, abs=0.008)


def test_a_table_does_not_differ_from_itself(toy_table):
    exact = {op: replace(row, ci95_ms=0.0) for op, row in toy_table.rows.items()}
    for table in (toy_table, replace(toy_table, rows=exact)):
        found = diff(table, table)
        assert found.significant == ()
        assert found.median_ratio == 1
        assert found.sign_p_value == 1
        assert found.settings == {}


def test_operators_of_one_table_only_are_listed(toy_table):
    first, second, *_ = toy_table
    a = replace(toy_table, rows={op: toy_table[op] for op in toy_table if op != first})
    b = replace(toy_table, rows={op: toy_table[op] for op in toy_table if op != second})
    found = diff(a, b)
    assert found.only_a == (second,)
    assert found.only_b == (first,)
    assert len(found.common) == len(toy_table) - 2


def test_tables_with_nothing_in_common_have_no_ratio(toy_table):
    first, second, *_ = toy_table
    a, b = (replace(toy_table, rows={op: toy_table[op]}) for op in (first, second))
    found = diff(a, b)
    assert found.common == ()
    assert math.isnan(found.median_ratio)
    assert found.sign_p_value == 1


def test_an_interval_that_could_not_be_told_is_never_significant(toy_table):
    first = next(iter(toy_table))
    unsure = {first: Measurement(9 * toy_table[first].median_ms, math.inf, 3, 1)}
    found = diff(toy_table, replace(toy_table, rows={**toy_table.rows, **unsure}))
    assert found.significant == ()


def test_what_differs_in_the_setting_is_told(toy_table):
    other = replace(toy_table, setting=replace(toy_table.setting, threads=4))
    assert diff(toy_table, other).settings == {"threads": (1, 4)}


def test_rows_as_unsure_as_a_table_can_tell_differ_by_chance(toy_table):
    rows = {op: Measurement(LEAST_MS, MOST_MS, 6, LEAST_MS) for op in toy_table}
    found = diff(toy_table, replace(toy_table, rows=rows))
    assert found.significant == ()
    assert all(math.isfinite(one.high) for one in found.common)
