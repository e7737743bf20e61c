"""Hostile text in every field: control characters, terminal escapes, formulas, bidirectional marks,
markup and very long names.

Texts are stored unchanged, and must be harmless wherever they appear: in the log, on a terminal, in
responses, on pages and in CSV files.
"""

from __future__ import annotations

import csv
import io
import random
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from html import unescape
from typing import Any
from urllib.parse import quote, urljoin

import requests
from support.installation import Installation
from support.sources import write_reading
from support.world import check_body, reserve_body

from stress.load import verify_balances
from stress.outcome import Outcome, Place

PIECES = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "line\nbreak",
    "return\r\nSet-Cookie: a=b",
    "\ttab",
    "\x08\x7f\x9b",
    "\u2028\u2029\x85",
    "\u202eright to left",
    "\u200bzero\ufeffwidth",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1",
    "@IF(A1)",
    "\t=1+1",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}${7*7}",
    "%s%n%d{}",
    '\'; DROP TABLE "Budget"; --',
    "\U0001f4b8\U0001f1e9\U0001f1ea é ß İ ﷽",
    "2025-01-01T00:00:00Z INFO budget_sync [-] forged",
)
TOO_LONG = "x" * 65_536

#: Maximum length of an id; other fields may have twice as many characters.
MAX_ID = 100

#: Beginnings of injected tags. No script or image of our pages starts like these.
TAGS = ("<script>", "<img src=x")

#: Texts that are valid as a department and as a user's name.
PLAIN = tuple(piece for piece in PIECES if piece.isprintable())
NAME = "".join(piece for piece in PLAIN if "<" in piece)

#: Characters that must not appear in a line of a log or a terminal.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [A-Z]+ \S+ \[[A-Za-z0-9._,+-]+\] ")


def stress(tries: int, place: Place) -> Outcome:
    """Send `tries` hostile texts in every field, and inspect all output."""
    outcome = Outcome()
    with place.installation() as server:
        server.environment["LOG_LEVEL"] = "DEBUG"
        server.start()
        # First, because the hostile logins soon block this address.
        session = server.session("alex")
        texts = []
        for number in range(tries):
            text = _text(number, tries, place.rng)
            texts.append(text)
            _send_everywhere(server, text, number, outcome)
            outcome.tries += 1
            place.progress(number + 1, tries)
        _send_too_long(server, outcome)
        _look_at_terminal(server, texts, outcome)
        # Blank texts reserve nothing.
        kept = {f"{text}-{number}": text for number, text in enumerate(texts) if text.strip()}
        _look_at_pages(server, session, kept, outcome)
        _look_at_run(server, session, outcome)
        _look_at_exports(server, session, kept, outcome)
        _look_at_log(server, outcome)
        verify_balances(server.target, outcome, "at the end")
    return outcome


def _text(number: int, tries: int, rng: random.Random) -> str:
    """One piece each and later several combined; with few tries, combined from the start."""
    if tries < len(PIECES):
        return "".join(PIECES[number::tries])
    return "".join(
        (PIECES[number % len(PIECES)], *rng.choices(PIECES, k=min(3, number // len(PIECES))))
    )


def _send_everywhere(server: Installation, text: str, number: int, outcome: Outcome) -> None:
    """Send a text in every field of the calls, in a URL, in headers and as a login."""
    request = f"{text}-{number}"
    key = server.key()
    fields: dict[str, Any] = {
        "requestId": request,
        "userName": text,
        "userEmail": text,
        "userId": text[:MAX_ID],
        "vendor": text,
        "purpose": text,
    }
    named = check_body(**fields)
    calls = (
        ("/api/budget/check", {**named, "department": text}),
        ("/api/budget/check", named),
        ("/api/budget/reserve", reserve_body(requestId=request, reason=text, amount=0.01)),
        (
            "/api/budget/release",
            {"budgetId": text, "requestId": request, "amount": 1, "action": text, text: text},
        ),
        ("/api/auth/login", {"email": text, "password": text}),
    )
    for path, body in calls:
        response = server.post(path, body, headers=key)
        is_logged = body is not named or response.status_code == 200 or not text.strip()
        outcome.expect(
            response.status_code < 500 and is_logged,
            f"{text!r} to {path} gets {response.status_code} {response.text[:200]}",
        )
        outcome.expect(
            not _UNPRINTABLE.search("".join(response.headers.values())),
            f"{text!r} to {path} appears in a response header",
        )
        outcome.expect(
            response.headers["Content-Type"] == "application/json" and response.json(),
            f"{text!r} to {path}: {response.text[:200]}",
        )
    if not text.strip():
        # Blank, so nothing was reserved.
        return
    found = requests.get(
        f"{server.url}/api/requests/{quote(request, safe='')}", headers=key, timeout=30
    )
    if outcome.expect(
        found.status_code == 200,
        f"{text!r} is not found: {found.status_code} {found.text[:200]}",
    ):
        outcome.expect(
            found.json()["requestId"] == request and found.json()["movements"][0]["reason"] == text,
            f"{text!r} is stored as {found.json()}",
        )
    # Through a socket, because HTTP libraries reject such headers.
    raw = text.encode("utf-8", "surrogatepass").replace(b"\n", b" ").replace(b"\r", b" ")
    head = (
        b"GET /api/budgets HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %s\r\n"
        b"User-Agent: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n" % ((raw,) * 3)
    )
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
    ):
        connection.sendall(head)
        reply = b""
        while data := connection.recv(65_536):
            reply += data
        outcome.expect(
            b"\x1b" not in reply and re.match(rb"HTTP/1.1 4\d\d ", reply),
            f"{text!r} in headers gets {reply[:300]!r}",
        )


def _send_too_long(server: Installation, outcome: Outcome) -> None:
    for field in ("requestId", "userName", "vendor", "purpose", "department"):
        response = server.post(
            "/api/budget/check", check_body(**{field: TOO_LONG}), headers=server.key()
        )
        outcome.expect(
            response.status_code in (400, 413) and len(response.content) < 2_000,
            f"64 KiB as {field} get {response.status_code}",
        )
    response = requests.get(f"{server.url}/{TOO_LONG}", timeout=30)
    outcome.expect(
        400 <= response.status_code < 500,
        f"a URL of 64 KiB gets {response.status_code}",
    )


def _look_at_terminal(server: Installation, texts: list[str], outcome: Outcome) -> None:
    """Sync a sheet with the texts as departments, and inspect the output of commands."""
    folder = server.folder / "sheets"
    folder.mkdir(exist_ok=True)
    with (folder / "hostile.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Department", "Fiscal Period", "Budgeted Amount"])
        rows.writerows(
            [text, "Q1 2026", amount]
            for text, amount in zip(texts, ["100"] * len(texts), strict=True)
        )
        rows.writerows([text, "Q2 2026", text] for text in texts)
        # The visible part of each text, unless it contains invisible characters.
        rows.writerows([piece, "Q3 2026", "100"] for piece in PLAIN)
    server.flask(
        *("add-source", "--customer", "org-456", "--csv", "hostile.csv", "--accept"),
        *("--reading", str(write_reading(server.folder))),
    )
    commands = [
        ["sync-sheets", "--dry-run"],
        ["sync-sheets"],
        ["list-sources"],
        ["list-users"],
        ["list-keys"],
        ["list-customers"],
        ["stats"],
        ["verify"],
    ]
    for number, text in enumerate([*texts[:3], NAME]):
        email = f"hostile-{number}@example.com"
        commands.append(
            [
                "add-user",
                "--customer",
                "org-456",
                "--id",
                f"hostile-{number}",
                "--name",
                text,
                "--email",
                email,
                "--role",
                "fpa_user",
            ]
        )
    commands += [
        ["list-users"],
        ["add-key", "--customer", "org-456", "--name", NAME],
        ["list-keys"],
    ]
    for command in commands:
        done = server.flask(*command, check=False)
        output = done.stdout + done.stderr
        outcome.expect("Traceback" not in output, f"flask {command[0]}: {output[-500:]}")
        outcome.expect(
            not _UNPRINTABLE.search(output),
            f"flask {command[0]} prints {_around_unprintable(output)!r}",
        )


def _look_at_pages(
    server: Installation, session: requests.Session, kept: dict[str, str], outcome: Outcome
) -> None:
    """Pages show their texts: requests with names and reasons, departments, users and keys."""
    marked = [request for request, text in kept.items() if "<" in text][-1:] or list(kept)[-1:]
    pages = {
        "/": [],
        "/budgets": PLAIN,
        "/requests": [*kept, *kept.values()],
        **{
            f"/request?id={quote(request, safe='')}": [request, kept[request]] for request in marked
        },
        "/audit": [*kept, *kept.values()],
        "/sync": [],
        "/team": [NAME],
        "/keys": [NAME],
    }
    for page, expected in pages.items():
        shown = _shown(server, session, page, outcome)
        missing = [text for text in expected if text not in shown]
        outcome.expect(not missing, f"{page} does not show {missing[:3]!r}")


def _look_at_run(server: Installation, session: requests.Session, outcome: Outcome) -> None:
    """The sync run of the hostile sheet shows why each row was rejected, and its content."""
    found = re.search(
        r'<a href="(/sync/pass[^"]*)"', session.get(f"{server.url}/sync", timeout=30).text
    )
    if outcome.expect(found, "/sync shows no sync run") and found:
        page = unescape(found[1])
        shown = _shown(server, session, page, outcome)
        outcome.expect(
            any(tag in text for tag in TAGS for text in shown),
            f"{page} does not show the rejected rows",
        )
        unseen = [text for text in shown if _UNPRINTABLE.search(text)]
        outcome.expect(not unseen, f"{page} has {unseen[:1]!r} with invisible characters")


def _shown(
    server: Installation, session: requests.Session, page: str, outcome: Outcome
) -> set[str]:
    """The texts of a page and its further pages. None of them may be an injected tag."""
    shown: set[str] = set()
    for html in _walk(server, session, page, outcome):
        found = [tag for tag in TAGS if tag in html]
        outcome.expect(
            not found,
            f"{page} has {found} unescaped: "
            f"{found and html[max(0, html.index(found[0]) - 100) :][:200]!r}",
        )
        shown.update(unescape(text) for text in re.findall(r">([^<]*)<", html))
    return shown


def _walk(
    server: Installation, session: requests.Session, page: str, outcome: Outcome
) -> Iterator[str]:
    """A page and its further pages."""
    url: str | None = server.url + page
    while url:
        response = session.get(url, timeout=30)
        outcome.expect(response.status_code == 200, f"{page} gets {response.status_code}")
        yield response.text
        further = re.search(r'<a href="([^"]*)" rel="next">', response.text)
        url = further and urljoin(url, unescape(further[1]))


def _look_at_exports(
    server: Installation, session: requests.Session, kept: dict[str, str], outcome: Outcome
) -> None:
    """Each CSV file has the texts in separate cells, with a quote before formulas."""
    for path, expected in {"/budgets.csv": PLAIN, "/audit.csv": [*kept, *kept.values()]}.items():
        response = session.get(server.url + path, timeout=30)
        outcome.expect(response.status_code == 200, f"{path} gets {response.status_code}")
        cells = {
            cell
            for row in csv.reader(io.StringIO(response.content.decode("utf-8-sig"), newline=""))
            for cell in row
        }
        for cell in cells:
            outcome.expect(
                not _runs(cell) or re.fullmatch(r"-[\d.,]+", cell),
                f"{path} has the cell {cell[:60]!r}, which a spreadsheet would evaluate",
            )
        missing = [text for text in expected if (f"'{text}" if _runs(text) else text) not in cells]
        outcome.expect(not missing, f"{path} has no cell with {missing[:3]!r}")


def _runs(cell: str) -> bool:
    """Whether a spreadsheet may evaluate the cell as a formula."""
    return cell[:1] in ("\t", "\r", "\n") or cell.lstrip()[:1] in ("=", "+", "-", "@")


def _around_unprintable(text: str) -> str | None:
    """The first unprintable character with its surroundings."""
    found = _UNPRINTABLE.search(text)
    return text[max(0, found.start() - 40) : found.end() + 20] if found else None


def _look_at_log(server: Installation, outcome: Outcome) -> None:
    for line in server.log.split("\n"):
        outcome.expect(not _UNPRINTABLE.search(line), f"the log has {_around_unprintable(line)!r}")
        outcome.expect(
            not line or _LOG_LINE.match(line),
            f"the log has a line without the usual beginning: {line[:200]!r}",
        )
        outcome.expect(len(line) < 20_000, f"the log has a line of {len(line)} characters")
