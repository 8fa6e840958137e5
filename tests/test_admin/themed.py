"""The pages made of django-unfold's ModelAdmin: ``python -m tests.test_admin.themed`` asks for each of them.

It's a process of its own, since a theme changes the whole project.
"""

from __future__ import annotations

from django.conf import settings

from tests import settings as usual

OURS = {name: getattr(usual, name) for name in dir(usual) if name.isupper()}
THEMED = OURS | {
    "INSTALLED_APPS": ["unfold", *usual.INSTALLED_APPS],
    "ROOT_URLCONF": "tests.test_admin.themed_urls",
    "ALLOWED_HOSTS": ["testserver"],
}


def main() -> None:
    import django
    from django.core.management import call_command

    settings.configure(**THEMED)
    django.setup()
    call_command("migrate", verbosity=0)
    ask_for_all()


def ask_for_all() -> None:
    from django.contrib import admin
    from django.contrib.admin.utils import quote
    from django.contrib.auth.models import User
    from django.test import Client
    from unfold.admin import ModelAdmin

    from django_kue import models, schedules
    from django_kue.jobs import Job
    from tests.app.jobs import noop

    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    job: Job = noop.enqueue()
    schedules.create("north", noop, every=60)
    page_of_job = f"job/{quote(job.id)}"
    pages = [
        "dashboard/", "job/", "job/?q=noop", "job/?state__exact=failed", f"{page_of_job}/change/",
        f"{page_of_job}/run-again/", "queue/", "queue/default/change/", "worker/",
        "schedule/", "schedule/add/", "schedule/north/change/", "schedule/north/edit/",
        "schedule/north/delete/",
    ]  # fmt: skip
    for page in pages:
        response = client.get(f"/admin/django_kue/{page}")
        assert response.status_code == 200, (page, response.status_code)
        assert "unfold" in response.content.decode(), page
    assert isinstance(admin.site._registry[models.Job], ModelAdmin)
    client.post(f"/admin/django_kue/{page_of_job}/change/", {"_cancel": "1"})
    assert job.refresh().state == "cancelled"


if __name__ == "__main__":
    main()
