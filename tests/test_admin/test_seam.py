"""The QuerySet that Django's admin composes, and what Redis is asked of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.db import NotSupportedError
from django.db.models import Count, F, Q

from django_kue import models
from django_kue.admin.seam import JobQuerySet
from django_kue.listing import Listing
from django_kue.states import State
from tests.conftest import redis_client
from tests.test_admin.hands import delayed_job, failed_job, one_of_each, waiting_job

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def jobs() -> JobQuerySet:
    return JobQuerySet(models.Job)


def test_filters_become_a_listing(jobs: JobQuerySet) -> None:
    asked = jobs.filter(state="failed", queue="email").filter(name__in=["shop.send"]).searched(" tea ")
    assert asked.listing == Listing(state=State.FAILED, queue="email", name="shop.send", text="tea")


def test_q_objects_and_each_others_filters_add_up(jobs: JobQuerySet) -> None:
    asked = jobs.filter(Q(state="failed") & Q(Q(queue="email"))).filter(state="failed")
    assert asked.listing == Listing(state=State.FAILED, queue="email")


def test_conditions_that_exclude_each_other_match_nothing_and_ask_nobody(jobs: JobQuerySet) -> None:
    waiting_job()
    asked = jobs.filter(state="waiting").filter(state="failed")
    assert asked.listing is None
    assert (asked.count(), list(asked), asked.exists()) == (0, [], False)
    assert list(jobs.none()) == []


@pytest.mark.parametrize(
    ("lookup", "since", "until"),
    [
        ("gte", NOON, None),
        ("gt", NOON + timedelta(milliseconds=1), None),
        ("lt", None, NOON),
        ("lte", None, NOON + timedelta(milliseconds=1)),
    ],
)
def test_bounds_of_the_date(jobs: JobQuerySet, lookup: str, since: object, until: object) -> None:
    assert jobs.filter(**{f"at__{lookup}": NOON}).listing == Listing(since=since, until=until)


def test_the_narrower_bound_holds(jobs: JobQuerySet) -> None:
    later = NOON + timedelta(hours=1)
    asked = jobs.filter(at__gte=NOON, at__lt=later).filter(at__gte=later, at__lt=NOON)
    assert asked.listing == Listing(since=later, until=NOON)


@pytest.mark.parametrize(
    "conditions",
    [
        {"title": "x"},
        {"title__icontains": "x"},
        {"name__startswith": "x"},
        {"state__gt": "failed"},
        {"state": "bogus"},
        {"at": NOON},
        {"at__year": 2031},
        {"queue__in": ["email", "other"]},
        {"queue": F("name")},
        {"queue__lower": "email"},
    ],
)
def test_what_redis_cannot_answer_is_refused_when_it_is_composed(
    jobs: JobQuerySet, conditions: dict[str, object]
) -> None:
    with pytest.raises((FieldError, NotSupportedError, ValueError)):
        jobs.filter(**conditions).listing  # noqa: B018 - it raises


def test_or_not_union_and_annotations_are_refused(jobs: JobQuerySet) -> None:
    with pytest.raises(NotSupportedError):
        jobs.filter(Q(state="failed") | Q(state="waiting"))
    with pytest.raises(NotSupportedError):
        jobs.exclude(state="failed")
    with pytest.raises(NotSupportedError):
        list(jobs.union(jobs))
    with pytest.raises(NotSupportedError):
        list(jobs.annotate(twice=F("queue")))


def test_whatever_would_need_sql_is_refused(jobs: JobQuerySet) -> None:
    with pytest.raises(NotSupportedError):
        list(jobs.values("id"))
    with pytest.raises(NotSupportedError):
        jobs.delete()
    with pytest.raises(NotSupportedError):
        jobs.update(state="failed")
    with pytest.raises(NotSupportedError):
        jobs.aggregate(all=Count("pk"))


def test_only_the_date_and_the_id_are_an_order(jobs: JobQuerySet) -> None:
    assert jobs.listing.newest_first
    assert not jobs.order_by("at").listing.newest_first
    assert jobs.order_by("-pk").listing.newest_first
    assert jobs.order_by("at").reverse().listing.newest_first
    assert jobs.order_by(F("at").desc()).listing.newest_first
    for order in ("title", "queue", "?"):
        with pytest.raises(FieldError):
            list(jobs.order_by(order))


def test_rows_have_the_job_behind_them(jobs: JobQuerySet) -> None:
    job_id = failed_job("no tea")
    [row] = jobs.filter(state="failed")
    assert (row.pk, row.state, row.queue, row.name) == (job_id, "failed", "default", "tests.app.jobs.fail")
    assert row.job.error.message == "no tea"
    assert row.at == row.job.finished_at


@pytest.mark.django_db  # in_bulk() asks the database how many parameters it takes
def test_get_and_slices_and_in_bulk(jobs: JobQuerySet) -> None:
    ids = [waiting_job() for _ in range(5)]
    assert jobs.get(pk=ids[3]).pk == ids[3]
    with pytest.raises(models.Job.DoesNotExist):
        jobs.get(pk="default.AAAAAAAAAAAAAAAAAAAAAA")
    with pytest.raises(models.Job.MultipleObjectsReturned):
        jobs.get(queue="default")
    ordered = jobs.filter(queue="default").order_by("at")
    assert [row.pk for row in ordered[1:3]] == ids[1:3]
    assert (len(ordered[3:10]), ordered[3:10].count(), ordered[7:].count()) == (2, 2, 0)
    assert jobs.in_bulk(ids[:2]).keys() == set(ids[:2])
    assert set(jobs.filter(pk__in=[*ids[:2], "nonsense", ""])) == {jobs.get(pk=one) for one in ids[:2]}


def test_counting_reads_no_job(jobs: JobQuerySet, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [waiting_job() for _ in range(3)]
    monkeypatch.setattr(Listing, "jobs", None)
    assert (len(jobs), jobs.count(), jobs.exists()) == (len(ids), len(ids), True)


def test_a_walk_through_all_of_them_takes_batches(jobs: JobQuerySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_kue.admin.seam.BATCH", 2)
    ids = {waiting_job() for _ in range(5)}
    assert {row.pk for row in jobs.filter(state="waiting", queue="default")} == ids


def test_facets_count_under_conditions(jobs: JobQuerySet) -> None:
    one_of_each()
    delayed_job(queue="email")
    counts = jobs.aggregate(
        here=Count("pk", filter=Q(queue="default")),
        due=Count("pk", filter=Q(pk__in=jobs.filter(state="delayed"))),
    )
    assert counts == {"here": 6, "due": 2}


def test_one_question_is_looked_for_once(jobs: JobQuerySet) -> None:
    failed_job("no tea")
    asked = jobs.searched("tea")
    assert asked.listing is asked.order_by("-at").listing
    asked.count()
    before = redis_client().info("commandstats")["cmdstat_evalsha"]["calls"]
    assert (asked.count(), asked.listing.scope().is_exact) == (1, True)
    assert redis_client().info("commandstats")["cmdstat_evalsha"]["calls"] == before


@pytest.mark.django_db
def test_other_code_of_django_sees_empty_tables(capsys: pytest.CaptureFixture[str]) -> None:
    one_of_each()
    call_command("dumpdata", "django_kue")
    assert capsys.readouterr().out.strip() == "[]"
    call_command("dumpdata", "django_kue", use_base_manager=True)
    assert capsys.readouterr().out.strip() == "[]"
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
