"""Context that travels: what's active where a job is enqueued is so in its runs, and gone after them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from datetime import timezone as fixed_offset
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from django.utils import timezone, translation

from django_kue import EnqueueError, Job, job
from django_kue.middleware import chain
from django_kue.states import State
from django_kue.testing import Kue, fake
from django_kue.testing.worker import WorkerThread
from tests.conftest import redis_client
from tests.test_middleware.chain import tenant

TENANT = "tests.test_middleware.chain.tenant"
DEFAULTS = ("en-us", "UTC", "nobody")


def here() -> list[Any]:
    return [translation.get_language(), timezone.get_current_timezone_name(), tenant.get()]


@job(name="tests.travelling.look")
def look() -> list[Any]:
    return here()


@job(name="tests.travelling.alook")
async def alook() -> list[Any]:
    return here()


@job(name="tests.travelling.litter")
def litter() -> None:
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")
    tenant.set("somebody")


def travelling(*names: str) -> Any:
    return override_settings(KUE={"PREFIX": "kue", "CONTEXT": names})


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    """Nothing is active but what a test says, whatever ran before it."""
    translation.deactivate()
    timezone.deactivate()
    yield
    chain.cache_clear()


def results(*functions: Any) -> list[Any]:
    """What jobs that are enqueued here return in a worker of one thread."""
    jobs = [function.enqueue() for function in functions]
    WorkerThread(threads=1, is_burst=True).start().join()
    return [one.refresh().result for one in jobs]


@pytest.mark.parametrize("function", [look, alook], ids=lambda function: function.name)
def test_what_is_named_is_restored_for_the_run(function: Any) -> None:
    token = tenant.set("acme")
    try:
        travels = travelling("language", "timezone", TENANT)
        with travels, translation.override("de"), timezone.override("Europe/Berlin"):
            [found] = results(function)
    finally:
        tenant.reset(token)

    assert found == ["de", "Europe/Berlin", "acme"]


def test_what_is_not_named_stays_behind() -> None:
    with travelling("timezone"), translation.override("de"), timezone.override("Europe/Berlin"):
        [found] = results(look)

    assert found == ["en-us", "Europe/Berlin", "nobody"]


def test_nothing_travels_unless_it_is_asked_for() -> None:
    with translation.override("de"), timezone.override("Europe/Berlin"):
        enqueued = look.enqueue()

    assert enqueued.headers == {}


def test_it_is_reset_after_the_run() -> None:
    with travelling("language", "timezone", TENANT):
        with translation.override("de"), timezone.override("Europe/Berlin"):
            first = look.enqueue()
        second, third = results(litter, look)

    assert first.refresh().result == ["de", "Europe/Berlin", "nobody"]
    assert second is None
    assert third == list(DEFAULTS)


def test_what_is_as_the_settings_have_it_is_not_stored() -> None:
    with travelling("language", "timezone", TENANT):
        look.enqueue()

    assert redis_client().hvals("kue:{default}:d") == [b"|tests.travelling.look|"]


@pytest.mark.parametrize(
    ("zone", "name"),
    [(ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"), (fixed_offset(timedelta(hours=-3, minutes=-30)), "UTC-03:30")],
    ids=str,
)
def test_zones_travel_by_name_or_offset(zone: Any, name: str) -> None:
    with travelling("timezone"), timezone.override(zone):
        [found] = results(look)

    assert found[1] == name


def test_switched_off_translations_travel() -> None:
    with travelling("language"), translation.override(None):
        [found] = results(look)

    assert found[0] is None


def test_values_of_variables_go_through_the_codec() -> None:
    when = datetime(2031, 1, 1, tzinfo=UTC)
    token = tenant.set({"since": when})
    try:
        with travelling(TENANT):
            [found] = results(look)
            tenant.set(object())
            with pytest.raises(EnqueueError, match=r"headers\['tests.*tenant'\]: object can't"):
                look.enqueue()
    finally:
        tenant.reset(token)

    assert found[2] == {"since": when}


def test_a_run_that_is_made_again_has_the_first_ones_context() -> None:
    with travelling("language"):
        with translation.override("de"):
            enqueued = look.enqueue()
        WorkerThread(is_burst=True).start().join()
        with translation.override("fr"):
            enqueued.refresh().retry()
        WorkerThread(is_burst=True).start().join()

    assert enqueued.refresh().result[0] == "de"


def test_a_language_that_the_worker_does_not_know_is_the_default(caplog: pytest.LogCaptureFixture) -> None:
    with travelling("language"):
        with translation.override("de"):
            enqueued = look.enqueue()
        client = redis_client()
        [(key, record)] = client.hgetall("kue:{default}:d").items()
        client.hset("kue:{default}:d", key, record.replace(b'"de"', b'"~~"'))
        WorkerThread(is_burst=True).start().join()

    assert enqueued.refresh().result[0] == "en-us"
    assert "no language '~~' is known here" in caplog.text


def test_names_in_redis_choose_no_variable_and_import_nothing() -> None:
    import sys

    with travelling("language"):
        with translation.override("de"):
            enqueued = look.enqueue()
        client = redis_client()
        [(key, record)] = client.hgetall("kue:{default}:d").items()
        forged = record.replace(b'"language":"de"', b'"antigravity.x":0')
        client.hset(
            "kue:{default}:d", key, forged.replace(b"o%d|" % 23, b"o%d|" % (23 + len(forged) - len(record)))
        )
        WorkerThread(is_burst=True).start().join()

    assert enqueued.refresh().state is State.COMPLETED
    assert enqueued.refresh().headers == {"antigravity.x": 0}
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("function", [look, alook], ids=lambda function: function.name)
def test_in_the_test_mode_only_what_travels_is_there(function: Any) -> None:
    token = tenant.set("acme")
    try:
        with fake() as kue, translation.override("de"):
            function.enqueue()
            assert kue.drain()[0].result == list(DEFAULTS)
            with travelling("language", TENANT):
                function.enqueue()
                assert kue.drain()[0].result == ["de", "UTC", "acme"]
            assert here()[0] == "de"
    finally:
        tenant.reset(token)


def test_a_forgotten_variable_shows_in_a_test(kue: Kue) -> None:
    tenant_token = tenant.set("acme")
    try:
        look.enqueue()
        [ended] = kue.drain()
    finally:
        tenant.reset(tenant_token)

    assert isinstance(ended, Job)
    assert ended.result[2] == "nobody"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.test_middleware.chain.missing", "can't be imported"),
        ("tests.test_middleware.chain.not_a_variable", "is 'text', and not a ContextVar"),
    ],
)
def test_each_mistake_is_told_by_the_check(name: str, said: str) -> None:
    with travelling(name):
        error = next(one for one in run_checks(tags=["django_kue"]) if one.id == "django_kue.E009")

    assert said in error.msg
