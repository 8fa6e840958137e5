"""The project with django-kue, set up as its README says, and as quiet as the peers.

``BENCH_QUEUES`` is how many queues are declared; ``BENCH_RECEIVERS`` connects a receiver to every signal.
"""

import os

from benchmarks.shop import settings as plain
from benchmarks.shop.settings import *  # noqa: F403

INSTALLED_APPS = [*plain.INSTALLED_APPS, "django_kue", "benchmarks.shop"]
LOGGING = plain.LOGGING | {"loggers": {"django_kue": {"level": "WARNING"}}}
KUE = {
    "REDIS": f"redis://127.0.0.1:{os.environ.get('BENCH_REDIS_PORT', '6379')}/0",
    "QUEUES": {
        "default": {},
        **{f"idle{number}": {} for number in range(1, int(os.environ.get("BENCH_QUEUES", "1")))},
    },
}
