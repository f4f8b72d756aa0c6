"""Times as rows write them, of whatever zone, and what is none."""

import pytest

from latency.timestamps import time_of

EARLIER, LATER = "2026-11-25T00:30:00+02:00", "2026-11-24T23:00:00Z"


def test_times_of_different_zones_are_compared():
    assert time_of(EARLIER) < time_of(LATER)


def test_a_time_without_a_zone_is_in_utc_and_a_day_is_its_beginning():
    assert time_of("2026-11-24T23:00:00") == time_of(LATER)
    assert time_of("2026-11-24") == time_of("2026-11-24T00:00:00Z")


@pytest.mark.parametrize("stamp", ["", "soon", "2026-13-01", "now"])
def test_what_is_no_time_is_before_all_others(stamp):
    assert time_of(stamp) == time_of("") < time_of(EARLIER)
