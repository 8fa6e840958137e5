"""``kue retry|cancel|promote|remove`` and ``kue enqueue``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from django_kue import Job, JobDoesNotExist, get_queue
from django_kue.listing import Listing, Scope
from tests.test_cli.hands import ended, enqueued, kue
from tests.test_engine.hands import Hands, completed, failed

NOBODY = "default.AaIO0T7uUtXcBpd13f3FTQ"


def test_each_verb_does_what_its_called() -> None:
    dead, later, waiting = ended(failed()), enqueued(delay=60_000), enqueued()
    assert kue("retry", dead).lines == [f"{dead} will run again"]
    assert kue("promote", later).lines == [f"{later} is due now"]
    assert kue("cancel", waiting).lines == [f"{waiting} is cancelled"]
    assert [Job.get(one).state for one in (dead, later, waiting)] == ["waiting", "waiting", "cancelled"]
    assert kue("remove", waiting).code == 0
    with pytest.raises(JobDoesNotExist):
        Job.get(waiting)


def test_one_refusal_makes_the_exit_code_1_and_the_others_are_done() -> None:
    dead, done = ended(failed()), enqueued()
    said = kue("retry", dead, NOBODY, done, "rubbish")
    assert said.code == 1
    assert said.lines == [f"{dead} will run again", "1 of 4 jobs done."]
    reasons = said.err.splitlines()
    assert len(reasons) == 3
    assert NOBODY in reasons[0]
    assert reasons[1].startswith(f"Can't retry {done}: it's waiting")
    assert "'rubbish' is not a job id" in reasons[2]
    assert Job.get(dead).state == "waiting"


def test_all_failed_jobs_of_a_queue_are_retried() -> None:
    for _ in range(3):
        ended(failed(), queue="email")
    ended(completed(), queue="email")
    said = kue("retry", "--queue", "email", "--all-failed")
    assert said.code == 0
    assert said.lines == ["3 jobs of email will run again."]
    assert get_queue("email").counts()["waiting"] == 3


def test_failed_jobs_whose_unique_key_is_taken_stay_and_thats_told() -> None:
    unique = {"unique": "A" * 22, "queue": "email"}
    ended(failed(), **unique)
    enqueued(**unique)
    said = kue("retry", "--queue", "email", "--all-failed")
    assert said.code == 1
    assert "1 job stayed" in said.err


def test_failed_jobs_are_retried_by_function_and_by_what_their_error_says() -> None:
    gone, away = failed(message="it's gone"), failed(message="mail is away")
    add_gone, add_away, noop_away = ended(gone), ended(away), ended(away, "tests.app.jobs.noop")
    ended(completed())
    chosen = ("--function", "tests.app.jobs.add", "--text", "AWAY")
    said = kue("retry", "--queue", "default", "--all-failed", *chosen)
    assert (said.code, said.lines) == (0, ["1 job of default will run again."])
    assert [Job.get(one).state for one in (add_gone, add_away, noop_away)] == ["failed", "waiting", "failed"]
    said = kue("retry", "--queue", "default", "--all-failed", "--function", "tests.app.jobs.noop", "--json")
    assert said.json == {"queue": "default", "retried": 1, "stayed": 0}
    assert Job.get(noop_away).state == "waiting"
    assert kue("retry", "--queue", "default", "--all-failed", "--text", "nowhere").lines == [
        "0 jobs of default will run again."
    ]
    assert Job.get(add_gone).state == "failed"


def test_where_not_all_failed_jobs_were_looked_at_thats_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listing, "scope", lambda _: Scope(1, 20_000, is_exact=False))
    ended(failed())
    said = kue("retry", "--queue", "default", "--all-failed", "--text", "tests.app")
    assert said.err == "Only the newest 1 of 20,000 failed jobs were looked at.\n"
    assert said.lines == ["1 job of default will run again."]


@pytest.mark.parametrize("option", ["--function", "--text"])
def test_a_variable_that_is_not_set_retries_nothing(option: str) -> None:
    dead = ended(failed())
    said = kue("retry", "--queue", "default", "--all-failed", option, "")
    assert said.code == 1
    assert f"{option}: it's empty" in said.err
    assert Job.get(dead).state == "failed"


def test_what_chooses_failed_jobs_wants_a_queue() -> None:
    said = kue("retry", NOBODY, "--function", "tests.app.jobs.add")
    assert (said.code, said.err) == (2, "--function and --text need --queue QUEUE --all-failed.\n")


@pytest.mark.parametrize("words", [(), (NOBODY, "--all-failed"), ("--queue", "email"), ("--all-failed",)])
def test_retry_wants_ids_or_a_queue_not_half_of_each(words: tuple[str, ...]) -> None:
    said = kue("retry", *words)
    assert said.code == 2
    assert said.err == "Give ids, or --queue QUEUE --all-failed.\n"


# ── enqueue ──


def test_enqueue_prints_the_id_alone() -> None:
    said = kue("enqueue", "tests.app.jobs.add", "--args", "[17]", "--kwargs", '{"b": 3}')
    [job_id] = said.lines
    found = Job.get(job_id)
    assert (found.name, found.args, found.kwargs) == ("tests.app.jobs.add", (17,), {"b": 3})


def test_enqueue_takes_the_options_of_using() -> None:
    options = {"queue": "other", "priority": "high", "delay": "15m", "attempts": "4", "title": "Seventeen"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    [job_id] = kue("enqueue", "tests.app.jobs.add", "--args", "[17]", *words).lines
    found = Job.get(job_id)
    assert (found.queue, found.priority, found.attempts, found.title) == ("other", 10, 4, "Seventeen")
    assert found.run_at is not None
    assert timedelta(minutes=14) < found.run_at - datetime.now(UTC) < timedelta(minutes=16)


def test_enqueue_at_a_moment() -> None:
    [job_id] = kue("enqueue", "tests.app.jobs.noop", "--run-at", "2031-05-01T09:30").lines
    assert Job.get(job_id).run_at == datetime(2031, 5, 1, 9, 30, tzinfo=UTC)
    assert "not a date and time" in kue("enqueue", "tests.app.jobs.noop", "--run-at", "2031-99-01T09:30").err


def test_arguments_may_be_what_json_has_no_form_for() -> None:
    [job_id] = kue("enqueue", "tests.app.jobs.noop", "--args", '[{"$date": "2031-05-01"}]').lines
    assert Job.get(job_id).args == (datetime(2031, 5, 1, tzinfo=UTC).date(),)


def test_enqueue_as_json_is_the_job() -> None:
    found = kue("enqueue", "tests.app.jobs.add", "--args", "[17]", "--json").json
    assert found["arguments"] == {"a": 17}
    assert found["state"] == "waiting"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tests.app.jobs.nop"], "Did you mean tests.app.jobs.noop?"),
        (["noop"], "Did you mean tests.app.jobs.noop?"),
        (["os.system"], "There's no job function 'os.system'."),
        (["tests.app.jobs.add", "--args", "[1,"], "must be a list, for example"),
        (["tests.app.jobs.add", "--args", "{}"], "must be a list, for example"),
        (["tests.app.jobs.add", "--kwargs", "[]"], "must be an object, for example"),
        (["tests.app.jobs.add", "--args", "[NaN]"], "can't be read"),
        (["tests.app.jobs.add"], "missing a required argument: 'a'"),
        (["tests.app.jobs.noop", "--queue", "emial"], "Did you mean 'email'?"),
        (["tests.app.jobs.noop", "--priority", "urgent"], "priority must be a whole number"),
        (["tests.app.jobs.noop", "--delay", "soon"], "is not a time"),
        (["tests.app.jobs.noop", "--attempts", "0"], "attempts must be"),
        (["tests.app.jobs.noop", "--delay", "5", "--run-at", "2031-05-01"], "exclude each other"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_enqueued(words: list[str], message: str) -> None:
    said = kue("enqueue", *words)
    assert said.code != 0
    assert message in said.err
    assert said.out == ""
    assert all(get_queue(name).counts()["waiting"] == 0 for name in ("default", "email"))


def test_nothing_is_imported_by_name() -> None:
    import sys

    assert kue("enqueue", "tests.app.abuse_unheard_of.x").code == 1
    assert "tests.app.abuse_unheard_of" not in sys.modules


def test_who_cancels_a_running_job_hears_that_its_run_goes_on() -> None:
    running = enqueued()
    Hands().take_one()
    assert kue("cancel", running).lines == [
        f"{running} is asked to stop, and is cancelled when its run ends",
    ]
    assert Job.get(running).is_cancelling
    assert "It was asked to stop" in kue("show", running).out
    assert "asked to stop" in kue("jobs").out
    assert kue("show", running, "--json").json["is_cancelling"] is True
