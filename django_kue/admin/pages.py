"""What all pages share: who may see them, what they load, and what's shown while Redis is away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.admin.models import CHANGE
from django.core.exceptions import PermissionDenied
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _

from django_kue import history
from django_kue.errors import StoreError, StoreUnavailable

logger = logging.getLogger("django_kue.admin")


class KuePages:
    """Mixed into a ``ModelAdmin`` (Django's, or that of a theme) whose rows live in Redis.

    Nothing can be added. While Redis can't be reached, every view quickly answers with a page that says so.
    """

    class Media:
        css = {"all": ["django_kue/kue.css"]}
        js = [Script("django_kue/live.js", defer=True)]

    model: Any
    opts: Any
    admin_site: Any
    media: Any

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        urls: list[Any] = super().get_urls()  # type: ignore[misc]
        for url in urls:
            if isinstance(url, URLPattern):
                url.callback = self._unless_away(url.callback)
        return urls

    def require(self, is_allowed: bool) -> None:
        """Refuse with 403 unless it's allowed."""
        if not is_allowed:
            raise PermissionDenied

    def page(
        self, request: HttpRequest, template: str, title: str, /, *, status: int = 200, **context: Any
    ) -> TemplateResponse:
        """A page of our own in the site's frame; ``template`` extends our ``page.html``.

        Values in ``context`` override the others, including the title, as in Django's own views.
        """
        request.current_app = self.admin_site.name
        frame = {
            **self.admin_site.each_context(request),
            "title": title,
            "subtitle": None,
            "is_popup": False,
            "opts": self.opts,
            "cl": {"opts": self.opts},
            "media": self.media,
            "actions_on_top": True,
        }
        return TemplateResponse(request, template, frame | context, status=status)

    def note(self, request: HttpRequest, message: str, obj: Any = None, flag: int = CHANGE) -> None:
        """Record in the admin's history who did what, to one object or to many."""
        history.note(request.user, self.model, message, obj, flag)

    def _unless_away(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                response = view(request, *args, **kwargs)
                # Lists read their rows while they're rendered, so that has to happen here.
                if isinstance(response, TemplateResponse):
                    if "X-Kue-Live" in request.headers:
                        # An update mustn't use up messages that nobody has seen yet.
                        response.context_data = {**(response.context_data or {}), "messages": ()}
                    response.render()
            except (StoreUnavailable, StoreError) as error:
                logger.warning("Redis can't be used: %s", error)
                return self._away(request, error).render()
            return response

        return guarded

    def _away(self, request: HttpRequest, error: Exception) -> TemplateResponse:
        return self.page(
            request, "admin/django_kue/away.html", _("Redis can’t be reached"), status=503, error=str(error)
        )
