"""What a customer can ask for on the page."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from reports.models import Sale

LARGEST_UPLOAD = 10 * 1024 * 1024  # bytes


class PhotoForm(forms.Form):
    """An upload. ``ImageField`` opens it with Pillow, so anything that isn't a picture is refused at once."""

    picture = forms.ImageField(
        label="A JPEG or PNG, at most 10 MB",
        widget=forms.ClearableFileInput(attrs={"accept": "image/jpeg,image/png"}),
    )

    def clean_picture(self) -> UploadedFile:
        picture: UploadedFile = self.cleaned_data["picture"]
        if picture.size is None or picture.size > LARGEST_UPLOAD:
            raise forms.ValidationError("That's larger than 10 MB. Please choose a smaller one.")
        if picture.image.format not in {"JPEG", "PNG"}:  # type: ignore[attr-defined]
            raise forms.ValidationError("Please choose a JPEG or a PNG.")
        return picture


class ReportForm(forms.Form):
    """A year for which we have sales."""

    year = forms.TypedChoiceField(coerce=int)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        years = [day.year for day in Sale.objects.dates("sold_on", "year", order="DESC")]
        self.fields["year"].choices = [(year, str(year)) for year in years]  # type: ignore[attr-defined]
