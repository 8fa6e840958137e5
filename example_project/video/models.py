"""Product clips."""

from __future__ import annotations

from django.db import models


class Clip(models.Model):
    """A clip as it was filmed, and as the shop plays it once it's transcoded."""

    title = models.CharField(max_length=100)
    source = models.FileField(upload_to="clips/")
    seconds = models.FloatField()
    playable = models.FileField(blank=True)

    def __str__(self) -> str:
        return self.title
