"""What's done with many jobs at once."""

from __future__ import annotations

import re
import time

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.test import Client

from django_kue import Job, JobDoesNotExist, bulk, get_queue
from django_kue.admin.actions import ACTIONS, BulkAction
from django_kue.errors import EnqueueError
from django_kue.states import State
from tests.conftest import redis_client
from tests.test_admin.conftest import redis_unchanged
from tests.test_admin.hands import (
    LIST,
    acted,
    active_job,
    delayed_job,
    failed_job,
    one_of_each,
    tick,
    waiting_job,
)
from tests.test_cli.hands import ended
from tests.test_engine.hands import completed


def offered(client: Client, query: str = "") -> set[str]:
    form = client.get(LIST + query).context["action_form"]
    return {name for name, _ in form.fields["action"].choices if name} if form else set()


def said(response: object) -> list[str]:
    return [str(message) for message in response.context["messages"]]  # type: ignore[attr-defined]


def text_of(response: object) -> str:
    return " ".join(response.content.decode().split())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        ("", set(ACTIONS)),
        ("failed", set(ACTIONS) - {"promote_selected", "cancel_selected"}),
        ("completed", set(ACTIONS) - {"promote_selected", "cancel_selected"}),
        ("cancelled", set(ACTIONS) - {"promote_selected", "cancel_selected"}),
        ("delayed", set(ACTIONS) - {"retry_selected"}),
        ("waiting", set(ACTIONS) - {"retry_selected", "promote_selected"}),
        ("active", set(ACTIONS) - {"retry_selected", "promote_selected"}),
    ],
)
def test_a_tab_offers_what_its_state_allows(boss: Client, state: str, actions: set[str]) -> None:
    one_of_each()
    assert offered(boss, f"?state__exact={state}" if state else "") == actions


def test_people_are_offered_what_they_may(
    viewer: Client, operator: Client, boss: Client, client_with: object
) -> None:
    one_of_each()
    assert offered(viewer) == set()
    assert offered(operator) == set(ACTIONS) - {"delete_selected", "run_again_selected"}
    assert offered(client_with("view_job", "delete_job")) == {"delete_selected"}  # type: ignore[operator]
    assert offered(client_with("view_job", "enqueue_job")) == {"run_again_selected"}  # type: ignore[operator]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_asks_first_and_changes_nothing_by_asking(boss: Client, action: str) -> None:
    ids = one_of_each()
    with redis_unchanged():
        response = acted(boss, action, list(ids.values()), confirm=False)
    assert response.status_code == 200
    assert f'name="action" value="{action}"' in text_of(response)
    assert re.search(r'name="csrfmiddlewaretoken"', text_of(response))


def test_the_question_counts_by_state_and_says_what_is_left_alone(boss: Client) -> None:
    ids = [failed_job(), failed_job(), waiting_job()]
    text = text_of(acted(boss, "retry_selected", ids, confirm=False))
    assert "Run 2 jobs again?" in text
    assert re.search(r"failed</span></td><td[^>]*>2</td><td>Retry", text)
    assert re.search(r"waiting</span></td><td[^>]*>1</td><td><span[^>]*>left as it is", text)


def test_nothing_to_do_has_no_button(boss: Client) -> None:
    text = text_of(acted(boss, "retry_selected", [waiting_job()], confirm=False))
    assert "None of the chosen jobs is in a state that allows this." in text
    assert 'type="submit" value="Retry"' not in text


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("retry_selected", "failed", "waiting"),
        ("retry_selected", "completed", "waiting"),
        ("promote_selected", "delayed", "waiting"),
        ("cancel_selected", "waiting", "cancelled"),
        ("cancel_selected", "delayed", "cancelled"),
    ],
)
def test_what_an_action_does_to_those_ticked(boss: Client, action: str, before: str, after: str) -> None:
    ids = one_of_each()
    others = one_of_each("email")
    response = acted(boss, action, [ids[before]], f"?state__exact={before}")
    assert response.headers["Location"] == f"{LIST}?state__exact={before}"
    assert Job.get(ids[before]).state == after
    assert Job.get(others[before]).state == before
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.action_flag, entry.user.username) == (ids[before], CHANGE, "boss")


def test_removing(boss: Client) -> None:
    ids = one_of_each()
    acted(boss, "delete_selected", list(ids.values()))
    for job_id in ids.values():
        with pytest.raises(JobDoesNotExist):
            Job.get(job_id)
    assert {entry.action_flag for entry in LogEntry.objects.all()} == {DELETION}
    assert LogEntry.objects.count() == 6


def test_running_again_enqueues_copies(boss: Client) -> None:
    job_id = failed_job("no", "tests.app.jobs.fail")
    acted(boss, "run_again_selected", [job_id])
    [copy] = get_queue("default").jobs("waiting")
    assert copy.name == "tests.app.jobs.fail"
    assert Job.get(job_id).state is State.FAILED
    assert LogEntry.objects.get().action_flag == ADDITION


def test_the_priority_is_asked_for(boss: Client) -> None:
    job_id = waiting_job()
    assert 'name="priority"' in text_of(acted(boss, "set_priority_selected", [job_id], confirm=False))
    for nonsense in ("", "101", "soon", "1.5"):
        response = acted(boss, "set_priority_selected", [job_id], priority=nonsense)
        assert 'class="errorlist"' in text_of(response)
        assert Job.get(job_id).priority == 0
    acted(boss, "set_priority_selected", [job_id], priority="high")
    assert Job.get(job_id).priority == 10
    acted(boss, "set_priority_selected", [job_id], priority="-7")
    assert Job.get(job_id).priority == -7


def test_running_jobs_get_another_priority_too_as_the_page_says(boss: Client) -> None:
    ids = [active_job(), waiting_job()]
    text = text_of(acted(boss, "set_priority_selected", ids, confirm=False))
    assert "Change the priority of 2 jobs?" in text
    assert "left as it is" not in text
    acted(boss, "set_priority_selected", ids, priority="7")
    assert [Job.get(job_id).priority for job_id in ids] == [7, 7]
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize("action", [one for one in ACTIONS.values() if one.verb != bulk.RUN_AGAIN])
def test_an_action_changes_just_what_its_page_counts(boss: Client, action: BulkAction) -> None:
    ids = one_of_each()
    response = acted(boss, action.name, list(ids.values()), confirm=False)
    counted = {row["state"] for row in response.context["rows"] if not row["is_skipped"]}
    acted(boss, action.name, list(ids.values()), priority="7")
    touched = {entry.object_id for entry in LogEntry.objects.all()}
    assert {state for state, job_id in ids.items() if job_id in touched} == counted


def test_all_that_match_on_all_pages(boss: Client) -> None:
    wanted = [failed_job(queue="email") for _ in range(60)]
    other = failed_job()
    tick()
    query = "?state__exact=failed&queue__exact=email"
    now = str(time.time_ns() // 1_000_000)
    asked = acted(boss, "retry_selected", wanted[:1], query, confirm=False, select_across="1", kue_until=now)
    assert "Run 60 jobs again?" in text_of(asked)
    assert text_of(asked).count('name="_selected_action"') == 1
    posted = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', text_of(asked)))
    posted.pop("csrfmiddlewaretoken")
    response = boss.post(LIST + query, posted, follow=True)
    assert said(response) == ["60 jobs will run again."]
    assert get_queue("email").counts()["waiting"] == 60
    assert Job.get(other).state is State.FAILED


def test_what_came_after_the_list_was_shown_is_not_chosen_by_all(boss: Client) -> None:
    old = waiting_job()
    shown = re.search(r'name="kue_until" value="(\d+)"', boss.get(LIST).content.decode())
    assert shown
    tick()
    new = waiting_job()
    acted(boss, "cancel_selected", [old], select_across="1", kue_until=shown[1])
    assert (Job.get(old).state, Job.get(new).state) == (State.CANCELLED, State.WAITING)


@pytest.mark.parametrize("nonsense", ["", "soon", "9" * 40, "-1"])
def test_a_time_that_is_none_is_no_error(boss: Client, nonsense: str) -> None:
    job_id = failed_job()
    response = acted(boss, "retry_selected", [job_id], select_across="1", kue_until=nonsense)
    assert response.status_code == 302


def test_what_changed_meanwhile_is_left_alone_and_said(boss: Client) -> None:
    ids = [failed_job(), failed_job()]
    Job.get(ids[0]).retry()
    response = boss.post(
        LIST, {"action": "retry_selected", "_selected_action": ids, "post": "yes"}, follow=True
    )
    assert said(response) == [
        "1 job will run again.",
        "1 job was left alone: it had changed meanwhile, or another one holds its unique key.",
    ]
    assert LogEntry.objects.get().object_id == ids[1]


def test_ids_of_other_states_cannot_be_slipped_in(boss: Client) -> None:
    """The filters of the page hold for what's posted, too."""
    inside, outside, done = failed_job(queue="email"), failed_job(queue="default"), ended(completed())
    acted(boss, "retry_selected", [inside, outside, "nonsense", ""], "?queue__exact=email")
    assert Job.get(outside).state is State.FAILED
    assert Job.get(inside).state is State.WAITING
    acted(boss, "retry_selected", [outside, done], "?state__exact=failed")
    assert Job.get(outside).state is State.WAITING
    assert Job.get(done).state is State.COMPLETED


def test_above_a_hundred_one_entry_in_the_history_sums_up(boss: Client) -> None:
    for _ in range(101):
        waiting_job()
    some = waiting_job()
    tick()
    acted(boss, "cancel_selected", [some], select_across="1")
    [entry] = LogEntry.objects.all()
    assert entry.object_id is None
    assert "102 jobs were cancelled." in entry.change_message


def test_the_history_names_those_that_were_changed_however_many_were_chosen(boss: Client) -> None:
    dead = failed_job()
    for _ in range(101):
        waiting_job()
    tick()
    acted(boss, "retry_selected", [dead], select_across="1")
    [entry] = LogEntry.objects.all()
    assert entry.object_id == dead


def test_the_history_names_none_whose_unique_key_was_held(boss: Client) -> None:
    free, stuck = failed_job(), failed_job(unique="A" * 22)
    waiting_job(unique="A" * 22)
    response = boss.post(
        LIST, {"action": "retry_selected", "_selected_action": [free, stuck], "post": "yes"}, follow=True
    )
    assert said(response)[0] == "1 job will run again."
    assert Job.get(stuck).state is State.FAILED
    assert [entry.object_id for entry in LogEntry.objects.all()] == [free]


def test_many_jobs_are_worked_on_by_a_job(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "INLINE", 2)
    monkeypatch.setattr(bulk, "_served_queue", lambda: "default")
    some = [failed_job(queue="email") for _ in range(3)]
    query = "?state__exact=failed"
    asked = acted(boss, "retry_selected", some[:1], query, confirm=False, select_across="1")
    assert "a job of its own will do it" in text_of(asked)
    response = acted(boss, "retry_selected", some[:1], query, select_across="1")
    [working] = get_queue("default").jobs("waiting")
    assert working.name == "django_kue.bulk"
    assert get_queue("email").counts()["failed"] == 3
    page = boss.get(response.headers["Location"])
    assert page.status_code == 200
    assert working.id in page.content.decode()
    assert working.id in LogEntry.objects.get().change_message


def test_it_is_said_when_no_job_can_do_the_work(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise EnqueueError("the queue is full")

    monkeypatch.setattr(bulk, "start", refuse)
    data = {"action": "retry_selected", "_selected_action": [failed_job()], "post": "yes"}
    response = boss.post(f"{LIST}?state__exact=failed", data, follow=True)
    assert response.redirect_chain == [(f"{LIST}?state__exact=failed", 302)]
    [message] = response.context["messages"]
    assert message.level_tag == "error"
    assert "no job could be enqueued for it: the queue is full" in str(message)
    assert not LogEntry.objects.exists()


def test_django_s_own_deletion_is_not_offered_beside_ours(boss: Client) -> None:
    failed_job()
    form = boss.get(LIST).context["action_form"]
    assert [label for name, label in form.fields["action"].choices if name == "delete_selected"] == ["Remove"]


def test_without_a_tick_nothing_happens(boss: Client) -> None:
    delayed_job()
    with redis_unchanged():
        response = boss.post(LIST, {"action": "promote_selected", "index": "0"}, follow=True)
    assert "Items must be selected" in said(response)[0]


def test_an_action_that_the_tab_does_not_offer_is_refused(boss: Client) -> None:
    job_id = waiting_job()
    with redis_unchanged():
        acted(boss, "retry_selected", [job_id], "?state__exact=waiting")


def test_a_time_beyond_the_calendar_breaks_neither_counts_by_date_nor_actions(boss: Client) -> None:
    job_id = failed_job()
    key = job_id.partition(".")[2]
    redis_client().zadd("kue:{default}:f", {key: 1e17})
    for query in ("?_facets=True", "?_facets=True&state__exact=failed"):
        assert boss.get(LIST + query).status_code == 200
    response = acted(boss, "retry_selected", [job_id], "?state__exact=failed", select_across="1")
    assert response.status_code == 302
