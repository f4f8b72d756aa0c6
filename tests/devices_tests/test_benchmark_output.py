"""What benchmark_model prints, as builds of several years print it."""

import pytest

from devices.transports.adb.output import read_report

LONG = """INFO: STARTING!
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds.
INFO: count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 \
p5=1238753 median=1239807 p95=1247415

INFO: Inference timings in us: Init: 5579, First inference: 1357602, Inference (avg): 1.24027e+06
INFO: Memory footprint delta from the start of the tool (MB): init=6.36328 overall=109.75
"""
OLD = """count=9 first=81913 curr=55502 min=55502 max=81913 avg=58984.7 std=8115
count=1061 first=56576 curr=56299 min=54669 max=60236 avg=56265.8 std=982
"""


def test_medians_are_taken_where_they_are_printed():
    report = read_report(LONG)
    assert (report.warmup.count, report.timed.count) == (1, 50)
    assert report.timed.typical_us == 1239807.5
    assert report.memory_bytes == 109.75 * 2**20
    assert not report.is_warm


def test_means_are_taken_where_no_medians_are_printed():
    report = read_report(OLD)
    assert report.timed.typical_us == 56265.8
    assert report.memory_bytes is None
    assert report.is_warm


@pytest.mark.parametrize(
    ("line", "us"),
    [
        ("count=7 curr=12(all same) p5=12 median=12 p95=12", 12),
        ("count=7 first=9 curr=9 min=9 max=30 avg=9.31 std=1 p5=9 median=9 p95=9", 9.31),
        ("count=7 first=9 curr=9 min=9 max=99 avg=21.5 std=30 p5=9 median=9 p95=99", 9.5),
        ("count=7 first=0 curr=1 min=0 max=1 avg=0.25 std=0 p5=0 median=0 p95=1", 0.25),
    ],
)
def test_within_the_clocks_tick_the_mean_decides(line, us):
    assert read_report(f"count=1 curr=40\n{line}\n").timed.typical_us == us


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Segmentation fault",
        "count=1 curr=3",
        "count=1 curr=3\ncount=0",
        "count=1 curr=3\ncount=2 first=nan avg=nan",
        "count=1 curr=3\ncount=2 curr=1.2.3",
    ],
)
def test_anything_else_is_refused(output):
    with pytest.raises(ValueError, match=r"statistics|float"):
        read_report(output)
