"""Hostile input to every API call: bodies, paths, queries and headers, as random callers.

Cases are derived from the OpenAPI document: its examples and parameters, partly replaced by values
from a corpus. They are passed directly to the WSGI app, which is much cheaper than a test client.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from api.test_bad_input import (
    BAD_TEXTS,
    CALLS,
    INVALID_AMOUNTS,
    MAX_BODY_BYTES,
    MONEY_CALLS,
    NOT_NUMBERS,
    NOT_TEXTS,
)
from flask import Flask
from support.world import key_headers

from budget_sync import database
from budget_sync.domain.errors import Code
from budget_sync.operations import demo
from stress.outcome import Outcome, Place
from stress.wsgi import Answer, Environ, request_environ, send, session_cookie, verified_app

#: JSON texts for fields; some are invalid JSON.
CORPUS = (
    *NOT_NUMBERS,
    *INVALID_AMOUNTS,
    *NOT_TEXTS,
    *BAD_TEXTS,
    *(
        "null",
        "[null]",
        "[" * 900 + "]" * 900,
        '{"a":' * 500 + "1" + "}" * 500,
        '"\\u202e\\u0007"',
        '"\\ud83d\\ude00"',
        "1E+2",
        "-0.0",
        "00",
        ".5",
        "5.",
        "0x10",
    ),
    *(
        "5000",
        "0.01",
        '"cancel"',
        '"reject"',
        '"budget-123"',
        '"org-456"',
        "{}",
        '{"approvedBy": "fpa-001", "reason": "x"}',
        '"x" "y"',
        "undefined",
        "'x'",
    ),
)

#: More JSON texts for some fields.
FIELD_CORPUS = {
    "date": (
        *(
            '"2025-02-30"',
            '"0000-01-01"',
            '"0001-01-01"',
            '"9999-12-31"',
            '"2025-3-1"',
            '"2025-W05-1"',
        ),
        *(
            '"20250301"',
            '"2025-02-01T00:00:00Z"',
            '"2025-02-01\\u0000"',
            '"\\uff12025-02-01"',
            '"2025-02-0x"',
        ),
        *('"-025-02-01"', "20250301", "1e400", '"2025\\ud800-2-1"', '""', "[2025, 2, 1]"),
    ),
    "ifVersion": (
        *(
            "0",
            "-1",
            "1.5",
            "1.0",
            "1",
            "2",
            "true",
            "1e0",
            "1" + "0" * 30,
            "-0",
            "9223372036854775808",
        ),
        *('"1"', "NaN", "null", "[1]", "1" + "0" * 400),
    ),
    "to": ('"available"', '"reserved"', '"AVAILABLE"', '"reserved\\u0000"', "0", "[]"),
    "toBudgetId": ('"budget-123"', '"OPS-25Q1"', '"budget-456\\u0000"', '"\\udc00"', "1"),
    "extend": ("true", "false", "1", '"true"', "null"),
    "externalRef": ('"PO-1"', '"PO-2"', '"\\ud800"', '"PO\\u00001"', '""', "1"),
    "spendId": ('"card-1"', '"\\ud800"', '"\\u0000"', '""', "1", '"' + "x" * 201 + '"'),
}

#: Values for paths and queries, already URL-encoded.
ADDRESS_CORPUS = (
    *(
        "",
        "%",
        "%zz",
        "%2",
        "%00",
        "a%00b",
        "%0d%0aSet-Cookie:%20a=b",
        "%1b%5b2J",
        "%7f",
        "+",
        "%20",
        "%09%0a",
        "%c2%a0%e2%80%83",
    ),
    *(
        "%ff%fe",
        "%c0%af",
        "%ed%a0%80",
        "%f4%90%80%80",
        "%f0%9f%98%80",
        "%e2%80%ae",
        "%ef%bb%bf",
        "%cc%81" * 50,
    ),
    *(
        "..",
        "../..",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/",
        ".",
        "/",
        "//",
        "%2f%2f",
        "a/b",
        "%5c",
        ";",
        "a;b=c",
    ),
    *(
        "'",
        "%22",
        "'%20OR%20'1'='1",
        "%22;DROP%20TABLE%20%22Budget%22;--",
        "%25s%25n",
        "{0}",
        "{{7*7}}",
        "$%7b7*7%7d",
        "%3Cscript%3E",
    ),
    *(
        "0",
        "-1",
        "1",
        "00",
        "1.5",
        "1e3",
        "NaN",
        "Infinity",
        "9" * 400,
        "-" + "9" * 40,
        "0x10",
        "1_000",
        "%d9%a1",
        "%c2%b2",
        "101",
        "true",
        "null",
        "[]",
    ),
    *("x" * 101, "x" * 201, "x" * 5_000, "%f0%9d%94%98" * 300),
)

#: Values for headers. Without control characters, which the WSGI server rejects itself.
HEADER_CORPUS = (
    *(
        "",
        " ",
        "\t",
        "x",
        "*",
        ",",
        ";",
        '"',
        '""',
        'W/""',
        "=",
        "a=b; c",
        "null",
        "0",
        "-1",
        "9" * 400,
        "x" * 255,
        "x" * 256,
        "x" * 5_000,
    ),
    *(
        "\xff\xfe",
        "\xc3\xa9",
        "\xed\xa0\x80",
        "\xa0",
        "Bearer",
        "Bearer ",
        "bearer x",
        "Bearer bsk__",
        "Bearer bsk_0_\xff",
        "Bearer " + "_" * 300,
        "Basic eDp5",
    ),
    *(
        "text/plain",
        "application/json; charset=utf-16",
        "application/json; charset",
        "application/json;;=",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    ),
    *(
        "http://elsewhere.example",
        "cross-site",
        "localhost",
        "[::1",
        "a:b:c",
        "budget_sync_session=x.y.z",
        "budget_sync_session=",
        "gzip, \xff",
    ),
)
HEADERS = (
    *(
        "CONTENT_TYPE",
        "HTTP_IDEMPOTENCY_KEY",
        "HTTP_IF_NONE_MATCH",
        "HTTP_IF_MODIFIED_SINCE",
        "HTTP_AUTHORIZATION",
        "HTTP_COOKIE",
        "HTTP_ORIGIN",
    ),
    *(
        "HTTP_SEC_FETCH_SITE",
        "HTTP_SEC_FETCH_DEST",
        "HTTP_X_REQUEST_ID",
        "HTTP_X_FORWARDED_FOR",
        "HTTP_HOST",
        "HTTP_ACCEPT",
        "HTTP_RANGE",
        "HTTP_USER_AGENT",
    ),
)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "BREW", "")

#: Amounts of a request, so that it can be amended up and down.
SMALL_AMOUNTS = ("0.01", "0.01", "0.02")

#: Number of different Idempotency-Keys.
KEYS = 30

#: Consecutive cases with the same request id, so that reserved money can be committed or released.
CASES_A_REQUEST = 8

#: Number of remote addresses. 50 failed logins block an address, and every login that is not
#: blocked costs a password hash.
ADDRESSES = 4

#: Share of logins with the right password.
RIGHT_PASSWORDS = 0.05

#: How often each credential is used. The last two start long work and read no input.
CALLERS = {"apiKey": 8, "session": 8, "": 4, "cronSecret": 1, "metricsToken": 1}

#: With at least this many tries per call, some of them must have succeeded.
ENOUGH = 500

CRON_SECRET, METRICS_TOKEN = "a secret for cron", "a token for metrics"

#: The state that a failed call must not change. The few Idempotency-Keys keep the count cheap.
MOVED = """
SELECT SUM("version"), SUM("reservedMinor"), SUM("committedMinor"),
    (SELECT MAX("seq") FROM "Reservation"), (SELECT SUM("version") FROM "Reservation"),
    (SELECT MAX("seq") FROM "Spend"), (SELECT SUM("reversedMinor") FROM "Spend"),
    (SELECT MAX("id") FROM "AuditLog"), (SELECT MAX("id") FROM "BudgetCheckLog"),
    (SELECT COUNT(*) FROM "StoredReply")
FROM "BudgetUtilization"
"""

#: Errors raised before a request reaches a call.
ELSEWHERE = {Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, Code.HTTP_ERROR}

JSON = "application/json"
MONEY_PATHS = {CALLS[name].path for name in MONEY_CALLS} | {
    "/api/budget/amend",
    "/api/budget/reverse",
    "/api/budget/spend",
}


class Answers(NamedTuple):
    """Documented responses with one status: their media type and error codes."""

    kind: str
    codes: frozenset[str]


class Operation(NamedTuple):
    """A documented call.

    `bodies` maps field names to JSON texts, one mapping per example; `fields` names all fields.
    """

    method: str
    path: str
    in_path: tuple[str, ...]
    in_query: tuple[str, ...]
    allowed_callers: tuple[str, ...]
    bodies: tuple[Mapping[str, str], ...]
    fields: tuple[str, ...]
    answers: Mapping[int, Answers]


def stress(tries: int, place: Place) -> Outcome:
    """Send `tries` cases to each call, in turn."""
    outcome = Outcome()
    with verified_app(place, outcome, CRON_SECRET=CRON_SECRET, METRICS_TOKEN=METRICS_TOKEN) as app:
        _stress(app, tries, place, outcome)
    return outcome


def _stress(app: Flask, tries: int, place: Place, outcome: Outcome) -> None:
    page = json.loads(send(app, request_environ("GET", "/openapi.json")).body)
    cases = Cases(app, page, place.rng)
    statuses: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    before = _stored_state()
    for number in range(tries):
        for operation in cases.operations:
            case = cases.make(operation, f"intake-{number // CASES_A_REQUEST}")
            answer = send(app, case)
            after = _stored_state()
            _judge(operation, case, answer, outcome, moved=after != before)
            before = after
            cases.note(operation, answer)
            statuses[operation.method, operation.path][answer.status] += 1
            outcome.tries += 1
        place.progress(outcome.tries, tries * len(cases.operations))
    for call, seen in statuses.items() if tries >= ENOUGH else ():
        outcome.expect(
            seen[200], f"{' '.join(call)} never succeeded, so it was hardly tested: {dict(seen)}"
        )
    total = sum(statuses.values(), Counter[int]())
    by_status = ", ".join(f"{status}: {count:,}" for status, count in sorted(total.items()))
    outcome.notes.append(f"{len(statuses)} calls; responses by status: {by_status}")


def _stored_state() -> tuple[object, ...]:
    found: tuple[object, ...] = database.db.execute_sql(MOVED).fetchone()
    return found


class Cases:
    """Generates cases: valid requests, most of them damaged in one to three places."""

    def __init__(self, app: Flask, page: Mapping[str, Any], rng: random.Random) -> None:
        self.app = app
        self.rng = rng
        self.operations = _operations(page)
        login = (demo.demo_folder(Path(app.instance_path)) / "alex.json").read_text(
            encoding="utf-8"
        )
        self.login = {name: json.dumps(value) for name, value in json.loads(login).items()}
        self.bearers = {
            "apiKey": key_headers(may_overspend=True)["Authorization"],
            "cronSecret": f"Bearer {CRON_SECRET}",
            "metricsToken": f"Bearer {METRICS_TOKEN}",
        }
        self.cookie = session_cookie(app, "admin-001")
        #: Example values of each name, URL-encoded.
        self.words: dict[str, list[str]] = defaultdict(list)
        for operation in self.operations:
            for name, text in (field for body in operation.bodies for field in body.items()):
                self.words[name].append(quote(str(json.loads(text)), safe=""))

    def note(self, operation: Operation, answer: Answer) -> None:
        """Log in again after a logout."""
        if operation.path == "/api/auth/logout" and answer.status == 200:
            self.cookie = session_cookie(self.app, "admin-001")

    def make(self, operation: Operation, request_id: str) -> Environ:
        """Generate a request for this call."""
        rng = self.rng
        method = operation.method if rng.random() > 0.01 else rng.choice(METHODS)
        body = (
            self._body(operation, request_id)
            if operation.fields
            else b""
            if rng.random() > 0.02
            else rng.choice(CORPUS).encode()
        )
        environ = request_environ(method, self._target(operation, request_id), body)
        if operation.fields:
            environ["CONTENT_TYPE"] = JSON
        if rng.random() < 0.5:
            environ["REMOTE_ADDR"] = f"10.0.0.{rng.randrange(ADDRESSES)}"
        if operation.path in MONEY_PATHS and rng.random() < 0.1:
            environ["HTTP_IDEMPOTENCY_KEY"] = f"key-{rng.randrange(KEYS)}"
        schemes = sorted({"apiKey", "session", "", *operation.allowed_callers})
        self._sign(environ, rng.choices(schemes, [CALLERS[scheme] for scheme in schemes])[0])
        for name in rng.sample(HEADERS, rng.randint(1, 2)) if rng.random() < 0.15 else ():
            environ[name] = rng.choice(HEADER_CORPUS)
        if rng.random() < 0.01:
            # A chunked body, or a wrong length.
            environ["CONTENT_LENGTH"] = rng.choice(
                ("", str(len(body) + 1), str(MAX_BODY_BYTES + 1))
            )
        return environ

    def _sign(self, environ: Environ, scheme: str) -> None:
        if scheme == "session":
            environ["HTTP_COOKIE"] = self.cookie
        elif scheme:
            environ["HTTP_AUTHORIZATION"] = self.bearers[scheme]

    def _target(self, operation: Operation, request_id: str) -> str:
        """A path and query for the call."""
        path = operation.path
        for name in operation.in_path:
            path = path.replace(f"{{{name}}}", self._value(name, request_id))
        query = [
            f"{name}={self._value(name, request_id)}"
            for name in operation.in_query
            if self.rng.random() < 0.3
        ]
        if self.rng.random() < 0.1:
            query += self.rng.sample((*query, *ADDRESS_CORPUS), 1)
        return f"{path}?{'&'.join(query)}" if query else path

    def _value(self, name: str, request_id: str) -> str:
        """A value for a path or query parameter."""
        if self.rng.random() < 0.6:
            return self.rng.choice(ADDRESS_CORPUS)
        return (
            request_id
            if name == "requestId"
            else self.rng.choice(self.words[name] or [str(self.rng.randint(1, 100))])
        )

    def _body(self, operation: Operation, request_id: str) -> bytes:
        """A valid body, with up to three fields or some bytes changed."""
        rng = self.rng
        is_right = "password" in operation.fields and rng.random() < RIGHT_PASSWORDS
        fields = dict(self.login if is_right else rng.choice(operation.bodies))
        for name in fields.keys() & {"requestId", "spendId"}:
            fields |= {name: f'"{request_id}"', "amount": rng.choice(SMALL_AMOUNTS)}
        for name in rng.sample(operation.fields, min(rng.randint(0, 3), len(operation.fields))):
            more = FIELD_CORPUS.get(name, CORPUS)
            fields[name] = rng.choice(rng.choice((CORPUS, more)))
        text = ", ".join(f'"{name}": {value}' for name, value in fields.items())
        damaged = f"{{{text}}}".encode("utf-8", "surrogatepass")
        if rng.random() < 0.2:
            at = rng.randrange(len(damaged))
            cut = damaged[at : at + rng.randrange(8)]
            damaged = (
                damaged[:at]
                + rng.choice((b"", rng.randbytes(3), cut * 20, b'"', b",,", b"\x00", b"\xff\xfe"))
                + damaged[at + len(cut) :]
            )
        return damaged


def _operations(page: Mapping[str, Any]) -> list[Operation]:
    return [
        _operation(page, method.upper(), path, part)
        for path, methods in page["paths"].items()
        for method, part in methods.items()
    ]


def _operation(
    page: Mapping[str, Any], method: str, path: str, part: Mapping[str, Any]
) -> Operation:
    parameters = [parameter for parameter in part["parameters"] if "$ref" not in parameter]
    body = part["requestBody"]["content"][JSON] if "requestBody" in part else {"examples": {}}
    schema = (
        page["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
        if body["examples"]
        else {"properties": {}}
    )
    return Operation(
        method,
        path,
        tuple(parameter["name"] for parameter in parameters if parameter["in"] == "path"),
        tuple(parameter["name"] for parameter in parameters if parameter["in"] == "query"),
        tuple(scheme for way in part["security"] for scheme in way or [""]),
        tuple(
            {name: json.dumps(value) for name, value in example["value"].items()}
            for example in body["examples"].values()
        ),
        tuple(schema["properties"]),
        {
            int(status): _answers(response["content"])
            for status, response in part["responses"].items()
        },
    )


def _answers(content: Mapping[str, Any]) -> Answers:
    ((kind, media),) = content.items()
    return Answers(
        kind,
        frozenset(
            example["value"]["code"]
            for example in media.get("examples", {}).values()
            if "code" in example["value"]
        ),
    )


def _judge(
    operation: Operation, case: Environ, answer: Answer, outcome: Outcome, *, moved: bool
) -> None:
    """Verify a response: documented, no server error, and no changes after an error."""
    data = _read(answer.body) if answer.kind == JSON else None
    is_refused = answer.status != 200 or (data is not None and data.get("success") is False)
    expected = operation.answers.get(answer.status, Answers(JSON, frozenset()))
    wrong = []
    if answer.status >= 500:
        wrong.append("a server error")
    if answer.kind != expected.kind or (answer.kind == JSON and data is None):
        wrong.append(f"not {expected.kind}, or not an object")
    if is_refused and not (
        data and data.get("success") is False and data.get("code") in expected.codes | ELSEWHERE
    ):
        wrong.append("an error that is not documented for this call")
    if moved and (is_refused or operation.path not in MONEY_PATHS):
        wrong.append("and something was written")
    for problem in wrong:
        headers = {
            name: value
            for name, value in case.items()
            if name.startswith(("HTTP_", "CONTENT_TYPE", "REMOTE_"))
        }
        target, sent_body = case["RAW_URI"][:300], case["wsgi.input"].getvalue()[:300]
        sent = f"{case['REQUEST_METHOD']} {target} with {headers} and {sent_body!r}"
        outcome.expect(
            holds=False,
            otherwise=f"{sent} got {answer.status} {answer.body[:300]!r}: {problem}",
        )


@lru_cache(maxsize=64)
def _read(body: bytes) -> dict[str, Any] | None:
    """Parse a JSON object; None for other texts. Cached, because many errors are equal."""
    try:
        data = json.loads(body)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
