"""From ``KUE["REDIS"]`` to connections: an alias in ``CACHES``, a URL, Sentinel, Cluster, embedded.

Connections are instances of redis-py's own classes, made with the project's own parameters (TLS,
passwords, client names). Only what would do harm is replaced: blind retries, which turn one enqueue
into two, and a socket timeout shorter than a blocking read.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from redis import ConnectionPool
from redis import asyncio as aredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from django_kue.conf import EMBEDDED, alias_problem, settings

# redis-py's internal wiring, which mustn't leak from one kind of connection into another
_INTERNAL = ("maint", "event_", "oss_", "orig_", "retry", "parser_class", "connection_pool", "himport_")


def is_cluster() -> bool:
    """True when ``KUE["REDIS"]`` names a Redis Cluster."""
    return settings.REDIS.startswith("redis+cluster://") or settings.REDIS.startswith("rediss+cluster://")


def new_connection(timeout: float) -> Any:
    """A redis-py ``Connection``, not yet connected; reads and writes take at most ``timeout`` s."""
    pool = _living_pool()
    overrides: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}
    if isinstance(pool, SentinelConnectionPool):
        overrides["connection_pool"] = _sentinel_pool().connection_kwargs["connection_pool"]
    return pool.connection_class(**_parameters(pool, timeout), **overrides)


def new_async_connection(timeout: float) -> Any:
    """The same for asyncio."""
    pool = _living_pool()
    parameters = _parameters(pool, timeout)
    parameters["retry"] = AsyncRetry(NoBackoff(), 0)
    if isinstance(pool, SentinelConnectionPool):
        async_pool = _async_sentinel_pool()
        parameters["connection_pool"] = async_pool.connection_kwargs["connection_pool"]
        return async_pool.connection_class(**parameters)
    return _async_class(pool.connection_class)(**parameters)


def new_async_cluster(timeout: float) -> aredis.RedisCluster:
    """redis-py's asyncio cluster client; it follows moved slots, but never blindly repeats a script."""
    return aredis.RedisCluster.from_url(
        _plain_url(),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        protocol=2,
        **_cluster_retries(),
    )


def connection_to(host: str, port: int, timeout: float) -> Any:
    """A connection to a node of a cluster, like :func:`new_connection`."""
    pool = _pool()
    place = {"host": host, "port": port}
    return pool.connection_class(**_parameters(pool, timeout) | place, retry=Retry(NoBackoff(), 0))


def _plain_url() -> str:
    """The URL in the form that redis-py knows; for a cluster, that of one of its nodes."""
    return settings.REDIS.replace("+cluster", "", 1)


def _cluster_retries() -> dict[str, Any]:
    """Parameters for no retries at all. redis-py 5 takes a number, 6 and newer take a policy."""
    import redis

    if int(redis.__version__.split(".")[0]) < 6:
        return {"cluster_error_retry_attempts": 0}
    return {"retry": AsyncRetry(NoBackoff(), 0)}


def _parameters(pool: ConnectionPool, timeout: float) -> dict[str, Any]:
    parameters = {
        name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_INTERNAL)
    }
    if not parameters.keys() & {"driver_info", "lib_name", "lib_version"}:
        parameters |= _introduction()
    return parameters | {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, parameters.get("socket_connect_timeout") or 5.0),
        "health_check_interval": 0,
        "decode_responses": False,
        "protocol": 2,
    }


@cache
def _introduction() -> dict[str, Any]:
    """Parameters for no introduction: it costs redis-py two round trips per connection to say who it is, and
    from version 7 on a look at its package's metadata. A project that wants one sets it in its own pool."""
    try:
        from redis.driver_info import DriverInfo
    except ImportError:  # older
        return {"lib_name": None, "lib_version": None}
    return {"driver_info": DriverInfo(name="", lib_version="")}


def _living_pool() -> ConnectionPool:
    """The pool; an embedded server that has ended itself meanwhile is started again."""
    if settings.REDIS == EMBEDDED:
        _embedded_url()
    return _pool()


def _embedded_url() -> str:
    """The embedded server's URL. It's only imported here: nothing of it is meant for production."""
    from django_kue import embedded

    return embedded.url()


@cache
def _pool() -> ConnectionPool:
    """A pool that's never asked for a connection: it holds their class and parameters."""
    where = settings.REDIS
    if where == EMBEDDED:
        return ConnectionPool.from_url(_embedded_url())
    if "://" in where:
        return ConnectionPool.from_url(_plain_url())
    from django.core.cache import caches

    if problem := alias_problem(where):
        raise ImproperlyConfigured(str(problem))
    cache: Any = caches[where]
    pool = cache.client.get_client(write=True).connection_pool
    assert isinstance(pool, ConnectionPool)
    return pool


@cache
def _sentinel_pool() -> SentinelConnectionPool:
    """The pool that asks Sentinels who the master is; they may take no longer than an enqueue."""
    pool, nodes, parameters = _sentinels()
    sentinel: Any = Sentinel(nodes, sentinel_kwargs=parameters | {"retry": Retry(NoBackoff(), 0)})  # type: ignore[no-untyped-call]
    return SentinelConnectionPool(pool.service_name, sentinel, is_master=pool.is_master)  # type: ignore[no-untyped-call]


# One per event loop, like the connections that it holds.
_async_sentinel_pools: WeakKeyDictionary[AbstractEventLoop, AsyncSentinelConnectionPool] = WeakKeyDictionary()


def _async_sentinel_pool() -> AsyncSentinelConnectionPool:
    loop = get_running_loop()
    if loop not in _async_sentinel_pools:
        pool, nodes, parameters = _sentinels()
        sentinel: Any = AsyncSentinel(  # type: ignore[no-untyped-call]
            nodes, sentinel_kwargs=parameters | {"retry": AsyncRetry(NoBackoff(), 0)}
        )
        _async_sentinel_pools[loop] = AsyncSentinelConnectionPool(  # type: ignore[no-untyped-call]
            pool.service_name, sentinel, is_master=pool.is_master
        )
    return _async_sentinel_pools[loop]


async def close_sentinels() -> None:
    """Close this event loop's connections to Sentinels."""
    pool = _async_sentinel_pools.pop(get_running_loop(), None)
    if pool is not None:
        for node in pool.sentinel_manager.sentinels:
            await node.connection_pool.disconnect()


def _sentinels() -> tuple[SentinelConnectionPool, list[tuple[str, int]], dict[str, Any]]:
    """The project's pool, its Sentinels' addresses, and the parameters for connections to them."""
    pool = _pool()
    assert isinstance(pool, SentinelConnectionPool)
    manager = pool.sentinel_manager
    places = [node.connection_pool.connection_kwargs for node in manager.sentinels]
    timeouts = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), settings.ENQUEUE_TIMEOUT)
    return (
        pool,
        [(place["host"], place["port"]) for place in places],
        dict(manager.sentinel_kwargs) | timeouts,
    )


def _async_class(sync_class: type) -> type:
    if issubclass(sync_class, SSLConnection):
        return aredis.SSLConnection
    if issubclass(sync_class, UnixDomainSocketConnection):
        return aredis.UnixDomainSocketConnection
    if issubclass(sync_class, Connection):
        return aredis.Connection
    raise ImproperlyConfigured(f"django-kue can't connect asynchronously the way {sync_class.__name__} does.")


def forget(**kwargs: Any) -> None:
    """Read the settings again; existing connections keep their parameters."""
    if kwargs.get("setting") in (None, "KUE", "CACHES"):
        _pool.cache_clear()
        _sentinel_pool.cache_clear()
        _async_sentinel_pools.clear()


setting_changed.connect(forget, dispatch_uid="django_kue.connections")
