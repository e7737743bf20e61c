"""A fake Google: an HTTP server on loopback that issues tokens and serves the Sheets API's reads.

Tests can make its replies fail in many ways.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EMAIL = "budget-sync@example.iam.gserviceaccount.com"
REFRESH_TOKEN = "a refresh token"

#: The kinds of call: for a token, the properties of a spreadsheet, or a range of its values.
TOKEN, ABOUT, VALUES = "token", "about", "values"

Fault = Callable[["Handler", bytes], None]


@functools.cache
def private_key() -> rsa.RSAPrivateKey:
    """The service account's key, generated once per process.

    It has half the size of Google's keys, because google-auth checks its primes each time that it
    reads the file.
    """
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505


@dataclass(frozen=True)
class Date:
    """A cell with a date, a time or a duration: the text shown, and the stored count of days."""

    shown: str
    days: float


@dataclass
class Tab:
    """A worksheet."""

    title: str
    rows: list[list[Any]]
    gid: int = 0


@dataclass
class Spreadsheet:
    """A spreadsheet; only the accounts in `readers` may read it."""

    tabs: list[Tab]
    locale: str = "en_US"
    readers: set[str] = field(default_factory=lambda: {EMAIL, "user"})


class SheetsServer:
    """The server, its spreadsheets by key, the calls that it received, and its planned faults."""

    def __init__(self) -> None:
        self.spreadsheets: dict[str, Spreadsheet] = {}
        self.tokens: dict[str, str] = {}
        self.calls: list[str] = []
        self.faults: dict[str, list[Fault]] = {}
        self.stopping = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, self))
        self.http.daemon_threads = True
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True
        )
        self.thread.start()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.http.server_port}"

    def stop(self) -> None:
        """Stop the server, including replies that hang on purpose."""
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def share(
        self,
        key: str,
        rows: list[list[Any]],
        *,
        title: str = "Budgets",
        gid: int = 0,
        locale: str = "en_US",
    ) -> Tab:
        """Add a spreadsheet with one tab."""
        tab = Tab(title, rows, gid)
        self.spreadsheets[key] = Spreadsheet([tab], locale)
        return tab

    def fail(self, call: str, *faults: Fault, key: str | None = None) -> None:
        """Use these faults, one per call (for that spreadsheet), and then reply normally again."""
        self.faults.setdefault(f"{call} {key}" if key else call, []).extend(faults)

    def count(self, call: str) -> int:
        """The number of calls of that kind."""
        return self.calls.count(call)

    def credentials_file(self, folder: Path, kind: str = "service_account", **changes: Any) -> Path:
        """Write a credentials file as Google creates it."""
        pem = private_key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        service = {
            "client_email": EMAIL,
            "private_key": pem.decode(),
            "private_key_id": "key-1",
            "project_id": "example",
        }
        user = {"client_id": "client", "client_secret": "secret", "refresh_token": REFRESH_TOKEN}
        about = (
            {"type": kind, "token_uri": f"{self.url}/token"}
            | (service if kind == "service_account" else user)
            | changes
        )
        path = folder / f"{kind}.json"
        path.write_text(json.dumps(about), encoding="utf-8")
        return path


class Handler(BaseHTTPRequestHandler):
    """Handles one connection."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two writes, and the second must not wait for the acknowledgment of the
    # first.
    disable_nagle_algorithm = True

    def __init__(self, server: SheetsServer, *arguments: Any) -> None:
        self.google = server
        self.key = ""
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        """Issue a token."""
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        if urlsplit(self.path).path != "/token":
            return self._send_error(404, "NOT_FOUND", "no such path")
        grant = form.get("grant_type", [""])[0]
        if grant == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            account = _issuer(form["assertion"][0])
        else:
            account = "user" if form.get("refresh_token") == [REFRESH_TOKEN] else None
        if account is None:
            return self._answer(
                TOKEN,
                400,
                {"error": "invalid_grant", "error_description": "Invalid JWT Signature."},
            )
        token = secrets.token_hex(8)
        self.google.tokens[token] = account
        return self._answer(
            TOKEN, 200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}
        )

    def do_GET(self) -> None:
        """Serve a read."""
        found = self._wanted()
        if found is not None:
            self._serve(*found)

    def _wanted(self) -> tuple[str, Spreadsheet, list[str]] | None:
        """The key, the spreadsheet and the ranges that a call asks for; no ranges: the properties.

        If the call is not allowed, send an error reply and return None.
        """
        address = urlsplit(self.path)
        found = re.fullmatch(
            r"/v4/spreadsheets/([^/:]+)(?:/values/(.+)|/values:batchGet)?", address.path
        )
        if found is None:
            self._send_error(404, "NOT_FOUND", "no such path")
            return None
        key, a1 = found[1], found[2]
        self.key = key
        call = VALUES if "/values" in address.path else ABOUT
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        account = self.google.tokens.get(token)
        spreadsheet = self.google.spreadsheets.get(key)
        if account is None:
            self._send_error(
                401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", call
            )
        elif spreadsheet is None:
            self._send_error(404, "NOT_FOUND", "Requested entity was not found.", call)
        elif account not in spreadsheet.readers:
            self._send_error(403, "PERMISSION_DENIED", "The caller does not have permission", call)
        else:
            return (
                key,
                spreadsheet,
                [unquote(a1)] if a1 else parse_qs(address.query).get("ranges", []),
            )
        return None

    def _serve(self, key: str, spreadsheet: Spreadsheet, ranges: list[str]) -> None:
        if not ranges:
            self._answer(ABOUT, 200, _about(key, spreadsheet))
            return
        options = parse_qs(urlsplit(self.path).query)
        (dates,) = options.get("dateTimeRenderOption", ["SERIAL_NUMBER"])
        values = [_values(spreadsheet, each, dates) for each in ranges]
        if options.get("valueRenderOption") != ["UNFORMATTED_VALUE"]:
            self._send_error(
                400, "INVALID_ARGUMENT", "these tests only read unformatted values", VALUES
            )
        elif dates not in ("SERIAL_NUMBER", "FORMATTED_STRING"):
            self._send_error(
                400,
                "INVALID_ARGUMENT",
                f"Invalid value at 'date_time_render_option': {dates}",
                VALUES,
            )
        elif None in values:
            self._send_error(400, "INVALID_ARGUMENT", f"Unable to parse range: {ranges}", VALUES)
        else:
            batch = "values:batchGet" in self.path
            self._answer(
                VALUES, 200, {"spreadsheetId": key, "valueRanges": values} if batch else values[0]
            )

    def _send_error(self, status: int, name: str, message: str, call: str = "other") -> None:
        self._answer(call, status, {"error": {"code": status, "message": message, "status": name}})

    def _answer(self, call: str, status: int, body: object) -> None:
        self.google.calls.append(call)
        payload = json.dumps(body).encode()
        waiting = self.google.faults.get(f"{call} {self.key}") or self.google.faults.get(call)
        if waiting:
            waiting.pop(0)(self, payload)
        else:
            self.send(status, payload)

    def send(
        self,
        status: int,
        payload: bytes,
        *,
        length: int | None = None,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a reply; `length` replaces the true Content-Length."""
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(payload) if length is None else length),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)


def status(code: int, headers: Mapping[str, str] | None = None) -> Fault:
    """An error reply in Google's format."""
    names = {
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
    }
    error = {
        "error": {
            "code": code,
            "message": f"this call fails with {code}",
            "status": names.get(code, "UNKNOWN"),
        }
    }
    return lambda handler, _: handler.send(code, json.dumps(error).encode(), headers=headers)


def html_502(handler: Handler, _: bytes) -> None:
    """A proxy's error page instead of JSON."""
    handler.send(502, b"<html><title>502 Bad Gateway</title></html>", kind="text/html")


def html_200(handler: Handler, _: bytes) -> None:
    """A sign-in page instead of JSON."""
    handler.send(200, b"<html>Sign in to the hotel's network</html>", kind="text/html")


def silence(handler: Handler, _: bytes) -> None:
    """No reply at all."""
    handler.google.stopping.wait(20)
    handler.close_connection = True


def slow_drip(handler: Handler, payload: bytes) -> None:
    """A body that arrives byte by byte, each byte well within the timeout."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(payload)))
    handler.end_headers()
    _drip(handler, payload)


def slow_headers(handler: Handler, _: bytes) -> None:
    """Headers that arrive byte by byte."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    _drip(handler, b"X-Long: " + b"x" * 1000)


def endless(handler: Handler, _: bytes) -> None:
    """A body that is larger than a client should read."""
    with suppress(OSError):
        handler.send(200, b" " * 3_000_000)
    handler.close_connection = True


def _drip(handler: Handler, payload: bytes) -> None:
    try:
        for byte in payload:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            if handler.google.stopping.wait(0.05):
                break
    except OSError:
        # The client has given up, as it should.
        pass
    handler.close_connection = True


def cut_short(handler: Handler, payload: bytes) -> None:
    """Half a body, after which the connection is closed."""
    handler.send(200, payload[: len(payload) // 2], length=len(payload))
    handler.close_connection = True


def cut_short_but_valid_length(handler: Handler, payload: bytes) -> None:
    """Half a body with a matching Content-Length."""
    handler.send(200, payload[: len(payload) // 2])


def hang_up(handler: Handler, _: bytes) -> None:
    """The connection is closed without a reply."""
    handler.close_connection = True
    handler.connection.close()


def _about(key: str, spreadsheet: Spreadsheet) -> dict[str, Any]:
    sheets = [
        {
            "properties": {
                "sheetId": tab.gid,
                "title": tab.title,
                "index": index,
                "sheetType": "GRID",
                "gridProperties": {"rowCount": 1000, "columnCount": 26},
            }
        }
        for index, tab in enumerate(spreadsheet.tabs)
    ]
    return {
        "spreadsheetId": key,
        "properties": {
            "title": "A spreadsheet",
            "locale": spreadsheet.locale,
            "timeZone": "Etc/UTC",
        },
        "sheets": sheets,
    }


def _values(spreadsheet: Spreadsheet, a1: str, dates: str) -> dict[str, Any] | None:
    """The values of a tab as Google sends them.

    Trailing empty cells and rows are missing, and `values` is missing if there are none.
    """
    quoted = re.fullmatch(r"'((?:[^']|'')*)'", a1)
    title = quoted[1].replace("''", "'") if quoted else a1
    tab = next((tab for tab in spreadsheet.tabs if tab.title == title), None)
    if tab is None:
        return None
    rows = [_trimmed([_cell(cell, dates) for cell in row], "") for row in tab.rows]
    values = _trimmed(rows, [])
    # Google puts quotes around titles that need them, even if the request had none.
    shown = (
        title if re.fullmatch(r"[A-Za-z_]\w*", title) else "'{}'".format(title.replace("'", "''"))
    )
    found: dict[str, Any] = {"range": f"{shown}!A1:Z1000", "majorDimension": "ROWS"}
    return found | ({"values": values} if values else {})


def _cell(cell: Any, dates: str) -> Any:
    if isinstance(cell, Date):
        return cell.shown if dates == "FORMATTED_STRING" else cell.days
    return cell if cell is not None else ""


def _trimmed(items: list[Any], empty: object) -> list[Any]:
    kept = list(items)
    while kept and kept[-1] == empty and type(kept[-1]) is type(empty):
        kept.pop()
    return kept


def _issuer(assertion: str) -> str | None:
    """The account that signed a JWT; None if the signature or a claim is wrong."""
    head, claims_part, signature = assertion.split(".")
    header, claims = (json.loads(_unbase64(part)) for part in (head, claims_part))
    try:
        private_key().public_key().verify(
            _unbase64(signature),
            f"{head}.{claims_part}".encode(),
            padding.PKCS1v15(),
            hashes.SHA256(),
        )
    except InvalidSignature:
        return None
    good = (
        header["alg"] == "RS256"
        and claims["iss"] == EMAIL
        and claims["aud"] == "https://oauth2.googleapis.com/token"
        and claims["scope"] == "https://www.googleapis.com/auth/spreadsheets.readonly"
        and claims["iat"] - 60 <= time.time() <= claims["exp"]
    )
    return EMAIL if good else None


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
