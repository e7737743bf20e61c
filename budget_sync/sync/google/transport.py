"""HTTP for Google's servers: bodies within a deadline and a size, and what errors mean."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3.exceptions
from google.auth.transport.requests import Request as AuthRequest

from budget_sync.domain import clock
from budget_sync.sync.limits import MAX_BYTES
from budget_sync.sync.source import FetchError

_CHUNK_BYTES = 64 * 1024

# A token is a few kilobytes.
_MAX_TOKEN_BYTES = 1024 * 1024

#: Errors from JSON that does not match the API description.
UNEXPECTED_JSON = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class TemporaryError(Exception):
    """An attempt failed for a temporary reason. `after_s` is the wait that the server asks for."""

    def __init__(self, sentence: str, after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.after_s = after_s


class TooLargeError(FetchError):
    """A reply that is larger than a sheet may be."""


class TokenRequest(AuthRequest):
    """google-auth's transport to the token service, with the timeouts of this fetch."""

    def __init__(
        self, session: requests.Session, timeout: Callable[[], float], deadline: float
    ) -> None:
        """`timeout` returns the seconds that a request may take now."""
        super().__init__(session)
        self._timeout = timeout
        self._deadline = deadline

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        timeout: Any = None,
        **options: Any,
    ) -> Any:
        """Send a request. Raises TemporaryError if a retry may help, and FetchError otherwise.

        TemporaryError also keeps google-auth from its own retries, which ignore the deadline.
        """
        # A redirect could send the credentials, which are in the body, to any host.
        options |= {"allow_redirects": False, "hooks": {"response": self._read}}
        timeout_s = self._timeout()
        try:
            response = super().__call__(  # type: ignore[no-untyped-call]  # partial types
                url, method, body, headers, timeout=timeout_s, **options
            )
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            raise TemporaryError(unreachable(error)) from None
        if response.status in (408, 429) or response.status >= 500:
            raise TemporaryError(f"Google's token service failed ({response.status}).")
        if 300 <= response.status < 400:
            raise FetchError(
                "The token_uri in the credentials file answers with a redirect "
                f"({response.status}), which is not followed with credentials: correct it."
            )
        return response

    def _read(self, response: requests.Response, **_: Any) -> None:
        with response:
            read_body(
                response,
                self._deadline,
                subject="The reply of Google's token service",
                max_bytes=_MAX_TOKEN_BYTES,
            )


def unreachable(error: BaseException) -> str:
    """The sentence for a token service that does not answer."""
    return f"Google's token service cannot be reached ({cause(error)})."


def read_body(
    response: requests.Response,
    deadline: float,
    *,
    subject: str = "The sheet",
    max_bytes: int = MAX_BYTES,
) -> None:
    """Read a streamed body. Raises TimeoutError at the deadline, TooLargeError if it is too large.

    The deadline is checked here, because a timeout of requests restarts with each byte.
    """
    chunks, size = [], 0
    while True:
        chunk = response.raw.read1(_CHUNK_BYTES, decode_content=True)
        if not chunk and response.raw.closed:
            break
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise TooLargeError(f"{subject} is larger than {max_bytes // 1024 // 1024} MB.")
        if time.monotonic() > deadline:
            raise TimeoutError
    # The attributes in which requests stores a body that was read.
    response._content = b"".join(chunks)  # noqa: SLF001  # no public API
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001  # no public API


def retry_after(response: requests.Response) -> float | None:
    """The wait that a Retry-After header asks for, in seconds; None if it is missing or invalid.

    The header contains a number of seconds or a date.
    """
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        # HTTP dates are in UTC.
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return (until - clock.now()).total_seconds()
    except (ValueError, ArithmeticError):
        return None


def too_slow(deadline_s: float) -> str:
    """The sentence for a fetch that took too long."""
    return f"It could not be read within {math.ceil(deadline_s)} s; the next sync run tries again."


def cause(error: BaseException) -> str:
    """The type of the innermost cause, such as "ConnectionRefusedError".

    The outer errors only describe the retries of the connection pool.
    """
    while True:
        inner = getattr(error, "reason", None) or next(
            (each for each in error.args if isinstance(each, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            return type(error).__name__
        error = inner


def short(text: object) -> str:
    """A text from a reply on one line, short enough for a message."""
    return " ".join(str(text).split())[:200]
