"""A fake Google: an HTTP server on loopback that issues tokens and serves the Sheets API's reads.

Tests can make its replies fail in many ways. `python -m tests.support.sheets_server` runs it as a
program, to which `PUT /books/KEY` gives spreadsheets.
"""

from __future__ import annotations

import argparse
import base64
import functools
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .sheets_book import (
    EMAIL,
    Date,
    Spreadsheet,
    Tab,
    about_reply,
    corpus_tab,
    named_tab,
    values_reply,
)

__all__ = ["EMAIL", "Date", "Spreadsheet", "Tab"]

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


class SheetsServer:
    """The server, its spreadsheets by key, the calls that it received, and its planned faults."""

    def __init__(self, port: int = 0) -> None:
        self.spreadsheets: dict[str, Spreadsheet] = {}
        self.tokens: dict[str, str] = {}
        self.calls: list[str] = []
        self.faults: dict[str, list[Fault]] = {}
        self.stopping = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, self))
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

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        """Serve a sheet of the corpus as the tab "Budgets" of this spreadsheet."""
        self.spreadsheets[key] = Spreadsheet([corpus_tab(content)])

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

    def do_PUT(self) -> None:
        """Replace a spreadsheet: /books/KEY, with a sheet of the corpus as JSON."""
        content = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        key = unquote(urlsplit(self.path).path.removeprefix("/books/"))
        self.google.put(key, content)
        self.send(200, b"{}")

    def do_GET(self) -> None:
        """Serve a read."""
        found = self._wanted()
        if found is None:
            return
        call, key, spreadsheet, ranges = found
        if call == ABOUT:
            self._serve_about(key, spreadsheet, ranges)
        else:
            self._serve_values(key, spreadsheet, ranges)

    def _wanted(self) -> tuple[str, str, Spreadsheet, list[str]] | None:
        """The kind of call, the key, the spreadsheet and the ranges that a call asks for.

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
        elif spreadsheet.is_excel_file:
            message = "This operation is not supported for this document"
            self._send_error(400, "FAILED_PRECONDITION", message, call)
        else:
            return (
                call,
                key,
                spreadsheet,
                [unquote(a1)] if a1 else parse_qs(address.query).get("ranges", []),
            )
        return None

    def _serve_about(self, key: str, spreadsheet: Spreadsheet, ranges: list[str]) -> None:
        (fields,) = parse_qs(urlsplit(self.path).query).get("fields", [""])
        tabs = [named_tab(spreadsheet, each) for each in ranges]
        if None in tabs:
            message = f"Unable to parse range: {ranges[0]}"
            self._send_error(400, "INVALID_ARGUMENT", message, ABOUT)
            return
        wanted = [tab for tab in spreadsheet.tabs if not ranges or tab in tabs]
        self._answer(ABOUT, 200, about_reply(key, spreadsheet, wanted, fields))

    def _serve_values(self, key: str, spreadsheet: Spreadsheet, ranges: list[str]) -> None:
        options = parse_qs(urlsplit(self.path).query)
        (dates,) = options.get("dateTimeRenderOption", ["SERIAL_NUMBER"])
        values = [values_reply(spreadsheet, each, dates) for each in ranges]
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


def main() -> None:
    """Serve until the program is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--credentials", type=Path, default=Path(), help="the folder for service_account.json"
    )
    options = parser.parse_args()
    server = SheetsServer(options.port)
    path = server.credentials_file(options.credentials)
    print(f"SHEETS_URL={server.url} GOOGLE_APPLICATION_CREDENTIALS={path.resolve()}", flush=True)  # noqa: T201  # a program
    with suppress(KeyboardInterrupt):
        server.thread.join()
    server.stop()


if __name__ == "__main__":
    main()
