"""The client's address, scheme and host, read from `X-Forwarded-…` headers of trusted proxies."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: A wrong TRUSTED_PROXIES affects every request. One warning in this time is enough.
WARN_EVERY_S = 60

_HEADERS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST")


class TrustedProxies(ProxyFix):
    """WSGI middleware for an app behind a known number of proxies.

    Each proxy appends the address that it saw to `X-Forwarded-For`, so with n proxies the client's
    address is the n-th from the end. For `X-Forwarded-Proto` and `-Host` the last value counts with
    any number of proxies: most proxies set or pass on one value, and the last one always comes from
    the nearest proxy, never from the client.
    """

    def __init__(self, app: WSGIApplication, proxies: int) -> None:
        super().__init__(app, x_for=proxies, x_proto=1, x_host=1)
        self.warned_at_s = -math.inf

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request, with the address that the outermost proxy saw as the client's."""
        # A client could open a quote, and ProxyFix would read the addresses that proxies append as
        # part of the quoted value. So remove all quotes.
        addresses = environ.get("HTTP_X_FORWARDED_FOR", "").replace('"', "")
        if "HTTP_X_FORWARDED_FOR" in environ:
            environ["HTTP_X_FORWARDED_FOR"] = addresses
        # A client that bypasses the proxies, such as Prometheus, sends none of these headers.
        if any(name in environ for name in _HEADERS):
            self._warn_if_too_few(sum(1 for address in addresses.split(",") if address.strip()))
        return super().__call__(environ, start_response)

    def _warn_if_too_few(self, addresses: int) -> None:
        """Log a warning, at most once a minute, if fewer proxies than set added an address."""
        now_s = time.monotonic()
        if addresses < self.x_for and now_s - self.warned_at_s >= WARN_EVERY_S:
            self.warned_at_s = now_s
            log.warning(
                "TRUSTED_PROXIES is %s, but a request has %s in X-Forwarded-For, so it counts as a "
                "request of its nearest proxy. Configure every proxy to append the address it saw.",
                self.x_for,
                "1 address" if addresses == 1 else f"{addresses} addresses",
            )
