from __future__ import annotations

from django.urls import path

from storefront import views

urlpatterns = [
    path("", views.home, name="home"),
    path("photo/", views.photo, name="photo"),
    path("report/", views.report, name="report"),
    path("progress.json", views.progress, name="progress"),
]
