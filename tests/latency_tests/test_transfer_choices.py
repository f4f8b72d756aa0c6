"""What the transfer to a new device rests on: its settings, its labels, and what its rows say."""

import numpy as np
import pytest

from latency import LatencyTable, Measurement, Setting
from latency.transfer.few_samples import _drawn, _winsorised
from latency.transfer.table import transfer
from search.jobs.few_shot import pool_of


def test_every_setting_counts_on_sources_as_measured_or_as_far_as_explained():
    sources = ("source first", "source", "smooth first", "smooth")
    weights, _ = _drawn((*sources, *(f"other {i}" for i in range(60))))
    measured, explained = (weights[:, columns].all(1) for columns in ([0, 1], [2, 3]))
    assert (measured | explained).all()
    for share in (measured & ~explained, explained & ~measured, measured & explained):
        assert 0.2 < share.mean() < 0.5


def test_a_network_far_outside_the_middle_half_is_winsorised_by_its_width():
    logs = np.array([-90.0, 1.0, 2.0, 3.0, 90.0])
    expected = [1 - 3 * 2, 1, 2, 3, 3 + 4 * 2]
    assert _winsorised(np.exp(logs), 0.1) == pytest.approx(expected)


def test_rows_of_a_transfer_rest_on_all_runs_and_the_most_sessions(toy_space, toy_table):
    source = LatencyTable(Setting("other", "other hardware"), toy_table.rows)
    pool = pool_of(toy_space, (source,), 20)
    measured = {
        i: Measurement(
            source.predict(pool.networks[i]).ms, 0.001, 10, 0.001, f"2026-01-0{i + 1}", 2 + i
        )
        for i in range(3)
    }
    table = transfer(pool, measured, toy_table.setting, "toy")
    told = {(row.runs, row.sessions, row.measured_at) for row in table.rows.values()}
    assert told == {(30, 4, "2026-01-03")}
