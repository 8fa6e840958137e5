from __future__ import annotations

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """Payments, and what follows from them."""

    name = "payments"

    def ready(self) -> None:
        from payments import receivers  # noqa: F401 - importing it connects the receivers
