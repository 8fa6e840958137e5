"""``kue outbox``, and what the doctor says of outboxes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, transaction
from django.test import override_settings

from django_kue.doctor import Finding, Level, examine
from django_kue.models import Outbox, UtcNow
from tests.conftest import NOBODY
from tests.test_cli.hands import kue
from tests.test_outbox import boxed, committed, cut_off, left, left_behind, redis_away, waiting

pytestmark = committed


def found(code: str) -> Finding:
    [finding] = [finding for finding in examine() if finding.code == code]
    return finding


def test_an_empty_outbox_says_so() -> None:
    assert kue("outbox").out == "The outbox is empty.\n"
    assert kue("outbox", "--json").json == []


def test_rows_are_listed_with_their_age_and_what_is_wrong_with_them() -> None:
    first, second = left_behind(boxed, (1,), (2,))
    Outbox.objects.filter(key=second.key).update(
        error="No queue 'bygone'\x1b[31m", attempts=3, created_at=UtcNow() - timedelta(minutes=5), record=b"?"
    )
    lines = kue("outbox").lines
    assert lines[0].split() == ["JOB", "FUNCTION", "AGE", "TRIES", "DATABASE", "ERROR"]
    assert lines[1].split() == [first.id, "tests.app.jobs.add", "10", "s", "0", "default", "–"]
    assert lines[2].split()[:6] == [second.id, "(unreadable)", "5", "min", "3", "default"]
    assert lines[2].endswith(r"No queue 'bygone'\x1b[31m")
    told = kue("outbox", "--json").json
    assert told[1] == {
        "id": second.id, "queue": "default", "name": "(unreadable)", "age": pytest.approx(300, abs=5),
        "attempts": 3, "error": "No queue 'bygone'\x1b[31m", "database": "default",
    }  # fmt: skip
    assert kue("outbox", "--limit", "1").lines[-1] == "1 more; --limit shows more of them."


def test_relay_sends_all_now() -> None:
    jobs = left_behind(boxed, *[(number,) for number in range(1100)])
    Outbox.objects.update(created_at=UtcNow())
    said = kue("outbox", "--relay")
    assert (said.out, said.code) == ("1,100 jobs of the outbox of default sent.\n", 0)
    assert waiting() == [job.id for job in jobs]


def test_relay_tells_what_it_couldnt_send_and_ends_with_1() -> None:
    left_behind(boxed, (1,), (2,), (3,))
    Outbox.objects.filter(pk__gt=Outbox.objects.earliest("pk").pk).update(queue="bygone")
    said = kue("outbox", "--relay")
    assert said.code == 1
    assert said.out == "1 job of the outbox of default sent.\n"
    assert said.err.startswith("2 jobs can't be sent: No queue 'bygone' is declared.")


def test_redis_being_away_is_one_line_and_the_rows_are_still_shown() -> None:
    [job] = left_behind()
    nowhere = {"REDIS": NOBODY, "ENQUEUE_TIMEOUT": 0.3, "OUTBOX": True}
    with override_settings(KUE=nowhere):
        assert job.id in kue("outbox").out
        said = kue("outbox", "--relay")
    assert said.code == 1
    assert "not enqueued" in said.err
    assert left() == [job.id]


def test_a_missing_table_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox._meta, "db_table", "nowhere")
    said = kue("outbox")
    assert said.code == 1
    assert said.err == ("No database has the outbox's table. Create it: manage.py migrate django_kue\n")
    with override_settings(KUE={"OUTBOX": True}):
        said = kue("outbox", "--relay")
    assert said.code == 1
    remedy = "manage.py migrate django_kue --database default"
    assert said.err == f"Database default has no table for the outbox. Create it: {remedy}\n"


@pytest.mark.parametrize("error", [OperationalError, InterfaceError, ImproperlyConfigured])
def test_of_databases_one_that_cant_be_asked_keeps_no_other_from_being_shown(
    error: type[Exception], second_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = left_behind()
    cut_off(second_database, error, monkeypatch)
    said = kue("outbox")
    assert said.code == 1
    assert job.id in said.out
    assert said.err == "The outbox of second can't be read: gone\n"


# ── the doctor ──


def test_an_outbox_that_nobody_uses_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [finding for finding in examine() if finding.code.startswith("outbox.")]
    monkeypatch.setattr(Outbox._meta, "db_table", "nowhere")
    assert not [finding for finding in examine() if finding.code.startswith("outbox.")]


def test_an_outbox_in_order_is_fine() -> None:
    left_behind()
    with override_settings(KUE={"OUTBOX": True}):
        finding = found("outbox.good")
    assert finding.level is Level.OK
    assert finding.what == "1 job in the outbox of database default, none of them late."


def test_old_rows_are_told_also_while_redis_is_away() -> None:
    left_behind(boxed, (1,), (2,))
    Outbox.objects.update(created_at=UtcNow() - timedelta(minutes=5))
    nowhere = {"REDIS": NOBODY, "ENQUEUE_TIMEOUT": 0.3, "OUTBOX": True}
    for kue_setting in ({"OUTBOX": True}, nowhere):
        with override_settings(KUE=kue_setting):
            finding = found("outbox.late")
        assert finding.level is Level.ERROR
        assert finding.what == "2 jobs in the outbox of database default, the oldest for 5 min."


def test_rows_that_cant_be_sent_are_told_with_the_reason() -> None:
    [job] = left_behind()
    Outbox.objects.update(error="No queue 'bygone' is declared.", attempts=1)
    with override_settings(KUE={"OUTBOX": True}):
        finding = found("outbox.refused")
    assert finding.level is Level.ERROR
    assert finding.what.endswith(f"The first is {job.id}: No queue 'bygone' is declared.")


def test_a_missing_table_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox._meta, "db_table", "nowhere")
    with override_settings(KUE={"OUTBOX": True}):
        finding = found("outbox.missing")
    assert finding.level is Level.ERROR
    assert finding.remedy == "Create it: manage.py migrate django_kue --database default"


@pytest.mark.parametrize("error", [OperationalError, InterfaceError, ImproperlyConfigured])
def test_a_database_that_cant_be_asked_is_told_and_worse_where_its_outbox_is_used(
    error: type[Exception], second_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(second_database, error, monkeypatch)
    for kue_setting, level in (({}, Level.WARNING), ({"OUTBOX": "second"}, Level.ERROR)):
        with override_settings(KUE=kue_setting):
            finding = found("outbox.unreachable")
        assert finding.level is level
        assert finding.what == "The outbox of database second can't be read: gone"
        assert finding.remedy.endswith("manage.py migrate django_kue --database second")


def test_an_outbox_that_only_a_call_used_is_looked_at_though_redis_was_away_then() -> None:
    with redis_away(), transaction.atomic():
        boxed.enqueue(1)
    assert found("outbox.good").what == "1 job in the outbox of database default, none of them late."
