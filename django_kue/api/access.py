"""Who has access, and to what. Each operation names the permission that it takes; one that names none is
open to nobody.

A person uses the site's session, with a CSRF token for whatever changes something. A program uses a token
from ``KUE["API_TOKENS"]``, which stands for a user. Both have the permissions of that user.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest
from ninja.errors import AuthenticationError, AuthorizationError
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from django_kue.conf import settings

logger = logging.getLogger("django_kue.api")

SHORTEST = 32  # characters of a token: a shorter one could be guessed


class Token(AuthBase):
    """``Authorization: Bearer …``. A request with a wrong token is refused, whatever else it carries."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, *permissions: str) -> None:
        super().__init__()
        self.permissions = permissions

    def __call__(self, request: HttpRequest) -> Any:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        request.user = user_of(token.strip())
        return allowed(request.user, self.permissions)


class Session(AuthBase):
    """The session of somebody who has logged in. Requests that change something need ``X-CSRFToken``."""

    openapi_type = "apiKey"
    openapi_in = "cookie"
    openapi_name = django_settings.SESSION_COOKIE_NAME

    def __init__(self, *permissions: str) -> None:
        super().__init__()
        self.permissions = permissions

    def __call__(self, request: HttpRequest) -> Any:
        user = getattr(request, "user", None)  # not there without Django's middleware
        if user is None or not user.is_authenticated:
            return None
        if check_csrf(request):
            raise AuthorizationError(
                message="The CSRF token is missing or wrong: send the cookie's value in X-CSRFToken."
            )
        return allowed(user, self.permissions)


def may(*permissions: str) -> list[AuthBase]:
    """Access for users with one of these permissions; if none is named, for nobody."""
    return [Token(*permissions), Session(*permissions)]


def require(request: HttpRequest, *permissions: str) -> None:
    """Refuse users who don't have all of these permissions: for what depends on the job.

    Raises:
        AuthorizationError: one is missing; the message names it.
    """
    for permission in permissions:
        allowed(request.user, [permission])


def allowed(user: Any, permissions: Any) -> Any:
    """The user, if they have one of the permissions.

    Raises:
        AuthorizationError: they have none; the message names them.
    """
    if any(user.has_perm(f"django_kue.{name}") for name in permissions):
        return user
    names = " or ".join(f"django_kue.{name}" for name in permissions)
    raise AuthorizationError(
        message=f"This takes the permission {names}." if names else "Nobody may do this."
    )


def user_of(token: str) -> Any:
    """The active user whom a token stands for.

    Raises:
        AuthenticationError: it belongs to nobody.
    """
    if len(token) < SHORTEST:
        raise AuthenticationError(message=f"A token has at least {SHORTEST} characters.")
    digest = sha256(token.encode(errors="surrogateescape")).hexdigest()
    names = [
        name
        for name, digests in settings.API_TOKENS.items()
        for known in digests
        if compare_digest(known, digest)
    ]
    for name in names:
        try:
            user: Any = get_user_model()._default_manager.get_by_natural_key(name)
        except ObjectDoesNotExist:
            logger.warning('KUE["API_TOKENS"] has a token for %r, but there is no such user', name)
            continue
        if user.is_active:
            return user
    raise AuthenticationError(message="This token belongs to nobody.")
