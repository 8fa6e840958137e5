"""The main things on a real Redis Cluster of three nodes, which the tests start."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.test import override_settings

from django_kue import EnqueueError, Job, Queue, bulk, declared, get_queue, job, queues, schedules
from django_kue.errors import StoreUnavailable
from django_kue.events import listen
from django_kue.listing import Listing, tally
from django_kue.states import State
from django_kue.store import close_links, forget_links, new_doorbell, new_link, nodes, reads
from django_kue.worker.scheduling import Scheduler
from tests.app import abuse
from tests.conftest import NOBODY, free_port, start_redis
from tests.test_engine.hands import Hands, completed, failed, put, retried, wait_until
from tests.test_faults.load import Load
from tests.test_schedules.hands import at_once
from tests.worker_process import WorkerProcess, broke, wait_for

pytestmark = pytest.mark.slow
SLOTS = 16384
NAMES = [f"q{number}" for number in range(9)]


@job(name="tests.clustered", search_keys=("number",))
def clustered(number: int) -> None: ...


@job(name="tests.clustered_once", unique=True)
def clustered_once(number: int) -> None: ...


class Cluster:
    """Three masters. Made by hand, so that no redis-cli is needed."""

    def __init__(self, folder: Path) -> None:
        self.ports = [free_port() for _ in range(3)]
        self._bus_ports = [free_port() for _ in range(3)]
        self._folders = [folder / str(port) for port in self.ports]
        for one in self._folders:
            one.mkdir()
        self.processes = [self._start(index) for index in range(3)]
        self.nodes = [redis.Redis(port=port) for port in self.ports]
        try:
            self._join()
        except BaseException:
            self.stop()
            raise

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        return start_redis(
            self.ports[index], str(self._folders[index]),
            "--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
            "--cluster-port", str(self._bus_ports[index]), "--cluster-require-full-coverage", "no",
        )  # fmt: skip

    def kill(self, index: int) -> None:
        self.processes[index].kill()
        self.processes[index].wait()

    def restart(self, index: int) -> None:
        """A node that was killed: it's empty, and of the cluster again."""
        self.processes[index] = self._start(index)
        self.wait_whole()

    def wait_whole(self) -> None:
        wait_until(lambda: all(self._is_whole(node) for node in self.nodes), timeout=30)

    def _join(self) -> None:
        for index, node in enumerate(self.nodes):
            first, last = index * SLOTS // 3, (index + 1) * SLOTS // 3
            node.execute_command("CLUSTER", "ADDSLOTS", *range(first, last))
            node.execute_command("CONFIG", "SET", "cluster-announce-ip", "127.0.0.1")
        for port, bus in zip(self.ports[1:], self._bus_ports[1:], strict=True):
            self.nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        self.wait_whole()

    @staticmethod
    def _is_whole(node: redis.Redis) -> bool:
        info = node.execute_command("CLUSTER", "INFO")
        if not isinstance(info, dict):  # redis-py parses it since 5.1
            info = dict(line.split(":") for line in info.decode().splitlines() if ":" in line)
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == 3

    def flush(self) -> None:
        for node in self.nodes:
            node.flushall()

    def home_of(self, queue: str) -> int:
        """The number of the node that has a queue."""
        slot = self.nodes[0].execute_command("CLUSTER", "KEYSLOT", f"kue:{{{queue}}}:d")
        return next(index for index in range(3) if slot < (index + 1) * SLOTS // 3)

    def move_slot(self, queue: str, source: int, target: int) -> None:
        """All keys of a queue, ten at a time."""
        slot = self.nodes[0].execute_command("CLUSTER", "KEYSLOT", f"kue:{{{queue}}}:d")
        here, there = self.nodes[source], self.nodes[target]
        there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", _id_of(here))
        here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", _id_of(there))
        while found := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            here.execute_command("MIGRATE", "127.0.0.1", self.ports[target], "", 0, 5000, "KEYS", *found)
            time.sleep(0.05)
        for node in (there, here, *self.nodes):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", _id_of(there))

    def stop(self) -> None:
        for node in self.nodes:
            node.close()
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(running_cluster: Cluster, settings: Any) -> Iterator[Cluster]:
    running_cluster.flush()
    settings.KUE = {
        **settings.KUE,
        "REDIS": f"redis+cluster://127.0.0.1:{running_cluster.ports[0]}",
        "QUEUES": {name: {} for name in (*NAMES, "default")} | {"narrow": {"CONCURRENCY": 2}},
        "ENQUEUE_TIMEOUT": 3,
    }
    yield running_cluster
    forget_links()


def test_queues_are_spread_over_the_nodes_and_each_is_whole_on_one(cluster: Cluster) -> None:
    for name in NAMES:
        put(name, 3)
        put(name, 2, delay=60_000, search=("x" * 22,), unique=name.ljust(22, "_"))
    assert {cluster.home_of(name) for name in NAMES} == {0, 1, 2}
    for name in NAMES:
        holders = [index for index, node in enumerate(cluster.nodes) if node.keys(f"kue:{{{name}}}:*")]
        assert holders == [cluster.home_of(name)]
        assert get_queue(name).counts() == {**get_queue(name).counts(), "waiting": 3, "delayed": 1}
    assert [queue.name for queue in queues()] == sorted([*NAMES, "default", "narrow"])


@pytest.mark.parametrize("name", NAMES[:4])
def test_jobs_are_enqueued_claimed_retried_and_completed(cluster: Cluster, name: str) -> None:
    handle = clustered.using(queue=name, priority="high").enqueue(17)
    late = clustered.using(queue=name, delay=60).enqueue(18)
    low = put(name, 2)
    hands = Hands(name)
    assert hands.take(1) == [handle.key]
    hands.report(handle.key, "l", b"a line")
    hands.settle(handle.key, retried())
    assert hands.take(5) == [handle.key, *low]
    hands.settle(handle.key, completed({"rows": 3}))
    done = handle.refresh()
    assert (done.result, done.attempts_made, len(done.runs()), str(done.logs()[0])) == (
        {"rows": 3},
        2,
        1,
        "a line",
    )
    assert late.promote().refresh().state == "waiting"
    assert [job.id for job in get_queue(name).find(number=17)] == [handle.id]
    assert get_queue(name).pause()
    assert hands.turn(5).keys == []
    assert get_queue(name).resume()
    late.cancel()
    handle.remove()
    assert hands.beat().is_alive
    assert get_queue(name).rates()[-1].completed in (0, 1)


def test_unique_jobs_and_bulks_and_limits_hold(cluster: Cluster) -> None:
    first = clustered_once.using(queue="q1").enqueue(1)
    assert clustered_once.using(queue="q1").enqueue(1).id == first.id
    keys = put("q2", 2_500)
    assert Hands("q2").run_all(500) == keys
    put("narrow", 5)
    assert len(Hands("narrow").take(5)) == 2


def test_schedules_fire_and_move_between_nodes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "_wishes", {})
    for name in NAMES:
        schedules.create(name, clustered, every=3600, args=[1], queue=name)
        assert schedules.run_now(name).queue == name
    with override_settings(KUE=with_schedule("q1")):
        Scheduler(NAMES, at_once).tick()
    with override_settings(KUE=with_schedule("q2")):
        Scheduler(NAMES, at_once).tick()
    assert [one.queue for one in schedules.all()] == ["q2", *NAMES]


def with_schedule(queue: str) -> dict[str, Any]:
    said = {"JOB": clustered.name, "EVERY": 60, "ARGS": [1], "QUEUE": queue}
    return {**django_settings.KUE, "SCHEDULES": {"moving": said}}


def test_one_connections_numbered_sends_go_to_queues_on_every_node(cluster: Cluster) -> None:
    for name in NAMES:
        for _ in range(3):
            clustered.using(queue=name).enqueue(1)
    assert [get_queue(name).counts()["waiting"] for name in NAMES] == [3] * len(NAMES)


def test_wait_and_events_work_from_every_node(cluster: Cluster) -> None:
    for name in NAMES[:4]:
        handle = clustered.using(queue=name).enqueue(1)

        def work(name: str = name, key: str = handle.key) -> None:
            wait_until(lambda: any(node.hexists(f"kue:{{{name}}}:h", "ev") for node in _homes(cluster, name)))
            hands = Hands(name)
            hands.take_one()
            hands.settle(key, completed("done"))

        thread = threading.Thread(target=work)
        thread.start()
        assert handle.wait(timeout=10) == "done"
        thread.join()


def _homes(cluster: Cluster, name: str) -> list[redis.Redis]:
    return [cluster.nodes[cluster.home_of(name)]]


def test_listen_hears_all_queues(cluster: Cluster) -> None:
    heard: set[str] = set()

    def work() -> None:
        for name in NAMES:
            wait_until(lambda name=name: _homes(cluster, name)[0].hexists(f"kue:{{{name}}}:h", "ev"))
            put(name)

    thread = threading.Thread(target=work)
    thread.start()
    for event in listen():
        heard.add(event.queue)
        if len(heard) == len(NAMES):
            break
    thread.join()
    assert heard == set(NAMES)


def test_the_doorbell_rings_for_queues_on_every_node(cluster: Cluster) -> None:
    bell = new_doorbell(NAMES)
    try:
        assert not bell.wait(0)
        for name in NAMES[:4]:
            threading.Timer(0.05, put, (name,)).start()
            begun = time.monotonic()
            rang = wait_until(lambda: bell.wait(5))
            assert rang == [name]
            assert time.monotonic() - begun < 3
    finally:
        bell.close()


async def _use_all() -> list[Any]:
    handles = await asyncio.gather(*(clustered.using(queue=name).aenqueue(n) for n, name in enumerate(NAMES)))
    many = await clustered.using(queue="q3").aenqueue_many([(number,) for number in range(1_200)])
    counts = [await Queue(name).acounts() for name in NAMES]
    read = await asyncio.gather(*(Job.aget(handle.id) for handle in handles))
    found = await Queue("q3").afind(number=3)
    assert len(many) == 1_200
    assert len(found) == 2
    await close_links()
    return [[job.args[0] for job in read], [one["waiting"] for one in counts]]


def test_the_async_twins_do_the_same(cluster: Cluster) -> None:
    numbers, waiting = asyncio.run(_use_all())
    assert numbers == list(range(len(NAMES)))
    assert waiting == [1, 1, 1, 1_201, 1, 1, 1, 1, 1]


async def _reach_nobody(settings: Any) -> None:
    await clustered.using(queue="q1").aenqueue(0)  # the queue is known
    await close_links()
    nobody = NOBODY.replace("redis:", "redis+cluster:")
    settings.KUE = {**settings.KUE, "REDIS": nobody, "ENQUEUE_TIMEOUT": 0.5}
    with pytest.raises(EnqueueError, match="was not enqueued") as info:
        await clustered.using(queue="q1").aenqueue(1)
    assert info.value.may_be_stored is False


def test_an_async_enqueue_that_reaches_no_node_surely_stored_nothing(cluster: Cluster, settings: Any) -> None:
    asyncio.run(_reach_nobody(settings))


def test_a_queue_that_has_moved_to_another_node_is_followed(cluster: Cluster) -> None:
    put("q5")
    home = cluster.home_of("q5")
    there = (home + 1) % 3
    node, other = cluster.nodes[home], cluster.nodes[there]
    node.flushall()
    slot = node.execute_command("CLUSTER", "KEYSLOT", "kue:{q5}:d")
    ids = [_id_of(one) for one in cluster.nodes]
    try:
        for one in (other, node, *cluster.nodes):
            one.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[there])
        assert get_queue("q5").counts()["waiting"] == 0
        handle = clustered.using(queue="q5").enqueue(7)
        assert handle.refresh().args == (7,)
        assert other.hlen("kue:{q5}:d") == 1
        assert Hands("q5").take(1) == [handle.key]
        assert asyncio.run(_read(handle.id)) == (7,)
    finally:
        cluster.flush()
        for one in (node, other, *cluster.nodes):
            one.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[home])


def test_a_queue_that_moves_to_another_node_under_load_loses_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key by key, as ``redis-cli --cluster reshard`` does it, while jobs come and a worker runs them."""
    notes = tmp_path / "notes"
    notes.touch()
    stored: list[int] = []

    def enqueue(number: int) -> None:
        with suppress(EnqueueError):  # Redis says "try again" while keys are on both sides
            abuse.note.using(queue="default").enqueue(str(notes), number)
            stored.append(number)

    source, target = cluster.home_of("default"), (cluster.home_of("default") + 1) % 3
    monkeypatch.setenv("KUE_TEST_REDIS_SETTING", f"redis+cluster://127.0.0.1:{cluster.ports[0]}")
    try:
        with WorkerProcess("--processes", "1") as worker, Load(enqueue, each=0.005) as load:
            for there, here in ((target, source), (source, target)):
                before = load.count
                wait_for(lambda before=before: load.count > before + 100)
                cluster.move_slot("default", here, there)
            wait_for(lambda: len(stored) >= load.count // 2)
            load.stop()
            wait_for(lambda: set(stored) <= {int(line) for line in notes.read_text().split()}, 20)
            assert "CROSSSLOT" not in worker.log
            assert not broke(worker.log)
            assert worker.stop() == 0
        ran = Counter(map(int, notes.read_text().split()))
        assert max(ran.values()) == 1
        assert get_queue("default").counts()["active"] == 0
    finally:
        for node in cluster.nodes:
            slot = node.execute_command("CLUSTER", "KEYSLOT", "kue:{default}:d")
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", _id_of(cluster.nodes[source]))


def _id_of(node: redis.Redis) -> str:
    found = node.execute_command("CLUSTER", "MYID")
    return found.decode() if isinstance(found, bytes) else found


async def _read(id: str) -> Any:
    try:
        return (await Job.aget(id)).args
    finally:
        await close_links()


def test_a_node_that_is_away_takes_only_its_own_queues_with_it(cluster: Cluster, settings: Any) -> None:
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 1}
    for name in NAMES:
        put(name)
    away = cluster.home_of("q0")
    if away == 0:  # the one that the URL names; the client knows the others
        away = cluster.home_of(next(name for name in NAMES if cluster.home_of(name) != 0))
    process = cluster.processes[away]
    process.send_signal(signal.SIGSTOP)
    try:
        for name in NAMES:
            begun = time.monotonic()
            if cluster.home_of(name) == away:
                with pytest.raises(EnqueueError):
                    put(name)
                with pytest.raises(StoreUnavailable):
                    get_queue(name).counts()
                assert time.monotonic() - begun < 8
            else:
                put(name)
                assert get_queue(name).counts()["waiting"] == 2
    finally:
        process.send_signal(signal.SIGCONT)
        cluster.wait_whole()
    put(next(name for name in NAMES if cluster.home_of(name) == away))


@contextmanager
def frozen(cluster: Cluster, index: int) -> Iterator[None]:
    """A node that hangs meanwhile."""
    cluster.processes[index].send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        cluster.processes[index].send_signal(signal.SIGCONT)
        cluster.wait_whole()


def by_home(cluster: Cluster, queue: str) -> tuple[list[str], list[str]]:
    """The queues on the node that has this one, and the others."""
    home = cluster.home_of(queue)
    return [name for name in NAMES if cluster.home_of(name) == home], [
        name for name in NAMES if cluster.home_of(name) != home
    ]


def test_of_calls_to_several_nodes_only_those_to_the_one_that_hangs_fail(cluster: Cluster) -> None:
    hanging, living = by_home(cluster, "q0")
    link = new_link(0.3)
    calls = [reads.counts(name) for name in NAMES]
    link.send(*calls)
    with frozen(cluster, cluster.home_of("q0")):
        answers = dict(zip(NAMES, link.try_send(*calls), strict=True))
        assert all(isinstance(answers[name], dict) for name in living)
        errors = [answers[name] for name in hanging]
        assert all(isinstance(error, StoreUnavailable) and error.is_partial for error in errors)
        assert errors[0].may_be_applied, "it was sent"
        [again] = link.try_send(calls[NAMES.index("q0")])
        assert "is away" in str(again), "that's known, and it isn't asked"
        assert not again.may_be_applied
    wait_until(lambda: isinstance(link.try_send(reads.counts("q0"))[0], dict))
    link.close()


def test_a_node_that_is_away_is_left_alone_the_longer_the_more_asking_it_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(nodes.time, "monotonic", lambda: now[0])
    known, node = nodes.Nodes(), nodes.Address("host", 6379)
    assert known.patience(node, 3.0) == 3.0
    known.failed(node, 0.001)  # refused at once: it's soon asked again
    assert known.patience(node, 3.0) == 0.0
    now[0] += 0.11
    assert known.patience(node, 3.0) == 0.25
    known.failed(node, 0.25)
    now[0] += 1.9
    assert known.patience(node, 3.0) == 0.0
    now[0] += 0.2
    assert known.patience(node, 3.0) == 0.5
    for _ in range(20):
        known.failed(node, 3.0)
    now[0] += 3.01
    assert known.patience(node, 3.0) == 0.5
    known.answered(node)
    assert known.patience(node, 3.0) == 3.0


def test_bells_of_living_nodes_ring_while_one_hangs_and_the_others_ring_again_later(cluster: Cluster) -> None:
    _, living = by_home(cluster, "q0")
    bell = new_doorbell(["q0", living[0]])
    assert bell.wait(0) == []
    try:
        cluster.nodes[cluster.home_of("q0")].execute_command(
            "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"
        )
        with frozen(cluster, cluster.home_of("q0")):
            put(living[0])
            assert wait_until(lambda: bell.wait(0.1)) == [living[0]]
        assert "q0" in wait_until(lambda: bell.wait(0.1)), "who knows what it would have told"
        put("q0")
        assert wait_until(lambda: bell.wait(0.1)) == ["q0"]
    finally:
        bell.close()


def test_schedules_of_queues_on_living_nodes_fire_while_a_node_hangs(
    cluster: Cluster, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 0.3}
    monkeypatch.setattr(declared, "_wishes", {})
    hanging, living = by_home(cluster, "q0")
    for name in (hanging[0], living[0]):
        schedules.create(name, clustered, every=1, args=[1], queue=name)
    scheduler = Scheduler(NAMES, at_once)
    with frozen(cluster, cluster.home_of("q0")):

        def has_fired() -> bool:
            scheduler.tick()
            return get_queue(living[0]).counts()["waiting"] > 0

        wait_until(has_fired, 20)


def test_lists_and_work_on_many_jobs_go_over_all_nodes(cluster: Cluster) -> None:
    for name in NAMES:
        put(name, 3)
        hands = Hands(name)
        hands.turn(0, dict.fromkeys(hands.take(2), failed()))
    jobs = Listing().jobs(limit=50)
    assert len(jobs) == Listing().count() == 27
    assert {job.queue for job in jobs} == set(NAMES)
    assert Listing(text="it broke").count() == 18
    assert tally(Listing(state=State.FAILED), "name") == {"tests.noop": 18}
    assert bulk.apply(Listing(state=State.FAILED, name="tests.noop"), "retry").done == 18
    assert Listing(state=State.FAILED).count() == 0
