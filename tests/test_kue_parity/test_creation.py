"""``queue.create(type, data).save()`` and ``POST /job``: a job is a function's arguments."""

import pytest

from django_kue import EnqueueError, Job, get_queue
from tests.app.tasks import welcome
from tests.test_kue_parity.conftest import UNSERVED

unserved = welcome.using(queue=UNSERVED)


def test_a_saved_job_has_an_id_and_waits_with_kues_defaults():
    job = unserved.enqueue("tj@example.org", template="welcome")

    stored = Job.get(job.id)
    assert stored.state == "waiting"
    assert (stored.name, stored.args, stored.kwargs) == (
        "tests.app.tasks.welcome",
        ("tj@example.org",),
        {"template": "welcome"},
    )
    assert (stored.priority, stored.attempts, stored.progress) == (0, 1, 0)


def test_a_job_that_cannot_be_saved_is_an_error_at_once_and_stores_nothing():
    with pytest.raises(EnqueueError, match="templat"):
        unserved.enqueue("tj@example.org", templat="welcome")

    assert get_queue(UNSERVED).counts()["waiting"] == 0


def test_many_jobs_are_created_at_once_in_their_order():
    jobs = unserved.enqueue_many([("a@example.org",), {"to": "b@example.org"}, ("c@example.org", "rich")])

    waiting = get_queue(UNSERVED).jobs("waiting", newest_first=False)
    assert [job.id for job in waiting] == [job.id for job in jobs]


def test_one_wrong_job_of_many_is_named_and_none_is_created():
    """Kue went on with the others, and put the error into the reply."""
    with pytest.raises(EnqueueError, match="item 1"):
        unserved.enqueue_many([("a@example.org",), ()])

    assert get_queue(UNSERVED).counts()["waiting"] == 0
