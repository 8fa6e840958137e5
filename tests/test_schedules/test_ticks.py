"""When a schedule is due: the calendar's hard cases, in a table, and beside other programs' reckoning."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from django_kue import ticks
from django_kue.moments import moment
from django_kue.ticks import DAY, LATE, MINUTE, MOST, Cron, Every, due
from tests.test_schedules.hands import ms

BERLIN = "Europe/Berlin"


def at(text: str) -> int:
    """An ISO moment with its offset; without one it's UTC."""
    moment = datetime.fromisoformat(text)
    return ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


# expression, zone, a moment, and the ticks after it
CALENDAR = [
    # summer time begins in Berlin on 2026-03-29 at 02:00: what falls into the hour left out comes after
    ("30 2 * * *", BERLIN, "2026-03-27T12:00+01:00",
     ["2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
    ("0,30 2 * * *", BERLIN, "2026-03-29T00:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
    ("0 2,3 * * *", BERLIN, "2026-03-29T00:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
    ("30 2 * * *", BERLIN, "2026-03-29T03:00+02:00", ["2026-03-30T02:30+02:00"]),
    ("30 2 * * *", BERLIN, "2026-03-29T01:59:59+01:00", ["2026-03-29T03:00+02:00"]),
    ("0 3 * * *", BERLIN, "2026-03-29T00:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T03:00+02:00"]),
    # … it ends on 2026-10-25 at 03:00: what falls into the hour that comes twice comes the first time
    ("30 2 * * *", BERLIN, "2026-10-24T12:00+02:00",
     ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    ("30 2 * * *", BERLIN, "2026-10-25T02:15+02:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    ("30 2 * * *", BERLIN, "2026-10-25T02:15+01:00", ["2026-10-26T02:30+01:00"]),  # the second time
    ("30 2 * * *", BERLIN, "2026-10-25T02:30+02:00", ["2026-10-26T02:30+01:00"]),
    ("0 3 * * *", BERLIN, "2026-10-25T00:00+02:00", ["2026-10-25T03:00+01:00"]),
    # a star for the minute or the hour follows the clock: no hour is left out, and none comes once too often
    ("30 * * * *", BERLIN, "2026-03-29T01:00+01:00",
     ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00", "2026-03-29T04:30+02:00"]),
    ("30 * * * *", BERLIN, "2026-10-25T01:40+02:00",
     ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00"]),
    ("*/20 2 * * *", BERLIN, "2026-10-25T02:10+02:00",
     ["2026-10-25T02:20+02:00", "2026-10-25T02:40+02:00", "2026-10-25T02:00+01:00"]),
    # other zones: half an hour of summer time, midnight that's left out, a day that's left out, none at all
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00+10:30",
     ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00+11:00",
     ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
    ("*/20 3 * * *", "Australia/Lord_Howe", "2026-10-04T01:00+10:30",
     ["2026-10-04T03:00+11:00", "2026-10-04T03:20+11:00", "2026-10-04T03:40+11:00"]),
    ("31 * * * *", "Australia/Lord_Howe", "2026-04-05T01:00+11:00",
     ["2026-04-05T01:31+11:00", "2026-04-05T01:31+10:30", "2026-04-05T02:31+10:30"]),
    ("0 * 1 4 *", "Australia/Lord_Howe", "2026-04-01T23:00+11:00", ["2027-04-01T00:00+11:00"]),
    ("30 2 * * *", "Asia/Kathmandu", "2026-03-28T21:00", ["2026-03-29T20:45"]),
    ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00+02:00",
     ["2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00"]),
    ("0 12 * * *", "Pacific/Apia", "2011-12-29T13:00-10:00",
     ["2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"]),
    ("30 2 * * *", "Asia/Kolkata", "2026-03-28T21:00", ["2026-03-29T21:00"]),
    ("30 2 * * *", "America/New_York", "2026-03-08T00:00-05:00",
     ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
    ("30 1 * * *", "America/New_York", "2026-11-01T00:00-04:00",
     ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
    # leap days, ends of months and of years
    ("0 0 29 2 *", "UTC", "2024-03-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ("0 0 29 2 *", "UTC", "2096-03-01T00:00", ["2104-02-29T00:00"]),  # 2100 is no leap year
    ("0 0 31 * *", "UTC", "2026-01-31T00:00", ["2026-03-31T00:00", "2026-05-31T00:00"]),
    ("0 0 L * *", "UTC", "2028-02-01T00:00", ["2028-02-29T00:00", "2028-03-31T00:00"]),
    ("59 23 31 12 *", "UTC", "2026-12-31T23:59", ["2027-12-31T23:59"]),
    # a day of the month and one of the week: either, unless one begins with a star
    ("0 0 13 * fri", "UTC", "2026-03-01T00:00", ["2026-03-06T00:00", "2026-03-13T00:00", "2026-03-20T00:00"]),
    ("0 0 1-7 * */7", "UTC", "2026-03-02T00:00", ["2026-04-05T00:00"]),  # the first Sunday
    ("0 0 * * 7", "UTC", "2026-03-01T00:00", ["2026-03-08T00:00"]),
    ("0 9 * * mon#2", "UTC", "2026-03-01T00:00", ["2026-03-09T09:00", "2026-04-13T09:00"]),
    ("@daily", BERLIN, "2026-06-01T12:00", ["2026-06-01T22:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "zone", "moment", "expected"), CALENDAR)
def test_the_calendars_hard_cases(text: str, zone: str, moment: str, expected: list[str]) -> None:
    rule = Cron.of(text, zone)

    assert ticks.after(rule, at(moment), len(expected)) == [at(one) for one in expected]
    last = at(expected[-1])
    backwards = [tick for tick in islice(rule.upto(last), len(expected)) if tick > at(moment)]
    assert backwards == [at(one) for one in reversed(expected)]


def random_field(chance: random.Random, low: int, high: int) -> str:
    kind = chance.randrange(5)
    one, other = sorted(chance.sample(range(low, high + 1), 2))
    return ["*", str(one), f"{one},{other}", f"{one}-{other}", f"*/{chance.randint(2, 7)}"][kind]


def random_cron(seed: int) -> str:
    chance = random.Random(seed)
    fields = [random_field(chance, *bounds) for bounds in ((0, 59), (0, 23), (1, 28), (1, 12))]
    # Where days of the month and of the week are both restricted, croniter's way is another.
    days_of_week = random_field(chance, 0, 6)
    if chance.random() < 0.5:
        fields[2] = "*"
    else:
        days_of_week = "*"
    return " ".join([*fields, days_of_week])


@pytest.mark.parametrize("seed", range(60))
def test_where_no_clock_is_changed_the_ticks_are_croniters(seed: int) -> None:
    text, begin = random_cron(seed), datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=seed * 9973)
    other = croniter(text, begin)

    expected = [round(other.get_next(float) * 1000) for _ in range(20)]

    assert ticks.after(Cron.of(text, "UTC"), ms(begin), 20) == expected


def by_the_clock_on_the_wall(text: str, zone: str, begin: int, end: int) -> list[int]:
    """Debian's cron, minute for minute: what it does when the clock jumps, as its manual has it."""
    minute, hour, *_ = text.split()
    follows = minute.startswith("*") or hour.startswith("*")
    found, seen, owed = [], set(), set()
    fits = croniter.match
    place = ZoneInfo(zone)
    previous: datetime | None = None
    for tick in range(begin, end, MINUTE):
        wall = moment(tick).astimezone(place).replace(tzinfo=None)
        if previous is not None and not follows:
            gap = previous + timedelta(minutes=1)
            while gap < wall:
                if fits(text, gap):
                    owed.add(gap)
                gap += timedelta(minutes=1)
        if (fits(text, wall) and (follows or wall not in seen)) or owed:
            found.append(tick)
            owed.clear()
        seen.add(wall)
        previous = wall
    return found


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        (BERLIN, "2026-03-28T22:00"),
        (BERLIN, "2026-10-24T22:00"),
        ("Australia/Lord_Howe", "2026-10-03T12:00"),
        ("Australia/Lord_Howe", "2026-04-04T11:00"),
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "30 2 * * *",
        "*/7 * * * *",
        "15,45 1-3 * * *",
        "5 * * * *",
        "*/15 2 * * *",
        "0 0,2,4 * * *",
        "*/7 3,4 * * *",
    ],
)
def test_around_a_change_of_clocks_the_ticks_are_debian_crons(text: str, zone: str, day: str) -> None:
    begin, end = at(day), at(day) + 8 * 60 * MINUTE
    rule = Cron.of(text, zone)

    found = [tick for tick in ticks.after(rule, begin - 1, 80) if tick < end]

    assert found == by_the_clock_on_the_wall(text, zone, begin, end)
    assert list(takewhile(lambda tick: tick >= begin, rule.upto(end - 1)))[::-1] == found


@pytest.mark.parametrize("seed", range(20))
def test_backwards_the_ticks_are_the_same_as_forwards(seed: int) -> None:
    rule = Cron.of(random_cron(seed), BERLIN)
    begin = at("2026-03-20T00:00")
    forwards = ticks.after(rule, begin, 40)

    backwards = [tick for tick in islice(rule.upto(forwards[-1]), 40) if tick > begin]

    assert backwards[::-1] == forwards


def test_looking_back_within_the_hour_that_comes_twice_finds_its_first_coming() -> None:
    rule = Cron.of("30 2 * * *", BERLIN)

    assert next(rule.upto(at("2026-10-25T02:29+01:00"))) == at("2026-10-25T02:30+02:00")
    assert next(rule.upto(at("2026-10-25T02:29+02:00"))) == at("2026-10-24T02:30+02:00")
    assert next(rule.upto(at("2026-03-29T03:00+02:00"))) == at("2026-03-29T03:00+02:00")
    assert next(rule.upto(at("2026-03-29T01:59+01:00"))) == at("2026-03-28T02:30+01:00")


def test_an_interval_follows_elapsed_time_and_is_the_same_for_all_who_compute_it() -> None:
    rule = Every.of(timedelta(hours=1))

    assert ticks.after(rule, at("2026-10-25T00:10"), 3) == [at(f"2026-10-25T0{h}:00") for h in (1, 2, 3)]
    assert ticks.after(Every.of(1.5), 0, 2) == [1500, 3000]
    assert list(islice(rule.upto(at("2026-10-25T02:00")), 2)) == [
        at("2026-10-25T02:00"),
        at("2026-10-25T01:00"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("61 * * * *", "bad minute"),
        ("* * * *", "five fields"),
        ("*/10 * * * * *", "five fields"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 * * noday", "bad day-of-week: 0 to 7 or sun to sat"),
        ("0 0 * * fri-sun", "ranges upwards"),
        ("9" * 5000 + " * * * *", "five fields"),
        ("@fortnightly", "@weekly"),
        ("5-1 * * * *", "bad minute"),
        ("@reboot", "five fields"),
        ("", "five fields"),
    ],
)
def test_what_is_no_cron_expression_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Cron.of(text, "UTC")


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc/passwd", "Europe"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        Cron.of("0 0 * * *", zone)


@pytest.mark.parametrize("every", [0, 0.5, -1, 10**12, float("nan"), timedelta()])
def test_an_interval_is_from_a_second_to_ten_years(every: float | timedelta) -> None:
    with pytest.raises(ValueError, match="one second to ten years"):
        Every.of(every)


@pytest.mark.parametrize("rule", [Cron.of("30 2 * * mon", BERLIN), Cron.of("@daily", "UTC"), Every.of(90)])
def test_a_rule_is_read_as_it_was_stored(rule: ticks.Rule) -> None:
    assert ticks.decode(ticks.encode(rule)) == rule


def test_rules_are_told_in_words() -> None:
    assert Cron.of("30 2 * * mon", BERLIN).words == "At 02:30 on Monday (Europe/Berlin)"
    assert [Every.of(s).words for s in (1, 90, 300, 3600, 86400, 604800, 1.5)] == [
        "Every second", "Every 90 seconds", "Every 5 minutes", "Every hour", "Every day", "Every week",
        "Every 1.5 seconds",
    ]  # fmt: skip


# ── after an outage ──

HOURLY = Every.of(3600)
EIGHT = at("2026-03-01T08:00")
HOUR = 60 * MINUTE


def test_a_tick_that_is_on_time_is_fired_whatever_catch_up_says() -> None:
    for catch_up in ticks.CATCH_UP:
        assert due(HOURLY, EIGHT, EIGHT + 20, catch_up) == ([EIGHT], [], EIGHT + HOUR)


def test_after_an_outage_the_last_tick_is_fired() -> None:
    assert due(HOURLY, EIGHT, EIGHT + 3 * HOUR + 5 * MINUTE, "last") == (
        [EIGHT + 3 * HOUR], [EIGHT, EIGHT + HOUR, EIGHT + 2 * HOUR], EIGHT + 4 * HOUR,
    )  # fmt: skip


def test_or_all_of_them() -> None:
    found = due(HOURLY, EIGHT, EIGHT + 2 * HOUR + 5 * MINUTE, "all")

    assert found == ([EIGHT, EIGHT + HOUR, EIGHT + 2 * HOUR], [], EIGHT + 3 * HOUR)
    assert found.steps() == [(EIGHT + n * HOUR, EIGHT + (n + 1) * HOUR) for n in range(3)]


def test_or_none_that_is_more_than_a_minute_late() -> None:
    late = EIGHT + 2 * HOUR + LATE + 1

    assert due(HOURLY, EIGHT, late, "none") == ([], [EIGHT, EIGHT + HOUR, EIGHT + 2 * HOUR], EIGHT + 3 * HOUR)
    assert due(HOURLY, EIGHT, late - 1, "none") == (
        [EIGHT + 2 * HOUR], [EIGHT, EIGHT + HOUR], EIGHT + 3 * HOUR,
    )  # fmt: skip


def test_of_all_ticks_of_years_the_newest_thousand_are_fired() -> None:
    now = EIGHT + 5 * 365 * DAY + 30_000

    found = due(Cron.of("* * * * *", BERLIN), EIGHT, now, "all")

    assert len(found.fires) == MOST
    assert found.fires[-1] == now - 30_000
    assert found.missed == [EIGHT]


@pytest.mark.parametrize("text", [row[0] for row in CALENDAR])
def test_whatever_comes_rarely_is_due_when_it_comes(text: str) -> None:
    rule = Cron.of(text, BERLIN)
    expected = rule.after(at("2026-01-01T00:00"))
    assert expected is not None

    assert due(rule, expected, expected + 20, "last") == ([expected], [], rule.after(expected))


def test_only_what_is_due_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(Cron, "upto", lambda self, ms: (looked.append(t) or t for t in range(ms, 0, -MINUTE)))

    due(Cron.of("* * * * *", "UTC"), EIGHT, EIGHT + 2 * MINUTE, "last")

    assert len(looked) == 3


def test_ticks_go_back_to_1970_and_no_further() -> None:
    found = list(Cron.of("0 0 29 2 *", "UTC").upto(at("1981-01-01T00:00")))

    assert [moment(tick).year for tick in found] == [1980, 1976, 1972]


def test_a_day_in_which_clocks_change_is_caught_up_once() -> None:
    rule = Cron.of("30 2 * * *", BERLIN)
    for day, tick in (("2026-10-25", "2026-10-25T02:30+02:00"), ("2026-03-29", "2026-03-29T03:00+02:00")):
        expected = rule.after(at(f"{day}T00:00") - 2 * DAY)
        assert expected is not None

        found = due(rule, expected, at(f"{day}T12:00"), "all")

        assert found.fires[-1] == at(tick)
        assert len(found.fires) == len(set(found.fires)) == 3
