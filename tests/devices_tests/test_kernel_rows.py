"""Rows of kernels from samples of traced networks, to the digit."""

from types import SimpleNamespace

import pytest

from devices.device import Timing
from devices.kernel_suite.rows import SENTINEL, kernel_table, network_ms
from devices.measuring.record import Sample
from latency import OpSpec, Setting
from latency.stats import student_t

CONV, POOL = OpSpec("conv", 8, 8, 4, 4, 3), OpSpec("max_pool", 8, 8, 4, 4, 2, 2)
NETWORK = SimpleNamespace(graph=SimpleNamespace(name="random-0"))


def _samples(process, sentinel_ms, whole_ms, conv_ms, pool_ms):
    each = {
        SENTINEL: sentinel_ms,
        f"random-0/0/{CONV.key}": conv_ms,
        f"random-0/1/{POOL.key}": pool_ms,
        "random-0": whole_ms,
    }
    return [Sample(process, process, name, Timing((ms,), 5)) for name, ms in each.items()]


TWICE = _samples(0, 1.0, 4.0, 3.0, 1.0) + _samples(1, 2.0, 10.0, 6.0, 4.0)


def test_a_network_takes_what_it_does_while_the_sentinel_is_as_fast_as_usual():
    assert network_ms(TWICE) == {"random-0": (4.0 * 1.5 + 10.0 * 0.75) / 2}


def test_a_kernel_takes_its_share_of_the_network_in_each_process():
    rows = kernel_table(Setting("toy", "toy hardware"), [NETWORK], TWICE).rows
    assert rows[CONV].median_ms == pytest.approx(6.75 * (0.75 + 0.6) / 2)
    assert rows[CONV].ci95_ms == pytest.approx(student_t(1) * 6.75 * (0.75 - 0.6) / 2)
    assert rows[POOL].min_ms == pytest.approx(6.75 * 0.25)
    assert (rows[POOL].runs, rows[POOL].sessions, rows[POOL].is_inside) == (10, 2, True)


def test_the_interval_of_a_kernel_of_one_process_is_as_wide_as_its_median():
    rows = kernel_table(Setting("toy", "toy hardware"), [NETWORK], TWICE[:4]).rows
    assert rows[CONV].ci95_ms == rows[CONV].median_ms == pytest.approx(3.0)


def test_a_process_that_was_lost_before_the_whole_network_ran_tells_nothing():
    rows = kernel_table(Setting("toy", "toy hardware"), [NETWORK], [*TWICE[:4], *TWICE[4:7]]).rows
    assert {row.sessions for row in rows.values()} == {1}
