from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The project's own app: it provides ``manage.py demo``."""

    name = "shop"
