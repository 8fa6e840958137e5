from __future__ import annotations

from django.contrib import admin

from images.models import Photo, Rendition


@admin.register(Photo)
class PhotoAdmin(admin.ModelAdmin):
    list_display = ("title", "original", "uploaded_at")


@admin.register(Rendition)
class RenditionAdmin(admin.ModelAdmin):
    list_display = ("photo", "size", "width", "height", "bytes")
