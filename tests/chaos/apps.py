from __future__ import annotations

import os

from django.apps import AppConfig


class ChaosConfig(AppConfig):
    name = "tests.chaos"
    label = "chaos"

    def ready(self) -> None:
        from tests.chaos import clock, mutants

        if seed := os.environ.get("KUE_CHAOS_CLOCK"):
            clock.let_jump(int(seed))
        if name := os.environ.get("KUE_CHAOS_MUTANT"):
            mutants.MUTANTS[name].apply()
