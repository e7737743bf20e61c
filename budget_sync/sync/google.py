"""Google Sheets, the one place that talks to a network: time-outs, one total deadline, bounded retries, exact numbers.

A pass makes three reads, `fetch_sheet_metadata` and twice `values_get` of gspread's HTTP client, which is subclassed for what it
has no setting for: another base URL, time-outs that cover a whole reply, and retries that end.
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
from budget_sync.sync.cells import Cell, DateCell, known_locale
from budget_sync.sync.credentials import Credentials, load_credentials
from budget_sync.sync.source import DEFAULT_LOCALE, MAX_BYTES, Fetched, FetchFailed, Reach, Source

#: A wait between two tries is never longer, whatever a Retry-After asks for: the next pass comes soon enough.
MAX_WAIT_S = 20.0

_CHUNK_BYTES = 64 * 1024

# A token is a few kilobytes.
_MAX_TOKEN_BYTES = 1024 * 1024

# Google's numbers are doubles, whose powers of ten end at 308.
_MOST_POWERS_OF_TEN = 400

# What comes of JSON that is not what its API describes.
_ODD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


class TryAgain(Exception):
    """A try that failed for a reason that may pass; `after_s` is how long the server asks to wait."""

    def __init__(self, sentence: str, after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.after_s = after_s


def fetch_sheet(source: Source, reach: Reach) -> Fetched:
    """Read one worksheet, within the deadline come what may. Raises FetchFailed."""
    outcome: queue.SimpleQueue[Fetched | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(_fetch(source, reach))
        except BaseException as error:  # noqa: BLE001  # handed over to the caller, who waits
            outcome.put(error)

    # On a thread of its own, since nothing bounds a name lookup or a reply whose headers drip in; the thread holds nothing.
    threading.Thread(target=work, name=f"fetch {source.id}", daemon=True).start()
    try:
        found = outcome.get(timeout=reach.deadline_s + 1)
    except queue.Empty:
        raise FetchFailed(_too_slow(reach)) from None
    if isinstance(found, BaseException):
        raise found
    return found


def _fetch(source: Source, reach: Reach) -> Fetched:
    credentials, account = load_credentials(reach.credentials_path)
    with requests.Session() as session:
        client = SheetsClient(credentials, session, reach)
        try:
            about = client.fetch_sheet_metadata(source.spreadsheet_key or "")
            title, gid = _find_worksheet(source, about)
            grid = _read_cells(client, source.spreadsheet_key or "", title)
            return Fetched(grid, f"sheet {title!r}", _locale(source, about), gid=gid)
        except APIError as error:
            raise FetchFailed(_sentence(error, source, account)) from None
        except google.auth.exceptions.RefreshError as error:
            raise FetchFailed(
                f"Google refuses the credentials ({_short(error.args[0] if error.args else error)}): renew the credentials file."
            ) from None
        except (google.auth.exceptions.GoogleAuthError, *_ODD) as error:
            raise FetchFailed(
                f"Google's reply is not what its API describes ({type(error).__name__}: {_short(error)})."
            ) from error


def _read_cells(client: SheetsClient, key: str, title: str) -> list[list[Cell]]:
    """A tab's cells, dates told from numbers. Raises FetchFailed, and as `_read_values`."""
    # A sheet keeps dates, times and durations as counts of days: nothing but reading them as text as well tells them from amounts.
    for _ in range(2):
        kept = _read_values(client, key, title, DateTimeOption.serial_number)
        shown = _read_values(client, key, title, DateTimeOption.formatted_string)
        if len(kept) == len(shown):
            return [
                row if row == other else _typed(row, other)
                for row, other in zip(kept, shown, strict=True)
            ]
    raise FetchFailed("The sheet was changed while it was being read; the next pass tries again.")


def _read_values(
    client: SheetsClient, key: str, title: str, dates: DateTimeOption
) -> list[list[Any]]:
    """A tab's cells as Google gives them. Raises as the client's `request` and as `_grid`."""
    options: dict[str, Any] = {
        "valueRenderOption": ValueRenderOption.unformatted,
        "dateTimeRenderOption": dates,
    }
    return _grid(client.values_get(key, absolute_range_name(title), options), title)


def _typed(kept: Sequence[Cell], shown: Sequence[Cell]) -> list[Cell]:
    """A row as the sheet keeps it. What is no longer the same number is none: the rows may have been sorted in between."""
    return [_typed_cell(*cells) for cells in zip_longest(kept, shown[: len(kept)])]


def _typed_cell(kept: Cell, shown: Cell) -> Cell:
    # By what they look like as well: NaN is not equal to itself.
    if (
        isinstance(kept, bool)
        or not isinstance(kept, int | Decimal)
        or kept == shown
        or repr(kept) == repr(shown)
    ):
        return kept
    return DateCell(kept, shown if isinstance(shown, str) and shown else None)


class SheetsClient(HTTPClient):
    """gspread's HTTP client with another base URL, time-outs, one deadline over everything, and bounded retries."""

    def __init__(self, credentials: Credentials, session: requests.Session, reach: Reach) -> None:
        session.auth = self._authorise
        super().__init__(credentials, session)
        self.credentials = credentials
        self.reach = reach
        self.deadline = time.monotonic() + reach.deadline_s

    def request(
        self, method: str, endpoint: str, params: Any = None, *_: Any, **__: Any
    ) -> requests.Response:
        """A reply whose JSON was read whole. Raises APIError for what Google refuses, FetchFailed for what stays broken."""
        url = endpoint.replace(
            SPREADSHEETS_API_V4_BASE_URL, f"{self.reach.api_url.rstrip('/')}/v4/spreadsheets", 1
        )
        renewed = False
        problem = ""
        for attempt in range(1, self.reach.attempts + 1):
            try:
                self._renew(force=False)
                response = self._once(method, url, params)
                if response.status_code != requests.codes.unauthorized or renewed:
                    return self._checked(response)
                # A token may end early; one more is asked for, once.
                renewed = True
                self._renew(force=True)
                return self._checked(self._once(method, url, params))
            except TryAgain as error:
                problem = str(error)
                self._wait(attempt, error.after_s, problem)
        raise FetchFailed(
            f"{problem} Tried {self.reach.attempts} times; the next pass tries again."
        )

    def _checked(self, response: requests.Response) -> requests.Response:
        """The reply, if it is a good one. Raises APIError, or TryAgain for what may pass."""
        status = response.status_code
        if status == requests.codes.too_many_requests:
            raise TryAgain("Google asks for fewer reads (429).", _retry_after(response))
        if status >= 500:
            raise TryAgain(f"Google's server failed ({status}).", _retry_after(response))
        if not response.ok:
            raise APIError(response)
        try:
            body = json.loads(response.content, parse_float=_fraction, parse_constant=Decimal)
        except _ODD:
            raise TryAgain("Google's reply was broken.") from None
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
                _read_whole(response, self.deadline)
        except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            raise TryAgain("Google did not answer in time.") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise TryAgain(
                f"The connection to {urlsplit(url).hostname} failed ({_cause(error)})."
            ) from None
        return response

    def _renew(self, *, force: bool) -> None:
        """A fresh access token where it is needed. `refresh` alone, unlike google-auth's own session, looks nothing else up."""
        if self.credentials.valid and not force:
            return
        try:
            with requests.Session() as session:
                self.credentials.refresh(_BoundRequest(session, self))  # type: ignore[no-untyped-call]  # google-auth's types are partial
        except google.auth.exceptions.TransportError as error:
            raise TryAgain(_unreachable(error)) from None
        except google.auth.exceptions.RefreshError as error:
            if error.retryable:
                raise TryAgain("Google's token service failed.") from None
            raise
        except _ODD:
            # google-auth takes whatever comes with a 200 for what it asked for.
            raise TryAgain("The reply of Google's token service was broken.") from None

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Set as the session's auth, so that no .netrc takes its place.
        request.headers["Authorization"] = f"Bearer {self.credentials.token}"
        return request

    def _timeout(self) -> float:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise FetchFailed(_too_slow(self.reach))
        return min(self.reach.timeout_s, left_s)

    def _wait(self, attempt: int, asked_s: float | None, problem: str) -> None:
        if attempt == self.reach.attempts:
            return
        wait_s = min(MAX_WAIT_S, max(asked_s or 0.0, self.reach.backoff_s * 2 ** (attempt - 1)))
        # Jitter, so that many installations do not come back at one moment.
        wait_s *= random.uniform(0.75, 1.25)  # noqa: S311  # no secret
        if time.monotonic() + wait_s >= self.deadline:
            raise FetchFailed(f"{problem} {_too_slow(self.reach)}")
        time.sleep(wait_s)


class ExactReply(requests.Response):
    """A reply whose JSON is read already, fractions as Decimal: gspread would make floats of them."""

    def __init__(self, response: requests.Response, body: Any) -> None:
        super().__init__()
        self.status_code = response.status_code
        self.body = body

    def json(self, **_: Any) -> Any:
        """The JSON."""
        return self.body


class _BoundRequest(AuthRequest):
    """google-auth's way to its token service, with this fetch's time-outs, and to nowhere else."""

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
        """Send it. Raises TryAgain for what may pass, before google-auth waits and tries again without an eye on the deadline; FetchFailed for the rest."""
        # A redirect would take the credentials, which are in the body, to any host.
        options |= {"allow_redirects": False, "hooks": {"response": self._read}}
        timeout_s = self.client._timeout()  # noqa: SLF001  # its other half
        try:
            response = super().__call__(url, method, body, headers, timeout=timeout_s, **options)  # type: ignore[no-untyped-call]  # partial
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            raise TryAgain(_unreachable(error)) from None
        if response.status in (408, 429) or response.status >= 500:
            raise TryAgain(f"Google's token service failed ({response.status}).")
        if 300 <= response.status < 400:
            raise FetchFailed(
                f"The token_uri in the credentials file answers with a redirect ({response.status}), and credentials follow none: correct it."
            )
        return response

    def _read(self, response: requests.Response, **_: Any) -> None:
        with response:
            _read_whole(
                response,
                self.client.deadline,
                "The reply of Google's token service",
                _MAX_TOKEN_BYTES,
            )


def _unreachable(error: BaseException) -> str:
    return f"Google's token service cannot be reached ({_cause(error)})."


def _read_whole(
    response: requests.Response,
    deadline: float,
    what: str = "The sheet",
    most_bytes: int = MAX_BYTES,
) -> None:
    """Read a streamed body, giving up at the deadline: a time-out alone starts anew with every byte."""
    chunks, size = [], 0
    while True:
        chunk = response.raw.read1(_CHUNK_BYTES, decode_content=True)
        if not chunk and response.raw.closed:
            break
        chunks.append(chunk)
        size += len(chunk)
        if size > most_bytes:
            raise FetchFailed(f"{what} is larger than {most_bytes // 1024 // 1024} MB.")
        if time.monotonic() > deadline:
            raise TimeoutError
    # Where requests keeps a body that was read.
    response._content = b"".join(chunks)  # noqa: SLF001  # it has no public way to hand one in
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001  # the same


def _find_worksheet(source: Source, about: Mapping[str, Any]) -> tuple[str, int]:
    """The title and number of the tab that a source names: by number, which outlives its name, or else by title."""
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
    raise FetchFailed(
        f"The spreadsheet has no tab {wanted}; it has {', '.join(repr(title) for title, _ in tabs[:10])}."
    )


def _fraction(text: str) -> Decimal:
    """A number of Google's, exactly. Raises ValueError or ArithmeticError for what is none: sums with it would fail, or not end."""
    number = Decimal(text)
    if abs(number.adjusted()) > _MOST_POWERS_OF_TEN:
        raise ValueError("a number is beyond every double")
    return number


def _grid(values: Mapping[str, Any], title: str) -> list[list[Any]]:
    """The cells of a reply. Raises LookupError, TypeError or ValueError where they are none, or another tab's."""
    if _title_of(values["range"]) != title:
        raise ValueError(f"the values of {values['range']} instead of {title!r}")
    grid = values.get("values", [])
    if not isinstance(grid, list) or not all(isinstance(row, list) for row in grid):
        raise TypeError("values are no rows of cells")
    if any(isinstance(cell, list | dict) for row in grid for cell in row):
        raise TypeError("a cell holds more than one value")
    return grid


def _title_of(a1: str) -> str:
    """The tab's title in a range such as Budgets!A1:Z9 or 'It''s mine'!A1."""
    title = a1.rpartition("!")[0]
    return title[1:-1].replace("''", "'") if title.startswith("'") else title


def _locale(source: Source, about: Mapping[str, Any]) -> str:
    """The locale that text amounts are written in: the source's own, or the sheet's."""
    return (
        source.locale or known_locale(str(about["properties"].get("locale", ""))) or DEFAULT_LOCALE
    )


def _sentence(error: APIError, source: Source, account: str) -> str:
    """What Google's refusal means and what to do."""
    status, message = (
        error.response.status_code,
        _short(error.error.get("message", "") if isinstance(error.error, Mapping) else ""),
    )
    if status == requests.codes.not_found:
        return f"There is no spreadsheet {source.spreadsheet_key}: was it deleted, or is the key mistyped?"
    if status == requests.codes.forbidden:
        return f"Google denies the spreadsheet to {account} (403: {message}): share it with that address, as a viewer."
    if status == requests.codes.unauthorized:
        return f"Google does not accept the credentials of {account} (401): renew the credentials file."
    return f"Google refuses to read the sheet ({status}: {message})."


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that a reply asks to wait, as a number or until a date; None where it asks for nothing that makes sense."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        # Without a zone it is UTC, as HTTP has it.
        return (
            (until if until.tzinfo else until.replace(tzinfo=UTC)) - clock.now()
        ).total_seconds()
    except (ValueError, ArithmeticError):
        return None


def _too_slow(reach: Reach) -> str:
    return (
        f"It could not be read within {math.ceil(reach.deadline_s)} s; the next pass tries again."
    )


def _cause(error: BaseException) -> str:
    """The name of the deepest cause: "ConnectionRefusedError" says more than the pool's retries around it."""
    while True:
        inner = getattr(error, "reason", None) or next(
            (each for each in error.args if isinstance(each, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            return type(error).__name__
        error = inner


def _short(text: object) -> str:
    return " ".join(str(text).split())[:200]
