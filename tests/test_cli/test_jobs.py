"""``kue jobs`` and ``kue show``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from django_kue import Job, get_queue, job, registry
from django_kue.cli.show import WITH_ITS_WORKER, _note, _without_start
from django_kue.jobs import JobError, Run
from django_kue.listing import Listing, Scope
from django_kue.states import State
from tests.test_cli.hands import ended, enqueued, kue, kue_process, kue_terminal, without_color
from tests.test_engine.hands import STOPPED, Hands, completed, error_text, failed, parked, rescue, retried

HOSTILE = "title \x1b[31m\x9b2J\n\u202enext"


@pytest.fixture
def charge() -> Iterator[object]:
    @job(name="tests.charge", search_keys=["order_id"])
    def charge(order_id: int, *, api_key: str = "", card: dict[str, str] | None = None) -> None: ...

    yield charge
    registry.unregister(charge)


def ids_in(*words: str) -> list[str]:
    return [one["id"] for one in kue("jobs", *words, "--json").json["jobs"]]


# ── jobs ──


def test_jobs_lists_all_states_of_all_queues() -> None:
    done = ended(completed())
    dead = ended(failed())
    later = enqueued(queue="email", delay=60_000)
    waiting = enqueued()
    assert ids_in() == [waiting, later, dead, done]
    assert ids_in("--queue", "email") == [later]
    assert ids_in("--state", "complete") == [done]
    said = kue("jobs")
    assert said.lines[0].split() == ["ID", "STATE", "PRIO", "RUNS", "WHEN", "TITLE", "NOTE"]
    assert said.lines[-1] == "4 jobs."
    [failed_line] = [line for line in said.lines if line.startswith(dead)]
    assert "ValueError: it broke" in failed_line
    assert "1/1" in failed_line


def test_jobs_are_chosen_by_function_and_by_what_their_error_says() -> None:
    gone, away = ended(failed(message="it's gone")), ended(failed(message="mail is away"))
    other = ended(failed(message="mail is away"), "tests.app.jobs.noop")
    waiting = enqueued(queue="email")
    assert sorted(ids_in("--text", "MAIL IS")) == sorted([other, away])
    assert sorted(ids_in("--function", "tests.app.jobs.add")) == sorted([waiting, away, gone])
    assert ids_in("--function", "tests.app.jobs.add", "--state", "failed", "--text", "away") == [away]
    assert ids_in("--function", "tests.app.jobs.add", "--queue", "email") == [waiting]
    assert kue("jobs", "--function", "tests.nothing").lines == ["No such jobs."]


def test_what_finds_jobs_by_their_search_keys_goes_with_no_other_search() -> None:
    said = kue("jobs", "--find", "order_id=17", "--text", "away")
    assert (said.code, said.err) == (2, "--find can't be combined with --function or --text.\n")


def test_where_not_all_jobs_were_looked_at_thats_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listing, "scope", lambda _: Scope(1, 20_000, is_exact=False))
    enqueued()
    said = kue("jobs", "--text", "tests")
    assert said.err == "Only the newest 1 of 20,000 jobs were looked at.\n"
    assert said.lines[-1] == "1 job."


def test_a_page_goes_on_over_queues_and_states() -> None:
    everything = [enqueued() for _ in range(3)] + [enqueued(queue="email") for _ in range(2)]
    everything += [enqueued(delay=60_000)]
    assert ids_in() == everything
    pages = [ids_in("--limit", "2", "--offset", str(offset)) for offset in (0, 2, 4, 6)]
    assert pages == [everything[:2], everything[2:4], everything[4:], []]
    assert kue("jobs", "--limit", "2", "--offset", "2").lines[-1] == "3–4 of 6 jobs; more with --offset 4."
    assert kue("jobs", "--offset", "9").lines == ["There are only 6 jobs."]


def test_waiting_jobs_come_in_the_order_in_which_theyll_run() -> None:
    low, high = enqueued(priority=-10), enqueued(priority=10)
    assert ids_in("--state", "waiting") == [high, low]


def test_no_jobs_is_said() -> None:
    assert kue("jobs").lines == ["No jobs."]
    assert kue("jobs", "--state", "failed").lines == ["No such jobs."]
    assert kue("jobs", "--json").json == {"total": 0, "offset": 0, "jobs": []}


def test_jobs_are_found_by_search_keys(charge: object) -> None:
    first = charge.enqueue(17)  # type: ignore[attr-defined]
    charge.enqueue(18)  # type: ignore[attr-defined]
    assert ids_in("--find", "order_id=17") == [first.id]
    assert ids_in("--find", "order_id=17", "--state", "failed") == []
    assert ids_in("--find", 'order_id="17"') == []
    assert "for text write" in kue("jobs", "--find", "order_id=19").out
    assert "No @job here has search_keys=['seconds']" in kue("jobs", "--find", "seconds=19").out
    assert "name=value" in kue("jobs", "--find", "order_id").err
    assert "no job here has an argument 'oder_id'" in kue("jobs", "--find", "oder_id=17").err


def test_a_number_out_of_range_is_an_error() -> None:
    assert "whole number from 1 to 1000" in kue("jobs", "--limit", "0").err
    assert "whole number from 0" in kue("jobs", "--offset", "-1").err
    assert kue("jobs", "--queue", "nope").code == 1


def test_jobs_fit_an_80_column_terminal_and_ids_stay_whole() -> None:
    dead = ended(failed(message="a long message " * 20), "tests.app.jobs.a_function_with_quite_a_long_name")
    said = kue_terminal("jobs", columns=80)
    table = without_color(said.out).splitlines()
    assert all(len(line) <= 80 for line in table)
    assert any(line.startswith(f"{dead} ") for line in table)


def test_a_parked_job_says_why_it_waits() -> None:
    ended(parked(), "tests.unknown")
    assert "no worker knows its function" in kue("jobs").out


def test_hostile_text_never_reaches_the_terminal_as_it_is() -> None:
    ended(
        failed(message=HOSTILE), "tests.app.jobs.fail", HOSTILE, options={"title": HOSTILE}, queue="default"
    )
    [job_id] = ids_in()
    for words in (("jobs",), ("show", job_id)):
        said = without_color(kue_terminal(*words, columns=200).out)
        assert "\x1b" not in said
        assert "\x9b" not in said
        assert "\u202e" not in said
        assert r"title \x1b[31m\x9b2J\n\u202enext" in said
    raw = kue_process("jobs", "--json")
    assert "\x9b" not in raw.out
    assert raw.json["jobs"][0]["title"] == HOSTILE


# ── show ──


def test_show_tells_everything(charge: object) -> None:
    hands = Hands()
    job_id = enqueued("tests.charge", 17, options={"title": "Charge 17", "attempts": 3})
    key = hands.take_one()
    hands.report(key, "l", b"asked the bank")
    hands.report(key, "p", b'[40,{"step":2}]')
    hands.settle(key, retried(message="bank away"))
    hands.take()
    hands.settle(key, b"f|1|" + error_text("card declined"))
    said = kue("show", job_id)
    assert said.code == 0
    for text in (
        "Charge 17  failed", job_id, "tests.charge", "attempts  2 of 3", "order_id  17",
        "attempt 1 retried", "ValueError: bank away", "builtins.ValueError: card declined", "Traceback: …",
        "asked the bank", '{"step": 2}', "40 %",
    ):  # fmt: skip
        assert text in said.out, text
    assert said.out.count("card declined") == 2  # in the timeline, and as the error


def test_a_run_that_ended_with_its_worker_is_not_said_never_to_have_started() -> None:
    claimed, waited = enqueued(), enqueued()
    hands = Hands(name="dead/1")
    hands.take_one()
    for job_id in (claimed, waited):
        Job.get(job_id).cancel()
    hands.let_lease_run_out()
    assert rescue() == []  # it was asked to stop
    told = kue("show", claimed).out
    assert "was with a worker; whether it ran isn't known" in told
    assert re.search(r"attempt 1 stalled +on dead/1 since .*: its process died or was ended", told)
    assert "never started" in kue("show", waited).out
    died = Run(1, None, datetime.now(UTC), "dead/1", "crashed", JobError("JobCrashed", "it died"), 0)
    assert _note(died) == "ran, nobody knows for how long: JobCrashed: it died"
    assert _without_start(replace(Job.get(claimed), state=State.FAILED)) == WITH_ITS_WORKER


def test_a_job_that_was_handed_back_does_not_look_as_if_it_had_waited() -> None:
    hands = Hands(name="stopped/1")
    job_id = enqueued()
    hands.settle(hands.take_one(), STOPPED)
    told = kue("show", job_id).out
    assert re.search(r"attempt 1 stopped +on stopped/1 since .*: its worker had to stop", told)
    assert "attempts  0 of" in told


def test_show_as_json_has_runs_and_logs() -> None:
    hands = Hands()
    job_id = enqueued("tests.app.jobs.add", 1)
    key = hands.take_one()
    hands.report(key, "l", b"hello")
    hands.settle(key, retried())
    shown = kue("show", job_id, "--json").json
    assert shown["id"] == job_id
    assert shown["arguments"] == {"a": 1}
    assert shown["runs"][0]["outcome"] == "retried"
    assert shown["runs"][0]["error"]["message"] == "it broke"
    assert shown["logs"][0]["text"] == "hello"
    assert datetime.fromisoformat(shown["created_at"]).utcoffset() is not None
    assert kue("show", job_id, "--json", "--logs", "0").json["logs"] == []


def test_show_prints_the_result_of_a_completed_job() -> None:
    job_id = ended(completed({"sizes": [1, 2]}))
    said = kue("show", job_id).out
    assert "Result" in said
    assert '"sizes": [' in said
    assert kue("show", job_id, "--json").json["result"] == {"sizes": [1, 2]}


def test_secrets_are_masked_also_inside_dicts_and_in_json(charge: object) -> None:
    new = charge.enqueue(17, api_key="hunter2", card={"cvv": "hunter2", "name": "Ada"})  # type: ignore[attr-defined]
    for said in (kue("show", new.id), kue("show", new.id, "--json"), kue("jobs", "--json")):
        assert "hunter2" not in said.out
        assert "Ada" in said.out


def test_unnamed_arguments_of_an_unknown_function_are_masked() -> None:
    job_id = enqueued("tests.gone", "hunter2")
    assert kue("show", job_id, "--json").json["arguments"] == {"1": "•••"}


def test_a_record_that_cant_be_read_is_shown_as_such() -> None:
    from tests.conftest import redis_client

    job_id = enqueued()
    redis_client().hset("kue:{default}:d", job_id.partition(".")[2], b"rubbish \x1b[31m")
    assert "(unreadable)" in kue("show", job_id).out
    assert kue("jobs").code == 0
    redis_client().hset("kue:{default}:d", job_id.partition(".")[2], b"|tests.app.jobs.add|[1")
    assert kue("show", job_id, "--json").json["arguments"] == {
        "(unreadable)": "the stored arguments can't be read"
    }


def test_an_id_that_nobody_has_is_an_error() -> None:
    said = kue("show", "default.AaIO0T7uUtXcBpd13f3FTQ")
    assert said.code == 1
    assert "No job default.AaIO0T7uUtXcBpd13f3FTQ" in said.err
    assert "is not a job id" in kue("show", "x\x1b[31m").err
    assert "\x1b" not in kue("show", "x\x1b[31m").err


def test_the_json_of_a_job_is_the_same_everywhere() -> None:
    job_id = enqueued()
    listed = kue("jobs", "--json").json["jobs"][0]
    shown = kue("show", job_id, "--json").json
    assert {name: shown[name] for name in listed} == listed
    assert Job.get(job_id).title == listed["title"]
    assert get_queue("default").counts()["waiting"] == 1
