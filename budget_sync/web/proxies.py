"""Who called, and under which address of ours, where proxies stand in front: read from `X-Forwarded-…` as far as they wrote it."""

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

#: With a wrong setting every request is wrong. Once is enough for somebody to see it.
WARN_EVERY_S = 60

_HEADERS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST")


class TrustedProxies(ProxyFix):
    """An app behind that many proxies.

    Each adds the address that it saw at the end of `X-Forwarded-For`, so that the client's is that many from the end. Of
    `X-Forwarded-Proto` and `-Host` the last value counts, however many proxies there are: most set or pass on a single one, and
    the last is what the nearest proxy wrote, never the client.
    """

    def __init__(self, app: WSGIApplication, proxies: int) -> None:
        super().__init__(app, x_for=proxies, x_proto=1, x_host=1)
        self.warned_at_s = -math.inf

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as one from the address that the outermost of the proxies saw."""
        # ProxyFix would take a quote that the client opened for a value's beginning, and what the proxies added for its inside.
        added = environ.get("HTTP_X_FORWARDED_FOR", "").replace('"', "")
        if "HTTP_X_FORWARDED_FOR" in environ:
            environ["HTTP_X_FORWARDED_FOR"] = added
        # Whoever comes past the proxies, as Prometheus does, has none of them.
        if any(name in environ for name in _HEADERS):
            self._look_at(sum(1 for address in added.split(",") if address.strip()))
        return super().__call__(environ, start_response)

    def _look_at(self, addresses: int) -> None:
        """Say so where too few proxies added an address, but not with each request."""
        now_s = time.monotonic()
        if addresses < self.x_for and now_s - self.warned_at_s >= WARN_EVERY_S:
            self.warned_at_s = now_s
            log.warning(
                "TRUSTED_PROXIES is %s, but a request came with %s in X-Forwarded-For, so it counts as its nearest proxy's own:"
                " every proxy must add the address that it saw.",
                self.x_for,
                "1 address" if addresses == 1 else f"{addresses} addresses",
            )
