"""The page on which people read and try the API. Nothing comes from another site, and nothing is inline."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.apps import apps
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError
from ninja.openapi.docs import DocsBase

from django_kue.api.access import may
from django_kue.api.errors import answer, stranger, turned_away

READERS = may(
    "view_job", "change_job", "delete_job", "enqueue_job", "view_queue", "change_queue",
    "view_worker", "change_worker",
)  # fmt: skip


class SwaggerPage(DocsBase):
    """Swagger UI, whose scripts come with django-ninja."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        if not apps.is_installed("ninja"):
            return answer(
                404, 'This page needs the scripts that come with django-ninja: add "ninja" to INSTALLED_APPS.'
            )
        context = {"title": api.title, "schema_url": self.get_openapi_url(api, kwargs)}
        return render(request, "django_kue/api.html", context)


def for_readers(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Show the description only to those who may do something that it describes."""

    @wraps(view)
    def checked(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:
            if not any(who(request) for who in READERS):
                raise AuthenticationError
        except AuthenticationError as error:
            return stranger(request, error)
        except HttpError as error:
            return turned_away(request, error)
        return view(request, **kwargs)

    return checked
