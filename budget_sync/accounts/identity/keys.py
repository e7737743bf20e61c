"""The public keys of an identity provider: fetched, cached, and refreshed.

Nothing here uses the database, and a caller in a greenlet does not block the event loop.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from budget_sync.accounts.identity.config import Provider, is_safe_url
from budget_sync.domain.errors import Code, RequestError
from budget_sync.runtime import greenlets
from budget_sync.runtime.greenlets import Waiter

log = logging.getLogger(__name__)

#: A public key of a provider.
Key = RSAKey | ECKey | OKPKey

#: Keys that are older are fetched again, in the background.
REFRESH_AFTER_S = 600.0

#: Keys that could not be refreshed for so long are not used any more.
EXPIRE_AFTER_S = 24 * 3600.0

#: How often an unknown key id, and a failed fetch, may cause another fetch.
MIN_INTERVAL_S = 60.0
RETRY_AFTER_FAILURE_S = 5.0

_TIMEOUT_S = (3.05, 5.0)
_MAX_WAIT_S = 9.0
_MAX_BYTES = 512 * 1024
_MAX_KEYS = 100
_MIN_RSA_BITS = 2048


class KeysUnavailableError(RequestError):
    """The keys of a provider are unknown, so its tokens cannot be verified now."""

    def __init__(self, provider: str) -> None:
        super().__init__(
            Code.UNAVAILABLE,
            f"The keys of {provider} cannot be fetched right now, so its tokens cannot be "
            "verified. Nothing was moved. Try again shortly.",
            retryAfter=5,
        )


class KeyFetchError(Exception):
    """The keys could not be fetched; the text says why, without a secret."""


class Keys:
    """The keys of one provider. Safe for threads and greenlets."""

    def __init__(
        self,
        provider: Provider,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider = provider
        self._folder = folder
        self.clock = clock
        self._mutex = threading.Lock()
        self._keys: list[Key] = []
        #: Counts the changes of the keys: what was verified with earlier keys must not be trusted.
        self.generation = 0
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failed_at: float | None = None
        self._is_fetching = False
        self._waiters: list[Waiter] = []

    def find(self, key_id: str | None) -> list[Key]:
        """The keys with that id; all keys if the token has no id. Empty if there is none.

        An unknown id causes a new fetch, at most once in MIN_INTERVAL_S. Raises
        KeysUnavailableError if no keys are known.
        """
        now = self.clock()
        age = None if self._fetched_at is None else now - self._fetched_at
        if age is None or age > EXPIRE_AFTER_S:
            if self._failed_at is None or now - self._failed_at >= RETRY_AFTER_FAILURE_S:
                self._fetch_and_wait()
            if self._fetched_at is None or self.clock() - self._fetched_at > EXPIRE_AFTER_S:
                raise KeysUnavailableError(self.provider.name)
        elif age > REFRESH_AFTER_S and self._may_try(now):
            self._start_fetch(None)
        found = self._with_id(key_id)
        if not found and self._may_try(now):
            self._fetch_and_wait()
            found = self._with_id(key_id)
        return found

    def refresh(self) -> int:
        """Fetch the keys now, in this thread; returns their number. Raises KeyFetchError."""
        self._store(fetch_keys(self.provider, self._folder))
        return len(self._keys)

    def _with_id(self, key_id: str | None) -> list[Key]:
        keys = self._keys
        return keys if key_id is None else [key for key in keys if key.kid == key_id]

    def _may_try(self, now: float) -> bool:
        return self._tried_at is None or now - self._tried_at >= MIN_INTERVAL_S

    def _fetch_and_wait(self) -> None:
        waiter = greenlets.new_waiter()
        self._start_fetch(waiter)
        waiter.wait(_MAX_WAIT_S)

    def _start_fetch(self, waiter: Waiter | None) -> None:
        """Fetch in a thread of its own; `waiter` is notified at the end. One fetch at a time."""
        with self._mutex:
            if waiter is not None:
                self._waiters.append(waiter)
            if self._is_fetching:
                return
            self._is_fetching = True
            self._tried_at = self.clock()
        try:
            threading.Thread(target=self._fetch, name="identity-keys", daemon=True).start()
        except RuntimeError:
            self._end_fetch()
            raise KeysUnavailableError(self.provider.name) from None

    def _fetch(self) -> None:
        try:
            self._store(fetch_keys(self.provider, self._folder))
        except KeyFetchError as error:
            self._failed_at = self.clock()
            log.warning("The keys of %s were not fetched: %s", self.provider.name, error)
        except Exception:
            self._failed_at = self.clock()
            log.exception("The keys of %s were not fetched.", self.provider.name)
        finally:
            self._end_fetch()

    def _end_fetch(self) -> None:
        with self._mutex:
            self._is_fetching = False
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.notify()

    def _store(self, keys: list[Key]) -> None:
        if [_thumbprint(key) for key in keys] != [_thumbprint(key) for key in self._keys]:
            self._keys = keys
            self.generation += 1
        self._fetched_at = self.clock()
        self._failed_at = None


def _thumbprint(key: Key) -> tuple[str | None, str]:
    return key.kid, key.thumbprint()


def fetch_keys(provider: Provider, folder: Path) -> list[Key]:
    """Read the keys of a provider from its file or over HTTP. Raises KeyFetchError."""
    if provider.jwks_file is not None:
        try:
            data = (folder / provider.jwks_file).read_bytes()
        except OSError as error:
            raise KeyFetchError(f"the file cannot be read: {error.strerror}") from None
    else:
        data = _get(provider.jwks_url or discover(provider)["jwks_uri"])
    return parse_keys(data)


def discover(provider: Provider) -> dict[str, str]:
    """The provider's own description (OpenID Connect Discovery 1.0), at most a minute old.

    Its issuer must be the configured one, and its addresses must be safe. Raises KeyFetchError.
    """
    known = _descriptions.get(provider.issuer)
    if known is not None and time.monotonic() - known[0] < MIN_INTERVAL_S:
        return known[1]
    found = _discover(provider)
    _descriptions[provider.issuer] = (time.monotonic(), found)
    return found


def forget_descriptions() -> None:
    """Fetch the descriptions of all providers again when they are needed next."""
    _descriptions.clear()


#: The descriptions by issuer, with the time of the fetch. Only configured issuers are in it.
_descriptions: dict[str, tuple[float, dict[str, str]]] = {}


def _discover(provider: Provider) -> dict[str, str]:
    url = f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration"
    found = _json_object(_get(url))
    if found.get("issuer") != provider.issuer:
        raise KeyFetchError(f"{url} names another issuer: {str(found.get('issuer'))[:200]!r}")
    addresses = {}
    for name in (
        "jwks_uri",
        "authorization_endpoint",
        "token_endpoint",
        "end_session_endpoint",
        "userinfo_endpoint",
    ):
        value = found.get(name)
        if value is None and name != "jwks_uri":
            continue
        if not isinstance(value, str) or not is_safe_url(value):
            raise KeyFetchError(f"{url} has no safe {name}")
        addresses[name] = value
    return addresses


def _get(url: str) -> bytes:
    host = urlsplit(url).netloc
    try:
        with requests.get(url, timeout=_TIMEOUT_S, stream=True, allow_redirects=False) as reply:
            if reply.status_code != 200:
                raise KeyFetchError(f"{host} answered {reply.status_code}")
            return _read(reply, host)
    except requests.RequestException as error:
        raise KeyFetchError(f"{host} cannot be reached ({type(error).__name__})") from None


def _read(reply: requests.Response, host: str) -> bytes:
    """The body, within the limits of size and time together."""
    ends_at = time.monotonic() + _TIMEOUT_S[1]
    parts: list[bytes] = []
    size = 0
    for part in reply.iter_content(16 * 1024):
        size += len(part)
        if size > _MAX_BYTES:
            raise KeyFetchError(f"{host} sent more than {_MAX_BYTES // 1024} KB")
        if time.monotonic() > ends_at:
            raise KeyFetchError(f"{host} is too slow")
        parts.append(part)
    return b"".join(parts)


def _json_object(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise KeyFetchError("the reply is not JSON") from None
    if not isinstance(found, dict):
        raise KeyFetchError("the reply is not a JSON object")
    return found


def parse_keys(data: bytes) -> list[Key]:
    """The public keys for signatures in a JSON Web Key Set; keys of other kinds are left out.

    Raises KeyFetchError if there is none.
    """
    found = _json_object(data).get("keys")
    if not isinstance(found, list):
        raise KeyFetchError('the reply has no list of "keys"')
    keys: list[Key] = []
    for entry in found[:_MAX_KEYS]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        if entry.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        public = {name: value for name, value in entry.items() if name in _PUBLIC_PARTS}
        try:
            (key,) = KeySet.import_key_set({"keys": [public]}).keys
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, RSAKey) and key.raw_value.key_size < _MIN_RSA_BITS:
            continue
        if isinstance(key, Key):
            keys.append(key)
    if not keys:
        raise KeyFetchError("the reply has no usable key")
    return keys


#: The parts of a key that are kept. A provider may publish private parts by mistake.
_PUBLIC_PARTS = frozenset({"kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y"})
