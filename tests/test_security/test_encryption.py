"""``ENCRYPTION_KEYS``: what Redis holds can't be read, changed or moved by who has no key."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from django.urls import reverse

from django_kue import Job, bulk, checks, codecs, encryption, execution, get_queue
from django_kue.codecs import CannotOpen
from django_kue.execution import Outcome, Run
from django_kue.testing import fake
from tests.app import classified, jobs
from tests.conftest import redis_client
from tests.settings import KUE
from tests.test_cli.hands import kue
from tests.test_engine.hands import Hands
from tests.test_security.conftest import stored
from tests.worker_process import WorkerProcess, wait_for

OLD, NEW, FOREIGN = (urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
USER = "Maria Canary"
MARK = b"Canary"
DATA = "kue:{default}:d"


# Where there's a database, each test is a transaction.
greet, leave, add, noop = (
    one.using(on_commit=False) for one in (classified.greet, jobs.leave, jobs.add, jobs.noop)
)


@contextmanager
def keys(*wanted: str, queues: dict[str, Any] | None = None, **more: Any) -> Iterator[None]:
    """With these keys; with none the setting is left out."""
    changes = {"QUEUES": KUE["QUEUES"] | (queues or {}), **more}
    if wanted:
        changes["ENCRYPTION_KEYS"] = list(wanted)
    with override_settings(KUE=KUE | changes):
        yield


@pytest.fixture
def sealed() -> Iterator[None]:
    with keys(NEW):
        yield


def loaded(job: Job) -> Run:
    """The run that a worker makes of a job; ``outcome``: what's decided before its function is called."""
    text = redis_client().hget(f"kue:{{{job.queue}}}:d", job.key)
    run = Run(job.queue, job.key.encode(), b"1|1|w", text, 1, 1.0)
    run.outcome = execution.load(run) or execution.prepare(run)
    return run


def is_parked(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.kind == "k"


# ── where ──


def test_a_queue_can_do_without() -> None:
    with keys(NEW, queues={"other": {"ENCRYPT": False}}):
        plain = greet.using(queue="other").enqueue(USER)
        assert not plain.is_encrypted
        assert plain.refresh().args == (USER,)
        assert MARK in redis_client().hget("kue:{other}:d", plain.key)


def test_without_keys_nothing_is_sealed() -> None:
    job = greet.enqueue(USER)
    assert MARK in redis_client().hget(DATA, job.key)
    assert not job.refresh().is_encrypted


# ── keys ──


def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    with keys(OLD):
        before = greet.enqueue(USER)
    with keys(NEW, OLD):
        after = greet.enqueue("Bo")
        assert before.refresh().args == (USER,)
        assert loaded(before).outcome is None
    with keys(NEW):
        assert after.refresh().args == ("Bo",)
        assert is_parked(loaded(before).outcome)


def test_jobs_from_before_the_keys_still_run() -> None:
    before = greet.enqueue(USER)
    with keys(NEW):
        run = loaded(before.refresh())
        assert (run.outcome, run.args) == (None, (USER,))


@pytest.mark.parametrize("there", [(), (FOREIGN,)])
def test_a_job_that_cannot_be_opened_is_not_run_and_says_why(there: tuple[str, ...]) -> None:
    with keys(NEW):
        job = greet.enqueue(USER)
    with keys(*there):
        run = loaded(job)
        assert is_parked(run.outcome)
        assert isinstance(run.exception, CannotOpen)
        with pytest.raises(CannotOpen, match="ENCRYPTION_KEYS"):
            job.refresh().args  # noqa: B018
        assert job.refresh().title == job.name


def test_a_worker_with_another_key_leaves_jobs_for_one_that_has_theirs(boss: Client) -> None:
    def said(words: str, ask: Callable[[], str]) -> None:
        wait_for(lambda: words in ask(), what=words)  # now and then a worker looks at the job again

    with keys(NEW), WorkerProcess("--processes", "1", KUE_TEST_ENCRYPTION_KEYS=FOREIGN) as other:
        other.wait_started()
        job = greet.enqueue(USER)
        url = reverse("admin:django_kue_job_change", args=[quote(job.id)])
        line = other.wait_log("isn't run")
        what = f"job {job.id} (tests.app.classified.greet)"
        assert f"ERROR   {what} isn't run, and is left in its queue" in line
        said("could open its arguments", lambda: boss.get(url).content.decode())
        assert USER in boss.get(url).content.decode()
        said("could open its arguments", lambda: kue("show", job.id).out)
        said("no worker can open it", lambda: kue("jobs").out)
        said("Workers can't open the arguments of 1 job", lambda: kue("doctor").out)
        assert job.refresh().attempts_made == 0
    with keys(FOREIGN):
        assert "no key in KUE" in boss.get(url).content.decode()


def test_the_test_mode_s_memory_is_sealed_and_opened_too() -> None:
    with keys(NEW), fake() as told:
        greet.enqueue(USER)
        told.assert_enqueued(greet, USER)
        with pytest.raises(AssertionError, match=USER):
            told.assert_enqueued(greet, "Bo")
        assert told.drain()[0].result == {"greeting": f"Hello {USER}"}


def test_keys_without_the_library_are_an_error_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    with keys(NEW):
        assert checks.check_settings() == []
        encryption._fernet.cache_clear()
        monkeypatch.setattr(encryption, "Fernet", None)
        [error] = checks.check_settings()
        assert error.id == "django_kue.E007"
        assert "django-kue[encryption]" in str(error.hint)
        with pytest.raises(ImproperlyConfigured, match="pip install"):
            greet.enqueue(USER)


def test_refusing_plain_jobs_without_a_key_is_an_error_of_the_check() -> None:
    with keys(ONLY_ENCRYPTED=True):
        [error] = checks.check_settings()
        assert "ONLY_ENCRYPTED" in error.msg


# ── who can write to Redis but has no key ──


@pytest.mark.usefixtures("sealed")
def test_no_byte_of_a_sealed_text_can_be_changed() -> None:
    job = add.enqueue(1)
    text = redis_client().hget(DATA, job.key)
    begin = text.index(codecs.SEAL)
    for position in range(begin + 1, len(text)):
        for changed in (text[position] ^ 1, ord("A") if text[position] != ord("A") else ord("B")):
            redis_client().hset(DATA, job.key, text[:position] + bytes([changed]) + text[position + 1 :])
            run = loaded(job)
            # The last letters of base64 have bits that mean nothing.
            is_same = run.args == (1,) and position >= len(text) - 4
            assert is_parked(run.outcome) or is_same, position


@pytest.mark.usefixtures("sealed")
def test_sealed_arguments_cannot_be_given_to_another_job_queue_or_function() -> None:
    client = redis_client()
    small, large = add.enqueue(1), add.enqueue(1000)
    client.hset(DATA, small.key, client.hget(DATA, large.key))
    assert is_parked(loaded(small).outcome)
    assert "moved" in str(loaded(small).exception)
    elsewhere = Job.get(large.id)
    client.hset("kue:{other}:d", large.key, client.hget(DATA, large.key))
    run = Run("other", large.key.encode(), b"1|1|w", client.hget(DATA, large.key), 1, 1.0)
    assert is_parked(execution.load(run))
    client.hset(DATA, large.key, client.hget(DATA, large.key).replace(b"jobs.add", b"jobs.noop"))
    assert is_parked(loaded(elsewhere).outcome)


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("kind", ["result", "error", "progress", "log"])
def test_a_sealed_text_of_one_kind_is_none_of_another(kind: str) -> None:
    text = encryption.seal(b"[1]", kind, "default", "k")
    assert encryption.unseal(text, kind, "default", "k") == b"[1]"
    for other in {"arguments", "result", "error", "progress", "log"} - {kind}:
        with pytest.raises(CannotOpen):
            encryption.unseal(text, other, "default", "k")
    with pytest.raises(CannotOpen):
        encryption.unseal(text, kind, "default", "another")


def test_jobs_that_somebody_without_a_key_made_up_are_left_alone_if_asked_for(boss: Client) -> None:
    made_up = [add.enqueue(1), noop.enqueue()]
    with keys(NEW, ONLY_ENCRYPTED=True, queues={"other": {"ENCRYPT": False}}):
        for job in made_up:
            assert is_parked(loaded(job).outcome)
            assert "ONLY_ENCRYPTED" in str(loaded(job).exception)
        assert loaded(noop.enqueue()).outcome is None
        assert loaded(noop.using(queue="other").enqueue()).outcome is None
        hands = Hands()
        hands.take(1)
        hands.settle(made_up[0].key, b"k60000")
        page = boss.get(reverse("admin:django_kue_job_change", args=[quote(made_up[0].id)])).content.decode()
        assert "Its arguments aren’t encrypted" in page


def test_signatures_are_compared_in_constant_time() -> None:
    source = Path(encryption.__file__).read_text()
    assert "compare_digest(" in source
    assert "== _place" not in source


# ── hashes ──


def test_a_value_cannot_be_guessed_from_the_hash_of_a_search_key() -> None:
    plain = codecs.search_hash("user", USER)
    with keys(NEW):
        greet.enqueue(USER)
        everything = b"".join([*map(str.encode, stored("*kue*")), *stored("*kue*").values()])
        assert plain.encode() not in everything
        assert codecs.digest([classified.greet.name, {"user": USER, "path": ""}]).encode() not in everything
        assert codecs.search_hash("user", USER, encryption.hash_keys("default")[0]).encode() in everything


def test_jobs_are_found_by_their_search_keys_whatever_key_they_were_made_with(boss: Client) -> None:
    made = [greet.enqueue(USER)]
    for wanted in ((OLD,), (NEW, OLD)):
        with keys(*wanted):
            made.append(greet.enqueue(USER))
    with keys(NEW, OLD):
        assert get_queue("default").find(user=USER) == sorted(made, key=lambda job: job.created_at)
        html = boss.get("/admin/django_kue/job/", {"q": f"user={USER}"}).content.decode()
        assert [job.id in html for job in made] == [True] * 3


@pytest.mark.usefixtures("sealed")
async def test_they_are_found_by_the_async_twin_too() -> None:
    job = await greet.aenqueue(USER)
    assert [one.id for one in await get_queue("default").afind(user=USER)] == [job.id]


@pytest.mark.usefixtures("sealed")
def test_a_unique_job_stays_one() -> None:
    assert greet.enqueue(USER).id == greet.enqueue(USER).id


# ── copies ──


@pytest.mark.usefixtures("sealed")
def test_a_copy_is_sealed_for_itself() -> None:
    job = leave.enqueue("mark", USER).refresh()
    copy = bulk.copy_of(job)
    assert copy.refresh().args == ("mark", USER)
    assert copy.refresh().is_encrypted
    assert loaded(copy).args == ("mark", USER)


@pytest.mark.usefixtures("sealed")
def test_run_again_shows_and_takes_arguments_and_seals_them(boss: Client) -> None:
    job = leave.enqueue("mark", USER)
    url = reverse("admin:django_kue_job_run_again", args=[quote(job.id)])
    assert USER in boss.get(url).content.decode()
    form = {"arguments": f'{{"name": "mark", "value": "New {USER}"}}', "queue": "default", "priority": "0"}
    assert boss.post(url, form | {"delay": "0"}).status_code == 302
    [new] = [one for one in get_queue("default").jobs("waiting") if one.id != job.id]
    assert new.kwargs or new.args
    assert f"New {USER}" in (*new.args, *new.kwargs.values())
    assert MARK not in redis_client().hget(DATA, new.key)


# ── the keys themselves ──


def test_django_s_error_page_hides_the_keys() -> None:
    from django.views.debug import SafeExceptionReporterFilter

    shown = SafeExceptionReporterFilter().cleanse_setting("KUE", {"ENCRYPTION_KEYS": [NEW]})
    assert NEW not in str(shown)
