"""Numbers as people write them, and as they are printed."""

import pytest

from latency.errors import UsageError
from latency.machine import describe
from latency.stats import clustered_median, sign_test, two_modes
from latency.units import format_bytes, format_count, format_ms, parse_bytes, parse_count, parse_ms


@pytest.mark.parametrize(
    ("parse", "text", "number"),
    [
        (parse_ms, "1.5 S", 1500),
        (parse_count, "300M", 3e8),
        (parse_count, "5.7k", 5700),
        (parse_count, "2g", 2e9),
        (parse_count, "1200000", 1.2e6),
        (parse_bytes, "2MB", 2e6),
        (parse_bytes, "512KiB", 512 * 1024),
        (parse_bytes, "1.5 MiB", 1.5 * 1024**2),
        (parse_bytes, "1GB", 1e9),
    ],
)
def test_quantities_are_read_in_any_unit(parse, text, number):
    assert parse(text) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_count, "M", "'M' is not a positive number such as 3M (units: k, m, g)"),
        (parse_count, "nan", "'nan' is not a positive number such as 3M (units: k, m, g)"),
        (parse_count, "0M", "'0M' is not a positive number such as 3M (units: k, m, g)"),
        (parse_ms, "5 ", "'5 ' is not a positive duration such as 5ms (units: ns, us, µs, ms, s)"),
    ],
)
def test_what_is_no_quantity_is_refused_with_what_to_write(parse, text, said):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert str(caught.value) == said


@pytest.mark.parametrize("text", ["MB", "512", "inf MB", "-1MB", "5parsec", "1e999MB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="not a positive size such as 2MB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("write", "number", "text"),
    [
        (format_ms, 1000.0, "1.00 s"),
        (format_ms, 999.4, "999 ms"),
        (format_ms, 0.001, "1.00 µs"),
        (format_ms, 2e-6, "2.00 ns"),
        (format_ms, 2e-7, "0.200 ns"),
        (format_ms, 0.0, "0 ns"),
        (format_count, 3, "3.00"),
        (format_count, 1, "1.00"),
        (format_count, 5_712_000, "5.71 M"),
        (format_count, 2e9, "2.00 G"),
        (format_count, 2000, "2.00 k"),
        (format_bytes, 2_408_448, "2.41 MB"),
        (format_bytes, 1000, "1.00 kB"),
        (format_bytes, 1e9, "1.00 GB"),
        (format_bytes, 7, "7.00 B"),
    ],
)
def test_numbers_are_printed_with_three_digits_in_the_unit_that_suits(write, number, text):
    assert write(number) == text


def test_a_processor_is_told_by_its_name_family_and_model():
    intel = "cpu family : 6\nmodel : 85\nmodel name : Some Xeon\n"
    assert describe(8, cpu_info=intel, machine="x86_64") == "Some Xeon (family 6 model 85), 8 CPUs"
    assert describe(8, cpu_info="cpu family: 6", machine="x86_64") == (
        "x86_64 (family 6 model ?), 8 CPUs"
    )
    assert describe(4, board="A Board", cpu_info=intel) == "A Board, 4 CPUs"
    assert describe(1, machine="riscv64") == "riscv64, 1 CPUs"


@pytest.mark.parametrize(
    ("differences", "probability"),
    [
        ([1], 1),
        ([1, 2], 0.5),
        ([-1, -2, -3, 4], 2 * (4 + 1) / 16),
        ([1] * 9 + [-1], 2 * (10 + 1) / 1024),
    ],
)
def test_the_sign_test_counts_both_tails(differences, probability):
    assert sign_test(differences) == pytest.approx(probability)


def test_a_level_of_a_fifth_of_the_samples_is_one():
    assert two_modes([1.0] * 12 + [1.1] * 3) == (1.0, 1.1)
    assert two_modes([1.0] * 13 + [1.1] * 2) is None
    assert two_modes([1.0] * 3 + [1.1] * 12) == (1.0, 1.1)
    assert two_modes([1.0] * 9 + [1.0299] * 9) is None
    assert two_modes([1.0] * 9 + [1.0301] * 9) == (1.0, 1.0301)


def test_the_interval_over_a_few_processes_is_students():
    """Three processes without scatter inside: t of two degrees of freedom over root three, beside
    the interval of the pooled median."""
    pooled = (1.2 - 1.0) / 2
    between = 4.303 * 0.1 / 3**0.5
    median, half = clustered_median([[1.0] * 4, [1.1] * 4, [1.2] * 4])
    assert median == 1.1
    assert half == pytest.approx((pooled**2 + between**2) ** 0.5, rel=1e-6)
    _, half = clustered_median([[1.0, 1.1, 1.2], [1.05, 1.1, 1.15]])  # as alike as their scatter
    assert half == pytest.approx((1.2 - 1.0) / 2)


def test_from_six_processes_on_one_that_is_far_off_widens_nothing():
    clusters = [[1.0, 1.0, 1.0]] * 9 + [[9.0, 9.0, 9.0]]
    assert clustered_median(clusters) == (1.0, 0.0)
