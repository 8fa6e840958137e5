"""What all of our pages share."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from django_kue import get_queue, models
from tests.test_admin.hands import failed_job

ADMIN = "/admin/django_kue"


def test_an_update_does_not_take_the_messages_that_nobody_has_seen(boss: Client) -> None:
    boss.post(f"{ADMIN}/queue/default/pause/")

    updated = boss.get(f"{ADMIN}/queue/", headers={"x-kue-live": "1"})
    assert "messagelist" not in updated.content.decode()
    assert "messagelist" in boss.get(f"{ADMIN}/queue/").content.decode()
    assert get_queue("default").is_paused


@pytest.mark.parametrize("model", [models.Dashboard, models.Job, models.Queue, models.Worker])
def test_a_project_may_give_a_list_another_title(rf: RequestFactory, db: None, model: Any) -> None:
    request = rf.get("/")
    request.user = User.objects.create_superuser("boss")

    page = admin.site._registry[model].changelist_view(request, extra_context={"title": "Our own title"})

    assert page.context_data["title"] == "Our own title"


def test_every_page_that_updates_itself_can_be_told_to_stop(boss: Client) -> None:
    job = failed_job()
    pages = ("dashboard/", "job/", f"job/{job}/change/", "queue/", "queue/default/change/", "worker/")

    for page in pages:
        text = boss.get(f"{ADMIN}/{page}").content.decode()
        assert ("data-kue-live" in text) == ("data-kue-pause" in text) == True, page  # noqa: E712
