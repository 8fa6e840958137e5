"""The admin's pages over Redis.

They're on the default site at once. For a site of your own call :func:`register_on` in its ``admin.py``; for
a theme's ``ModelAdmin``, mix it with ours::

    from django_kue.admin import JobAdminMixin, register_on

    class JobAdmin(JobAdminMixin, unfold.admin.ModelAdmin):
        pass
"""

from __future__ import annotations

from django.contrib import admin

from django_kue import models
from django_kue.admin.jobs import JobAdminMixin

PAGES: dict[type, type] = {models.Job: JobAdminMixin}


def register_on(site: admin.AdminSite, base: type[admin.ModelAdmin] = admin.ModelAdmin) -> None:  # type: ignore[type-arg]
    """Put the pages on a site; ``base`` is the ``ModelAdmin`` that they're made of, such as a theme's.

    >>> register_on(my_site, base=unfold.admin.ModelAdmin)  # doctest: +SKIP
    """
    for model, mixin in PAGES.items():
        if not site.is_registered(model):
            site.register(model, type(f"{model.__name__}Admin", (mixin, base), {"__module__": __name__}))


register_on(admin.site)

__all__ = ["JobAdminMixin", "register_on"]
