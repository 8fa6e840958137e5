from __future__ import annotations

from django.contrib import admin

from video.models import Clip


@admin.register(Clip)
class ClipAdmin(admin.ModelAdmin):
    list_display = ("title", "seconds", "playable")
