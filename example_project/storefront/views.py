"""The customer's page. A view hands work over and answers at once; the page then asks for its progress."""

from __future__ import annotations

from pathlib import PurePath

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods
from django_kue import EnqueueError

from images.jobs import make_sizes
from images.models import Photo
from reports.jobs import sales_report
from storefront.forms import PhotoForm, ReportForm
from storefront.requests import describe, own_jobs, remember

AWAY = "Our workshop can't be reached just now. Please try again in a minute."


@require_GET
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """The page: two things to ask for, and what became of them."""
    return page(request, PhotoForm(), ReportForm())


@require_http_methods(["POST"])
def photo(request: HttpRequest) -> HttpResponse:
    """Accept a picture; a job makes its sizes."""
    form = PhotoForm(request.POST, request.FILES)
    if not form.is_valid():
        return page(request, form, ReportForm(), status=422)
    picture = form.cleaned_data["picture"]
    title = PurePath(picture.name).name[:100]
    try:
        # The job is sent after the commit, so that the worker finds the row; if that's rolled back, never.
        with transaction.atomic():
            stored = Photo.objects.create(title=title, original=picture)
            job = make_sizes.using(priority="high", title=f"Your photo {title}").enqueue(stored.pk)
    except EnqueueError:
        messages.error(request, AWAY)
    else:
        remember(request.session, job)
    return redirect("home")


@require_http_methods(["POST"])
def report(request: HttpRequest) -> HttpResponse:
    """Start a report. Asking again while it's being made shows the same job."""
    form = ReportForm(request.POST)
    if not form.is_valid():
        return page(request, PhotoForm(), form, status=422)
    try:
        job = sales_report.enqueue(form.cleaned_data["year"])
    except EnqueueError:
        messages.error(request, AWAY)
    else:
        remember(request.session, job)
    return redirect("home")


@require_GET
@never_cache
def progress(request: HttpRequest) -> JsonResponse:
    """How far this customer's jobs are, for the page's script."""
    return JsonResponse({"jobs": [describe(job) for job in own_jobs(request.session)]})


def page(
    request: HttpRequest, photo_form: PhotoForm, report_form: ReportForm, status: int = 200
) -> HttpResponse:
    """The page with these forms."""
    jobs = [describe(job) for job in own_jobs(request.session)]
    context = {"photo_form": photo_form, "report_form": report_form, "jobs": jobs}
    return render(request, "storefront/home.html", context, status=status)
