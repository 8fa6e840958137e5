"""The world outside the shop: a mail server, a bank and partners. Real sockets, and trouble on purpose."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"

GREYLISTED = "greylisted.example"  # refused once, for now (SMTP 451), as careful servers do
NOBODY = "nobody.example"  # refused for good (SMTP 550)

CARD_DECLINED = "card_declined"  # 402
CARD_REPLY_LOST = "card_reply_lost"  # charged, and then the connection drops before the bank's reply


def free_port() -> int:
    """A TCP port on this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return cast(int, probe.getsockname()[1])


class MailServer:
    """A real SMTP server that keeps the mail it accepts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.received: list[EmailMessage] = []
        self._seen: set[str] = set()
        self._controller = Controller(self, hostname=HOST, port=self.port)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Say whether mail for this address is accepted."""
        domain = address.rpartition("@")[2]
        if domain == NOBODY:
            return "550 5.1.1 No such mailbox"
        if domain == GREYLISTED and address not in self._seen:
            self._seen.add(address)
            return "451 4.7.1 Greylisted, please come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Accept a mail."""
        content = cast(bytes, envelope.content)
        self.received.append(message_from_bytes(content, policy=policy.default))
        return "250 OK"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._controller.stop()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # many calls at once overflow http.server's five, and come a second late


class PartnerServer:
    """The bank and the partners' webhooks, on one HTTP server."""

    def __init__(self) -> None:
        self.charges: dict[str, dict[str, Any]] = {}  # reference: charge
        self.charge_requests: Counter[str] = Counter()  # reference: how often it was requested
        self.hooks: Counter[tuple[str, str]] = Counter()  # (partner, delivery): how often it was sent
        self.accepted: set[tuple[str, str]] = set()  # (partner, delivery)
        self.lock = threading.Lock()
        self.closing = threading.Event()
        partners = self

        class Handler(_Handler):
            world = partners

        self._server = _Server((HOST, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="partners")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def charge(self, reference: str, amount_cents: int) -> dict[str, Any]:
        """Charge once; the same reference gets the same charge."""
        number = len(self.charges) + 1
        return self.charges.setdefault(reference, {"id": f"charge-{number}", "amount_cents": amount_cents})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers as the path demands."""

    world: PartnerServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        _, kind, name = self.path.split("/")
        if kind == "bank":
            self.bank(key, body)
        else:
            with self.world.lock:
                self.world.hooks[name, key] += 1
                times = self.world.hooks[name, key]
            self.hook(name, key, times)

    def bank(self, reference: str, body: dict[str, Any]) -> None:
        """Charge a card."""
        with self.world.lock:
            self.world.charge_requests[reference] += 1
            first = self.world.charge_requests[reference] == 1
            if body["card"] == CARD_DECLINED:
                return self.answer(402, "the card is declined")
            charge = self.world.charge(reference, body["amount_cents"])
        if body["card"] == CARD_REPLY_LOST and first:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        return self.answer(201, json.dumps(charge))

    def hook(self, partner: str, key: str, times: int) -> None:
        """A partner's webhook: the partner's name says what's wrong with it."""
        if partner == "flaky" and times <= 2:
            return self.answer(503, "down for maintenance")
        if partner == "down":
            return self.answer(503, "down for good")
        if partner == "busy" and times == 1:
            return self.answer(429, "too many requests", **{"Retry-After": "1"})
        if partner == "moved":
            return self.answer(404, "there is nothing here")
        if partner == "strict":
            return self.answer(422, "we don't know this order's number")
        if partner == "slow" and times == 1:
            self.world.closing.wait(10)  # far longer than the job's timeout
            return None
        with self.world.lock:
            self.world.accepted.add((partner, key))
        return self.answer(200, "thank you")

    def answer(self, status: int, text: str, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: the terminal belongs to the demo."""
