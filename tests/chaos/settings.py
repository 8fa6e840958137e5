"""The test project with the chaos suite's jobs, and queues that keep all that ends."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, KUE

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos"]
_KEEP_ALL = {f"KEEP_{state}": 10_000_000 for state in ("COMPLETED", "FAILED", "CANCELLED")}
if os.environ.get("KUE_CHAOS_KEEP") == "little":
    _KEEP_ALL = {}
KUE = {**KUE, "ENQUEUE_TIMEOUT": 3, "QUEUES": {"default": _KEEP_ALL, "long": _KEEP_ALL, "leaky": _KEEP_ALL}}

if watched := os.environ.get("KUE_CHAOS_SENTINEL"):
    _name, _, _port = watched.partition(":")
    DJANGO_REDIS_CONNECTION_FACTORY = "django_redis.pool.SentinelConnectionFactory"
    CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://{_name}/0",
            "OPTIONS": {
                "CLIENT_CLASS": "django_redis.client.SentinelClient",
                "SENTINELS": [("127.0.0.1", int(_port))],
                "CONNECTION_POOL_CLASS": "redis.sentinel.SentinelConnectionPool",
            },
        }
    }
