"""``{title: 'welcome email for tj'}``: what people see in lists."""

import pytest

from django_kue import Job, job
from tests.app.jobs import add
from tests.app.tasks import welcome
from tests.test_kue_parity.conftest import UNSERVED


def test_the_title_is_filled_in_from_the_arguments():
    job = welcome.using(queue=UNSERVED).enqueue("tj@example.org")

    assert Job.get(job.id).title == "Welcome tj@example.org"


def test_one_job_can_have_its_own_title_which_is_taken_literally():
    job = welcome.using(queue=UNSERVED, title="to {to}").enqueue("tj@example.org")

    assert Job.get(job.id).title == "to {to}"


def test_a_job_without_a_title_is_called_as_its_function():
    assert Job.get(add.using(queue=UNSERVED).enqueue(1).id).title == "tests.app.jobs.add"


def test_a_title_that_cannot_be_filled_in_is_an_error_at_import():
    with pytest.raises(ValueError, match="recipient"):

        @job(name="parity.titled", title="Welcome {recipient}")
        def titled(to: str) -> None: ...
