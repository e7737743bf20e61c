"""Which addresses webhooks contact, and that the others get no connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from support.receivers import answers, listener, receiver, was_contacted

from budget_sync.delivery import addresses, post
from budget_sync.delivery.addresses import AddressError, parse_url, require_allowed
from budget_sync.delivery.post import Answer, Sender
from budget_sync.domain.errors import RequestError

REFUSED_URLS = (
    # Not a URL for events.
    "",
    "hooks.example.com/x",
    "ftp://hooks.example.com/x",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "https://",
    "https:///x",
    "https://hooks.example.com/" + "x" * 2000,
    # Without TLS.
    "http://hooks.example.com/x",
    "http://10.0.0.1/x",
    "http://127.0.0.1.example.com/x",
    # User, password, fragment, and what programs read in different ways.
    "https://user@hooks.example.com/x",
    "https://user:password@hooks.example.com/x",
    "https://hooks.example.com@127.0.0.1/x",
    "https://@hooks.example.com/",
    "https://hooks.example.com/x#fragment",
    "https://hooks.example.com/x#",
    "https://hooks.example.com\\@127.0.0.1/x",
    "https://hooks.example.com /x",
    "https://hooks.example.com/\r\nHost: x",
    "https://hooks.example.com/\x00",
    "https://hooks.exämple.com/x",
    "https://127。0。0。1/x",
    "https://hooks..example.com/x",
    "https://hooks.example.com%00.evil.com/x",
    "https://[::1/x",
    "https://[fe80::1%25eth0]/x",
    "https://[v1.x]/x",
    # Addresses in unusual forms.
    "https://127.1/x",
    "https://2130706433/x",
    "https://0x7f000001/x",
    "https://0x7f.0.0.1/x",
    "https://0177.0.0.1/x",
    "https://127.0.0.01/x",
    "https://1.2.3.4.5/x",
    # Odd ports.
    "https://hooks.example.com:0/x",
    "https://hooks.example.com:22/x",
    "https://hooks.example.com:25/x",
    "https://hooks.example.com:110/x",
    "https://hooks.example.com:445/x",
    "https://hooks.example.com:3306/x",
    "https://hooks.example.com:5432/x",
    "http://127.0.0.1:6379/x",
    "https://hooks.example.com:65536/x",
    "https://hooks.example.com:-1/x",
    "https://hooks.example.com:http/x",
)

ACCEPTED_URLS = (
    ("https://hooks.example.com", (True, "hooks.example.com", 443, "/")),
    ("https://hooks.example.com:8443/a/b?c=d", (True, "hooks.example.com", 8443, "/a/b?c=d")),
    ("HTTPS://Hooks.Example.com/X", (True, "hooks.example.com", 443, "/X")),
    ("https://1.2.3.4/", (True, "1.2.3.4", 443, "/")),
    ("https://[2606:4700::1111]:444/", (True, "2606:4700::1111", 444, "/")),
    ("https://0x.example.com/", (True, "0x.example.com", 443, "/")),
    ("http://localhost:9000/x", (False, "localhost", 9000, "/x")),
    ("http://127.0.0.1/", (False, "127.0.0.1", 80, "/")),
    ("http://[::1]:8080/", (False, "::1", 8080, "/")),
)

#: Addresses that a host name may lead to, and whether WEBHOOK_PRIVATE_NETWORKS allows them.
REFUSED_ADDRESSES = {
    "10.0.0.1": True,
    "10.255.255.255": True,
    "172.16.0.1": True,
    "172.31.255.255": True,
    "192.168.1.1": True,
    "100.64.0.1": True,
    "100.127.255.254": True,
    "fc00::1": True,
    "fd12:3456:789a::1": True,
    "::ffff:10.0.0.1": True,
    "::ffff:192.168.0.1": True,
    "64:ff9b::10.0.0.1": True,
    "2002:0a00:0001::1": True,
    "::10.0.0.1": True,
    "127.0.0.1": False,
    "127.255.255.254": False,
    "::1": False,
    "::ffff:127.0.0.1": False,
    "::127.0.0.1": False,
    "64:ff9b::127.0.0.1": False,
    "2002:7f00:0001::1": False,
    "2001:0:7f00:1::f5ff:fffe": False,
    "169.254.169.254": False,
    "169.254.0.1": False,
    "::ffff:169.254.169.254": False,
    "64:ff9b::169.254.169.254": False,
    "64:ff9b:1::10.0.0.1": False,
    "fe80::1": False,
    "fe80::1%eth0": False,
    "fec0::1": False,
    "0.0.0.0": False,  # noqa: S104  # binds nothing
    "0.1.2.3": False,
    "::": False,
    "::ffff:0.0.0.0": False,
    "224.0.0.1": False,
    "239.255.255.250": False,
    "ff02::1": False,
    "ff0e::1": False,
    "240.0.0.1": False,
    "255.255.255.255": False,
    "192.0.0.1": False,
    "192.0.2.1": False,
    "198.18.0.1": False,
    "198.51.100.1": False,
    "203.0.113.1": False,
    "192.88.99.1": False,
    "2001:db8::1": False,
    "3fff::1": False,
    "2001:2::1": False,
    "100::1": False,
    "5f00::1": False,
    "4000::1": False,
    "::ffff:0:127.0.0.1": False,
}

PUBLIC_ADDRESSES = (
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "::ffff:1.1.1.1",
    "64:ff9b::1.1.1.1",
)

HOOKS = parse_url("https://hooks.example.com/x")


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_urls_that_a_webhook_may_not_have(url: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_url(url)
    assert error.value.code == "INVALID_REQUEST"
    assert error.value.fields["url"]


@pytest.mark.parametrize(("url", "parts"), ACCEPTED_URLS)
def test_urls_that_a_webhook_may_have(url: str, parts: tuple[bool, str, int, str]) -> None:
    assert tuple(parse_url(url)) == parts


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(AddressError):
        require_allowed(HOOKS, address, private_networks=False)
    if REFUSED_ADDRESSES[address]:
        require_allowed(HOOKS, address, private_networks=True)
    else:
        with pytest.raises(AddressError):
            require_allowed(HOOKS, address, private_networks=True)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_addresses_are_allowed(address: str) -> None:
    require_allowed(HOOKS, address, private_networks=False)


def send(url: str) -> Answer:
    with Sender(parse_url(url), private_networks=False) as sender:
        return sender.post(b"{}", {})


def always(found: list[str], host: str, timeout_s: float) -> list[str]:
    return found


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with listener() as opened:
        yield opened


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_no_connection_to_a_refused_address(
    address: str, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A connection to any address would arrive at the listener.
    real, port = socket.create_connection, listening.getsockname()[1]
    monkeypatch.setattr(
        socket, "create_connection", lambda _, timeout: real(("127.0.0.1", port), timeout)
    )
    # A public address in addition does not help.
    for found in ([address], ["1.1.1.1", address]):
        sender = Sender(HOOKS, private_networks=False, resolve=partial(always, found))
        answer = sender.post(b"{}", {})
        assert answer.status is None
        assert answer.error
        assert "hooks.example.com has a" in answer.error
    assert not was_contacted(listening)


def test_connection_to_a_public_address_would_arrive(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, port = socket.create_connection, listening.getsockname()[1]
    monkeypatch.setattr(
        socket, "create_connection", lambda _, timeout: real(("127.0.0.1", port), timeout)
    )
    monkeypatch.setattr(post, "TIMEOUT_S", 1.0)
    with Sender(HOOKS, private_networks=False, resolve=lambda host, _: ["1.1.1.1"]) as sender:
        assert sender.post(b"{}", {}).status is None
    assert was_contacted(listening)


def test_name_is_resolved_once_per_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    # The name leads to a public address when it is checked, and to this machine afterwards.
    asked, contacted = [], []

    def resolve(host: str, timeout_s: float) -> list[str]:
        asked.append(host)
        return ["1.1.1.1"] if len(asked) == 1 else ["127.0.0.1"]

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        contacted.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a second query"))
    sender = Sender(HOOKS, private_networks=False, resolve=resolve)
    assert sender.post(b"{}", {}).error == "No connection: Connection refused."
    assert contacted == [("1.1.1.1", 443)]
    # The next attempt checks the new address.
    answer = sender.post(b"{}", {})
    assert answer.error == ("hooks.example.com has a loopback address, which is not contacted.")
    assert contacted == [("1.1.1.1", 443)]


def test_redirect_is_not_followed(listening: socket.socket) -> None:
    target = f"http://127.0.0.1:{listening.getsockname()[1]}/inside"
    for status in (301, 302, 303, 307, 308):
        with receiver(answers(status, Location=target)) as redirecting:
            answer = send(redirecting.url)
        assert (answer.status, answer.error) == (
            status,
            f"HTTP {status}: a redirect, which is not followed. Use the final address.",
        )
    assert not was_contacted(listening)


def test_proxy_of_the_environment_is_not_used(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"http://127.0.0.1:{listening.getsockname()[1]}"
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    with receiver() as good:
        assert send(good.url).error is None
    assert not was_contacted(listening)


def test_resolver_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def hangs(*_: object, **__: object) -> list[object]:
        ended.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    with pytest.raises(TimeoutError):
        addresses.resolve("hooks.example.com", 0.1)
    ended.set()


def test_name_that_does_not_exist_is_explained() -> None:
    answer = send("https://hooks.invalid/")
    assert answer.status is None
    assert answer.error
    assert answer.error.startswith("The host name cannot be resolved: ")
