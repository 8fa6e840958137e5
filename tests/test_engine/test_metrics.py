"""Measurements: what workers add up in Redis, and what the reading side makes of it."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_kue import get_queue, measures, metrics
from django_kue.measures import Row, Tier
from django_kue.store import moves, send
from tests.conftest import redis_client
from tests.test_engine.hands import put

SECONDS = st.floats(min_value=0.0, max_value=86_400.0, allow_nan=False)
LOWEST = 1e-6  # a histogram counts whole microseconds


def row(kind: str = "c", *, times: int = 1, wait: float = 0.5, run: float = 0.1) -> Row:
    one = Row()
    one.count_run(kind, times=times, work=run * times)
    one.time_run(measures.cell_of(wait), measures.cell_of(run), times)
    return one


def measure(queue: str, one: Row | None, functions: dict[str, Row] | None = None) -> None:
    send(moves.measure(queue, one, functions or {}))


@given(st.lists(SECONDS, min_size=1), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_quantile_is_right_within_a_factor_of_root_two(times: list[float], share: float) -> None:
    one = Row()
    for seconds in times:
        one.time_run(0, measures.cell_of(seconds))
    [found] = measures.quantiles(one.runs, [share])
    true = sorted(times)[max(0, math.ceil(share * len(times)) - 1)]
    assert found is not None
    assert true / math.sqrt(2) - LOWEST * 2 <= found <= true * math.sqrt(2) + LOWEST * 2


def test_times_spread_over_a_cell_are_interpolated() -> None:
    one = Row()
    for number in range(1000):
        one.time_run(0, measures.cell_of(0.1 + number / 1000))
    half, most = measures.quantiles(one.runs, [0.5, 0.9])
    assert half == pytest.approx(0.6, rel=0.05)
    assert most == pytest.approx(1.0, rel=0.05)


@given(SECONDS)
def test_a_time_is_within_its_cell(seconds: float) -> None:
    shortest, longest = measures.limits_of(measures.cell_of(seconds))
    assert shortest - LOWEST <= seconds <= longest + LOWEST


def test_a_time_beyond_the_last_cell_is_counted_there() -> None:
    assert measures.cell_of(1e9) == measures.CELLS - 1


@given(st.lists(st.tuples(st.sampled_from("cfrx"), SECONDS, SECONDS, st.integers(1, 10_000)), max_size=8))
def test_rows_that_redis_added_up_are_those_that_python_adds_up(
    runs: list[tuple[str, float, float, int]],
) -> None:
    redis_client().flushall()
    sums = Row()
    for kind, wait, run, times in runs:
        one = row(kind, wait=wait, run=run, times=times)
        measure("default", one)
        sums.add(one.encode())
    added = Row()
    for text in redis_client().hvals(next(iter(redis_client().keys("*ms:1h:*")), b"none")):
        added.add(text)
    assert (added.completed, added.failed, added.retried, added.other) == (
        sums.completed, sums.failed, sums.retried, sums.other,
    )  # fmt: skip
    assert (added.waits, added.runs) == (sums.waits, sums.runs)
    assert added.work == pytest.approx(sums.work)


@pytest.mark.parametrize("window", list(metrics.WINDOWS))
def test_a_series_sums_to_what_was_measured(window: str) -> None:
    measure("default", row(times=7, wait=2.0, run=0.1))
    measure("default", row("f", times=2))
    measure("default", row("r", times=3))
    found = metrics.series(window, "default")
    assert (sum(found.completed), sum(found.failed), sum(found.retried)) == (7, 2, 3)
    size = metrics.WINDOWS[window].seconds // found.step + 1
    lists = (found.times, found.completed, found.failed, found.retried, found.wait_p50, found.wait_p95,
             found.run_p50, found.run_p95, found.depth["default"], found.utilisation)  # fmt: skip
    assert {len(one) for one in lists} == {size}
    assert found.times == list(range(found.times[0], found.times[-1] + 1, found.step))
    assert 0 <= time.time() - found.times[-1] < found.step + 1
    [run_p50] = {value for value in found.run_p50 if value is not None}
    assert run_p50 == pytest.approx(0.1, rel=0.42)


def test_all_queues_together_are_the_sum_and_histograms_are_added_before_quantiles() -> None:
    measure("default", row(times=95, run=0.01))
    measure("email", row(times=5, run=10.0))
    found = metrics.series("7d")
    assert sum(found.completed) == 100
    [half] = {value for value in found.run_p50 if value is not None}
    assert half == pytest.approx(0.01, rel=0.42)
    assert {"default", "email"} <= set(found.depth)


def test_nothing_measured_is_none_and_zero() -> None:
    found = metrics.series("1h", "default")
    assert set(found.completed) == {0}
    assert set(found.run_p50) == set(found.wait_p95) == set(found.utilisation) == {None}


def test_every_key_expires_when_its_last_bucket_was_kept_long_enough() -> None:
    measure("default", row(), {"shop.send": row()})
    left = {
        key.decode().partition("}:")[2]: redis_client().ttl(key) for key in redis_client().keys("*:m[sf]:*")
    }
    assert len(left) == len(measures.TIERS) + len(measures.FUNCTION_TIERS)
    for name, seconds in left.items():
        prefix, tier_name, _ = name.split(":")
        tiers: tuple[Tier, ...] = measures.TIERS if prefix == "ms" else measures.FUNCTION_TIERS
        tier = next(one for one in tiers if one.name == tier_name)
        assert tier.keep <= seconds <= tier.keep + tier.block, name


def test_functions_are_summed_and_the_longest_working_comes_first() -> None:
    measure("default", row(), {"quick": row(times=10, run=0.01), "slow": row(run=5.0)})
    measure("default", row(), {"quick": row("f", times=2, run=0.01)})
    measure("email", row(), {"quick": row(run=0.01)})
    slow, quick, other = metrics.functions("24h")
    assert (slow.name, slow.total, slow.mean, slow.runs) == ("slow", 5.0, 5.0, 1)
    assert (quick.name, quick.queue, quick.runs, quick.completed, quick.failed) == (
        "quick",
        "default",
        12,
        10,
        2,
    )
    assert quick.p50 == pytest.approx(0.01, rel=0.42)
    assert (other.queue, other.total) == ("email", pytest.approx(0.01))
    assert [one.queue for one in metrics.functions("1h", "email")] == ["email"]


def test_functions_beyond_the_limit_are_added_up_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "MOST_FUNCTIONS", 3)
    measure("default", row(), {f"f{number}": row() for number in range(5)})
    measure("default", row(), {"f0": row(), "f9": row()})
    found = {one.name: one.runs for one in metrics.functions("7d", "default")}
    assert found == {"f0": 2, "f1": 1, "f2": 1, measures.OTHERS: 3}


def test_the_depth_is_the_most_jobs_that_were_seen_waiting() -> None:
    put(count=5)
    measure("default", None)
    get_queue().empty()
    measure("default", row())
    assert [one for one in metrics.series("7d", "default").depth["default"] if one is not None] == [5]


def test_who_looks_notes_the_depth_also_where_no_worker_listens() -> None:
    put(count=3)
    assert metrics.series("5m", "default").depth["default"][-1] == 3


def test_a_full_memory_doesnt_hide_the_measurements() -> None:
    measure("default", row(times=4))
    redis_client().config_set("maxmemory", 1)
    try:
        assert sum(metrics.series("1h", "default").completed) == 4
    finally:
        redis_client().config_set("maxmemory", 0)


def test_utilisation_is_the_share_of_the_workers_samples() -> None:
    send(moves.announce("one", b"{}", busy=300, slots=1000))
    send(moves.announce("two", b"{}", busy=100, slots=1000))
    send(moves.announce("none", b"{}"))
    found = [one for one in metrics.series("1h").utilisation if one is not None]
    assert found == [0.2]


def test_sparklines_have_the_runs_of_each_queue() -> None:
    measure("default", row(times=4))
    measure("default", row("f"))
    found = metrics.sparklines(["default", "email"])
    assert found == {"default": [0] * 29 + [5], "email": [0] * 30}
    assert metrics.sparklines(["default"], "5m", points=7)["default"] == [0] * 6 + [5]
    assert len(metrics.sparklines(["default"], "1h", points=1000)["default"]) == 60
    assert metrics.sparklines([]) == {}


def test_an_unknown_window_names_those_that_there_are() -> None:
    for ask in (metrics.series, metrics.functions, lambda window: metrics.sparklines(["default"], window)):
        with pytest.raises(ValueError, match=r"no window '2h'; the windows are '5m', '1h', '24h', '7d'"):
            ask("2h")
    with pytest.raises(ValueError, match="at least 1 point"):
        metrics.sparklines(["default"], points=0)
