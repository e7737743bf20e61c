"""Reads Google Sheets: timeouts, one total deadline, a limited number of retries, exact numbers.

A sync run sends three requests: `fetch_sheet_metadata` and twice `values_get` of gspread's HTTP
client. Its subclass adds features for which gspread has no setting: another base URL, timeouts that
cover a whole reply, and a retry limit.
"""

from __future__ import annotations

import json
import math
import queue
import random
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import zip_longest
from typing import Any
from urllib.parse import urlsplit

import google.auth.exceptions
import requests
import urllib3.exceptions
from google.auth.transport.requests import Request as AuthRequest
from gspread.exceptions import APIError
from gspread.http_client import HTTPClient
from gspread.urls import SPREADSHEETS_API_V4_BASE_URL
from gspread.utils import DateTimeOption, ValueRenderOption, absolute_range_name

from budget_sync.domain import clock
from budget_sync.sync.cells import known_locale
from budget_sync.sync.credentials import Credentials, load_credentials
from budget_sync.sync.fetched import Fetched
from budget_sync.sync.limits import (
    MAX_BYTES,
    MAX_CELLS,
    MAX_ROWS,
    count_cells,
    quoted,
    size_problem,
)
from budget_sync.sync.reading.grid import Cell, DateCell, Grid
from budget_sync.sync.rows import HEADER_WITHIN_ROWS
from budget_sync.sync.source import DEFAULT_LOCALE, FetchError, Reach, Target

#: The longest wait between two attempts, even if a Retry-After header asks for more: the next sync
#: run comes soon enough.
MAX_WAIT_S = 20.0

_CHUNK_BYTES = 64 * 1024

# A token is a few kilobytes.
_MAX_TOKEN_BYTES = 1024 * 1024

# Google's numbers are doubles, whose powers of ten end at 308.
_MOST_POWERS_OF_TEN = 400

# Errors from JSON that does not match the API description.
_UNEXPECTED_JSON = (
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


def fetch_sheet(source: Target, reach: Reach) -> Fetched:
    """Read one worksheet, within the deadline in every case. Raises FetchError."""
    outcome: queue.SimpleQueue[Fetched | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(_fetch(source, reach))
        except BaseException as error:  # noqa: BLE001  # re-raised by the caller
            outcome.put(error)

    # In a separate thread, because no timeout covers a DNS lookup or headers that arrive byte by
    # byte. An abandoned thread is harmless: it holds no lock and no transaction.
    threading.Thread(target=work, name=f"fetch {source.spreadsheet_key}", daemon=True).start()
    try:
        found = outcome.get(timeout=reach.deadline_s + 1)
    except queue.Empty:
        raise FetchError(_too_slow(reach)) from None
    if isinstance(found, BaseException):
        raise found
    return found


def _fetch(source: Target, reach: Reach) -> Fetched:
    credentials, account = load_credentials(reach.credentials_path)
    with requests.Session() as session:
        client = SheetsClient(credentials, session, reach)
        try:
            about = client.fetch_sheet_metadata(source.spreadsheet_key or "")
            title, gid = _find_worksheet(source, about)
            grid = _read_cells(client, source.spreadsheet_key or "", title)
            return Fetched(Grid(grid), f"sheet {title!r}", gid=gid, locale=_locale(about))
        except APIError as error:
            raise FetchError(_sentence(error, source, account)) from None
        except google.auth.exceptions.RefreshError as error:
            reason = _short(error.args[0] if error.args else error)
            raise FetchError(
                f"Google rejects the credentials ({reason}): renew the credentials file."
            ) from None
        except (google.auth.exceptions.GoogleAuthError, *_UNEXPECTED_JSON) as error:
            raise FetchError(
                "Google's reply does not match its API description "
                f"({type(error).__name__}: {_short(error)})."
            ) from error


def _read_cells(client: SheetsClient, key: str, title: str) -> list[list[Cell]]:
    """The cells of a tab, with dates as DateCell. Raises FetchError, and as `_read_values`."""
    # A sheet stores dates, times and durations as counts of days. Only a second read, of the text
    # that the sheet shows for them, can distinguish them from amounts.
    for _ in range(2):
        kept = _read_values(client, key, title, DateTimeOption.serial_number)
        shown = _read_values(client, key, title, DateTimeOption.formatted_string)
        if len(kept) == len(shown):
            return [
                row if row == other else _typed(row, other)
                for row, other in zip(kept, shown, strict=True)
            ]
    raise FetchError(
        "The sheet was changed while it was being read; the next sync run tries again."
    )


def _read_values(
    client: SheetsClient, key: str, title: str, dates: DateTimeOption
) -> list[list[Any]]:
    """The cells of a tab as Google sends them. Raises as `request` and `grid_of`."""
    options: dict[str, Any] = {
        "valueRenderOption": ValueRenderOption.unformatted,
        "dateTimeRenderOption": dates,
    }
    return grid_of(client.values_get(key, absolute_range_name(title), options), title)


def _typed(kept: Sequence[Cell], shown: Sequence[Cell]) -> list[Cell]:
    """A row with its dates as DateCell.

    `kept` are the stored values, `shown` those of the second read, between which the rows may have
    been sorted.
    """
    return [_typed_cell(*cells) for cells in zip_longest(kept, shown[: len(kept)])]


def _typed_cell(kept: Cell, shown: Cell) -> Cell:
    # The representations are compared too, because NaN is not equal to itself.
    if (
        isinstance(kept, bool)
        or not isinstance(kept, int | Decimal)
        or kept == shown
        or repr(kept) == repr(shown)
    ):
        return kept
    return DateCell(kept, shown if isinstance(shown, str) and shown else None)


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
            raise TemporaryError("Google asks for fewer requests (429).", _retry_after(response))
        if status >= 500:
            raise TemporaryError(f"Google's server failed ({status}).", _retry_after(response))
        if not response.ok:
            raise APIError(response)
        require_size(response.content)
        try:
            body = json.loads(response.content, parse_float=_fraction, parse_constant=Decimal)
        except _UNEXPECTED_JSON:
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
                _read_body(response, self.deadline)
        except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            raise TemporaryError("Google did not answer in time.") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise TemporaryError(
                f"The connection to {urlsplit(url).hostname} failed ({_cause(error)})."
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
                request = _TokenRequest(session, self)
                self.credentials.refresh(request)  # type: ignore[no-untyped-call]  # partial types
        except google.auth.exceptions.TransportError as error:
            raise TemporaryError(_unreachable(error)) from None
        except google.auth.exceptions.RefreshError as error:
            if error.retryable:
                raise TemporaryError("Google's token service failed.") from None
            raise
        except _UNEXPECTED_JSON:
            # google-auth does not check the JSON of a reply with status 200.
            raise TemporaryError("The reply of Google's token service was not valid.") from None

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # This is the session's auth, because requests would otherwise use a .netrc file.
        request.headers["Authorization"] = f"Bearer {self.credentials.token}"
        return request

    def _timeout(self) -> float:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise FetchError(_too_slow(self.reach))
        return min(self.reach.timeout_s, left_s)

    def _wait(self, attempt: int, requested_s: float | None, problem: str) -> None:
        if attempt == self.reach.attempts:
            return
        wait_s = min(MAX_WAIT_S, max(requested_s or 0.0, self.reach.backoff_s * 2 ** (attempt - 1)))
        # Jitter, so that many installations do not retry at the same moment.
        wait_s *= random.uniform(0.75, 1.25)  # noqa: S311  # not a secret
        if time.monotonic() + wait_s >= self.deadline:
            raise FetchError(f"{problem} {_too_slow(self.reach)}")
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


class _TokenRequest(AuthRequest):
    """google-auth's transport to the token service, with the timeouts of this fetch."""

    def __init__(self, session: requests.Session, client: SheetsClient) -> None:
        super().__init__(session)
        self.client = client

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
        timeout_s = self.client._timeout()  # noqa: SLF001  # same module
        try:
            response = super().__call__(  # type: ignore[no-untyped-call]  # partial types
                url, method, body, headers, timeout=timeout_s, **options
            )
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            raise TemporaryError(_unreachable(error)) from None
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
            _read_body(
                response,
                self.client.deadline,
                subject="The reply of Google's token service",
                max_bytes=_MAX_TOKEN_BYTES,
            )


def _unreachable(error: BaseException) -> str:
    return f"Google's token service cannot be reached ({_cause(error)})."


def _read_body(
    response: requests.Response,
    deadline: float,
    *,
    subject: str = "The sheet",
    max_bytes: int = MAX_BYTES,
) -> None:
    """Read a streamed body. Raises TimeoutError at the deadline, FetchError if it is too large.

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
            raise FetchError(f"{subject} is larger than {max_bytes // 1024 // 1024} MB.")
        if time.monotonic() > deadline:
            raise TimeoutError
    # The attributes in which requests stores a body that was read.
    response._content = b"".join(chunks)  # noqa: SLF001  # no public API
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001  # no public API


def _find_worksheet(source: Target, about: Mapping[str, Any]) -> tuple[str, int]:
    """The title and number of the source's tab.

    It is found by its number if that is known, because a tab can be renamed, or else by its title.
    """
    tabs = [
        (sheet["properties"]["title"], int(sheet["properties"]["sheetId"]))
        for sheet in about["sheets"]
    ]
    for title, gid in tabs:
        if gid == source.worksheet_gid and source.worksheet_gid is not None:
            return title, gid
    for title, gid in tabs:
        if title == source.worksheet:
            return title, gid
    wanted = (
        f"named {source.worksheet!r}"
        if source.worksheet is not None
        else f"with gid {source.worksheet_gid}"
    )
    raise FetchError(
        f"The spreadsheet has no tab {wanted}; "
        f"it has {', '.join(quoted(title) for title, _ in tabs[:10])}."
    )


def require_size(content: bytes) -> None:
    """Raise FetchError if JSON has more rows or cells than a sheet may have.

    It is called before the JSON is parsed, because lists take many times the memory of their text.
    """
    # read_rows counts exactly. This also counts the header and the brackets around the rows.
    max_rows = MAX_ROWS + 2 * HEADER_WITHIN_ROWS
    max_cells = MAX_CELLS + MAX_ROWS
    if content.count(b"[") <= max_rows and content.count(b",") <= max_cells:
        return
    # Texts may contain brackets and commas, which do not count.
    without_escapes = content.replace(rb"\\", b"").replace(rb"\"", b"")
    texts = without_escapes.count(b'"') // 2
    if texts > max_cells:
        raise FetchError(size_problem(0, texts) or "")
    structure = b"".join(without_escapes.split(b'"')[::2])
    rows, cells = structure.count(b"["), structure.count(b",")
    if rows > max_rows or cells > max_cells:
        raise FetchError(size_problem(rows - max_rows + MAX_ROWS, cells) or "")


def _fraction(text: str) -> Decimal:
    """A number in Google's JSON, exactly.

    Raises ValueError or ArithmeticError if no double is that large or small: arithmetic with it
    would fail or take forever.
    """
    number = Decimal(text)
    if abs(number.adjusted()) > _MOST_POWERS_OF_TEN:
        raise ValueError("a number is beyond every double")
    return number


def grid_of(values: Mapping[str, Any], title: str) -> list[list[Any]]:
    """The cells of a reply.

    Raises LookupError, TypeError or ValueError if it has no cells, or those of another tab.
    """
    if _title_of(values["range"]) != title:
        raise ValueError(f"the values of {values['range']} instead of {title!r}")
    grid = values.get("values", [])
    if not isinstance(grid, list) or not all(isinstance(row, list) for row in grid):
        raise TypeError("the values are not rows of cells")
    # read_rows counts exactly. This also counts the header, and what precedes it.
    spare_rows = HEADER_WITHIN_ROWS
    if problem := size_problem(len(grid) - spare_rows, count_cells(grid[spare_rows:])):
        raise FetchError(problem)
    if any(isinstance(cell, list | dict) for row in grid for cell in row):
        raise TypeError("a cell holds more than one value")
    return grid


def _title_of(a1: str) -> str:
    """The tab's title in a range such as Budgets!A1:Z9 or 'It''s mine'!A1."""
    title = a1.rpartition("!")[0]
    return title[1:-1].replace("''", "'") if title.startswith("'") else title


def _locale(about: Mapping[str, Any]) -> str:
    """The locale of the spreadsheet."""
    return known_locale(str(about["properties"].get("locale", ""))) or DEFAULT_LOCALE


def _sentence(error: APIError, source: Target, account: str) -> str:
    """What an error reply of Google means, and what to do."""
    status = error.response.status_code
    message = _short(error.error.get("message", "") if isinstance(error.error, Mapping) else "")
    if status == requests.codes.not_found:
        return (
            f"There is no spreadsheet {source.spreadsheet_key}: "
            "check the key, and whether it was deleted."
        )
    if status == requests.codes.forbidden:
        return (
            f"Google denies {account} access to the spreadsheet (403: {message}): "
            "share it with that address, as a viewer."
        )
    if status == requests.codes.unauthorized:
        return (
            f"Google does not accept the credentials of {account} (401): "
            "renew the credentials file."
        )
    return f"Google rejects the request for the sheet ({status}: {message})."


def _retry_after(response: requests.Response) -> float | None:
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


def _too_slow(reach: Reach) -> str:
    return (
        f"It could not be read within {math.ceil(reach.deadline_s)} s; "
        "the next sync run tries again."
    )


def _cause(error: BaseException) -> str:
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


def _short(text: object) -> str:
    return " ".join(str(text).split())[:200]
