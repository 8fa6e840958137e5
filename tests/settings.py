"""The test project. Redis is one that the tests start themselves, see ``conftest.py``."""

import json
import os

SECRET_KEY = "for tests only"
DEBUG = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # made for each test; nobody's secret
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_kue",
    "tests.app",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
if path := os.environ.get("KUE_TEST_DB"):  # a worker of its own process needs a real file
    DATABASES["default"]["NAME"] = path
if databases := os.environ.get("KUE_TEST_DATABASES"):
    DATABASES = json.loads(databases)
    if "mysql" in databases:  # what's compiled isn't on every machine
        import pymysql

        pymysql.install_as_MySQLdb()
REDIS_URL = os.environ.get("KUE_TEST_REDIS_AS") or os.environ.get("KUE_TEST_REDIS", "redis://127.0.0.1:1/0")
CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": REDIS_URL}}
if caches := os.environ.get("KUE_TEST_CACHES"):
    CACHES = json.loads(caches)
    DJANGO_REDIS_CONNECTION_FACTORY = os.environ["KUE_TEST_CONNECTION_FACTORY"]
KUE = {
    "REDIS": os.environ.get("KUE_TEST_REDIS_SETTING", "default"),
    "PREFIX": os.environ.get("KUE_TEST_PREFIX", "kue"),
    "ONLY_ENCRYPTED": os.environ.get("KUE_TEST_ONLY_ENCRYPTED", "no") == "yes",
    "OUTBOX": os.environ.get("KUE_TEST_OUTBOX") == "yes",
    "MIDDLEWARE": os.environ.get("KUE_TEST_MIDDLEWARE", "").split(),
    "LEASE": float(os.environ.get("KUE_TEST_LEASE", "10")),
    "QUEUES": {
        "default": {},
        "email": {"ATTEMPTS": 3, "PRIORITY": "high"},
        "other": {"PREFETCH": os.environ.get("KUE_TEST_PREFETCH", "yes") == "yes"},
        "narrow": {"CONCURRENCY": 2, "OUTBOX": os.environ.get("KUE_TEST_OUTBOX_OF_NARROW")},
        "slow": {"RATE": "5/s"},
    },
    "SCHEDULES": json.loads(os.environ.get("KUE_TEST_SCHEDULES", "{}")),
}
if encryption_keys := os.environ.get("KUE_TEST_ENCRYPTION_KEYS"):
    KUE["ENCRYPTION_KEYS"] = encryption_keys.split()
if logging_config := os.environ.get("KUE_TEST_LOGGING"):
    LOGGING = json.loads(logging_config)
