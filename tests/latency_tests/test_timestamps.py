"""Times as rows write them, of whatever zone, and what is none."""

import pytest

from latency.timestamps import is_newer, latest, newest, time_of

EARLIER, LATER = "2026-11-25T00:30:00+02:00", "2026-11-24T23:00:00Z"


@pytest.mark.parametrize("stamps", [[EARLIER, LATER], [LATER, EARLIER], ["soon", LATER, ""]])
def test_the_latest_stamp_is_that_of_the_latest_time_in_any_zone(stamps):
    assert latest(stamps) == LATER
    assert newest(stamps) == time_of(LATER)


def test_a_time_without_a_zone_is_in_utc_and_a_day_is_its_beginning():
    assert time_of("2026-11-24T23:00:00") == time_of(LATER)
    assert time_of("2026-11-24") == time_of("2026-11-24T00:00:00Z")


@pytest.mark.parametrize("stamp", ["", "soon", "2026-13-01", "now"])
def test_what_is_no_time_is_newer_than_nothing_and_nothing_is_newer_than_it(stamp):
    assert time_of(stamp) is None
    assert not is_newer(time_of(stamp), time_of(LATER))
    assert not is_newer(time_of(LATER), time_of(stamp))
    assert newest([stamp]) is None
