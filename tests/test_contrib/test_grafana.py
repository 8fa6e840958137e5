"""The dashboard, and the guide's alerts and questions, ask only for what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from django_kue.contrib.prometheus import METRICS
from tests.test_cli.hands import ROOT

DASHBOARD = json.loads((ROOT / "docs/grafana/django-kue.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
HISTOGRAM = ("_bucket", "_count", "_sum")
SCRAPED = {"job", "instance"}  # labels that Prometheus adds
METRIC = re.compile(r"\b(kue_\w+)(?:\{([^}]*)\})?")
OWN = {
    name: {*one.labels, *(["le"] if one.kind == "histogram" else [])}
    for one in METRICS
    for name in ([one.name + end for end in HISTOGRAM] if one.kind == "histogram" else [one.name])
}


def _expressions() -> Iterator[str]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


GUIDE = (ROOT / "docs/how-to/monitoring.md").read_text("utf-8")
ALERTS = re.findall(r"^        expr: (.+)$", GUIDE, re.M)
QUESTIONS = re.findall(r"^\| .+\? \| `(.+)` \|$", GUIDE, re.M)
SHOWN = list(_expressions())
EXPRESSIONS = [*SHOWN, *ALERTS, *QUESTIONS]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_only_metrics_and_labels_that_there_are(expression: str) -> None:
    used = METRIC.findall(expression)
    assert used
    for name, matchers in used:
        assert name in OWN
        labels = set(re.findall(r"(\w+)\s*=~?", matchers))
        assert labels <= OWN[name] | SCRAPED
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
    assert grouped <= {label for name, _ in used for label in OWN[name]} | SCRAPED


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_rates_are_made_of_counters_and_of_nothing_else(expression: str) -> None:
    counters = {one.name for one in METRICS if one.kind == "counter"}
    rated = re.findall(r"(?:rate|increase)\((kue_\w+)", expression)
    assert all(name in counters or name.endswith(HISTOGRAM) for name in rated)
    unrated = {name for name, _ in METRIC.findall(expression)} - set(rated)
    assert not unrated & counters


def test_the_guide_has_alerts_and_questions() -> None:
    assert len(ALERTS) == GUIDE.count("- alert: ") == 9
    assert len(QUESTIONS) == 7


def test_every_metric_that_matters_is_on_it() -> None:
    shown = {name for expression in SHOWN for name, _ in METRIC.findall(expression)}
    left_out = {"kue_build_info", "kue_scrape_seconds", "kue_queue_paused", "kue_queue_workers"}
    left_out |= {"kue_queues_omitted", "kue_worker_processes", "kue_jobs_running"}
    left_out |= {"kue_schedule_next_run_timestamp_seconds"}
    wanted = {one.name for one in METRICS} - left_out
    assert wanted == {
        next((name.removesuffix(end) for end in HISTOGRAM if name.endswith(end)), name) for name in shown
    }


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))

    def is_apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        return beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]

    assert all(is_apart(one, other) for one, other in combinations(DASHBOARD["panels"], 2))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


def test_it_can_be_imported_anywhere() -> None:
    assert DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 36  # Grafana 10 reads it as it is
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    assert all(panel["description"] and panel["title"] for panel in PANELS)
