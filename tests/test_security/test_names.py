"""Names, ids and queues from outside lead to their own key, or nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from django_kue import Job, JobDoesNotExist, conf, get_queue, ids, keys, kinds
from django_kue.ids import QUEUE_NAME
from django_kue.listing import Listing
from tests.app.jobs import fail
from tests.conftest import redis_client
from tests.test_cli.hands import enqueued
from tests.test_engine.hands import Hands, failed, put

NASTY = st.one_of(
    st.text(),
    st.text("ab:{}*?[]^\\.-_\0\n/ ", max_size=12),
    st.sampled_from(["a", "b:wait", "a:b", "wait", "{a}", "a}:{b", "*", "[a]", "a*", "x" * 10_000]),
)
PREFIXES = st.one_of(st.just("kue"), NASTY)
QUEUES = st.from_regex(QUEUE_NAME, fullmatch=True)
KEYS = st.text("abcXYZ019-_", min_size=ids.KEY_LENGTH, max_size=ids.KEY_LENGTH)
TAILS = st.sampled_from(["\n", ":", "}", "\0", ".", "a", "*", "\u0660"])


def is_prefix(text: str) -> bool:
    return conf.problems({"PREFIX": text}) == []


def is_queue(name: str) -> bool:
    return conf.problems({"QUEUES": {name: {}}}) == []


@given(NASTY)
def test_a_queue_s_name_is_of_harmless_characters_or_refused(name: str) -> None:
    assert is_queue(name) == bool(QUEUE_NAME.fullmatch(name))
    if is_queue(name):
        assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        assert len(name) <= 40


def place(prefix: str, queue: str | None, name: str, rest: str) -> str:
    """A key, with what comes behind it where it's one of many."""
    table = keys.GLOBAL_KEYS if queue is None else keys.QUEUE_KEYS
    head = keys.of_all(prefix, name) if queue is None else keys.of_queue(prefix, queue, name)
    return head + (rest if table[name].endswith(":") else "")


PLACES = st.builds(
    lambda prefix, where, rest: (prefix, *where, rest if _of(*where).endswith(":") else ""),
    PREFIXES.filter(is_prefix),
    st.one_of(
        st.tuples(QUEUES, st.sampled_from(sorted(keys.QUEUE_KEYS))),
        st.tuples(st.none(), st.sampled_from(sorted(keys.GLOBAL_KEYS))),
    ),
    NASTY,
)


def _of(queue: str | None, name: str) -> str:
    return (keys.GLOBAL_KEYS if queue is None else keys.QUEUE_KEYS)[name]


@given(PLACES, PLACES)
def test_two_places_never_have_one_key(one: Any, other: Any) -> None:
    assert (place(*one) == place(*other)) == (one == other)


def test_no_key_s_name_begins_with_that_of_many_keys() -> None:
    for table in (keys.QUEUE_KEYS, keys.GLOBAL_KEYS):
        names = list(table.values())
        assert len(set(names)) == len(names)
        for many in (name for name in names if name.endswith(":")):
            assert [name for name in names if name.startswith(many)] == [many]


@given(st.one_of(NASTY, QUEUES), st.one_of(NASTY, KEYS, st.builds(str.__add__, KEYS, TAILS)))
@example("default", "A" * 22)
@example("default", "A" * 22 + "\n")
@example("default", "A" * 22 + ":p")
@example("default\n", "A" * 22)
def test_an_id_is_taken_apart_exactly_or_refused(queue: str, key: str) -> None:
    try:
        found = ids.split(f"{queue}.{key}")
    except JobDoesNotExist:
        assert not (is_queue(queue) and len(key) == ids.KEY_LENGTH and QUEUE_NAME.fullmatch(key))
    else:
        assert found == (queue, key)
        assert is_queue(queue)


@pytest.mark.parametrize(
    "name", ["*", "[a]", "def*", "defaul?", "default}:d", "{kue}", "a:b", "../x", "", "a\0b"]
)
def test_a_queue_whose_name_is_a_pattern_is_no_queue(name: str) -> None:
    put("default", 2)
    with pytest.raises(LookupError):
        get_queue(name)
    with pytest.raises(JobDoesNotExist):
        Job.get(f"{name}.{'A' * 22}")
    redis_client().sadd("{kue}:queues", name)  # also if somebody wrote it there
    with pytest.raises(LookupError):
        get_queue(name)


@pytest.mark.parametrize("prefix", ["*", "k[u]e", "kue*", "a?c", "^kue"])
def test_a_prefix_that_looks_like_a_pattern_is_only_a_prefix(prefix: str) -> None:
    put("default", 3)
    with override_settings(KUE={"PREFIX": prefix}):
        put("default", 1)
        assert get_queue("default").counts()["waiting"] == 1
        get_queue("default").empty()
    assert get_queue("default").counts()["waiting"] == 3


@pytest.mark.parametrize("text", ["*", "f?il", "[a-z]+", "(a+)+$", "\\", "%", "tests.*fail"])
def test_a_search_takes_text_literally(text: str) -> None:
    enqueued(fail.name, "x")
    assert Listing(text=text).jobs() == []
    wanted = enqueued(fail.name, options={"title": f"it has {text} in it"})
    assert [job.id for job in Listing(text=text).jobs()] == [wanted]


def test_a_function_s_name_from_redis_stays_within_its_queue_s_keys() -> None:
    for name in ("x:y", "*", "{other}", "a}:{b", "c"):
        hands = Hands()
        enqueued(name)
        hands.settle(hands.take_one(), failed())
    found = {key.decode() for key in redis_client().keys("*") if b":fn:" in key}
    assert found == {"kue:{default}:fn:" + name for name in ("x:y", "*", "{other}", "a}:{b", "c")}


def test_settings_kinds_refuse_braces_and_spaces_in_prefixes() -> None:
    for prefix in ("a{b", "a}b", "a b", "a\nb", "a\x1b", ""):
        with pytest.raises(ValueError):
            kinds.PREFIX.read(prefix)
