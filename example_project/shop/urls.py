"""All URLs of the shop."""

from __future__ import annotations

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("storefront.urls")),
    path("accounts/", include("django.contrib.auth.urls")),  # a password reset's link leads here
    path("admin/", admin.site.urls),
    path("kue/", include("django_kue.api.urls")),
    # For development: in a real shop the web server serves files, and something checks who asks for them.
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
