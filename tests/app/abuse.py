"""Jobs that misbehave in every way that a worker has to stand, and some that only look closely."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from django.db import connection, transaction

from django_kue import Backoff, Discard, JobTimeout, Retry, current_job, job
from tests.app.jobs import mark

logger = logging.getLogger("tests.app")


# ── marks with times ──


@job
def span(seconds: float, name: str, value: Any = "") -> None:
    """Mark ``value process start end``, the times in Unix seconds."""
    start = time.time()
    time.sleep(seconds)
    mark(name, f"{value} {os.getpid()} {start:.6f} {time.time():.6f}")


@job
def begun(seconds: float, name: str, value: Any = "") -> Any:
    """Mark ``value process time`` at the start, then work."""
    mark(name, f"{value} {os.getpid()} {time.time():.6f}")
    time.sleep(seconds)
    return value


@job
async def abegun(seconds: float, name: str, value: Any = "") -> Any:
    mark(name, f"{value} {os.getpid()} {time.time():.6f}")
    await asyncio.sleep(seconds)
    return value


@job
def compute(name: str, seconds: float) -> None:
    """Mark this process, and keep its core busy."""
    mark(name, os.getpid())
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(10_000))


# ── attempts and backoff ──


@job(attempts=4)
def fail_and_mark(name: str) -> None:
    mark(name, time.time())
    raise ValueError("again")


def quickly(attempt: int) -> float:
    return 0.05 * attempt


def broken(attempt: int) -> float:
    raise LookupError("no such table")


@job(attempts=3, backoff=quickly)
def with_function(name: str) -> None:
    mark(name, time.time())
    raise ValueError("again")


@job(attempts=3, backoff=broken)
def with_broken_function(name: str) -> None:
    mark(name, "run")
    raise ValueError("again")


@job(attempts=3, retry_on=(ConnectionError,), discard_on=(ConnectionResetError,))
def picky(name: str, kind: str) -> None:
    mark(name, kind)
    raise {"retry": ConnectionError, "discard": ConnectionResetError, "other": ValueError}[kind]("no")


@job(attempts=2)
def retry_always(delay: float | None = 0.0) -> None:
    raise Retry(delay=delay)


@job(attempts=5)
async def adiscard(name: str) -> None:
    mark(name, current_job().attempt)
    raise Discard("never")


@job(attempts=2)
async def araise(kind: str = "ValueError") -> None:
    await asyncio.sleep(0)
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "ValueError": ValueError}[kind](
        "no"
    )


# ── timeouts ──


@job(timeout=0.3)
async def aoverlong(seconds: float, name: str) -> None:
    mark(name, "start")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        mark(name, "cancelled")
        raise
    mark(name, "end")


@job(timeout=0.3)
async def astubborn(name: str) -> None:
    """Swallows its cancellation."""
    mark(name, "start")
    while True:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            mark(name, "swallowed")


@job(timeout=0.3)
async def ablocking(name: str) -> None:
    """Blocks the whole event loop."""
    mark(name, "start")
    time.sleep(30)


@job(timeout=0.3)
def swallow(name: str) -> str:
    """Swallows the timeout once and returns as if all were well."""
    try:
        while True:
            time.sleep(0.01)
    except BaseException as error:
        mark(name, type(error).__name__)
    return "fine"


@job(timeout=0.3)
def swallow_all(name: str) -> object:
    """The same, with a result that can't be stored."""
    swallow(name)
    return object()


class GaveUp(Exception):
    """A project's own."""


ANSWERS: dict[str, BaseException] = {
    "discard": Discard("it would never end"), "retry": Retry(delay=120), "own": GaveUp("enough"),
}  # fmt: skip


@job(timeout=0.3, attempts=3, discard_on=GaveUp)
def answer(name: str, kind: str) -> None:
    """Says itself what its timeout leads to."""
    mark(name, "start")
    try:
        while True:
            time.sleep(0.01)
    except JobTimeout as error:
        raise ANSWERS[kind] from error


@job(timeout=0.3, attempts=3, discard_on=GaveUp)
async def aanswer(name: str, kind: str) -> None:
    """The same on the event loop."""
    mark(name, "start")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        raise ANSWERS[kind] from None


@job(timeout=0.5)
def sleep_in_c(name: str) -> None:
    """One long call, which no exception can interrupt."""
    mark(name, "start")
    time.sleep(60)


@job(timeout=0.05)
def about(seconds: float, value: int) -> int:
    """As long as its timeout, more or less."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            sum(range(20))
        time.sleep(0.0002)  # for the others to run: on a busy machine one might not within its time of grace
    return value


@job
def hold_gil(seconds: float, name: str) -> str:
    """No other thread of the process runs meanwhile."""
    mark(name, "start")
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    mark(name, "end")
    return "held"


# ── what they raise and return ──


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


@job
def raise_it(kind: str) -> None:
    if kind == "unspeakable":
        raise Unspeakable
    if kind == "exiting":
        raise Exiting
    if kind == "cycle":
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first
    if kind == "recursion":
        raise_it(kind)
    if kind == "memory":
        raise MemoryError("no more")
    if kind == "message":
        raise ValueError("x" * 5_000_000)
    if kind == "traceback":
        error: Exception | None = None
        for i in range(300):
            link = ValueError(f"{i} " + "y" * 20_000)
            link.__cause__, error = error, link
        assert error is not None
        raise error
    if kind == "surrogate":
        raise ValueError("lone \ud800 surrogate and \0 nul")
    if kind == "injection":
        raise ValueError("first\n12:00:00 ERROR    forged line\r\x1b[2Jgone\u2028end")


@job
def return_it(kind: str) -> Any:
    if kind == "object":
        return object()
    if kind == "huge":
        return "x" * 5_000_000
    if kind == "nan":
        return float("nan")
    if kind == "keys":
        return {1: 2}
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@job
async def areturn_it(kind: str) -> Any:
    return return_it(kind)


@job
def use_up_memory(limit_mib: int) -> int:
    """As in a small container: a limit on this process's address space, and more than that."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + limit_mib * 2**20, hard))
    try:
        return len(bytearray(4 * limit_mib * 2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# ── logs and progress ──


@job
def chatter(lines: int, length: int = 10) -> None:
    for number in range(lines):
        current_job().log("%d %s", number, "z" * length)


@job
def odd_lines() -> None:
    current_job().log("two\nlines \x1b[31mred")
    current_job().log("100% sure")
    current_job().log("lone \ud800")


@job
def report_then(seconds: float, percent: float, data: Any = None) -> None:
    current_job().progress(percent, data=data)
    current_job().log("at %g", percent)
    time.sleep(seconds)


@job
def many_progresses(count: int) -> None:
    for done in range(count + 1):
        current_job().progress(done, count, data={"done": done})


@job
def big_progress(size: int) -> None:
    current_job().progress(1, data="x" * size)


@job
def log_plainly(text: str) -> None:
    logger.warning("the project says %s", text)


@job
async def alog_plainly(text: str) -> None:
    await asyncio.sleep(0.01)
    logger.warning("the project says %s", text)


@job(takes_context=True)
def who_am_i(context: Any) -> dict[str, Any]:
    job = context.job
    return {"id": job.id, "state": str(job.state), "attempt": context.attempt, "worker": job.worker}


# ── ways to die ──


@job
def die(how: str, name: str = "die", after: float = 0.0) -> None:
    mark(name, how)
    time.sleep(after)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "abort":
        os.abort()
    if how == "exit":
        os._exit(0)
    if how == "exit as if stopped":
        os._exit(50)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(5)


@job
def die_first(name: str) -> str:
    """Kills its process the first time only."""
    if mark(name, "run") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(5)
    return "alive"


# ── what they leave behind ──


@job
def close_descriptors(name: str, seconds: float = 0.0) -> None:
    mark(name, "run")
    os.closerange(3, 1024)
    time.sleep(seconds)


@job
def replace_descriptors(name: str) -> None:
    """Every descriptor of the process leads elsewhere now."""
    mark(name, "run")
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3, 64):
        if number != null:
            os.dup2(null, number)


@job
def leave_child(name: str) -> None:
    """A grandchild of the worker that would live on."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    mark(name, child.pid)
    child.returncode = 0  # no warning that it still runs: that's what this is about


@job(timeout=5)
def fork_and_terminate() -> int | None:
    """How a copy ended that SIGTERM should end."""
    copy = multiprocessing.get_context("fork").Process(target=time.sleep, args=[300])
    copy.start()
    copy.terminate()
    copy.join()
    return copy.exitcode


@job(timeout=5)
def fork_and_come_back(how: str) -> int:
    """How a copy ended that came back out of this function."""
    if copy := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    if how == "raise":
        raise FileNotFoundError("exec failed")
    return 0


@job(timeout=5)
async def afork_and_come_back(how: str) -> int:
    return fork_and_come_back(how)


@job
def leave_thread(name: str) -> None:
    """A thread that isn't a daemon and never ends."""
    threading.Thread(target=lambda: time.sleep(300), name="left").start()
    mark(name, os.getpid())


@job
def change_folder() -> None:
    os.chdir("/")


@job
def leave_transaction(name: str, how: str) -> None:
    """Opens a transaction, writes, and leaves it open."""
    with connection.cursor() as cursor:
        if how == "atomic":
            transaction.atomic().__enter__()
        else:
            transaction.set_autocommit(False)
        cursor.execute("INSERT INTO left_behind (text) VALUES ('not committed')")
    mark(name, threading.get_ident())


@job
def write_row(name: str, text: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO left_behind (text) VALUES (%s)", [text])
    mark(name, f"{threading.get_ident()} {connection.in_atomic_block} {connection.get_autocommit()}")


@job
async def awrite_row(name: str, text: str) -> None:
    from asgiref.sync import sync_to_async

    await sync_to_async(write_row)(name, text)


@job
def break_connection(name: str) -> None:
    """As when the database server ends the connection behind the worker's back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.connection.close()
    mark(name, "broken")


@job
def grow(mib: int) -> None:
    """Leak memory."""
    _leaked.append(bytearray(os.urandom(1024)) * (mib * 1024))


_leaked: list[bytearray] = []


@job
def whoami(name: str) -> None:
    mark(name, os.getpid())


@job
async def awhoami(name: str) -> None:
    mark(name, f"{os.getpid()} {threading.current_thread().name}")


@job
async def astop_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)


@job
async def leave_task_that_exits() -> None:
    async def quits() -> None:
        raise SystemExit(3)

    asyncio.get_running_loop().create_task(quits()).add_done_callback(lambda task: task.exception())
    await asyncio.sleep(0.05)


@job(backoff=Backoff.exponential(0.05), attempts=4)
def exponentially(name: str) -> None:
    mark(name, time.time())
    raise ValueError("again")


@job
def note(path: str, value: Any, seconds: float = 0.0) -> Any:
    """Write ``value`` at the end of a file: a mark that needs no Redis."""
    _append(path, value)
    time.sleep(seconds)
    return value


@job
def note_both_ends(path: str, seconds: float) -> str:
    """``start`` and ``end`` at the end of a file."""
    _append(path, "start")
    time.sleep(seconds)
    _append(path, "end")
    return "noted"


@job
async def anote(path: str, value: Any, seconds: float = 0.0) -> Any:
    _append(path, value)
    await asyncio.sleep(seconds)
    return value


@job
def note_and_fail(path: str, value: Any, seconds: float) -> None:
    _append(path, value)
    time.sleep(seconds)
    raise ValueError(value)


@job(attempts=2)
def note_twice(path: str, value: Any) -> None:
    """Its first run fails."""
    _append(path, value)
    current_job().log("run %d", current_job().attempt)
    if current_job().attempt == 1:
        raise ValueError("once more")


def _append(path: str, value: Any) -> None:
    with open(path, "a") as file:
        file.write(f"{value}\n")


@job(timeout=0.2)
def write_slowly() -> None:
    """Its time is over in the middle of a transaction that nobody ends."""
    transaction.atomic().__enter__()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO left_behind (text) VALUES ('cut short')")
        while True:
            time.sleep(0.01)


@job
def doze(seconds: float) -> None:
    time.sleep(seconds)


@job(attempts=2)
def fail_first(seconds: float, name: str) -> str:
    """The first run ends badly, any other well."""
    is_first = mark(name, "run") == 1
    time.sleep(seconds)
    mark(name, "bad" if is_first else "good")
    if is_first:
        raise ValueError("the first run")
    return "good"


@job
def overdo(kind: str, mib: int) -> str | None:
    """So many MiB of result, of error, or of a line in the log."""
    text = "x" * (mib * 2**20)
    if kind == "error":
        raise ValueError(text)
    if kind == "log":
        current_job().log(text)
        return None
    return text


@job
def ignore_signals(name: str) -> None:
    """Behind Python's back, which lets only the main thread change them."""
    libc = ctypes.CDLL(None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1):
        libc.signal(int(number), ctypes.c_void_p(1))  # SIG_IGN
    mark(name, os.getpid())


@job
def handle_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
