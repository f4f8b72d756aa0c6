"""Durations as people write them, and intervals."""

import math
import subprocess
import sys

import numpy as np
import pytest

from latency.errors import UsageError
from latency.stats import (
    clustered_median,
    coverage_factor,
    median_interval,
    sign_test,
    two_modes,
)
from latency.tables.measurement import Measurement
from latency.units import format_ms, parse_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("5ms", 5),
        (" 0.8 ms ", 0.8),
        ("750us", 0.75),
        ("20µs", 0.02),
        ("0.02s", 20),
        ("5MS", 5),
        ("20\u03bcs", 0.02),
    ],
)
def test_durations_are_read_in_any_unit(text, ms):
    assert parse_ms(text) == pytest.approx(ms)


@pytest.mark.parametrize(
    "text",
    [
        *("ms", "fast", "5", "5parsec", "0ms", "-3ms", "nan ms", "inf ms", "", "1.2.3ms"),
        *("\uff15ms", "1_000ms", "\u0665ms", f"{'9' * 400}s", "5m\u017f"),
    ],
)
def test_what_is_no_duration_is_refused_in_words(text):
    with pytest.raises(UsageError, match="not a positive duration such as 5ms"):
        parse_ms(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1.8349, "1.83 ms"),
        (0.0213, "21.3 µs"),
        (2510, "2.51 s"),
        (0.99996, "1.00 ms"),
        (99.96, "100 ms"),
    ],
)
def test_latencies_print_in_the_unit_that_suits(ms, text):
    assert format_ms(ms) == text


def test_the_interval_covers_the_true_median_as_often_as_it_says(generator):
    samples = generator.exponential(size=(4000, 25))
    covered = 0
    for row in samples:
        median, half = median_interval(row)
        covered += median - 2 * half <= math.log(2) <= median + 2 * half
        ordered = np.sort(row)
        assert ordered[0] <= median <= ordered[-1]
    assert covered / len(samples) >= 0.95


def test_order_statistics_have_the_ranks_of_the_published_table():
    # David & Nagaraja: n = 20 gives the 6th and the 15th value.
    _, half = median_interval(range(1, 21))
    assert half == pytest.approx((15 - 6) / 2)


def test_too_few_samples_have_no_interval():
    assert median_interval([1, 2, 3, 4, 5])[1] == math.inf


def test_coverage_factors_are_students_t():
    assert coverage_factor(12) == pytest.approx(2.179, abs=0.01)
    assert coverage_factor(1000) == pytest.approx(1.962, abs=0.002)


def test_a_measurement_prints_itself_as_a_person_reads_it():
    assert str(Measurement(1.83, 0.00732, 50, 1.8)) == "1.83 ms ± 0.4 %"


def test_importing_latency_loads_nothing_heavy():
    heavy = {"torch", "onnxruntime", "sklearn", "paramiko", "pandas", "scipy"}
    code = f"import latency, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_differs_between_processes_widens_the_interval():
    generator = np.random.default_rng(0)
    alike = [1 + 0.01 * generator.standard_normal(20) for _ in range(4)]
    apart = [cluster + shift for cluster, shift in zip(alike, (0, 0.1, -0.1, 0.05), strict=True)]
    median, half = clustered_median(alike)
    assert median == pytest.approx(1, abs=0.005)
    assert half < 0.01
    levels = [np.median(cluster) for cluster in apart]
    expected = 3.182 * np.std(levels, ddof=1) / 2  # Student's t, three degrees of freedom
    assert clustered_median(apart)[1] == pytest.approx(expected, rel=0.15)


def test_the_interval_over_processes_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        levels = 1 + 0.02 * generator.standard_normal(4)
        clusters = [level + 0.02 * generator.standard_normal(8) for level in levels]
        median, half = clustered_median(clusters)
        covered += abs(median - 1) <= half
    assert 0.91 <= covered / 400 <= 0.995


def test_processes_with_a_sample_or_two_are_taken_together():
    assert clustered_median([[1.0], [1.1], [0.9, 1.0]]) == clustered_median([[1.0, 1.1, 0.9, 1.0]])


def test_two_levels_are_told_from_one():
    generator = np.random.default_rng(0)
    low, high = 1 + 0.004 * generator.standard_normal((2, 20))
    assert two_modes(np.concatenate([low, high + 0.1])) == pytest.approx((1, 1.1), abs=0.005)
    assert two_modes(low) is None
    assert two_modes(generator.uniform(1, 1.2, 60)) is None
    assert two_modes(np.concatenate([low, high[:2] + 0.1])) is None  # two outliers are no level
    assert two_modes(np.concatenate([low, high + 0.02])) is None  # less than 3 % apart
    assert two_modes([1.0, 2.0]) is None


def test_the_sign_test_is_the_coins():
    assert sign_test([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    assert sign_test([1, -1, 2, -2]) == 1
    assert sign_test([]) == 1
    assert sign_test([0, 0, 1]) == 1
