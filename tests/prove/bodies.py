"""Bad input: bodies made of a corpus of hostile JSON, and of bytes that are none, on every call that takes a body; never a 5xx, and nothing moves."""

from __future__ import annotations

import json
import random

from conftest import key_headers
from flask.testing import FlaskClient
from test_bad_input import BAD_TEXTS, CALLS, MONEY_CALLS, NO_AMOUNTS, NO_NUMBERS, NO_TEXTS, Call, raw_body

from app import create_app
from budget_sync import database, reports
from budget_sync.refusals import Code
from budget_sync.settings import load
from prove.outcome import Outcome, Place

#: JSON texts, some of them no JSON, that a field might be given.
CORPUS = (
    *NO_NUMBERS,
    *NO_AMOUNTS,
    *NO_TEXTS,
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
    *("5000", "0.01", '"cancel"', '"reject"', '"budget-123"', '"org-456"', "{}", '{"approvedBy": "fpa-001", "reason": "x"}', '"x" "y"', "undefined", "'x'"),
)
TABLES = ("AuditLog", "Reservation", "StoredReply")


def prove(tries: int, place: Place) -> Outcome:
    """Throw `tries` bodies at each call."""
    outcome = Outcome()
    with place.installation() as installation:
        app = create_app(load(installation.environment))
        headers = key_headers(may_overspend=True)
        client = app.test_client(use_cookies=False)
        for name in MONEY_CALLS:
            for number in range(tries):
                body = _spoil(CALLS[name], f"{name}-{number}", place.dice)
                _throw(client, CALLS[name].path, body, headers, outcome)
                outcome.tries += 1
                place.progress(outcome.tries, tries * len(MONEY_CALLS))
        outcome.expect(not reports.verify().findings, "verify finds a contradiction")
        database.disconnect()
    return outcome


def _spoil(call: Call, request_id: str, dice: random.Random) -> bytes:
    """A body that the call would take, with one to three fields or some bytes changed."""
    body = dict(call.body) | {"requestId": request_id, "amount": 0.01}
    # An inner field has its place only while the outer one is an object.
    fields = [field for field in call.fields if "." not in field]
    spoilt = raw_body(body, {field: dice.choice(CORPUS) for field in dice.sample(fields, dice.randint(1, 3))})
    if dice.random() < 0.2:
        at = dice.randrange(len(spoilt))
        cut = spoilt[at : at + dice.randrange(8)]
        spoilt = spoilt[:at] + dice.choice((b"", dice.randbytes(3), cut * 20, b'"', b",,", b"\x00", b"\xff\xfe")) + spoilt[at + len(cut) :]
    return spoilt


def _counts() -> list[int]:
    return [database.db.execute_sql(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0] for table in TABLES]


def _throw(client: FlaskClient, path: str, body: bytes, headers: dict[str, str], outcome: Outcome) -> None:
    before = _counts()
    response = client.post(path, data=body, content_type="application/json", headers=headers)
    try:
        data = json.loads(response.data)
    except ValueError:
        data = None
    told = f"{body[:300]!r} to {path} is answered with {response.status_code} {response.data[:300]!r}"
    outcome.expect(response.status_code < 500 and isinstance(data, dict), told)
    if response.status_code != 200:
        known = isinstance(data, dict) and data.get("success") is False and data.get("code") in set(Code)
        outcome.expect(known, f"{told}, which is no refusal as the others are")
        outcome.expect(_counts() == before, f"{told}, and something was written")
