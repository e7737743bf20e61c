"""The addresses of alerts, such as mailto://… and slack://…, and how a message is sent to one.

Only this module calls Apprise, which is imported when it is needed, because it takes a second.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from budget_sync.alerts import guard
from budget_sync.alerts.texts import Text, length
from budget_sync.delivery.addresses import AddressError, Destination, require_allowed_literal
from budget_sync.domain.errors import RequestError, invalid_request

#: The longest address that the database stores.
MAX_LENGTH = 2000

#: The most recipients of one mail address. Each gets a separate message.
MAX_RECIPIENTS = 20

#: How long to wait for a connection, and for each answer, in seconds.
TIMEOUT_S = 10.0

MAIL = frozenset({"mailto", "mailtos"})

#: Services that show messages on this machine, or that need files of it.
_LOCAL = frozenset(
    (
        *("dbus", "qt", "kde", "glib", "gio", "gnome", "macosx", "windows", "growl", "blink1"),
        *("syslog", "vapid", "file", "apprise", "apprises"),
    )
)

#: Parameters that name a file, or that change how often Apprise sends.
_PARAMETERS = frozenset(
    (
        *("template", "keyfile", "subfile", "pgp", "pgpkey", "pgppub", "pgpprv", "pgp_key", "wkd"),
        *("attach", "attachment", "config"),
    )
)

#: Services for the customer's programs. The path of their address can be a secret.
_OWN_PROGRAMS = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})

_SCHEMA = re.compile(r"[a-z][a-z0-9]{1,19}", re.ASCII)

# The address in an error of an HTTP library. Its path can be a secret.
_ADDRESS_IN_ERROR = re.compile(r"\b(with url|for url): \S+|https?://\S+")


class Address(NamedTuple):
    """An address that was checked. `recipients` are those of a mail address, otherwise empty."""

    url: str
    schema: str
    redacted: str
    recipients: tuple[str, ...]

    @property
    def is_mail(self) -> bool:
        """Whether messages can go to the owners of budgets."""
        return self.schema in MAIL


def parse(url: str, *, private_networks: bool, is_operator: bool) -> Address:
    """Check the address of an alert. Only operators may name this machine.

    Raises RequestError INVALID_REQUEST. Its sentence never has the address.
    """
    schema = _schema_of(url)
    if schema in _LOCAL:
        raise _bad(
            f"must not begin with {schema}://, which would show messages on this machine or use "
            "its files. Use a service in the network, such as mailtos://"
        )
    refused = _PARAMETERS & {name.lower().lstrip("+-:") for name in _parameters(url)}
    if refused:
        raise _bad(f"must not have the parameter {min(refused)}")
    plugin = _plugin(url)
    if plugin is None:
        raise _bad(
            f"is not an address that Apprise accepts for {schema}://. Its documentation has an "
            "example for each service"
        )
    _require_allowed(plugin, private_networks=private_networks, is_operator=is_operator)
    recipients = _recipients(plugin, schema)
    return Address(url, schema, _redacted(plugin, schema, recipients), recipients)


def _schema_of(url: str) -> str:
    if not 0 < len(url) <= MAX_LENGTH:
        raise _bad(f"must have 1 to {MAX_LENGTH:,} characters")
    if not url.isprintable():
        raise _bad("must have printable characters only")
    schema = url.partition("://")[0].lower()
    if "://" not in url or not _SCHEMA.fullmatch(schema):
        raise _bad("must begin with the name of a service, such as mailtos:// or slack://")
    return schema


def _parameters(url: str) -> list[str]:
    try:
        return [name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)]
    except ValueError:
        raise _bad("is not a valid address") from None


def _require_allowed(plugin: Any, *, private_networks: bool, is_operator: bool) -> None:
    destination = _destination(plugin)
    if destination.is_loopback and not (is_operator or private_networks):
        raise _bad("is an address of this machine. An operator can add it with `flask add-alert`")
    try:
        require_allowed_literal(destination, private_networks=private_networks)
    except AddressError as error:
        raise _bad(f"cannot be used: {error}") from None


def _destination(plugin: Any) -> Destination:
    """The host that an address names. Services with a fixed host name none."""
    host = str(getattr(plugin, "smtp_host", "") or plugin.host or "").strip("[]")
    return Destination(bool(plugin.secure), host, int(plugin.port or 0), "/")


def _recipients(plugin: Any, schema: str) -> tuple[str, ...]:
    """The recipients of a mail address. Raises RequestError for another one with several."""
    if schema in MAIL:
        found = tuple(dict.fromkeys(str(address) for _, address in plugin.targets))
        if not 1 <= len(found) <= MAX_RECIPIENTS:
            raise _bad(f"must have 1 to {MAX_RECIPIENTS} recipients")
        return found
    if len(plugin) > 1:
        # If one recipient of several fails, the retry would repeat the message to the others.
        raise _bad("must have one recipient. Add an alert for each of the others")
    return ()


def recipients_of(url: str) -> tuple[str, ...]:
    """The recipients of a mail address that was checked; empty for another one."""
    schema = url.partition("://")[0].lower()
    plugin = _plugin(url) if schema in MAIL else None
    return () if plugin is None else _recipients(plugin, schema)


def _redacted(plugin: Any, schema: str, recipients: tuple[str, ...]) -> str:
    """The address as people may see it, without passwords, tokens and parameters."""
    shown = unquote(str(plugin.url(privacy=True)).partition("?")[0])
    if schema in _OWN_PROGRAMS:
        shown = "/".join(shown.split("/")[:3])
    elif schema in MAIL:
        found = _destination(plugin)
        shown = f"{schema}://{found.host}:{found.port} to {', '.join(recipients)}"
    return "".join(each if each.isprintable() else "?" for each in shown)[:MAX_LENGTH]


def send(
    url: str, text: Text, recipient: str | None = None, *, private_networks: bool
) -> str | None:
    """Send a message now; returns why it failed, or None if the service accepted it.

    `recipient` replaces the recipients of a mail address.
    """
    plugin = _plugin(url)
    if plugin is None:
        return "Apprise does not accept the address any more. Remove the alert and add it again."
    if recipient is not None:
        _set_recipient(plugin, recipient)
    is_mail = url.partition("://")[0].lower() in MAIL
    limits = guard.limited(_destination(plugin), private_networks=private_networks, is_mail=is_mail)
    problems: list[str] = []
    try:
        with _problems_of_this_thread(problems), limits:
            is_sent = plugin.notify(
                body=text.body or text.title, title=text.title, body_format="text"
            )
    except Exception as error:  # noqa: BLE001  # each plugin raises other errors
        is_sent = False
        problems.append(f"{type(error).__name__}: {error}")
    if is_sent:
        return None
    return _without_secrets(url, ". ".join(dict.fromkeys(problems)) or "The service rejected it")


def _set_recipient(plugin: Any, recipient: str) -> None:
    """Send only to this recipient. Copies go with the alert's own recipients only."""
    if recipient not in {address for _, address in plugin.targets}:
        plugin.cc = set()
        plugin.bcc = set()
    plugin.targets = [(False, recipient)]


def batch(url: str, texts: list[Text]) -> int:
    """How many of the texts, at least one, fit into one message of this service."""
    plugin = _plugin(url)
    room = 1000 if plugin is None else int(plugin.body_maxlen)
    room -= 300
    count = 0
    for text in texts:
        room -= length(text)
        if room < 0:
            break
        count += 1
    return max(count, 1)


def _plugin(url: str) -> Any:
    """The plugin of an address; None if Apprise does not accept it."""
    apprise, asset = _apprise()
    with guard.limited(_NOWHERE, private_networks=False, is_mail=False):
        try:
            plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        except Exception:  # noqa: BLE001  # a plugin raises anything for an odd address
            return None
    if plugin is None or not plugin.enabled:
        return None
    plugin.retry = 0
    plugin.redirects = False
    plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
    for name in ("socket_connect_timeout", "socket_read_timeout"):
        setattr(plugin, name, min(getattr(plugin, name), TIMEOUT_S))
    return plugin


_NOWHERE = Destination(is_https=True, host="", port=0, target="/")


@cache
def _apprise() -> Any:
    """The library, with its plugins loaded, and its settings."""
    with warnings.catch_warnings():
        # Plugins use modules that later versions of Python do not have.
        warnings.simplefilter("ignore")
        import apprise  # noqa: PLC0415  # takes a second

        # Loads all plugins, some of which start programs to find libraries.
        apprise.Apprise.instantiate("json://localhost")

    logger = logging.getLogger("apprise")
    # Its lines at this level have the causes of failures, and may have secrets.
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(_Problems())
    asset = apprise.AppriseAsset(
        app_id="Budget Sync",
        app_desc="Budget Sync",
        app_url="",
        http_redirects=False,
        secure_logging=True,
        plugin_paths=[],
        default_service_retry=0,
    )
    return apprise, asset


_collected = threading.local()


class _Problems(logging.Handler):
    """Collects the causes of failures of the thread that sends."""

    def emit(self, record: logging.LogRecord) -> None:
        found: list[str] | None = getattr(_collected, "problems", None)
        if found is None:
            return
        text = record.getMessage()
        cause = text.partition("Socket Exception:")[2].strip()
        if record.levelno >= logging.WARNING or cause:
            found.append(" ".join((cause or text).split()).rstrip("."))


@contextmanager
def _problems_of_this_thread(problems: list[str]) -> Iterator[None]:
    _collected.problems = problems
    try:
        yield
    finally:
        _collected.problems = None


def _without_secrets(url: str, error: str) -> str:
    """The cause of a failure without the parts of the address that may be secrets."""
    error = _ADDRESS_IN_ERROR.sub("the address", error)
    parts = {unquote(part) for part in re.split(r"[:/?&=@#+]", url)}
    password = urlsplit(url).password or ""
    for part in sorted((part for part in parts if len(part) >= 12), key=len, reverse=True):
        if "." not in part:
            error = error.replace(part, "…")
    if password:
        error = error.replace(unquote(password), "…")
    return f"{error[:400].rstrip('.')}."


def _bad(problem: str) -> RequestError:
    return invalid_request({"to": problem})
