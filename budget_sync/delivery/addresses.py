"""Which addresses webhooks may contact.

Admins of a customer choose the URLs, so that a URL must not lead into the network of this machine.
A host name can lead anywhere, and to another address a moment later. So the addresses are checked
after each resolution, and the connection goes to an address that was checked.
"""

from __future__ import annotations

import queue
import re
import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from budget_sync.domain.errors import RequestError, invalid_request
from budget_sync.settings import is_loopback

Address = IPv4Address | IPv6Address

#: Returns the addresses of a host name within a number of seconds. Raises OSError.
Resolve = Callable[[str, float], list[str]]

MAX_URL_LENGTH = 2000

#: Ports of protocols that a request could disturb. Browsers do not connect to most of them either.
# fmt: off
REFUSED_PORTS = frozenset((
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 79, 88, 109, 110, 111,
    113, 119, 123, 135, 137, 138, 139, 143, 161, 162, 179, 389, 427, 445, 465, 512, 513, 514, 515,
    540, 548, 554, 587, 631, 636, 873, 989, 990, 992, 993, 995, 1433, 1521, 2049, 2181, 2375, 2376,
    2379, 3306, 3389, 5060, 5432, 5672, 5900, 6379, 6667, 9042, 11211, 27017,
))
# fmt: on

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?", re.ASCII)
_MAX_HOST_LENGTH = 253

# Networks inside an organization, which WEBHOOK_PRIVATE_NETWORKS allows.
_PRIVATE = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    # Between a provider and its customers (RFC 6598).
    IPv4Network("100.64.0.0/10"),
    IPv6Network("fc00::/7"),
)

# Networks that is_global does not know in every version of Python.
_SPECIAL = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("198.18.0.0/15"),
    IPv4Network("240.0.0.0/4"),
    IPv6Network("2001::/23"),
    IPv6Network("2001:db8::/32"),
    IPv6Network("3fff::/20"),
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")

_NAT64 = IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = IPv6Network("::/96")
_IPV4_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_LOW_32 = 0xFFFF_FFFF


class AddressError(Exception):
    """An address that webhooks may not contact. The text is a sentence without its final dot."""


class Destination(NamedTuple):
    """The parts of a webhook's URL. `target` is the path with the query."""

    is_https: bool
    host: str
    port: int
    target: str

    @property
    def is_loopback(self) -> bool:
        """Whether the URL itself names this machine."""
        return is_loopback(self.host)

    @property
    def origin(self) -> str:
        """The URL without path and query, which may contain secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_https else 'http'}://{host}:{self.port}"


def parse_url(url: str) -> Destination:
    """The parts of a URL that a webhook may have. Raises RequestError INVALID_REQUEST."""
    if not 0 < len(url) <= MAX_URL_LENGTH:
        raise _bad(f"must have 1 to {MAX_URL_LENGTH:,} characters")
    # Programs disagree about what a backslash, a space or a control character means.
    if not all("!" <= character <= "~" for character in url) or "\\" in url:
        raise _bad(
            "must have ASCII characters only, without spaces and backslashes. Write a host name "
            "with other letters in its form that begins with xn--"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad("is not a URL such as https://hooks.example.com/budgets") from None
    host = parts.hostname or ""
    if "@" in parts.netloc:
        raise _bad("must not have a user or password")
    if "#" in url:
        raise _bad("must not have a fragment (the part from # on)")
    if parts.scheme not in ("http", "https") or not host:
        raise _bad("must begin with https:// and a host name")
    if not _is_host(host) or ("[" in parts.netloc) != (":" in host):
        raise _bad("has an invalid host name. Write an IP address in its usual form")
    if parts.scheme == "http" and not is_loopback(host):
        raise _bad("must begin with https://. Only an address of this machine may have http://")
    default_port = 443 if parts.scheme == "https" else 80
    if (port := default_port if port is None else port) in REFUSED_PORTS:
        raise _bad(f"must not have the port {port}, which is not a port for HTTP")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(parts.scheme == "https", host, port, target)


def _bad(problem: str) -> RequestError:
    return invalid_request({"url": problem})


def _is_host(host: str) -> bool:
    """Whether it is a host name or an IP address in its usual form.

    Programs read 127.1, 0x7f000001 and 2130706433 as 127.0.0.1.
    """
    if ":" in host or re.fullmatch(r"(.*\.)?(0[xX][0-9A-Fa-f]*|[0-9]+)\.?", host):
        try:
            ip_address(host)
        except ValueError:
            return False
        return "%" not in host
    return len(host) <= _MAX_HOST_LENGTH and bool(_HOST.fullmatch(host))


def require_allowed(destination: Destination, address: str, *, private_networks: bool) -> None:
    """Raise AddressError unless a webhook may contact that address."""
    kind = _kind(ip_address(address.partition("%")[0]))
    if kind == "loopback" and destination.is_loopback:
        return
    if kind == "private" and private_networks:
        return
    if kind == "private":
        raise AddressError(
            f"{destination.host} has an address in a private network. "
            "WEBHOOK_PRIVATE_NETWORKS=true allows that"
        )
    if kind != "public":
        raise AddressError(f"{destination.host} has a {kind} address, which is not contacted")


def require_allowed_literal(destination: Destination, *, private_networks: bool) -> None:
    """Raise AddressError if the host is an IP address that a webhook may not contact."""
    try:
        ip_address(destination.host)
    except ValueError:
        return
    require_allowed(destination, destination.host, private_networks=private_networks)


def _kind(address: Address) -> str:
    """The kind of an address: public, private, loopback, or another that is never contacted."""
    if isinstance(address, IPv6Address) and (embedded := _embedded(address)):
        kinds = sorted({_kind(each) for each in embedded} - {"public"})
        # A URL of this machine has no reason to hide it.
        kind = next((kind for kind in kinds if kind != "private"), "".join(kinds) or "public")
        return kind.replace("loopback", "hidden loopback")
    for name in ("unspecified", "loopback", "multicast"):
        if getattr(address, f"is_{name}"):
            return name
    if address.is_link_local or getattr(address, "is_site_local", False):
        return "link-local"
    if any(address in network for network in _PRIVATE):
        return "private"
    is_special = any(address in network for network in _SPECIAL) or (
        isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST
    )
    return "reserved" if is_special or address.is_reserved or not address.is_global else "public"


def _embedded(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses in an IPv6 address that leads to them."""
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address.teredo:
        return list(address.teredo)
    if address.sixtofour:
        return [address.sixtofour]
    is_compatible = address in _IPV4_COMPATIBLE and int(address) > 1
    if is_compatible or address in _NAT64 or address in _IPV4_TRANSLATED:
        return [IPv4Address(int(address) & _LOW_32)]
    return []


def resolve(host: str, timeout_s: float) -> list[str]:
    """The addresses of a host name. Raises OSError, also after `timeout_s`."""
    # The system's resolver has no time limit, so it runs in a thread that may be left behind.
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answers.put([str(entry[4][0]) for entry in found])
        except OSError as error:
            answers.put(error)
        except UnicodeError as error:
            answers.put(OSError(str(error)))

    threading.Thread(target=ask, name="budget-sync-resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=max(timeout_s, 0.001))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return list(dict.fromkeys(answer))
