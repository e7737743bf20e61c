"""Limits what Apprise may do while it sends: which addresses it contacts, which files it opens.

Apprise has more than a hundred plugins, and each opens connections in its own way. Many take a host
name from the address of the alert, some follow redirects, and some read a file that the address
names. Admins of a customer choose the address, so neither the network of this machine nor its files
may be within reach. Python reports each connection, file and process to its audit hooks before it
happens. The hook of this module rejects those that are not allowed, only in the thread that sends.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, NamedTuple

from budget_sync.delivery.addresses import (
    REFUSED_PORTS,
    AddressError,
    Destination,
    require_allowed,
)

#: Ports of mail servers, which webhooks may not contact.
MAIL_PORTS = frozenset({25, 465, 587})

_CONNECTIONS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_PROCESSES = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"}
)

#: Files that libraries need: themselves, time zones, certificate authorities, types of files.
_READABLE = (
    os.path.realpath(sys.prefix),
    os.path.realpath(sys.base_prefix),
    "/usr/",
    "/etc/ssl/",
    "/etc/pki/",
    "/etc/mime.types",
)


class RefusedError(AddressError, OSError):
    """Something that an alert may not do. Plugins handle it as a failed connection."""


class _Limits(NamedTuple):
    destination: Destination
    private_networks: bool
    is_mail: bool


_thread = threading.local()
_is_installed = threading.Lock()


@contextmanager
def limited(destination: Destination, *, private_networks: bool, is_mail: bool) -> Iterator[None]:
    """Limit what the current thread does, for a `with` statement.

    `destination` is the host that the alert's address names. Only an alert that names this machine
    may contact it.
    """
    # An audit hook cannot be removed, so it is added only once and only when it is needed.
    if _is_installed.acquire(blocking=False):
        sys.addaudithook(_check)
    _thread.limits = _Limits(destination, private_networks, is_mail)
    try:
        yield
    finally:
        _thread.limits = None


def _check(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook. Raises RefusedError."""
    limits: _Limits | None = getattr(_thread, "limits", None)
    if limits is None:
        return
    if event in _CONNECTIONS:
        _check_address(limits, arguments[1])
    elif event == "open":
        _check_file(arguments[0])
    elif event in _PROCESSES:
        raise RefusedError("alerts may not start programs")


def _check_address(limits: _Limits, address: object) -> None:
    if address is None:
        # A connected socket, which was checked.
        return
    if not isinstance(address, tuple) or len(address) < 2:
        raise RefusedError("alerts may not contact programs of this machine")
    host, port = str(address[0]), address[1]
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        raise RefusedError("alerts may contact only addresses that were resolved") from None
    try:
        require_allowed(limits.destination, host, private_networks=limits.private_networks)
    except AddressError as problem:
        raise RefusedError(str(problem)) from None
    if port in REFUSED_PORTS and not (limits.is_mail and port in MAIL_PORTS):
        raise RefusedError(f"alerts may not contact port {port}")


def _check_file(path: object) -> None:
    if isinstance(path, int):
        return
    text = os.fsdecode(path) if isinstance(path, bytes) else str(path)
    if not os.path.realpath(text).startswith(_READABLE):
        raise RefusedError("alerts may not open files of this machine")
