"""Whatever is wrong with a request gets the right 4xx that names it, as JSON, and moves nothing."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.world import (
    ROOT,
    check_body,
    commit_body,
    demo_client,
    key_headers,
    release_body,
    reserve_body,
)
from werkzeug.test import TestResponse

from app import create_app
from budget_sync import database, manual_budgets, settings
from budget_sync.domain.errors import Code
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines

MAX_BODY_BYTES = 64 * 1024
JSON = "application/json"

# Longer than any field may be.
TOO_LONG = "x" * 5_000


@dataclass(frozen=True)
class Call:
    """A call that takes a body: a body that it accepts, and the kinds of its fields; a dot leads into an object."""

    path: str
    body: dict[str, Any]
    required: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def fields(self) -> list[str]:
        """Every field, those of inner objects included."""
        return sorted({*self.texts, *self.body})


CALLS = {
    "check": Call(
        "/api/budget/check",
        check_body(currency="USD"),
        (
            "requestId",
            "userId",
            "userName",
            "userEmail",
            "customerId",
            "department",
            "fiscalPeriod",
            "amount",
        ),
        (
            "requestId",
            "userId",
            "userName",
            "userEmail",
            "customerId",
            "department",
            "fiscalPeriod",
            "vendor",
            "purpose",
            "currency",
        ),
    ),
    "reserve": Call(
        "/api/budget/reserve",
        reserve_body(
            currency="USD",
            customerId="org-456",
            userId="user-123",
            overBudget={"approvedBy": "fpa-001", "reason": "Urgent"},
        ),
        ("budgetId", "requestId", "amount"),
        (
            "budgetId",
            "requestId",
            "currency",
            "customerId",
            "userId",
            "reason",
            "overBudget.approvedBy",
            "overBudget.reason",
        ),
    ),
    "commit": Call(
        "/api/budget/commit",
        commit_body(amount=2000, customerId="org-456", final=False),
        ("budgetId", "requestId", "amount"),
        ("budgetId", "requestId", "customerId", "reason", "externalRef"),
    ),
    "release": Call(
        "/api/budget/release",
        release_body(amount=3000, customerId="org-456", originalRequesterId="user-123"),
        ("budgetId", "requestId", "amount", "action"),
        ("budgetId", "requestId", "customerId", "originalRequesterId", "reason"),
    ),
    "login": Call(
        "/api/auth/login",
        {"email": "jane@acme.com", "password": "not her password"},
        ("email", "password"),
        ("email", "password"),
    ),
}
MONEY_CALLS = ("check", "reserve", "commit", "release")
CALL_FIELDS = [(name, field) for name, call in CALLS.items() for field in call.fields]

every_call = pytest.mark.parametrize("name", CALLS)
every_money_call = pytest.mark.parametrize("name", MONEY_CALLS)


def body_with(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """The body with one field changed."""
    changed = copy.deepcopy(body)
    inner, *names = changed, *field.split(".")
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    return changed


def raw_body(body: dict[str, Any], literals: dict[str, str]) -> bytes:
    """The body's JSON with fields given as JSON text, which may be what no JSON library writes."""
    for field in literals:
        body = body_with(body, field, f"@{field}@")
    text = json.dumps(body)
    for field, literal in literals.items():
        text = text.replace(f'"@{field}@"', literal)
    return text.encode("utf-8", "surrogatepass")


@dataclass
class Service:
    """The app under test, and what its database file holds."""

    app: Flask
    client: FlaskClient
    key: dict[str, str]
    jane: FlaskClient
    file: sqlite3.Connection

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table."""
        tables = [
            name
            for (name,) in self.file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {table: self.file.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables}

    def post(
        self,
        name: str,
        body: bytes,
        *,
        client: FlaskClient | None = None,
        content_type: str | None = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> TestResponse:
        """Post bytes, with the orchestrator's key, or as the client's person."""
        credential = {} if client else self.key
        return (client or self.client).post(
            CALLS[name].path,
            data=body,
            content_type=content_type,
            headers=credential | dict(headers or {}),
        )

    def refuses(self, name: str, body: bytes, *fields: str, **options: Any) -> TestResponse:
        """Assert that the bytes get a 400 that names exactly those fields, and move nothing."""
        before = self.dump()
        response = self.post(name, body, **options)
        refused(response, 400, fields)
        assert self.dump() == before
        return response


def refused(
    response: TestResponse, status: int, fields: Sequence[str] = (), code: Code | None = None
) -> dict[str, Any]:
    """Assert the one form of every refusal; returns it."""
    assert response.status_code == status, response.text
    assert response.mimetype == JSON
    data: dict[str, Any] = json.loads(response.data)
    assert data["success"] is False
    assert data["error"].strip()
    assert data["code"] in set(Code) if code is None else data["code"] == code
    assert set(data.get("fields", {})) == set(fields)
    assert all(isinstance(problem, str) and problem for problem in data.get("fields", {}).values())
    if data["code"] == Code.INVALID_REQUEST:
        assert all(field in data["error"] for field in fields)
    return data


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The guide's world, with budgets in yen and dinars beside it, and money held by one request on each budget.

    One for the whole module: nothing here moves anything, which every test sees for itself.
    """
    folder = tmp_path_factory.mktemp("bad-input") / "instance"
    folder.mkdir()
    chosen = settings.load(
        {"INSTANCE_FOLDER": str(folder), "SECRET_KEY": "a key for tests, long enough"}
    )
    database.connect(chosen.database_path, create=True)
    database.init_schema()
    app = create_app(chosen)
    demo.load(ROOT, folder)
    for budget_id, currency, amount in (("budget-jpy", "JPY", 900_000), ("budget-kwd", "KWD", 900)):
        manual_budgets.set_budget(
            ROOT,
            demo.CUSTOMER,
            f"Engineering {currency}",
            "Q1 2025",
            Decimal(amount),
            budget_id=budget_id,
            currency=currency,
        )
    file = sqlite3.connect(chosen.database_path)
    made = Service(
        app, app.test_client(), key_headers(may_overspend=True), demo_client(app, "jane"), file
    )
    for budget_id, amount in (("budget-123", 5000), ("budget-jpy", 5000), ("budget-kwd", 5)):
        assert (
            made.post(
                "reserve", json.dumps(reserve_body(budgetId=budget_id, amount=amount)).encode()
            ).status_code
            == 200
        )
    yield made
    file.close()
    database.close_connection()


def literals_of(name: str, field: str) -> list[str]:
    """JSON texts that this field must not have."""
    call = CALLS[name]
    if field == "amount":
        found = [*NO_NUMBERS, *NO_AMOUNTS, *NO_AMOUNTS_IN_DOLLARS]
    elif field == "action":
        found = [*NO_TEXTS, *BAD_TEXTS, '"refund"', '"CANCEL"', '"cancel "', '"cancel,reject"']
    elif field == "final":
        found = ["0", "1", '"true"', '"yes"', "null", "[]", "{}", "NaN"]
    elif field == "overBudget":
        found = ["5", "true", '"fpa-001"', "[]", '["fpa-001", "Urgent"]', "NaN"]
    else:
        found = [*NO_TEXTS, *BAD_TEXTS]
    return found + (["null"] if field in call.required else [])


NO_NUMBERS = ("true", "false", '"5000"', '""', "[]", "[5000]", "{}", '{"amount": 5000}')
NO_AMOUNTS = (
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "1e999999999999999999999",
        "-1e999999999999999999999",
        "1e-400",
        "1e-999999999999999999999",
    ),
    *("0", "-0", "0.0", "-0.0", "0e5", "-1", "-5000", "-0.01", "-5000.01"),
    *(
        "5.000000000000000000000000000000000000001",
        "4999.9999999999999999999999999999999999",
        "5.00001",
    ),
    *("9" * 5_000, "-" + "9" * 5_000, "9" * 5_000 + ".5", "1" + "0" * 30, "1" + "0" * 29),
    *(
        "1000000000000000",
        "1e15",
        "1000000000000000.01",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
    ),
)
NO_AMOUNTS_IN_DOLLARS = (
    "5.001",
    "0.001",
    "1e-3",
    "10000000000000",
    "1e13",
    "10000000000000.00",
    "999999999999999",
)
NO_TEXTS = (
    "5",
    "5.5",
    "true",
    "false",
    "[]",
    '["text"]',
    "{}",
    '{"text": "text"}',
    "NaN",
    "1e400",
    "9" * 5_000,
)
BAD_TEXTS = (
    *('""', '" "', '"\\t\\n"', '"\\u00a0\\u2003"', f'"{TOO_LONG}"'),
    *('"\\u0000"', '"budget-123\\u0000"', '"a\\u0000b"'),
    *('"\\ud800"', '"a\\udc00"', '"\\udc00\\ud800 pair the wrong way round"'),
)


def test_the_bodies_that_these_tests_spoil_are_accepted_as_they_are(service: Service) -> None:
    # The other tests prove nothing if these were refused for another reason.
    for name in MONEY_CALLS:
        response = service.post(
            name, json.dumps(CALLS[name].body | {"requestId": "unspoilt"}).encode()
        )
        assert (response.status_code, response.json and response.json["success"]) == (200, True), (
            response.text
        )
    response = service.post("login", json.dumps(CALLS["login"].body).encode())
    refused(response, 401, code=Code.BAD_CREDENTIALS)


@pytest.mark.parametrize(("name", "field"), CALL_FIELDS)
def test_a_value_that_a_field_cannot_have_is_refused_by_name(
    service: Service, name: str, field: str
) -> None:
    for literal in literals_of(name, field):
        service.refuses(name, raw_body(CALLS[name].body, {field: literal}), field)


@every_call
def test_everything_wrong_is_named_at_once(service: Service, name: str) -> None:
    call = CALLS[name]
    leaves = [field for field in call.fields if field != "overBudget"]
    # What is no amount of one currency alone shows only once the budget is known.
    choices = {
        field: [text for text in literals_of(name, field) if text not in NO_AMOUNTS_IN_DOLLARS]
        for field in leaves
    }
    for turn in range(5):
        wrong = {field: literals[turn * 7 % len(literals)] for field, literals in choices.items()}
        service.refuses(name, raw_body(call.body, wrong), *leaves)


@every_call
def test_every_missing_field_is_named_at_once(service: Service, name: str) -> None:
    response = service.refuses(name, b"{}", *CALLS[name].required)
    assert response.json
    assert (
        response.json["error"] == f"Missing required fields: {', '.join(response.json['fields'])}"
    )


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, call in CALLS.items() for field in call.required]
)
def test_a_missing_field_is_named_beside_wrong_ones(
    service: Service, name: str, field: str
) -> None:
    call = CALLS[name]
    other = next(other for other in call.required if other != field)
    body = {key: value for key, value in call.body.items() if key != field}
    service.refuses(name, json.dumps(body).encode(), field)
    service.refuses(name, raw_body(body, {other: "false"}), field, other)


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, call in CALLS.items() for field in call.body]
)
def test_a_key_given_twice_is_refused_by_name(service: Service, name: str, field: str) -> None:
    body, value = json.dumps(CALLS[name].body), json.dumps(CALLS[name].body[field])
    twice = f'{body[:-1]}, "{field}": {value}}}'
    service.refuses(name, twice.encode(), field)
    service.refuses(name, f'{twice[:-1]}, "{field}": null}}'.encode(), field)
    # The same key, spelled with an escape.
    service.refuses(
        name, f'{body[:-1]}, "\\u{ord(field[0]):04x}{field[1:]}": {value}}}'.encode(), field
    )


@every_money_call
def test_a_field_has_its_documented_name_and_no_other(service: Service, name: str) -> None:
    call = CALLS[name]
    without_amount = {field: value for field, value in call.body.items() if field != "amount"}
    for field in [field for field in without_amount if snake(field) != field]:
        # As with every unknown field: nothing is wrong with its value, and it stands for no other.
        service.refuses(name, json.dumps(without_amount | {snake(field): 5}).encode(), "amount")
        without_both = {known: value for known, value in without_amount.items() if known != field}
        missing = {"amount", field} & set(call.required)
        service.refuses(name, json.dumps(without_both | {snake(field): 5}).encode(), *missing)


def test_an_inner_field_has_its_documented_name_and_no_other(service: Service) -> None:
    inner = {"approved_by": "fpa-001", "reason": "Urgent"}
    service.refuses(
        "reserve",
        json.dumps(CALLS["reserve"].body | {"overBudget": inner}).encode(),
        "overBudget.approvedBy",
    )


def snake(name: str) -> str:
    """A name as Python has it."""
    return re.sub("([A-Z])", r"_\1", name).lower()


def test_a_key_given_twice_is_named_beside_what_else_is_wrong(service: Service) -> None:
    body = raw_body(CALLS["release"].body, {"amount": "-5", "reason": '""'})
    service.refuses("release", body[:-1] + b', "action": "cancel"}', "amount", "reason", "action")


def test_a_key_given_twice_within_an_inner_object_is_named_with_its_path(service: Service) -> None:
    inner = '{"approvedBy": "fpa-001", "reason": "Urgent", "reason": "Very urgent"}'
    service.refuses(
        "reserve", raw_body(CALLS["reserve"].body, {"overBudget": inner}), "overBudget.reason"
    )


@pytest.mark.parametrize(
    "extra", ['{"a": 1, "a": 2}', '[{"a": 1, "a": 1}]', '{"b": {"a": 1, "a": {}}}']
)
def test_a_key_given_twice_in_a_field_nobody_reads_is_refused(service: Service, extra: str) -> None:
    for name, call in CALLS.items():
        before = service.dump()
        response = service.post(name, raw_body(call.body | {"extra": ""}, {"extra": extra}))
        assert response.status_code == 400
        assert response.json
        assert [field.split(".")[-1] for field in response.json["fields"]] == ["a"]
        assert service.dump() == before


@every_call
def test_a_key_that_is_no_text_given_twice_is_refused(service: Service, name: str) -> None:
    # Half of a surrogate pair cannot be written into a reply either.
    before = service.dump()
    response = service.post(
        name, json.dumps(CALLS[name].body)[:-1].encode() + b', "\\ud800": 1, "\\ud800": 2}'
    )
    assert response.status_code == 400, response.text
    assert response.json
    assert len(response.json["fields"]) == 1
    assert service.dump() == before


def with_note(note: bytes) -> bytes:
    """What to put for the end of a body, to add a field to it."""
    return b', "note": ' + note + b"}"


@pytest.mark.parametrize(
    "spoilt",
    [
        *(
            b"",
            b" ",
            b"\x00",
            b"{",
            b"nul",
            b"undefined",
            b"<budget/>",
            b"amount=5000&budgetId=budget-123",
        ),
        *(
            with_note(number)
            for number in (b"05", b".5", b"5.", b"+5", b"0x10", b"1_000", b"nan", b"-NaN", b"1e")
        ),
        *(
            with_note(text)
            for text in (b"'x'", b'"x', b'"\\x41"', b'"\\u12"', b'"\n"', b'"\x00"', b'"\x1f"')
        ),
        *(
            with_note(text)
            for text in (
                b'"\xff"',
                b'"caf\xe9"',
                b'"\xc0\x80"',
                b'"\xed\xa0\x80"',
                b'"\xe2\x82"',
                b'"\xf4\x90\x80\x80"',
            )
        ),
        *(b",}", b"}}", b"} {}", b"} true", b"} // comment", b"}\x00", b"/* comment */}"),
    ],
    ids=ascii,
)
def test_what_is_no_json_is_refused(service: Service, spoilt: bytes) -> None:
    for name, call in CALLS.items():
        body = (
            json.dumps(call.body).encode()[:-1] + spoilt
            if spoilt[:1] in (b",", b"}", b"/")
            else spoilt
        )
        service.refuses(name, body, "body")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_in_another_encoding_is_refused(service: Service, encoding: str) -> None:
    for name, call in CALLS.items():
        service.refuses(name, json.dumps(call.body).encode(encoding), "body")


@pytest.mark.parametrize(
    "document", ["[]", "[{}]", '"text"', "5", "-0", "null", "true", "NaN", "1e400", "9" * 5_000]
)
def test_a_body_that_is_no_object_is_refused(service: Service, document: str) -> None:
    for name in CALLS:
        service.refuses(name, document.encode(), "body")


@pytest.mark.parametrize(
    "nested",
    [
        "[" * 60_000,
        "[" * 30_000 + "]" * 30_000,
        '{"a":' * 12_000,
        '{"a":' * 9_000 + "1" + "}" * 9_000,
    ],
)
def test_deep_nesting_is_refused(service: Service, nested: str) -> None:
    for name in CALLS:
        service.refuses(name, nested.encode(), "body")
        service.refuses(name, b'{"extra": ' + nested.encode() + b"}", "body")


def test_nesting_about_as_deep_as_the_parser_goes_breaks_nothing(service: Service) -> None:
    # What walks through a parsed body must go as deep as what parsed it.
    for depth in range(940, 1_000):
        response = service.post("check", b'{"extra": ' + b"[" * depth + b"]" * depth + b"}")
        assert response.status_code == 400, (depth, response.text)


@every_call
def test_nesting_too_deep_for_the_largest_body_is_refused_for_its_size(
    service: Service, name: str
) -> None:
    before = service.dump()
    refused(service.post(name, b"[" * 100_000), 413, code=Code.BODY_TOO_LARGE)
    assert service.dump() == before


@every_call
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_body_over_the_limit_is_refused_however_it_is_sent(
    service: Service, name: str, chunked: bool
) -> None:
    before = service.dump()
    largest = json.dumps(CALLS[name].body).encode().ljust(MAX_BODY_BYTES)
    for size in (1, MAX_BODY_BYTES, 10 * MAX_BODY_BYTES):
        response = (post_chunked if chunked else Service.post)(service, name, largest + b" " * size)
        refused(response, 413, code=Code.BODY_TOO_LARGE)
    assert service.dump() == before


def post_chunked(service: Service, name: str, body: bytes) -> TestResponse:
    """Post without a length known beforehand, as gunicorn hands over a chunked body."""
    chunked = {
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
        "wsgi.input_terminated": True,
    }
    return service.client.post(
        CALLS[name].path,
        input_stream=io.BytesIO(body),
        content_type=JSON,
        headers=service.key,
        environ_overrides=chunked,
    )


def test_a_body_of_exactly_the_limit_is_taken_however_it_is_sent(service: Service) -> None:
    largest = json.dumps(CALLS["check"].body).encode().ljust(MAX_BODY_BYTES)
    assert service.post("check", largest).status_code == 200
    assert post_chunked(service, "check", largest).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "json",
        "text/plain",
        "text/json",
        "application/jsonp",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ],
)
def test_a_body_of_another_content_type_is_refused(
    service: Service, content_type: str | None
) -> None:
    for name, call in CALLS.items():
        before = service.dump()
        refused(
            service.post(name, json.dumps(call.body).encode(), content_type=content_type),
            415,
            code=Code.UNSUPPORTED_MEDIA_TYPE,
        )
        assert service.dump() == before


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"]
)
def test_json_is_taken_however_its_content_type_is_written(
    service: Service, content_type: str
) -> None:
    assert (
        service.post(
            "check", json.dumps(CALLS["check"].body).encode(), content_type=content_type
        ).status_code
        == 200
    )


def money_body(name: str, currency: str, amount: str) -> bytes:
    """A body about an amount, given as JSON text, on the budget of that currency."""
    body = {
        field: value
        for field, value in CALLS[name].body.items()
        if field not in ("currency", "overBudget")
    }
    if currency != "USD":
        changes = (
            {"department": f"Engineering {currency}"}
            if name == "check"
            else {"budgetId": f"budget-{currency.lower()}"}
        )
        body |= changes
    return raw_body(body, {"amount": amount})


@every_money_call
@pytest.mark.parametrize(
    ("currency", "amount"),
    [
        ("USD", "5.001"),
        ("USD", "0.0001"),
        ("JPY", "5000.5"),
        ("JPY", "0.01"),
        ("KWD", "4.0005"),
        ("KWD", "0.00001"),
        ("JPY", "5e-1"),
    ],
)
def test_more_decimals_than_the_currency_has_are_refused(
    service: Service, name: str, currency: str, amount: str
) -> None:
    service.refuses(name, money_body(name, currency, amount), "amount")


@pytest.mark.parametrize(
    ("currency", "amount"),
    [("USD", "99.5"), ("USD", "99.500000"), ("JPY", "5000.0"), ("JPY", "5e3"), ("KWD", "4.125")],
)
def test_as_many_decimals_as_the_currency_has_are_taken(
    service: Service, currency: str, amount: str
) -> None:
    assert service.post("check", money_body("check", currency, amount)).status_code == 200


@every_money_call
@pytest.mark.parametrize(
    ("currency", "amount"),
    [
        ("USD", "10000000000000"),
        ("USD", "10000000000000.01"),
        ("JPY", "1000000000000000"),
        ("KWD", "1000000000000"),
        ("KWD", "1e12"),
    ],
)
def test_an_amount_of_ten_to_the_fifteenth_minor_units_is_refused(
    service: Service, name: str, currency: str, amount: str
) -> None:
    service.refuses(name, money_body(name, currency, amount), "amount")


@every_money_call
@pytest.mark.parametrize(
    ("currency", "amount"),
    [("USD", "9999999999999.99"), ("JPY", "999999999999999"), ("KWD", "999999999999.999")],
)
def test_an_amount_just_below_that_is_only_more_than_there_is(
    service: Service, name: str, currency: str, amount: str
) -> None:
    before = service.dump()
    response = service.post(name, money_body(name, currency, amount))
    status, code = {
        "check": (200, Code.INSUFFICIENT_BUDGET),
        "reserve": (409, Code.REQUEST_CONFLICT),
        "commit": (409, Code.INSUFFICIENT_BUDGET),
        "release": (200, Code.AMOUNT_EXCEEDS_RESERVED),
    }[name]
    assert (response.status_code, response.json and response.json["code"]) == (status, code), (
        response.text
    )
    after = service.dump()
    assert {table for table in before if after[table] != before[table]} == (
        {"BudgetCheckLog"} if name == "check" else set()
    )


@pytest.mark.parametrize("name", ["check", "reserve"])
@pytest.mark.parametrize("currency", ["XYZ", "ABC", "JPY", "EUR", "usd", "U$D", "123"])
def test_a_currency_that_is_not_the_budgets_is_refused(
    service: Service, name: str, currency: str
) -> None:
    service.refuses(
        name, json.dumps(CALLS[name].body | {"currency": currency}).encode(), "currency"
    )
    service.refuses(
        name,
        raw_body(CALLS[name].body | {"currency": currency}, {"amount": "5.001"}),
        "currency",
        "amount",
    )


@pytest.mark.parametrize("currency", ["XYZ", "usd", "123", "\u212aWD"])
def test_a_currency_that_is_none_is_refused_where_there_is_no_budget_too(
    service: Service, currency: str
) -> None:
    service.refuses(
        "check",
        json.dumps(check_body(department="Nowhere", currency=currency)).encode(),
        "currency",
    )


@pytest.mark.parametrize("name", ["reserve", "commit", "release"])
@pytest.mark.parametrize("key", ["", " ", "\t", "x" * 256, "x" * 5_000, " " * 255])
def test_a_blank_or_over_long_idempotency_key_is_refused(
    service: Service, name: str, key: str
) -> None:
    service.refuses(
        name,
        json.dumps(CALLS[name].body).encode(),
        "Idempotency-Key",
        headers={"Idempotency-Key": key},
    )


@pytest.mark.parametrize(
    ("path", "field"),
    [
        *(
            (f"/api/budgets?limit={limit}", "limit")
            for limit in (
                "0",
                "-1",
                "101",
                "1000",
                "1.5",
                "1e1",
                "abc",
                "%20",
                "",
                "+5",
                "0x5",
                "9" * 5_000,
            )
        ),
        *(
            (f"/api/budgets?limit={limit}", "limit")
            for limit in (
                "%00",
                "5%00",
                "%ff",
                "%ed%a0%80",
                "%F0%9D%9F%95",
                "%D9%A5",
                "NaN",
                "true",
                "null",
            )
        ),
        *(
            (f"/api/budgets?{name}=", name)
            for name in ("limit", "cursor", "customerId", "department", "fiscalPeriod")
        ),
        *(
            (f"/api/budgets?{name}=%20%09", name)
            for name in ("limit", "cursor", "customerId", "department", "fiscalPeriod")
        ),
        *(
            (f"/api/budgets?{name}=a%00", name)
            for name in ("limit", "cursor", "customerId", "department", "fiscalPeriod")
        ),
        *(
            (f"/api/budgets?{name}=5&{name}=5", name)
            for name in ("limit", "cursor", "customerId", "department", "fiscalPeriod")
        ),
        *(
            (f"/api/requests/intake-789?customerId={value}", "customerId")
            for value in ("", "%20", "%00", "org-456%00", "org-456&customerId=org-456")
        ),
    ],
)
def test_a_bad_query_parameter_is_refused_by_name(service: Service, path: str, field: str) -> None:
    before = service.dump()
    refused(service.client.get(path, headers=service.key), 400, [field], Code.INVALID_REQUEST)
    assert service.dump() == before


@pytest.mark.parametrize(
    "customer_id", ["org-999", "%ff", "%ed%a0%80", "x" * 5_000, "org-456%27--"]
)
@pytest.mark.parametrize("path", ["/api/budgets", "/api/requests/intake-789"])
def test_a_customer_that_is_none_in_a_query_is_refused(
    service: Service, path: str, customer_id: str
) -> None:
    response = service.client.get(f"{path}?customerId={customer_id}", headers=service.key)
    assert (response.status_code, response.json and response.json["code"]) == (
        400,
        Code.INVALID_CUSTOMER,
    )


@pytest.mark.parametrize(
    "cursor", ["%ff", "%ed%a0%80", "x" * 5_000, "%F4%8F%BF%BF", "budget-123%27--", "%25"]
)
def test_a_cursor_that_no_page_gave_out_breaks_nothing(service: Service, cursor: str) -> None:
    response = service.client.get(f"/api/budgets?cursor={cursor}", headers=service.key)
    if response.status_code == 200:
        assert response.json
        assert set(response.json) == {"items", "nextCursor"}
    else:
        refused(response, 400, ["cursor"])


@pytest.mark.parametrize(
    "name",
    [
        "%00",
        "budget-123%00",
        "%ff",
        "%ed%a0%80",
        "%C0%80",
        "x" * 5_000,
        "%F0%9F%92%B8" * 1_000,
        "..%2f..%2fetc%2fpasswd",
        "%0d%0aX: y",
        "%25",
        "a'--",
    ],
)
@pytest.mark.parametrize("path", ["/api/budgets/", "/api/requests/", "/api/", "/"])
def test_an_odd_name_in_a_path_is_not_found(service: Service, path: str, name: str) -> None:
    before = service.dump()
    response = service.client.get(f"{path}{name}", headers=service.key)
    refused(response, 404)
    assert "X" not in response.headers
    assert service.dump() == before


# Any JSON value at all: the halves of surrogate pairs, numbers no float holds, and names that the calls know included.
ODD_TEXTS = [
    "\x00",
    "\ud800",
    "\udc00",
    " ",
    "\t",
    "\n",
    "\u2028",
    "\u00a0",
    "\ufeff",
    "\x7f",
    "é",
    "e\u0301",
    "ß",
    "İ",
    "😀",
    "%",
    "'",
    '"',
    "\\",
    "/",
]
ANY_TEXT = (
    st.text(st.characters(), max_size=8)
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
    | st.sampled_from(ODD_TEXTS)
)
KNOWN_TEXT = st.sampled_from(
    [
        "cancel",
        "manual",
        "budget-123",
        "org-456",
        "user-123",
        "fpa-001",
        "intake-789",
        "USD",
        "Engineering",
        "Q1 2025",
        TOO_LONG,
    ]
)
ANY_NUMBER = (
    st.integers(-(10**40), 10**40)
    | st.floats()
    | st.sampled_from([0, 1, 5000, 0.01, 99.99, 10**11, 10**13, 10**15, 2**63, 1e308, 5e-324])
)
KNOWN_NAMES = sorted({name.split(".")[-1] for call in CALLS.values() for name in call.fields})
ANY_JSON = st.recursive(
    st.none() | st.booleans() | ANY_NUMBER | ANY_TEXT | KNOWN_TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KNOWN_NAMES) | ANY_TEXT, inner, max_size=4)
    ),
    max_leaves=6,
)


@st.composite
def any_value(draw: st.DrawFn) -> object:
    """Any JSON value, every second one a text: most fields take texts, and those get furthest."""
    return draw(
        draw(
            st.sampled_from(
                [ANY_TEXT, ANY_TEXT.map(lambda text: f"a{text}b"), KNOWN_TEXT, ANY_NUMBER, ANY_JSON]
            )
        )
    )


# Derandomised: the suite's verdict on one state of the code is always the same.
thrown_at_it = hypothesis_settings(max_examples=60, deadline=None, derandomize=True, database=None)


def never_breaks(service: Service, name: str, body: bytes) -> None:
    """Assert that the bytes break nothing, and that nothing has moved where they are refused."""
    before = service.dump()
    response = service.post(name, body)
    assert response.status_code < 500, (body, response.text)
    assert isinstance(response.json, dict)
    if response.status_code >= 400:
        refused(response, response.status_code, list(response.json.get("fields", ())))
        after = service.dump()
        # A login that was refused is counted: that is how they are limited.
        assert {table for table in before if after[table] != before[table]} <= (
            {"LoginAttempt"} if name == "login" else set()
        )


@every_call
@thrown_at_it
@given(data=st.data())
def test_any_value_in_any_field_breaks_nothing(
    service: Service, name: str, data: st.DataObject
) -> None:
    body = CALLS[name].body
    for field in data.draw(
        st.lists(st.sampled_from(CALLS[name].fields), min_size=1, max_size=2, unique=True).map(
            sorted
        )
    ):
        # An inner field has its place only while the outer one is an object.
        if "." not in field or isinstance(body["overBudget"], dict):
            body = body_with(body, field, data.draw(any_value()))
    text = json.dumps(body, ensure_ascii=data.draw(st.booleans()))
    never_breaks(service, name, text.encode("utf-8", "surrogatepass"))


@every_call
@thrown_at_it
@given(
    body=st.binary(max_size=64)
    | ANY_JSON.map(json.dumps).map(str.encode)
    | st.dictionaries(st.sampled_from(KNOWN_NAMES), any_value()).map(json.dumps).map(str.encode)
)
def test_any_body_breaks_nothing(service: Service, name: str, body: bytes) -> None:
    never_breaks(service, name, body)


@pytest.mark.parametrize("name", ["reserve", "commit", "release"])
def test_a_missing_credential_comes_before_everything_wrong_with_the_body(
    service: Service, name: str
) -> None:
    nobody = service.app.test_client()
    path = CALLS[name].path
    before = service.dump()
    for body, content_type in (
        (b"", JSON),
        (b"{}", JSON),
        (b"{", JSON),
        (b" " * (MAX_BODY_BYTES + 1), JSON),
        (b"{}", "text/plain"),
        (b"{}", None),
    ):
        response = nobody.post(
            path, data=body, content_type=content_type, headers={"Idempotency-Key": " "}
        )
        refused(response, 401, code=Code.AUTHENTICATION_REQUIRED)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert service.dump() == before


@every_money_call
def test_a_bad_credential_comes_before_everything_wrong_with_the_body(
    service: Service, name: str
) -> None:
    before = service.dump()
    for body, content_type in (
        (b"{}", JSON),
        (b" " * (MAX_BODY_BYTES + 1), JSON),
        (b"{}", "text/plain"),
    ):
        response = service.app.test_client().post(
            CALLS[name].path,
            data=body,
            content_type=content_type,
            headers={"Authorization": "Bearer bsk_0123456789abcdef_nonsense"},
        )
        refused(response, 401, code=Code.AUTHENTICATION_REQUIRED)
    assert service.dump() == before


@pytest.mark.parametrize("name", ["commit", "release"])
def test_what_is_wrong_with_the_body_comes_before_the_roles_refusal(
    service: Service, name: str
) -> None:
    body = json.dumps(CALLS[name].body).encode()
    refused(service.post(name, body, client=service.jane), 403, code=Code.FORBIDDEN)
    service.refuses(name, b"{}", *CALLS[name].required, client=service.jane)
    service.refuses(
        name, raw_body(CALLS[name].body, {"amount": "-5"}), "amount", client=service.jane
    )
    service.refuses(
        name, body, "Idempotency-Key", client=service.jane, headers={"Idempotency-Key": " "}
    )
    refused(
        service.post(name, b" " * (MAX_BODY_BYTES + 1), client=service.jane),
        413,
        code=Code.BODY_TOO_LARGE,
    )
    refused(
        service.post(name, body, client=service.jane, content_type="text/plain"),
        415,
        code=Code.UNSUPPORTED_MEDIA_TYPE,
    )


@pytest.mark.parametrize("name", ["commit", "release"])
def test_the_roles_refusal_comes_before_an_unknown_budget(service: Service, name: str) -> None:
    body = json.dumps(CALLS[name].body | {"budgetId": "budget-999"}).encode()
    refused(service.post(name, body, client=service.jane), 403, code=Code.FORBIDDEN)
    refused(service.post(name, body), 404, code=Code.BUDGET_NOT_FOUND)


def test_an_unknown_budget_comes_before_someone_elses_request(service: Service) -> None:
    theirs = others_request(service)
    for name, body in (
        ("reserve", reserve_body(requestId=theirs)),
        (
            "release",
            release_body(requestId=theirs, action="cancel", originalRequesterId="user-123"),
        ),
    ):
        refused(
            service.post(
                name, json.dumps(body | {"budgetId": "budget-999"}).encode(), client=service.jane
            ),
            404,
            code=Code.BUDGET_NOT_FOUND,
        )
        refused(
            service.post(name, json.dumps(body).encode(), client=service.jane),
            403,
            code=Code.NOT_YOUR_REQUEST,
        )


def test_what_is_wrong_with_the_amount_or_currency_comes_before_someone_elses_request(
    service: Service,
) -> None:
    theirs = others_request(service)
    cancel = release_body(requestId=theirs, action="cancel", originalRequesterId="user-123")
    service.refuses(
        "reserve",
        json.dumps(reserve_body(requestId=theirs, amount=5.001)).encode(),
        "amount",
        client=service.jane,
    )
    service.refuses(
        "reserve",
        json.dumps(reserve_body(requestId=theirs, currency="EUR")).encode(),
        "currency",
        client=service.jane,
    )
    service.refuses(
        "release", json.dumps(cancel | {"amount": 5.001}).encode(), "amount", client=service.jane
    )


def test_what_is_wrong_with_the_amount_or_currency_comes_before_someone_elses_check(
    service: Service,
) -> None:
    theirs = check_body(userId="fpa-001")
    refused(
        service.post("check", json.dumps(theirs).encode(), client=service.jane),
        403,
        code=Code.NOT_YOUR_REQUEST,
    )
    service.refuses(
        "check", json.dumps(theirs | {"amount": 5.001}).encode(), "amount", client=service.jane
    )
    service.refuses(
        "check", json.dumps(theirs | {"currency": "EUR"}).encode(), "currency", client=service.jane
    )


def test_someone_elses_request_comes_before_what_stands_against_it(service: Service) -> None:
    theirs = others_request(service)
    before = service.dump()
    # Another amount than it holds would be a conflict, and more than it holds is the guide's 200.
    for name, body in (
        ("reserve", reserve_body(requestId=theirs, amount=77)),
        ("reserve", reserve_body(requestId=theirs, amount=9_000_000)),
        (
            "release",
            release_body(
                requestId=theirs, amount=77_777, action="cancel", originalRequesterId="user-123"
            ),
        ),
    ):
        refused(
            service.post(name, json.dumps(body).encode(), client=service.jane),
            403,
            code=Code.NOT_YOUR_REQUEST,
        )
    assert service.dump() == before


def test_someone_elses_request_comes_before_a_used_idempotency_key(service: Service) -> None:
    theirs, used = others_request(service), {"Idempotency-Key": "used"}
    body = json.dumps(release_body(requestId=theirs, amount=1, action="manual")).encode()
    assert service.post("release", body, headers=used).status_code == 200
    for requester, status, code in (
        ("user-123", 403, Code.NOT_YOUR_REQUEST),
        ("fpa-001", 422, Code.IDEMPOTENCY_KEY_REUSED),
    ):
        cancel = release_body(
            requestId=theirs, amount=1, action="cancel", originalRequesterId=requester
        )
        refused(
            service.post("release", json.dumps(cancel).encode(), headers=used), status, code=code
        )


def others_request(service: Service) -> str:
    """A request that Fiona holds: 50 on the guide's budget."""
    body = reserve_body(requestId="fionas", userId="fpa-001", amount=50)
    assert service.post("reserve", json.dumps(body).encode()).status_code == 200
    return "fionas"


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/api",
        "/api/budget",
        "/api/budget/checks",
        "/api/budgets/",
        "/API/BUDGET/CHECK",
        "/favicon.ico",
        "/.env",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_an_unknown_path_is_json_too(service: Service, path: str, method: str) -> None:
    refused(
        service.client.open(path, method=method, headers={"Accept": "text/html"}),
        404,
        code=Code.NOT_FOUND,
    )


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *((call.path, {"POST", "OPTIONS"}) for call in CALLS.values()),
        ("/api/auth/logout", {"POST", "OPTIONS"}),
        *(
            (path, {"GET", "HEAD", "OPTIONS"})
            for path in (
                "/api/budgets",
                "/api/budgets/budget-123",
                "/api/requests/intake-789",
                "/api/auth/me",
                "/healthz",
            )
        ),
    ],
)
def test_a_method_that_a_path_does_not_take_is_json_and_says_which_it_takes(
    service: Service, path: str, allowed: set[str]
) -> None:
    before = service.dump()
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "BREW"} - allowed:
        response = service.client.open(
            path, method=method, headers=service.key, data=b"{}", content_type=JSON
        )
        refused(response, 405, code=Code.METHOD_NOT_ALLOWED)
        assert {name.strip() for name in response.headers["Allow"].split(",")} == allowed
    assert service.dump() == before


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "budgets.example.com.evil.example",
        "",
        "budgets.example.com@evil.example",
        "[",
        "a b",
    ],
)
def test_a_host_that_is_not_trusted_is_refused_as_json(service: Service, host: str) -> None:
    app = create_app(
        dataclasses.replace(service.app.config["SETTINGS"], trusted_hosts=("budgets.example.com",))
    )
    client = app.test_client()
    body = json.dumps(CALLS["reserve"].body).encode()
    before = service.dump()
    for path in (CALLS["reserve"].path, "/nope"):
        refused(
            client.post(path, data=body, content_type=JSON, headers=service.key | {"Host": host}),
            400,
        )
    assert service.dump() == before
    trusted = client.post(
        CALLS["reserve"].path,
        data=b"{}",
        content_type=JSON,
        headers=service.key | {"Host": "budgets.example.com"},
    )
    refused(trusted, 400, CALLS["reserve"].required)
