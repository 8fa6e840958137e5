"""The test site with the API."""

from __future__ import annotations

from django.urls import include, path

from tests.urls import urlpatterns as others

urlpatterns = [*others, path("kue/", include("django_kue.api.urls"))]
