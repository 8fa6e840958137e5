"""``kue.Job.range``, ``rangeByState``, ``rangeByType``, and ``GET /jobs/:type/:state/:from..:to/:order``"""

from typing import Any

import pytest

from django_kue import get_queue, queues
from tests.app.jobs import add, fail, noop
from tests.test_kue_parity.conftest import UNSERVED
from tests.worker_process import finished

queue = get_queue


def ids(jobs: Any) -> list[str]:
    return [job.id for job in jobs]


def test_a_range_by_state_in_both_orders():
    """``rangeByState('inactive', 2, 4, 'asc')``"""
    jobs = noop.using(queue=UNSERVED).enqueue_many([(number,) for number in range(10)])

    inactive = queue(UNSERVED).jobs("inactive", offset=2, limit=3, newest_first=False)
    assert ids(inactive) == ids(jobs[2:5])
    inactive = queue(UNSERVED).jobs("inactive", offset=2, limit=3)
    assert ids(inactive) == ids(reversed(jobs[5:8]))


def test_finished_jobs_are_ordered_by_their_end(worker):
    jobs = [finished(add.enqueue(number)) for number in range(3)]

    assert ids(queue().jobs("complete", newest_first=False)) == ids(jobs)
    assert ids(queue().jobs("complete")) == ids(reversed(jobs))


def test_a_range_by_type_is_a_queues_when_each_type_has_its_queue(worker):
    """``rangeByType('email', 'failed', 0, n, 'asc')``"""
    job = finished(fail.using(queue="email", attempts=1).enqueue())
    finished(fail.enqueue())

    assert ids(queue("email").jobs("failed", newest_first=False)) == [job.id]


def test_a_range_by_function_where_several_share_a_queue():
    noop.using(queue=UNSERVED).enqueue_many([()] * 3)
    sums = add.using(queue=UNSERVED).enqueue_many([(1,), (2,)])

    found = [job for job in queue(UNSERVED).jobs("waiting", newest_first=False) if job.name == add.name]
    assert ids(found) == ids(sums)


def test_a_range_over_all_queues(worker):
    """``kue.Job.range(0, n, 'asc')``"""
    jobs = [finished(add.using(queue=name).enqueue(1)) for name in ("default", "email")]

    found = [job for each in queues() for job in each.jobs("complete")]
    assert sorted(ids(found)) == sorted(ids(jobs))


def test_a_range_past_the_end_is_empty_and_a_wrong_one_an_error():
    noop.using(queue=UNSERVED).enqueue()

    assert queue(UNSERVED).jobs("waiting", offset=1) == []
    with pytest.raises(ValueError, match="offset"):
        queue(UNSERVED).jobs("waiting", offset=-1)
