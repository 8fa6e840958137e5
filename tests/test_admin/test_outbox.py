"""The outbox's page: what's in it, and who may send or delete what."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError
from django.test import Client, override_settings

from django_kue import outbox
from django_kue.models import Outbox
from tests.app import jobs as app_jobs
from tests.conftest import NOBODY
from tests.test_admin.hands import listed
from tests.test_outbox import boxed, cut_off, left, left_behind, waiting

URL = "/admin/django_kue/outbox/"

pytestmark = pytest.mark.django_db(transaction=True)


def act(client: Client, action: str, query: str = "", **data: Any) -> Any:
    chosen = list(Outbox.objects.values_list("pk", flat=True))
    return client.post(URL + query, {"action": action, "_selected_action": chosen, **data}, follow=True)


def test_rows_are_listed_oldest_first_with_what_is_wrong_with_them(viewer: Client) -> None:
    first, second = left_behind(app_jobs.climb.using(outbox=True), ("a",), ("<b>",))
    Outbox.objects.filter(key=second.key).update(error="No queue <i>bygone</i>", attempts=7)
    assert listed(viewer, url=URL) == [first.id, second.id]
    page = viewer.get(URL).content.decode()
    assert "Climb to a" in page
    assert "Climb to &lt;b&gt;" in page
    assert "tests.app.jobs.climb" in page
    assert "10 s ago" in page
    assert "No queue &lt;i&gt;bygone&lt;/i&gt;" in page


def test_it_is_narrowed_by_queue_and_by_error(viewer: Client) -> None:
    [plain] = left_behind()
    [other] = left_behind(boxed.using(queue="other"))
    Outbox.objects.filter(key=other.key).update(error="no")
    assert listed(viewer, "?queue=other", url=URL) == [other.id]
    assert listed(viewer, "?refused=yes", url=URL) == [other.id]
    assert listed(viewer, "?queue=default", url=URL) == [plain.id]
    assert listed(viewer, "?database=nowhere", url=URL) == [plain.id, other.id]


def test_a_row_that_cant_be_read_is_listed_all_the_same(viewer: Client) -> None:
    [job] = left_behind()
    Outbox.objects.update(record=b"nonsense")
    assert listed(viewer, url=URL) == [job.id]
    assert "(unreadable)" in viewer.get(URL).content.decode()


def test_send_now_sends_what_is_chosen_and_is_noted(operator: Client) -> None:
    jobs = left_behind(boxed, (1,), (2,))
    response = act(operator, "send_now")
    assert "2 jobs were sent." in response.content.decode()
    assert waiting() == [job.id for job in jobs]
    assert left() == []
    assert LogEntry.objects.get().change_message == "2 jobs were sent."


def test_what_cant_be_sent_is_told(operator: Client) -> None:
    left_behind(boxed, (1,), (2,))
    Outbox.objects.filter(pk=Outbox.objects.latest("pk").pk).update(queue="bygone")
    page = act(operator, "send_now").content.decode()
    assert "1 job was sent." in page
    assert "Can’t be sent: No queue &#x27;bygone&#x27; is declared." in page


def test_redis_being_away_is_told_and_the_rows_stay(operator: Client) -> None:
    [job] = left_behind()
    nowhere = {"REDIS": NOBODY, "ENQUEUE_TIMEOUT": 0.3, "OUTBOX": True}
    with override_settings(KUE=nowhere):
        assert "The rest wasn’t sent" in act(operator, "send_now").content.decode()
    assert left() == [job.id]


def test_only_who_may_send_is_offered_it(viewer: Client, client_with: Any) -> None:
    [job] = left_behind()
    assert "send_now" not in viewer.get(URL).content.decode()
    for client in (viewer, client_with("view_outbox", "delete_outbox")):
        act(client, "send_now")
        assert left() == [job.id]
    act(client_with("view_outbox", "change_outbox"), "send_now")
    assert left() == []


def test_only_who_may_delete_can(operator: Client, client_with: Any) -> None:
    [job] = left_behind()
    act(operator, "delete_selected", post="yes")
    assert left() == [job.id]
    act(client_with("view_outbox", "delete_outbox"), "delete_selected", post="yes")
    assert left() == []
    assert waiting() == []


def test_nobody_edits_a_row(boss: Client) -> None:
    left_behind()
    row = Outbox.objects.get()
    page = boss.get(f"{URL}{row.pk}/change/")
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert boss.post(f"{URL}{row.pk}/change/", {"queue": "other"}).status_code == 403
    assert Outbox.objects.get().queue == "default"


def test_the_index_names_it_where_an_outbox_is_used(boss: Client) -> None:
    assert URL not in boss.get("/admin/").content.decode()
    with override_settings(KUE={"OUTBOX": True}):
        assert URL in boss.get("/admin/").content.decode()


# ── a table that can't be read ────────────────────────────────────────────────────────────────────

PAGES = ("", "1/change/", "1/history/", "1/delete/")


@pytest.mark.parametrize("page", PAGES)
def test_where_the_table_isnt_there_each_page_says_how_to_make_it(
    boss: Client, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox._meta, "db_table", "nowhere")
    response = boss.get(URL + page)
    assert response.status_code == 503
    told = response.content.decode()
    assert "python manage.py migrate django_kue --database default" in told
    assert "no such table: nowhere" in told


@pytest.mark.parametrize("error", [OperationalError, InterfaceError, ImproperlyConfigured])
def test_a_database_that_is_away_is_told_and_the_others_outbox_is_shown(
    boss: Client, error: type[Exception], second_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = left_behind()
    cut_off(second_database, error, monkeypatch)
    response = boss.get(f"{URL}?database=second")
    assert response.status_code == 503
    assert "migrate django_kue --database second" in response.content.decode()
    assert listed(boss, url=URL) == [job.id]


def test_a_connection_that_ends_while_rows_are_sent_is_told(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = left_behind()

    def gone(*args: Any, **kwargs: Any) -> None:
        raise InterfaceError("connection already closed")

    monkeypatch.setattr(outbox, "relay", gone)
    assert "The rest wasn’t sent: connection already closed" in act(operator, "send_now").content.decode()
    assert left() == [job.id]


def test_who_may_not_see_the_page_hears_nothing_of_the_table(
    client_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox._meta, "db_table", "nowhere")
    assert client_with().get(URL).status_code == 403
    assert Client().get(URL).status_code == 302
