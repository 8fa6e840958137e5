"""The number of failed jobs beside Jobs, on the admin's index and in its sidebar."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from django.contrib import admin
from django.test import Client, override_settings

from django_kue.admin import index
from tests.conftest import NOBODY, redis_client
from tests.test_engine import hands
from tests.test_engine.hands import Hands


@pytest.fixture(autouse=True)
def counted_anew() -> Iterator[None]:
    index.forget()
    yield
    index.forget()


def fail(queue: str, count: int) -> None:
    hands.put(queue, count)
    worker = Hands(queue)
    worker.take(count)
    worker.settle_all(hands.failed())


def html_of(client: Client, url: str = "/admin/") -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("url", ["/admin/", "/ops/", "/admin/django_kue/", "/admin/django_kue/queue/"])
def test_index_and_sidebar_of_any_site_say_how_many_jobs_are_failed(boss: Client, url: str) -> None:
    fail("email", 2)
    fail("other", 1)
    assert "Jobs (3 failed)" in html_of(boss, url)


def test_without_failed_jobs_the_name_is_as_it_was(boss: Client) -> None:
    html = html_of(boss)
    assert ">Jobs</a>" in html
    assert "failed)" not in html


def test_who_may_not_see_jobs_isnt_told_and_redis_isnt_asked(
    client_with: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail("email", 1)
    monkeypatch.setattr(index, "failed_count", lambda: pytest.fail("counted for nobody"))
    assert "failed)" not in html_of(client_with("delete_job"))


def test_who_may_see_jobs_is_told(client_with: Callable[..., Client]) -> None:
    fail("email", 1)
    assert "Jobs (1 failed)" in html_of(client_with("view_job"))


def test_a_count_is_good_for_some_seconds(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(index.time, "monotonic", lambda: now)
    fail("email", 1)
    assert index.failed_count() == 1
    fail("email", 1)
    assert index.failed_count() == 1
    now += index.FRESH
    assert index.failed_count() == 2


def test_while_redis_is_away_the_index_works_and_asks_once(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    count = index._counted
    monkeypatch.setattr(index, "_counted", lambda: asked.append(1) or count())
    with override_settings(KUE={"REDIS": NOBODY}):
        for _ in range(5):
            assert ">Jobs</a>" in html_of(boss)
    assert len(asked) == 1


def test_whatever_goes_wrong_in_counting_is_logged_once_and_the_index_works(
    boss: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def spoilt() -> int:
        raise ValueError("not a number")

    monkeypatch.setattr(index, "_counted", spoilt)
    for _ in range(3):
        assert ">Jobs</a>" in html_of(boss)
    [record] = caplog.records
    assert "not a number" in record.getMessage()
    assert record.exc_info


def test_foreign_names_of_queues_are_in_nobodys_way(boss: Client) -> None:
    fail("email", 1)
    redis_client().sadd("{kue}:queues", b"\xff\xfe", b"", b"a b")
    for url in ("/admin/", "/admin/django_kue/queue/", "/admin/django_kue/dashboard/"):
        assert "Jobs (1 failed)" in html_of(boss, url)


def test_a_redis_that_doesnt_answer_holds_the_index_up_for_a_moment_only(boss: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with override_settings(KUE={"REDIS": f"redis://127.0.0.1:{port}/0", "ENQUEUE_TIMEOUT": 5}):
            started = time.monotonic()
            assert ">Jobs</a>" in html_of(boss)
            assert ">Jobs</a>" in html_of(boss)
            assert time.monotonic() - started < 2  # far from the 5 s that enqueueing may wait


def test_a_site_is_wrapped_once() -> None:
    site = admin.AdminSite("third")
    index.show_failed_count(site)
    wrapped = site.get_app_list
    index.show_failed_count(site)
    assert site.get_app_list is wrapped
