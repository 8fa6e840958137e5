"""Redis has whole milliseconds, datetimes have microseconds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from django_kue.moments import EPOCH, milliseconds, milliseconds_up, moment


@pytest.mark.parametrize(
    ("at", "down", "up"),
    [
        (EPOCH, 0, 0),
        (datetime(1970, 1, 1, 0, 0, 0, 2_000, UTC), 2, 2),
        (datetime(1970, 1, 1, 0, 0, 0, 2_001, UTC), 2, 3),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), -1, 0),
    ],
)
def test_a_moment_between_two_milliseconds_can_be_rounded_either_way(
    at: datetime, down: int, up: int
) -> None:
    assert (milliseconds(at), milliseconds_up(at)) == (down, up)
    assert moment(down) <= at <= moment(up)
