"""``.searchKeys(['to'])`` and ``GET /job/search``"""

import pytest

from django_kue import get_queue
from tests.app.tasks import convert_video, welcome
from tests.test_kue_parity.conftest import UNSERVED

queue_of_ours = welcome.using(queue=UNSERVED)


def ids(jobs):
    return {job.id for job in jobs}


def test_jobs_are_found_by_the_value_of_an_argument():
    mine = [queue_of_ours.enqueue("tj@example.org"), queue_of_ours.enqueue(to="tj@example.org")]
    queue_of_ours.enqueue("guillermo@example.org")

    assert ids(get_queue(UNSERVED).find(to="tj@example.org")) == ids(mine)


def test_several_keys_must_all_match():
    both = welcome.using(queue=UNSERVED, search_keys=["to", "template"])
    job = both.enqueue("tj@example.org", "rich")
    both.enqueue("tj@example.org", "plain")

    assert ids(get_queue(UNSERVED).find(to="tj@example.org", template="rich")) == {job.id}


def test_jobs_are_found_in_every_state(worker):
    job = welcome.enqueue("tj@example.org")
    job.wait(timeout=10)

    [found] = get_queue().find(to="tj@example.org")
    assert (found.id, found.state) == (job.id, "completed")


def test_the_match_is_exact():
    """Kue searched words, with an index that is a package of its own."""
    queue_of_ours.enqueue("tj@example.org")

    assert get_queue(UNSERVED).find(to="tj") == []


def test_a_search_key_that_is_no_argument_is_an_error():
    with pytest.raises(ValueError, match="'frame'"):
        convert_video.using(search_keys=["frame"])
