"""Several apps on one Redis, each with its prefix, see nothing of each other."""

import pytest

from django_kue import Job, JobDoesNotExist, get_queue, queues
from tests.app.jobs import leave
from tests.test_kue_parity.conftest import UNSERVED
from tests.worker_process import marks


def test_apps_with_different_prefixes_have_different_jobs_and_workers(settings, start_worker):
    ours = leave.using(queue=UNSERVED).enqueue("app", "first")
    settings.KUE = settings.KUE | {"PREFIX": "second"}

    with pytest.raises(JobDoesNotExist):
        Job.get(ours.id)
    theirs = leave.using(queue=UNSERVED).enqueue("app", "second")
    assert start_worker("--burst", KUE_TEST_PREFIX="second").wait() == 0
    assert marks("app") == ["second"]
    assert Job.get(theirs.id).state == "completed"

    settings.KUE = settings.KUE | {"PREFIX": "kue"}
    assert Job.get(ours.id).state == "waiting"


def test_one_app_pausing_or_emptying_a_queue_does_not_touch_the_other(settings):
    leave.using(queue=UNSERVED).enqueue("app", 1)
    settings.KUE = settings.KUE | {"PREFIX": "second"}
    get_queue(UNSERVED).pause()
    get_queue(UNSERVED).empty()

    settings.KUE = settings.KUE | {"PREFIX": "kue"}
    assert not get_queue(UNSERVED).is_paused
    assert get_queue(UNSERVED).counts()["waiting"] == 1


def test_a_queue_is_known_to_its_own_app_only(settings):
    first = settings.KUE
    settings.KUE = first | {"QUEUES": first["QUEUES"] | {"reports": {}}}
    leave.using(queue="reports").enqueue("app", 1)
    settings.KUE = first
    assert "reports" in [queue.name for queue in queues()]  # it isn't declared any more, but has a job

    settings.KUE = first | {"PREFIX": "second"}
    assert "reports" not in [queue.name for queue in queues()]
