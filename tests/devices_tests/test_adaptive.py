"""The kernel suite measures more where what it has measured is hard to predict."""

import numpy as np
import pytest

from devices.kernel_suite.sampling import expected_errors, left_out_errors
from latency import LatencyTable, Measurement
from latency.graphs.kernels import Kernel, KernelGraph
from latency.operators.spec import OpSpec


def conv(channels: int, side: int) -> OpSpec:
    return OpSpec("conv", side, side, channels, channels, 3, activation="relu")


def graph(*ops: OpSpec) -> KernelGraph:
    return KernelGraph("network", tuple(Kernel(op, ()) for op in ops))


@pytest.fixture
def table(toy_table):
    """Convolutions as fast as their MACs say, but wide ones up to twice as slow or fast."""
    generator = np.random.default_rng(0)
    rows = {}
    for channels in (8, 16, 24, 32, 48, 64, 256, 272, 288, 304, 320, 336, 352, 368):
        for side in (7, 10, 14, 20, 28):
            op = conv(channels, side)
            jagged = 2 ** generator.uniform(-1, 1) if channels > 128 else 1.0
            ms = op.macs * 1e-8 * jagged
            rows[op] = Measurement(ms, 0.001 * ms, 100, ms)
    return LatencyTable(toy_table.setting, rows)


def test_what_is_jagged_is_wrong_when_it_is_left_out(table):
    errors = left_out_errors(table)
    assert errors.keys() == table.rows.keys()
    smooth, jagged = (
        float(np.mean([error for op, error in errors.items() if (op.in_channels > 128) is wide]))
        for wide in (False, True)
    )
    assert jagged > 0.2
    assert jagged > 2 * smooth


def test_more_is_expected_to_be_wrong_of_a_network_of_jagged_kernels(table):
    smooth, jagged = conv(40, 12), conv(296, 12)
    networks = [graph(smooth, conv(16, 12)), graph(jagged, conv(312, 12))]
    of_smooth, of_jagged = expected_errors(table, networks)
    assert sum(of_jagged.values()) > 2 * sum(of_smooth.values())


def test_a_kernel_counts_by_its_share_of_the_time_and_not_where_it_is_known(table):
    large, small, known = conv(296, 28), conv(296, 8), conv(256, 28)
    (found,) = expected_errors(table, [graph(large, small, known)])
    assert found.keys() == {large, small}
    assert found[large] > 4 * found[small]


def test_a_kernel_of_a_family_that_was_never_measured_is_as_wrong_as_is_usual(table):
    (found,) = expected_errors(table, [graph(OpSpec("linear", 1, 1, 512, 1000))])
    usual = np.mean(list(left_out_errors(table).values()))
    assert list(found.values()) == pytest.approx([usual])
