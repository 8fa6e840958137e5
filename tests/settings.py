"""The test project. Redis is one that the tests start themselves, see ``conftest.py``."""

import json
import os

SECRET_KEY = "for tests only"
DEBUG = False
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_kue",
    "tests.app",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
if path := os.environ.get("KUE_TEST_DB"):  # a worker of its own process needs a real file
    DATABASES["default"]["NAME"] = path
REDIS_URL = os.environ.get("KUE_TEST_REDIS", "redis://127.0.0.1:1/0")
CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": REDIS_URL}}
KUE = {
    "REDIS": os.environ.get("KUE_TEST_REDIS_SETTING", "default"),
    "PREFIX": os.environ.get("KUE_TEST_PREFIX", "kue"),
    "LEASE": float(os.environ.get("KUE_TEST_LEASE", "10")),
    "QUEUES": {
        "default": {},
        "email": {"ATTEMPTS": 3, "PRIORITY": "high"},
        "other": {},
        "narrow": {"CONCURRENCY": 2},
        "slow": {"RATE": "5/s"},
    },
}
if logging_config := os.environ.get("KUE_TEST_LOGGING"):
    LOGGING = json.loads(logging_config)
