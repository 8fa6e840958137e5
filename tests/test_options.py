"""The options of @job and .using(): what's accepted, what's told, and which one wins."""

from datetime import UTC, datetime, timedelta
from typing import get_type_hints

import pytest

from django_kue import options
from django_kue.backoff import LONGEST, Backoff
from django_kue.conf import QueueSettings
from django_kue.options import DECORATOR, UNSET, USING, Options, read
from django_kue.states import State
from docs.pages import options_page

HOUR_FROM_NOW = datetime(2031, 5, 1, 9, 30, tzinfo=UTC)

GOOD = [
    ("queue", "email", "email"),
    ("priority", "high", 10),
    ("priority", -100, -100),
    ("attempts", 5, 5),
    ("backoff", None, None),
    ("backoff", 10, Backoff.fixed(10)),
    ("backoff", timedelta(minutes=1), Backoff.fixed(60)),
    ("backoff", Backoff.exponential(2), Backoff.exponential(2)),
    ("timeout", 30, 30),
    ("timeout", timedelta(seconds=1.5), 1.5),
    ("timeout", None, None),
    ("expires", 60, 60),
    ("expires", None, None),
    ("title", "Receipt", "Receipt"),
    ("search_keys", ["a", "b", "a"], ("a", "b")),
    ("unique", True, True),
    ("keep", 0, 0),
    ("keep", timedelta(hours=1), 3600),
    ("on_commit", False, False),
    ("on_commit", "other", "other"),
    ("outbox", True, True),
    ("outbox", False, False),
    ("outbox", "other", "other"),
]
ONLY_USING = [
    ("delay", 0, 0),
    ("delay", timedelta(minutes=1), 60),
    ("run_at", HOUR_FROM_NOW, HOUR_FROM_NOW),
]
ONLY_DECORATOR = [
    ("unique", "sync-{account}", "sync-{account}"),
    ("retry_on", ConnectionError, (ConnectionError,)),
    ("retry_on", (), ()),
    ("discard_on", [KeyError, ValueError], (KeyError, ValueError)),
    ("takes_context", True, True),
    ("api", True, True),
    ("cron", "30 2 * * mon", "30 2 * * mon"),
    ("every", 300, 300),
    ("every", timedelta(minutes=5), timedelta(minutes=5)),
    ("name", "shop.send", "shop.send"),
    ("aliases", ["old.name"], ("old.name",)),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
@pytest.mark.parametrize("place", [DECORATOR, USING])
def test_what_both_places_take(place, name, value, expected):
    assert getattr(read({name: value}, place), name) == expected


@pytest.mark.parametrize(("name", "value", "expected"), ONLY_USING)
def test_when_it_runs_is_for_using_to_say(name, value, expected):
    assert getattr(read({name: value}, USING), name) == expected
    with pytest.raises(TypeError, match=rf"{name} is an option of \.using\(\), not of @job"):
        read({name: value}, DECORATOR)


@pytest.mark.parametrize(("name", "value", "expected"), ONLY_DECORATOR)
def test_what_belongs_to_the_definition_is_for_the_decorator_to_say(name, value, expected):
    assert getattr(read({name: value}, DECORATOR), name) == expected
    with pytest.raises((TypeError, ValueError), match=name):
        read({name: value}, USING)


def test_a_backoff_function_belongs_onto_the_decorator():
    def backoff(attempt):
        return attempt

    assert read({"backoff": backoff}, DECORATOR).backoff is backoff
    with pytest.raises(TypeError, match=r"\.using\(\): backoff must be None, seconds"):
        read({"backoff": backoff}, USING)


BAD = [
    ("queue", "e mail", ValueError),
    ("queue", 5, TypeError),
    ("queue", "x" * 41, ValueError),
    ("priority", 101, ValueError),
    ("priority", "urgent", ValueError),
    ("priority", True, ValueError),
    ("attempts", 0, ValueError),
    ("attempts", 1.5, TypeError),
    ("attempts", "5", TypeError),
    ("attempts", None, TypeError),
    ("backoff", -1, ValueError),
    ("backoff", "10", TypeError),
    ("timeout", 0, ValueError),
    ("timeout", float("nan"), ValueError),
    ("expires", 0, ValueError),
    ("expires", -1, ValueError),
    ("title", "", ValueError),
    ("title", 5, TypeError),
    ("search_keys", "order_id", ValueError),
    ("search_keys", ("order.id",), ValueError),
    ("search_keys", 5, TypeError),
    ("unique", 1, TypeError),
    ("unique_for", "waiting", ValueError),
    ("unique_for", ("asleep",), ValueError),
    ("unique_for", (), ValueError),
    ("unique_for", 0, ValueError),
    ("keep", -1, ValueError),
    ("keep", None, ValueError),
    ("keep", LONGEST * 2, ValueError),
    ("on_commit", None, TypeError),
    ("outbox", None, TypeError),
    ("outbox", "", ValueError),
]


@pytest.mark.parametrize(("name", "value", "error"), BAD)
@pytest.mark.parametrize("place", [DECORATOR, USING])
def test_a_wrong_value_is_told_with_option_expected_and_found(place, name, value, error):
    with pytest.raises(error) as caught:
        read({"unique": True, name: value}, place)
    text = str(caught.value)
    assert text.startswith(f"{place}: {name} must be ")
    assert f"found {value!r}" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retry_on", "ValueError"),
        ("retry_on", (ValueError, int)),
        ("discard_on", ValueError()),
        ("discard_on", BaseException),
        ("takes_context", 1),
        ("api", "yes"),
        ("name", "a b"),
        ("name", "a|b"),
        ("name", "a,b"),
        ("name", ""),
        ("name", "x" * 201),
        ("aliases", "old"),
        ("aliases", ("old name",)),
    ],
)
def test_a_wrong_definition_is_told(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"@job: {name} must be .*; found"):
        read({name: value}, DECORATOR)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delay", -1),
        ("delay", "60"),
        ("delay", HOUR_FROM_NOW),
        ("run_at", 60),
        ("run_at", datetime(2031, 5, 1)),
        ("run_at", datetime(9999, 5, 1, tzinfo=UTC)),
        ("run_at", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_wrong_time_is_told(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"\.using\(\): {name} must be .*; found"):
        read({name: value}, USING)


def test_a_naive_datetime_is_answered_with_the_remedy():
    with pytest.raises(
        ValueError, match=r"It has no time zone: use django\.utils\.timezone\.make_aware"
    ) as told:
        read({"run_at": datetime(2031, 5, 1)}, USING)
    assert "datetime.now(UTC) + …" in str(told.value), "timezone.now() is naive where USE_TZ is off"


def test_a_time_beyond_the_end_is_told_the_limit():
    with pytest.raises(ValueError, match=r"from 1970 until 2109-05-15 07:35 UTC; found .*2200") as told:
        read({"run_at": datetime(2200, 1, 1, tzinfo=UTC)}, USING)
    assert "datetime.now(UTC) + timedelta(hours=1)" in str(told.value)
    last = datetime(2109, 5, 15, 7, 35, tzinfo=UTC)
    assert read({"run_at": last}, USING).run_at == last


def test_an_unknown_option_is_answered_with_the_closest():
    with pytest.raises(TypeError, match=r"@job has no option 'atempts'\. Did you mean 'attempts'\?"):
        read({"atempts": 5}, DECORATOR)
    with pytest.raises(TypeError, match=r"\.using\(\) has no option 'zzz'\. It takes queue, priority, "):
        read({"zzz": 5}, USING)


def test_delay_and_run_at_exclude_each_other_but_the_later_using_wins():
    with pytest.raises(ValueError, match="delay and run_at exclude each other"):
        read({"delay": 5, "run_at": HOUR_FROM_NOW}, USING)
    later = read({"delay": 5}, USING, read({"run_at": HOUR_FROM_NOW}, USING))
    assert (later.delay, later.run_at) == (5, None)


def test_unique_for_without_unique_is_a_mistake():
    with pytest.raises(ValueError, match="give unique, too"):
        read({"unique_for": 60}, DECORATOR)
    assert read({"unique_for": 60}, USING, Options(unique=True)).unique_for == 60


def test_states_of_unique_for_may_be_kues_words():
    found = read({"unique": True, "unique_for": ("inactive", "complete", State.ACTIVE)}, DECORATOR)
    assert set(found.unique_for) == {State.WAITING, State.COMPLETED, State.ACTIVE}


# -- who wins --------------------------------------------------------------------------------------

QUEUE = QueueSettings(attempts=3, backoff=Backoff.fixed(7), timeout=20, priority=5)


def test_the_queues_setting_holds_where_nobody_says_otherwise():
    held = options.rules(Options(), {}, QUEUE)
    assert (held.attempts, held.backoff, held.timeout, held.keep) == (3, Backoff.fixed(7), 20, None)


def test_the_definition_beats_the_queue_even_with_none():
    definition = read({"attempts": 2, "backoff": None, "timeout": None, "keep": 0}, DECORATOR)
    held = options.rules(definition, {}, QUEUE)
    assert (held.attempts, held.backoff, held.timeout, held.keep) == (2, None, None, 0)


def test_using_beats_the_definition_and_survives_storing():
    definition = read({"attempts": 2, "backoff": 5, "timeout": 30, "keep": 60}, DECORATOR)
    changed = read(
        {"attempts": 9, "backoff": Backoff.exponential(2, max=8), "timeout": None}, USING, definition
    )
    stored = options.to_store(changed, definition)
    assert stored == {
        "attempts": 9,
        "backoff": {"type": "exponential", "delay": 2, "max": 8},
        "timeout": None,
    }
    held = options.rules(definition, stored, QUEUE)
    assert (held.attempts, held.backoff, held.timeout, held.keep) == (
        9,
        Backoff.exponential(2, max=8),
        None,
        60,
    )


def test_using_can_say_at_once_where_the_queue_says_later():
    stored = options.to_store(read({"backoff": None}, USING), Options())
    assert stored == {"backoff": None}
    assert options.rules(Options(), stored, QUEUE).backoff is None


def test_what_using_says_as_the_definition_does_is_not_stored():
    definition = read({"attempts": 2, "timeout": 30}, DECORATOR)
    assert options.to_store(read({"attempts": 2, "queue": "other"}, USING, definition), definition) == {}


@pytest.mark.parametrize(
    "stored",
    [
        {"attempts": "many"},
        {"attempts": 0},
        {"backoff": "function () {}"},
        {"backoff": 5},
        {"timeout": -1},
        {"keep": []},
    ],
)
def test_a_corrupt_record_is_a_value_error(stored):
    with pytest.raises(ValueError):
        options.rules(Options(), stored, QUEUE)


def test_what_a_newer_release_stored_beside_is_ignored():
    assert options.rules(Options(), {"colour": "red"}, QUEUE).attempts == 3


def rules_with(backoff):
    return options.rules(Options(backoff=backoff), {}, QUEUE)


def test_delay_after_follows_the_backoff():
    assert rules_with(None).delay_after(1) == 0
    assert rules_with(Backoff.exponential(2)).delay_after(3) == 8
    assert rules_with(lambda attempt: attempt * 10).delay_after(3) == 30
    assert rules_with(lambda attempt: timedelta(minutes=1)).delay_after(1) == 60
    assert rules_with(lambda attempt: 1e300).delay_after(1) == LONGEST


@pytest.mark.parametrize(
    ("found", "error"), [(None, TypeError), ("5", TypeError), (True, TypeError), (-1, ValueError)]
)
def test_a_backoff_function_that_gives_no_seconds_is_told(found, error):
    with pytest.raises(error, match=r"the backoff function returned .* for attempt 2"):
        rules_with(lambda attempt: found).delay_after(2)
    with pytest.raises(ValueError, match="the backoff function returned nan"):
        rules_with(lambda attempt: float("nan")).delay_after(2)


def test_discard_on_wins_over_retry_on():
    definition = read({"retry_on": OSError, "discard_on": ConnectionError}, DECORATOR)
    held = options.rules(definition, {}, QUEUE)
    assert held.may_retry(FileNotFoundError())
    assert not held.may_retry(ConnectionResetError())
    assert not held.may_retry(ValueError())
    assert rules_with(None).may_retry(ValueError())


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "place", "besides"),
    [(options.JobOptions, DECORATOR, {"takes_context"}), (options.UsingOptions, USING, set())],
)
def test_what_type_checkers_are_told_is_what_the_table_says(typed, place, besides):
    names = {name for name, row in options.TABLE.items() if place in row.metadata["places"]}
    assert set(get_type_hints(typed)) | besides == names


def test_every_option_has_a_line_in_the_reference():
    page = options_page()
    for name, row in options.TABLE.items():
        assert f"\n| `{name}` |" in page
        assert row.metadata["doc"].endswith((".", "`"))
    assert "UNSET" not in page
    assert repr(UNSET) == "UNSET"
