"""The JSON API: ``path("kue/", include("django_kue.api.urls"))``. Nothing is public: see ``access.py``."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

try:
    import ninja  # noqa: F401
except ImportError as error:
    raise ImproperlyConfigured(
        'The JSON API is built with django-ninja, which isn\'t installed: pip install "django-kue[api]"'
    ) from error
