"""Settings of the example shop: one folder for everything it makes, one Redis, one worker's queues.

Environment:
    SHOP_VAR: the folder for the database, uploads, logs and the embedded Redis (default: ``var/`` here).
    SHOP_SMTP_PORT: where the mail server listens on this machine (default 8025).
    SHOP_PARTNER_URL: where the bank and the partners' webhooks answer.
    KUE_REDIS: ``embedded`` (default), or the URL of a Redis that you run.
    KUE_PREFIX: what our keys in that Redis begin with (default ``shop``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

PROJECT = Path(__file__).resolve().parent.parent
# Most projects have this beside the code. Here, everything that's made has a folder of its own; an embedded
# Redis keeps its files in BASE_DIR, too.
BASE_DIR = Path(os.environ.get("SHOP_VAR", PROJECT / "var")).resolve()
BASE_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = True
SECRET_KEY = "an example: anybody can read this key, so it protects nothing"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_kue",
    "ninja",  # the scripts of the API's page, /kue/docs
    "shop",
    "storefront",
    "mail",
    "images",
    "reports",
    "video",
    "webhooks",
    "payments",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TEMPLATES: list[dict[str, Any]] = [
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
    },
]

# SQLite lets many processes read and one write. A write-ahead log lets them read during a write, and
# IMMEDIATE makes a writer wait at the start of its transaction, instead of failing in the middle of it.
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "shop.sqlite3",
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# A job may run twice (if its worker dies before it can report), so it always writes its files under the
# same name, over those of the previous run.
STORAGES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"allow_overwrite": True},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
MEDIA_ROOT = BASE_DIR / "media"
MEDIA_URL = "/media/"
STATIC_URL = "/static/"

SMTP_PORT = int(os.environ.get("SHOP_SMTP_PORT", "8025"))
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": {"host": "127.0.0.1", "port": SMTP_PORT, "timeout": 10},
        },
    }
else:
    EMAIL_HOST, EMAIL_PORT, EMAIL_TIMEOUT = "127.0.0.1", SMTP_PORT, 10
DEFAULT_FROM_EMAIL = "Kue and Company <shop@shop.example>"

SITE_URL = os.environ.get("SHOP_SITE_URL", "http://127.0.0.1:8000")
PARTNER_URL = os.environ.get("SHOP_PARTNER_URL", "http://127.0.0.1:8026")

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False

KUE: dict[str, Any] = {
    "REDIS": os.environ.get("KUE_REDIS", "embedded"),
    "PREFIX": os.environ.get("KUE_PREFIX", "shop"),
    # Each queue has limits of its own, which hold across all workers.
    "QUEUES": {
        "default": {},
        "mail": {"CONCURRENCY": 4, "RATE": "50/s", "KEEP_COMPLETED": 1000},  # what our mail provider allows
        "images": {"TIMEOUT": 60},
        "reports": {"CONCURRENCY": 2},  # heavy on the database
        "video": {"CONCURRENCY": 2},  # heavy on everything
        "webhooks": {"CONCURRENCY": 50},  # only waits for others: many at once
        "payments": {"PRIORITY": "critical"},
    },
}
