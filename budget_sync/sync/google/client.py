"""gspread's HTTP client with timeouts that cover a whole reply, one deadline, and bounded retries.

gspread has no setting for these, nor for another base URL.
"""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import google.auth.exceptions
import requests
import urllib3.exceptions
from gspread.exceptions import APIError
from gspread.http_client import HTTPClient
from gspread.urls import SPREADSHEETS_API_V4_BASE_URL

from budget_sync.sync.credentials import Credentials
from budget_sync.sync.google.transport import (
    UNEXPECTED_JSON,
    TemporaryError,
    TokenRequest,
    TooLargeError,
    cause,
    read_body,
    retry_after,
    too_slow,
    unreachable,
)
from budget_sync.sync.limits import HEADER_WITHIN_ROWS, MAX_CELLS, MAX_ROWS, size_problem
from budget_sync.sync.source import FetchError, Reach

#: The longest wait between two attempts, even if a Retry-After header asks for more: the next sync
#: run comes soon enough.
MAX_WAIT_S = 20.0

# Google's numbers are doubles, whose powers of ten end at 308.
_MOST_POWERS_OF_TEN = 400


class SheetsClient(HTTPClient):
    """gspread's HTTP client with another base URL, timeouts, a total deadline and a retry limit."""

    def __init__(self, credentials: Credentials, session: requests.Session, reach: Reach) -> None:
        session.auth = self._authorize
        super().__init__(credentials, session)
        self.credentials = credentials
        self.reach = reach
        self.deadline = time.monotonic() + reach.deadline_s

    def request(
        self, method: str, endpoint: str, params: Any = None, *_: Any, **__: Any
    ) -> requests.Response:
        """Send a request and read its JSON.

        Raises APIError if Google rejects the request, and FetchError if every attempt fails.
        """
        url = endpoint.replace(
            SPREADSHEETS_API_V4_BASE_URL, f"{self.reach.api_url.rstrip('/')}/v4/spreadsheets", 1
        )
        is_renewed = False
        problem = ""
        for attempt in range(1, self.reach.attempts + 1):
            try:
                self._renew(force=False)
                response = self._once(method, url, params)
                if response.status_code != requests.codes.unauthorized or is_renewed:
                    return self._checked(response)
                # A token may expire early, so request a new one, once.
                is_renewed = True
                self._renew(force=True)
                return self._checked(self._once(method, url, params))
            except TemporaryError as error:
                problem = str(error)
                self._wait(attempt, error.after_s, problem)
        raise FetchError(
            f"{problem} Tried {self.reach.attempts} times; the next sync run tries again."
        )

    def _checked(self, response: requests.Response) -> requests.Response:
        """The reply with its JSON. Raises APIError, or TemporaryError if a retry may help."""
        status = response.status_code
        if status == requests.codes.too_many_requests:
            raise TemporaryError("Google asks for fewer requests (429).", retry_after(response))
        if status >= 500:
            raise TemporaryError(f"Google's server failed ({status}).", retry_after(response))
        if not response.ok:
            raise APIError(response)
        require_size(response.content)
        try:
            body = json.loads(response.content, parse_float=_fraction, parse_constant=Decimal)
        except UNEXPECTED_JSON:
            raise TemporaryError("Google's reply was not valid JSON.") from None
        return ExactReply(response, body)

    def _once(self, method: str, url: str, params: Any) -> requests.Response:
        try:
            response = self.session.request(
                method,
                url,
                params=params,
                timeout=self._timeout(),
                stream=True,
                allow_redirects=False,
            )
            with response:
                read_body(response, self.deadline)
        except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            raise TemporaryError("Google did not answer in time.") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise TemporaryError(
                f"The connection to {urlsplit(url).hostname} failed ({cause(error)})."
            ) from None
        return response

    def _renew(self, *, force: bool) -> None:
        """Get a new access token if needed.

        Only `refresh` is called: google-auth's own session sends further requests.
        """
        if self.credentials.valid and not force:
            return
        try:
            with requests.Session() as session:
                request = TokenRequest(session, self._timeout, self.deadline)
                self.credentials.refresh(request)  # type: ignore[no-untyped-call]  # partial types
        except google.auth.exceptions.TransportError as error:
            raise TemporaryError(unreachable(error)) from None
        except google.auth.exceptions.RefreshError as error:
            if error.retryable:
                raise TemporaryError("Google's token service failed.") from None
            raise
        except UNEXPECTED_JSON:
            # google-auth does not check the JSON of a reply with status 200.
            raise TemporaryError("The reply of Google's token service was not valid.") from None

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # This is the session's auth, because requests would otherwise use a .netrc file.
        request.headers["Authorization"] = f"Bearer {self.credentials.token}"
        return request

    def _timeout(self) -> float:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise FetchError(too_slow(self.reach.deadline_s))
        return min(self.reach.timeout_s, left_s)

    def _wait(self, attempt: int, requested_s: float | None, problem: str) -> None:
        if attempt == self.reach.attempts:
            return
        wait_s = min(MAX_WAIT_S, max(requested_s or 0.0, self.reach.backoff_s * 2 ** (attempt - 1)))
        # Jitter, so that many installations do not retry at the same moment.
        wait_s *= random.uniform(0.75, 1.25)  # noqa: S311  # not a secret
        if time.monotonic() + wait_s >= self.deadline:
            raise FetchError(f"{problem} {too_slow(self.reach.deadline_s)}")
        time.sleep(wait_s)


class ExactReply(requests.Response):
    """A reply with parsed JSON, fractions as Decimal: gspread would parse them as floats."""

    def __init__(self, response: requests.Response, body: Any) -> None:
        super().__init__()
        self.status_code = response.status_code
        self.body = body

    def json(self, **_: Any) -> Any:
        """The parsed JSON."""
        return self.body


def require_size(content: bytes) -> None:
    """Raise TooLargeError if JSON has more rows or cells than a sheet may have.

    It is called before the JSON is parsed, because lists take many times the memory of their text.
    """
    # `apply` counts exactly. This also counts the header and the brackets around the rows.
    max_rows = MAX_ROWS + 2 * HEADER_WITHIN_ROWS
    max_cells = MAX_CELLS + MAX_ROWS
    if content.count(b"[") <= max_rows and content.count(b",") <= max_cells:
        return
    # Texts may contain brackets and commas, which do not count.
    without_escapes = content.replace(rb"\\", b"").replace(rb"\"", b"")
    texts = without_escapes.count(b'"') // 2
    if texts > max_cells:
        raise TooLargeError(size_problem(0, texts) or "")
    structure = b"".join(without_escapes.split(b'"')[::2])
    rows, cells = structure.count(b"["), structure.count(b",")
    if rows > max_rows or cells > max_cells:
        raise TooLargeError(size_problem(rows - max_rows + MAX_ROWS, cells) or "")


def _fraction(text: str) -> Decimal:
    """A number in Google's JSON, exactly.

    Raises ValueError or ArithmeticError if no double is that large or small: arithmetic with it
    would fail or take forever.
    """
    number = Decimal(text)
    if abs(number.adjusted()) > _MOST_POWERS_OF_TEN:
        raise ValueError("a number is beyond every double")
    return number
