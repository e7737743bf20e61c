"""A mail server on this machine, which keeps the mails that it accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller

from support.machine import free_port


class Mail(NamedTuple):
    """A mail that was accepted: its recipients, and the title and text that people read."""

    recipients: list[str]
    title: str
    body: str
    sender: str


class MailServer:
    """Accepts mails, unless `behave` returns another answer for a recipient."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.mails: list[Mail] = []
        self.behave: Callable[[str], str | None] = lambda _: None

    def url(self, to: str = "finance@acme.com", **parameters: str) -> str:
        """The address of an alert that sends through this server."""
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"mailto://127.0.0.1:{self.port}?from=budgets@acme.com&to={to}{more}"

    @property
    def titles(self) -> list[str]:
        """The titles of the mails in the order of their arrival."""
        return [mail.title for mail in self.mails]

    async def handle_RCPT(  # noqa: N802  # the name that aiosmtpd calls
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """Accept a recipient, or answer as `behave` says."""
        answer = self.behave(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(  # noqa: N802  # the name that aiosmtpd calls
        self, server: Any, session: Any, envelope: Any
    ) -> str:
        """Keep a mail."""
        parsed = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        body = parsed.get_body(("plain", "html"))
        assert body is not None
        self.mails.append(
            Mail(
                list(envelope.rcpt_tos),
                str(parsed["Subject"]),
                str(body.get_content()).strip(),
                str(parsed["From"]),
            )
        )
        return "250 OK"


@contextmanager
def running(server: MailServer) -> Iterator[MailServer]:
    """Let the server accept connections, for a `with` statement."""
    controller = Controller(server, hostname="127.0.0.1", port=server.port)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """A mail server that runs."""
    with running(MailServer()) as started:
        yield started
