"""Whatever jobs bring along is text, and nothing else."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import reverse

from tests.conftest import redis_client
from tests.test_admin.hands import LIST, acted
from tests.test_cli.hands import enqueued
from tests.test_engine.hands import Hands, failed, retried

CORPUS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></textarea></pre></span><svg onload=alert(1)>",
    "javascript:alert(1)//",
    "{{ 7*7 }}{% debug %}",
    "<!--<a href='//evil.example'>--> ]]> &lt;b&gt;",
    "\u202eevil\u2066 \x00\x07\ud7ff%s %(count)s %d {0}",
]


class Elements(HTMLParser):
    """Every element of a page that could do something, or lead somewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def assert_harmless(html: str) -> None:
    for tag, attributes in Elements(html).found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("href", "src", "action"):
            value = (attributes.get(name) or "").strip().lower()
            assert not value.startswith(("javascript:", "//evil", "data:text")), (tag, attributes)
        if tag == "script":
            assert attributes.get("src") or attributes.get("type") == "application/json", attributes
        assert not (tag == "img" and attributes.get("src") == "x")


def hostile_jobs(text: str) -> list[str]:
    """A failed, an active and a waiting job, whose every text is this one."""
    options: dict[str, Any] = {"options": {"title": text}}
    hands = Hands("default", f"host:1:{text.replace('/', '').replace(' ', '')[:30]}")
    dead = enqueued(text, text, **options)
    hands.take()
    hands.settle(dead.partition(".")[2], retried(message=text))
    hands.take()
    hands.settle(dead.partition(".")[2], failed(message=text))
    running = enqueued(text, text, {text: text}, **options)
    hands.take()
    hands.report(running.partition(".")[2], "l", text.encode())
    return [dead, running, enqueued(text, text, **options)]


@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_stays_text(boss: Client, text: str) -> None:
    ids = hostile_jobs(text)
    # A queue's name can't be hostile by way of the API; but Redis holds whatever was written there.
    redis_client().sadd("kue:queues", text)
    addresses = [LIST, *(f"{LIST}?state__exact={state}" for state in ("failed", "active", "waiting"))]
    addresses += [f"{LIST}?_facets=1", "/admin/django_kue/dashboard/", "/admin/django_kue/queue/"]
    addresses += ["/admin/django_kue/worker/", "/admin/"]
    addresses += [reverse("admin:django_kue_job_change", args=[quote(job_id)]) for job_id in ids]
    for url in addresses:
        response = boss.get(url)
        assert response.status_code == 200, url
        assert_harmless(response.content.decode())
    for query in (
        {"q": text},
        {"queue__exact": text},
        {"name__exact": text},
        {"state__exact": text},
        {"o": text},
    ):
        response = boss.get(LIST, query, follow=True)
        assert response.status_code == 200, query
        assert_harmless(response.content.decode())


@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_stays_text_where_it_is_asked_and_noted(boss: Client, text: str) -> None:
    [dead, *_] = hostile_jobs(text)
    asked = acted(boss, "retry_selected", [dead, text], confirm=False)
    assert_harmless(asked.content.decode())
    acted(boss, "retry_selected", [dead])
    assert_harmless(boss.get("/admin/").content.decode())
    assert_harmless(boss.get(reverse("admin:django_kue_job_history", args=[quote(dead)])).content.decode())


def test_the_text_is_there_to_be_read(boss: Client) -> None:
    hostile_jobs(CORPUS[0])
    html = boss.get(f"{LIST}?state__exact=failed").content.decode()
    assert "ValueError: &lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>alert" not in html
