"""``rediss://``: with an authority of one's own it works, and with a wrong one it's refused."""

from __future__ import annotations

import datetime as dt
import gc
import ipaddress
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.test import override_settings
from django_redis.pool import ConnectionFactory

from django_kue.errors import EnqueueError
from tests.app import jobs
from tests.conftest import free_port, redis_binary
from tests.settings import KUE
from tests.worker_process import WorkerProcess

DAY = dt.timedelta(days=1)
LOOPBACK = ipaddress.ip_address("127.0.0.1")


class Tls(NamedTuple):
    port: int
    authority: Path  # that signed the server's certificate
    other: Path  # that didn't


@pytest.fixture(autouse=True)
def goodbyes() -> Iterator[None]:
    """asyncio's TLS transports would wait for an answer to their goodbye; a test's loop ends before that."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def certificate(name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """A certificate and its key: an authority's own, or one of 127.0.0.1 that ``issuer`` signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signer_key = issuer or (None, key)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
    )
    return builder.sign(signer_key, hashes.SHA256()), key


def write(folder: Path, name: str, made: tuple[Any, Any]) -> tuple[Path, Path]:
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(made[0].public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        made[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@pytest.fixture(scope="module")
def tls() -> Iterator[Tls]:
    """A server that speaks TLS only, with a certificate of a private authority."""
    folder = Path(tempfile.mkdtemp(prefix="kue-tls-"))
    authority = certificate("our authority")
    ours, _ = write(folder, "ca", authority)
    other, _ = write(folder, "other", certificate("another authority"))
    cert, key = write(folder, "server", certificate("redis", authority))
    port = free_port()
    words = {
        "--port": "0", "--tls-port": port, "--tls-cert-file": cert, "--tls-key-file": key,
        "--tls-ca-cert-file": ours, "--tls-auth-clients": "no", "--bind": "127.0.0.1",
        "--save": "", "--dir": folder,
    }  # fmt: skip
    command = [redis_binary(), *(str(word) for pair in words.items() for word in pair)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        await_answer(server, partial(redis.Redis, "127.0.0.1", port, ssl=True, ssl_ca_certs=str(ours)))
        yield Tls(port, ours, other)
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()
        shutil.rmtree(folder)


def await_answer(server: subprocess.Popen[str], connect: Any) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with connect() as client:
                client.ping()
            return
        except redis.ConnectionError:
            if server.poll() is not None:
                said = server.communicate()[0]
                if "tls-port" in said or "TLS support" in said:  # an unknown argument; Redis 8's own words
                    pytest.skip(f"{redis_binary()} is built without TLS: NOT TESTED")
                raise AssertionError(said) from None
            if time.monotonic() > deadline:
                raise


def url(tls: Tls, authority: Path | None) -> str:
    return f"rediss://127.0.0.1:{tls.port}/0" + (f"?ssl_ca_certs={authority}" if authority else "")


@contextmanager
def by_url(tls: Tls, authority: Path | None) -> Iterator[None]:
    with override_settings(KUE=KUE | {"REDIS": url(tls, authority)}):
        yield


@contextmanager
def by_alias(tls: Tls, authority: Path | None) -> Iterator[None]:
    options = {"CONNECTION_POOL_KWARGS": {"ssl_ca_certs": str(authority)}} if authority else {}
    location = {"LOCATION": url(tls, None), "OPTIONS": options}
    ConnectionFactory._pools.clear()  # django-redis keeps one pool a URL, whatever its options
    with override_settings(CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", **location}}):
        yield
    ConnectionFactory._pools.clear()


WAYS = pytest.mark.parametrize("way", [by_url, by_alias])


@WAYS
def test_jobs_go_over_tls_with_the_authority_that_signed(tls: Tls, way: Any) -> None:
    with way(tls, tls.authority):
        for number in (1, 2):  # over a new connection, and over one that's open
            job = jobs.add.enqueue(number)
            assert job.refresh().args == (number,)


@WAYS
async def test_so_do_async_calls(tls: Tls, way: Any) -> None:
    with way(tls, tls.authority):
        job = await jobs.add.aenqueue(1)
        assert (await job.arefresh()).args == (1,)
        from django_kue.store import close_links

        await close_links()


@WAYS
@pytest.mark.parametrize("which", ["another", "the system's"])
def test_a_server_whose_authority_is_not_ours_is_refused(tls: Tls, way: Any, which: str) -> None:
    with way(tls, tls.other if which == "another" else None):
        with pytest.raises(EnqueueError, match="(?i)certificate") as caught:
            jobs.add.enqueue(1)
        assert not caught.value.may_be_stored


@WAYS
async def test_it_is_refused_by_async_calls_too(tls: Tls, way: Any) -> None:
    with way(tls, tls.other), pytest.raises(EnqueueError, match="(?i)certificate"):
        await jobs.add.aenqueue(1)


def test_a_server_without_tls_is_not_spoken_to(tls: Tls, redis_server: str) -> None:
    plain = redis_server.replace("redis://", "rediss://") + f"?ssl_ca_certs={tls.authority}"
    with override_settings(KUE=KUE | {"REDIS": plain, "ENQUEUE_TIMEOUT": 0.5}), pytest.raises(EnqueueError):
        jobs.add.enqueue(1)


def test_a_worker_runs_a_job_over_tls(tls: Tls) -> None:
    with by_url(tls, tls.authority):
        address = url(tls, tls.authority)
        job = jobs.add.enqueue(1, 41)
        with WorkerProcess("--processes", "1", "--burst", KUE_TEST_REDIS_SETTING=address) as worker:
            assert job.wait(timeout=20) == 42
            assert worker.wait() == 0


def test_a_worker_does_not_speak_to_a_server_whose_authority_is_not_ours(tls: Tls) -> None:
    address = url(tls, tls.other)
    with WorkerProcess("--processes", "1", KUE_TEST_REDIS_SETTING=address) as worker:
        assert "certificate verify failed" in worker.wait_log("waiting for it", 20)
