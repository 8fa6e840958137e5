"""What the pages of one job share: finding it, their addresses, their frame."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.utils import quote
from django.forms import Media
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from django_kue import models
from django_kue.admin.pages import KuePages
from django_kue.admin.seam import row_of
from django_kue.errors import JobDoesNotExist
from django_kue.jobs import Job

# These pages need none of Django's form scripts. Scripts are put into the head, so ours wait for the page.
_SCRIPTS: list[Any] = [Script(f"django_kue/{name}.js", defer=True) for name in ("live", "job")]
_MEDIA = Media(css={"all": ["django_kue/kue.css", "django_kue/job.css"]}, js=_SCRIPTS)


class OneJob(KuePages):
    """Mixed into the ``ModelAdmin`` of jobs."""

    # Those of the ModelAdmin.
    has_view_permission: Any
    has_view_or_change_permission: Any
    has_change_permission: Any
    has_delete_permission: Any
    message_user: Any
    _get_obj_does_not_exist_redirect: Any

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The job as Django's views know it: one read, however many jobs there are. The id is unquoted."""
        try:
            return row_of(Job.get(object_id))
        except JobDoesNotExist:
            return None

    def url_of(self, id: str, view: str = "change") -> str:
        """The address of a page of a job, on this site."""
        return self._url(view, quote(id))

    def url_of_list(self) -> str:
        """The address of the list of jobs, on this site."""
        return self._url("changelist")

    def job_is_gone(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Redirect to the list, with Django's message about objects that don't exist."""
        self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        return HttpResponseRedirect(self.url_of_list())

    def frame_of(self, request: HttpRequest, obj: models.Job) -> dict[str, Any]:
        """What Django's own template for a change view wants to know, and our stylesheet and script."""
        return {
            "original": obj,
            "object_id": obj.pk,
            "add": False,
            "change": True,
            "has_view_permission": True,
            "has_change_permission": self.has_change_permission(request, obj),
            "has_absolute_url": False,
            "media": _MEDIA,
        }

    def _url(self, view: str, *args: str) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{view}"
        return reverse(name, args=args, current_app=self.admin_site.name)
