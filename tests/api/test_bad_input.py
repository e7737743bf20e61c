"""Every invalid request gets the right 4xx as JSON, which names the problem, and moves nothing."""

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
    amend_body,
    check_body,
    commit_body,
    demo_client,
    key_headers,
    release_body,
    reserve_body,
    reverse_body,
    spend_body,
)
from werkzeug.test import TestResponse

from app import create_app
from budget_sync import database, manual_budgets, settings
from budget_sync.domain.errors import Code
from budget_sync.operations import demo

pytestmark = pytest.mark.both_engines

MAX_BODY_BYTES = 64 * 1024
JSON = "application/json"

# Longer than the limit of every field.
TOO_LONG = "x" * 5_000


@dataclass(frozen=True)
class Call:
    """A call: a valid body, its required fields, and its text fields. Nested names have dots."""

    path: str
    body: dict[str, Any]
    required: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def fields(self) -> list[str]:
        """Every field, with those of nested objects."""
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
    "amend": Call(
        "/api/budget/amend",
        amend_body(
            amount=5000,
            customerId="org-456",
            toBudgetId="budget-123",
            extend=False,
            overBudget={"approvedBy": "fpa-001", "reason": "Urgent"},
        ),
        ("budgetId", "requestId", "reason"),
        (
            *("budgetId", "requestId", "toBudgetId", "customerId", "reason"),
            *("overBudget.approvedBy", "overBudget.reason"),
        ),
    ),
    "commit": Call(
        "/api/budget/commit",
        commit_body(
            amount=2000,
            customerId="org-456",
            final=False,
            overBudget={"approvedBy": "fpa-001", "reason": "Urgent"},
        ),
        ("budgetId", "requestId", "amount"),
        (
            *("budgetId", "requestId", "customerId", "reason", "externalRef"),
            *("overBudget.approvedBy", "overBudget.reason"),
        ),
    ),
    "reverse": Call(
        "/api/budget/reverse",
        reverse_body(customerId="org-456"),
        ("budgetId", "requestId", "amount", "to", "reason"),
        ("budgetId", "requestId", "customerId", "reason", "externalRef"),
    ),
    "spend": Call(
        "/api/budget/spend",
        spend_body(customerId="org-456", currency="USD", externalRef="PO-1003"),
        ("spendId", "amount", "date", "reason"),
        (
            *("spendId", "department", "fiscalPeriod", "vendor"),
            *("reason", "externalRef", "customerId", "currency"),
        ),
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
MONEY_CALLS = ("check", "reserve", "amend", "commit", "reverse", "spend", "release")
CALL_FIELDS = [(name, field) for name, call in CALLS.items() for field in call.fields]

every_call = pytest.mark.parametrize("name", CALLS)
every_money_call = pytest.mark.parametrize("name", MONEY_CALLS)


def body_with(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """The body with another value for one field."""
    changed = copy.deepcopy(body)
    inner, *names = changed, *field.split(".")
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    return changed


def raw_body(body: dict[str, Any], literals: dict[str, str]) -> bytes:
    """The body as JSON, with raw JSON text for some fields, which may be invalid JSON."""
    for field in literals:
        body = body_with(body, field, f"@{field}@")
    text = json.dumps(body)
    for field, literal in literals.items():
        text = text.replace(f'"@{field}@"', literal)
    return text.encode("utf-8", "surrogatepass")


@dataclass
class Service:
    """The app under test, and a connection to its database file."""

    app: Flask
    client: FlaskClient
    key: dict[str, str]
    jane: FlaskClient
    file: sqlite3.Connection

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table, except of ApiKey, which also has the last use of each key."""
        tables = [
            name
            for (name,) in self.file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name != "ApiKey"
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
        """Post bytes with the orchestrator's key, or with the session of `client`."""
        credential = {} if client else self.key
        return (client or self.client).post(
            CALLS[name].path,
            data=body,
            content_type=content_type,
            headers=credential | dict(headers or {}),
        )

    def assert_invalid(self, name: str, body: bytes, *fields: str, **options: Any) -> TestResponse:
        """Assert that the body gets a 400 that names exactly these fields, and moves nothing."""
        before = self.dump()
        response = self.post(name, body, **options)
        assert_error(response, 400, fields)
        assert self.dump() == before
        return response


def assert_error(
    response: TestResponse, status: int, fields: Sequence[str] = (), code: Code | None = None
) -> dict[str, Any]:
    """Assert that the response is an error in the common form. Returns its data."""
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
    """The guide's customer, with more budgets in yen and dinars, and a reservation on each budget.

    One for the whole module: the tests assert that nothing here moves anything.
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
    service = Service(
        app, app.test_client(), key_headers(may_overspend=True), demo_client(app, "jane"), file
    )
    for budget_id, amount in (("budget-123", 5000), ("budget-jpy", 5000), ("budget-kwd", 5)):
        assert (
            service.post(
                "reserve", json.dumps(reserve_body(budgetId=budget_id, amount=amount)).encode()
            ).status_code
            == 200
        )
    yield service
    file.close()
    database.close_connection()


def literals_of(name: str, field: str) -> list[str]:
    """JSON texts that are invalid for this field."""
    call = CALLS[name]
    if field == "amount":
        found = [*NOT_NUMBERS, *INVALID_AMOUNTS, *INVALID_DOLLAR_AMOUNTS]
    elif field == "action":
        found = [*NOT_TEXTS, *BAD_TEXTS, '"refund"', '"CANCEL"', '"cancel "', '"cancel,reject"']
    elif field == "to":
        found = [*NOT_TEXTS, *BAD_TEXTS, '"budget"', '"AVAILABLE"', '"reserved "']
    elif field == "date":
        found = [*NOT_TEXTS, *BAD_TEXTS, *NOT_DATES]
    elif field in ("final", "extend"):
        found = ["0", "1", '"true"', '"yes"', "null", "[]", "{}", "NaN"]
    elif field == "overBudget":
        found = ["5", "true", '"fpa-001"', "[]", '["fpa-001", "Urgent"]', "NaN"]
    else:
        found = [*NOT_TEXTS, *BAD_TEXTS]
    return found + (["null"] if field in call.required else [])


NOT_DATES = (
    *('"2025-02-30"', '"2025-2-7"', '"20250207"', '"07.02.2025"', '"2025-02-07T00:00:00Z"'),
    *('"2025-W06-5"', '"0000-01-01"', '"2025-02- 7"', '"today"', '"٢٠٢٥-02-07"'),
)
NOT_NUMBERS = ("true", "false", '"5000"', '""', "[]", "[5000]", "{}", '{"amount": 5000}')
INVALID_AMOUNTS = (
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
INVALID_DOLLAR_AMOUNTS = (
    "5.001",
    "0.001",
    "1e-3",
    "10000000000000",
    "1e13",
    "10000000000000.00",
    "999999999999999",
)
NOT_TEXTS = (
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


def id_name(name: str) -> str:
    """The field with the id of the request."""
    return "spendId" if name == "spend" else "requestId"


def test_base_bodies_of_these_tests_are_valid(service: Service) -> None:
    # Otherwise the other tests could pass for another reason.
    for name in MONEY_CALLS:
        response = service.post(
            name, json.dumps(CALLS[name].body | {id_name(name): "valid"}).encode()
        )
        assert (response.status_code, response.json and response.json["success"]) == (200, True), (
            response.text
        )
    response = service.post("login", json.dumps(CALLS["login"].body).encode())
    assert_error(response, 401, code=Code.BAD_CREDENTIALS)


@pytest.mark.parametrize("version", ["0", "-1", "1.5", '"1"', "true", "[]", "{}", "1e400", "NaN"])
def test_invalid_version_is_rejected(service: Service, version: str) -> None:
    body = CALLS["amend"].body | {"ifVersion": 1}
    service.assert_invalid("amend", raw_body(body, {"ifVersion": version}), "ifVersion")


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"department": None}, ["department"]),
        ({"fiscalPeriod": None}, ["fiscalPeriod"]),
        ({"department": None, "fiscalPeriod": None}, ["budgetId"]),
        ({"budgetId": "budget-123"}, ["department", "fiscalPeriod"]),
        ({"budgetId": "budget-123", "department": None}, ["fiscalPeriod"]),
        ({"fiscalPeriod": "Q5 2025"}, ["fiscalPeriod"]),
    ],
)
def test_spend_names_one_budget(
    service: Service, changes: dict[str, Any], fields: list[str]
) -> None:
    body = {
        name: value for name, value in (CALLS["spend"].body | changes).items() if value is not None
    }
    service.assert_invalid("spend", json.dumps(body).encode(), *fields)


def test_amendment_without_a_change_is_rejected(service: Service) -> None:
    body = amend_body(amount=None, toBudgetId="budget-123")
    service.assert_invalid("amend", json.dumps(body).encode(), "amount")


def test_target_of_another_currency_is_rejected(service: Service) -> None:
    body = amend_body(amount=None, toBudgetId="budget-jpy")
    service.assert_invalid("amend", json.dumps(body).encode(), "toBudgetId")


@pytest.mark.parametrize(("name", "field"), CALL_FIELDS)
def test_invalid_value_is_rejected_with_its_field(service: Service, name: str, field: str) -> None:
    for literal in literals_of(name, field):
        service.assert_invalid(name, raw_body(CALLS[name].body, {field: literal}), field)


@every_call
def test_reply_names_all_invalid_fields(service: Service, name: str) -> None:
    call = CALLS[name]
    leaves = [field for field in call.fields if field != "overBudget"]
    # Amounts that are invalid only in dollars are not found before the budget is known.
    choices = {
        field: [text for text in literals_of(name, field) if text not in INVALID_DOLLAR_AMOUNTS]
        for field in leaves
    }
    for turn in range(5):
        wrong = {field: literals[turn * 7 % len(literals)] for field, literals in choices.items()}
        service.assert_invalid(name, raw_body(call.body, wrong), *leaves)


@every_call
def test_reply_names_all_missing_fields(service: Service, name: str) -> None:
    response = service.assert_invalid(name, b"{}", *CALLS[name].required)
    assert response.json
    assert (
        response.json["error"] == f"Missing required fields: {', '.join(response.json['fields'])}"
    )


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, call in CALLS.items() for field in call.required]
)
def test_reply_names_missing_and_invalid_fields(service: Service, name: str, field: str) -> None:
    call = CALLS[name]
    other = next(other for other in call.required if other != field)
    body = {key: value for key, value in call.body.items() if key != field}
    service.assert_invalid(name, json.dumps(body).encode(), field)
    service.assert_invalid(name, raw_body(body, {other: "false"}), field, other)


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, call in CALLS.items() for field in call.body]
)
def test_repeated_key_is_rejected_with_its_name(service: Service, name: str, field: str) -> None:
    body, value = json.dumps(CALLS[name].body), json.dumps(CALLS[name].body[field])
    repeated = f'{body[:-1]}, "{field}": {value}}}'
    service.assert_invalid(name, repeated.encode(), field)
    service.assert_invalid(name, f'{repeated[:-1]}, "{field}": null}}'.encode(), field)
    # The same key, written with an escape.
    service.assert_invalid(
        name, f'{body[:-1]}, "\\u{ord(field[0]):04x}{field[1:]}": {value}}}'.encode(), field
    )


@every_money_call
def test_only_documented_field_names_count(service: Service, name: str) -> None:
    call = CALLS[name]
    without_amount = {field: value for field, value in call.body.items() if field != "amount"}
    for field in [field for field in without_amount if snake(field) != field]:
        # The snake_case name is an unknown field: its value is ignored.
        service.assert_invalid(
            name, json.dumps(without_amount | {snake(field): 5}).encode(), "amount"
        )
        without_both = {known: value for known, value in without_amount.items() if known != field}
        # An amendment needs an amount, unless it moves or extends the hold.
        missing = {"amount", field} & set(call.required) or {"amount"}
        service.assert_invalid(
            name, json.dumps(without_both | {snake(field): 5}).encode(), *missing
        )


def test_only_documented_nested_field_names_count(service: Service) -> None:
    inner = {"approved_by": "fpa-001", "reason": "Urgent"}
    service.assert_invalid(
        "reserve",
        json.dumps(CALLS["reserve"].body | {"overBudget": inner}).encode(),
        "overBudget.approvedBy",
    )


def snake(name: str) -> str:
    """A camelCase name in snake_case."""
    return re.sub("([A-Z])", r"_\1", name).lower()


def test_reply_names_repeated_keys_and_invalid_fields(service: Service) -> None:
    body = raw_body(CALLS["release"].body, {"amount": "-5", "reason": '""'})
    service.assert_invalid(
        "release", body[:-1] + b', "action": "cancel"}', "amount", "reason", "action"
    )


def test_repeated_nested_key_is_named_with_its_path(service: Service) -> None:
    inner = '{"approvedBy": "fpa-001", "reason": "Urgent", "reason": "Very urgent"}'
    service.assert_invalid(
        "reserve", raw_body(CALLS["reserve"].body, {"overBudget": inner}), "overBudget.reason"
    )


@pytest.mark.parametrize(
    "extra", ['{"a": 1, "a": 2}', '[{"a": 1, "a": 1}]', '{"b": {"a": 1, "a": {}}}']
)
def test_repeated_key_in_an_unknown_field_is_rejected(service: Service, extra: str) -> None:
    for name, call in CALLS.items():
        before = service.dump()
        response = service.post(name, raw_body(call.body | {"extra": ""}, {"extra": extra}))
        assert response.status_code == 400
        assert response.json
        assert [field.split(".")[-1] for field in response.json["fields"]] == ["a"]
        assert service.dump() == before


@every_call
def test_repeated_key_of_invalid_unicode_is_rejected(service: Service, name: str) -> None:
    # A reply cannot contain half of a surrogate pair either.
    before = service.dump()
    response = service.post(
        name, json.dumps(CALLS[name].body)[:-1].encode() + b', "\\ud800": 1, "\\ud800": 2}'
    )
    assert response.status_code == 400, response.text
    assert response.json
    assert len(response.json["fields"]) == 1
    assert service.dump() == before


def with_note(note: bytes) -> bytes:
    """The end of a body, with an added field."""
    return b', "note": ' + note + b"}"


@pytest.mark.parametrize(
    "invalid",
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
def test_invalid_json_is_rejected(service: Service, invalid: bytes) -> None:
    for name, call in CALLS.items():
        body = (
            json.dumps(call.body).encode()[:-1] + invalid
            if invalid[:1] in (b",", b"}", b"/")
            else invalid
        )
        service.assert_invalid(name, body, "body")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_in_another_encoding_is_rejected(service: Service, encoding: str) -> None:
    for name, call in CALLS.items():
        service.assert_invalid(name, json.dumps(call.body).encode(encoding), "body")


@pytest.mark.parametrize(
    "document", ["[]", "[{}]", '"text"', "5", "-0", "null", "true", "NaN", "1e400", "9" * 5_000]
)
def test_body_that_is_not_an_object_is_rejected(service: Service, document: str) -> None:
    for name in CALLS:
        service.assert_invalid(name, document.encode(), "body")


@pytest.mark.parametrize(
    "nested",
    [
        "[" * 60_000,
        "[" * 30_000 + "]" * 30_000,
        '{"a":' * 12_000,
        '{"a":' * 9_000 + "1" + "}" * 9_000,
    ],
)
def test_deep_nesting_is_rejected(service: Service, nested: str) -> None:
    for name in CALLS:
        service.assert_invalid(name, nested.encode(), "body")
        service.assert_invalid(name, b'{"extra": ' + nested.encode() + b"}", "body")


def test_nesting_near_the_parsers_limit_is_a_400(service: Service) -> None:
    # The search for repeated keys must go as deep as the parser.
    for depth in range(940, 1_000):
        response = service.post("check", b'{"extra": ' + b"[" * depth + b"]" * depth + b"}")
        assert response.status_code == 400, (depth, response.text)


@every_call
def test_deep_nesting_above_the_size_limit_is_a_413(service: Service, name: str) -> None:
    before = service.dump()
    assert_error(service.post(name, b"[" * 100_000), 413, code=Code.BODY_TOO_LARGE)
    assert service.dump() == before


@every_call
@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
def test_body_above_the_size_limit_is_rejected(service: Service, name: str, chunked: bool) -> None:
    before = service.dump()
    largest = json.dumps(CALLS[name].body).encode().ljust(MAX_BODY_BYTES)
    for size in (1, MAX_BODY_BYTES, 10 * MAX_BODY_BYTES):
        response = (post_chunked if chunked else Service.post)(service, name, largest + b" " * size)
        assert_error(response, 413, code=Code.BODY_TOO_LARGE)
    assert service.dump() == before


def post_chunked(service: Service, name: str, body: bytes) -> TestResponse:
    """Post without a Content-Length, as gunicorn passes on a chunked body."""
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


def test_body_of_exactly_the_size_limit_is_accepted(service: Service) -> None:
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
def test_body_of_another_content_type_is_rejected(
    service: Service, content_type: str | None
) -> None:
    for name, call in CALLS.items():
        before = service.dump()
        assert_error(
            service.post(name, json.dumps(call.body).encode(), content_type=content_type),
            415,
            code=Code.UNSUPPORTED_MEDIA_TYPE,
        )
        assert service.dump() == before


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"]
)
def test_spellings_of_the_json_content_type_are_accepted(
    service: Service, content_type: str
) -> None:
    assert (
        service.post(
            "check", json.dumps(CALLS["check"].body).encode(), content_type=content_type
        ).status_code
        == 200
    )


def money_body(name: str, currency: str, amount: str) -> bytes:
    """A body with an amount, given as JSON text, for the budget of this currency."""
    body = {
        field: value
        for field, value in CALLS[name].body.items()
        if field not in ("currency", "overBudget", "toBudgetId")
    }
    if currency != "USD":
        changes = (
            {"department": f"Engineering {currency}"}
            if name in ("check", "spend")
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
def test_more_decimals_than_the_currency_are_rejected(
    service: Service, name: str, currency: str, amount: str
) -> None:
    service.assert_invalid(name, money_body(name, currency, amount), "amount")


@pytest.mark.parametrize(
    ("currency", "amount"),
    [("USD", "99.5"), ("USD", "99.500000"), ("JPY", "5000.0"), ("JPY", "5e3"), ("KWD", "4.125")],
)
def test_as_many_decimals_as_the_currency_are_accepted(
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
def test_amount_of_1e15_minor_units_is_rejected(
    service: Service, name: str, currency: str, amount: str
) -> None:
    service.assert_invalid(name, money_body(name, currency, amount), "amount")


@every_money_call
@pytest.mark.parametrize(
    ("currency", "amount"),
    [("USD", "9999999999999.99"), ("JPY", "999999999999999"), ("KWD", "999999999999.999")],
)
def test_amount_just_below_1e15_minor_units_is_valid(
    service: Service, name: str, currency: str, amount: str
) -> None:
    before = service.dump()
    response = service.post(name, money_body(name, currency, amount))
    status, code = {
        "check": (200, Code.INSUFFICIENT_BUDGET),
        "reserve": (409, Code.REQUEST_CONFLICT),
        "amend": (409, Code.INSUFFICIENT_BUDGET),
        "reverse": (409, Code.AMOUNT_EXCEEDS_COMMITTED),
        "spend": (409, Code.AMOUNT_TOO_LARGE),
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
def test_currency_other_than_the_budgets_is_rejected(
    service: Service, name: str, currency: str
) -> None:
    service.assert_invalid(
        name, json.dumps(CALLS[name].body | {"currency": currency}).encode(), "currency"
    )
    service.assert_invalid(
        name,
        raw_body(CALLS[name].body | {"currency": currency}, {"amount": "5.001"}),
        "currency",
        "amount",
    )


@pytest.mark.parametrize("currency", ["XYZ", "usd", "123", "\u212aWD"])
def test_unknown_currency_is_rejected_without_a_budget(service: Service, currency: str) -> None:
    service.assert_invalid(
        "check",
        json.dumps(check_body(department="Nowhere", currency=currency)).encode(),
        "currency",
    )


@pytest.mark.parametrize("name", ["reserve", "amend", "commit", "reverse", "release"])
@pytest.mark.parametrize("key", ["", " ", "\t", "x" * 256, "x" * 5_000, " " * 255])
def test_blank_or_long_idempotency_key_is_rejected(service: Service, name: str, key: str) -> None:
    service.assert_invalid(
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
            (f"/api/budgets?asOf={value}", "asOf")
            for value in (
                *("", "%20", "%00", "%ff", "yesterday", "2026-02-30", "31.10.2026", "2026-1-1"),
                *("2025-01-01T00:00", "20250101", "1969-12-31", "0000-01-01", "9999-12-31"),
                *("2025-01-01%00", "2025-01-01&asOf=2025-01-01", "9" * 5_000),
            )
        ),
        *(
            (f"/api/requests?status={value}", "status")
            for value in ("", "%20", "OPEN", "open%20", "waiting", "open,closed", "%00", "%ff")
        ),
        *(
            (f"/api/requests?waitingFor={value}", "waitingFor")
            for value in ("", "%20", "APPROVAL", "approval%20", "null", "%00", "%ff")
        ),
        *(
            (f"/api/requests?olderThanDays={value}", "olderThanDays")
            for value in ("", "%20", "-1", "1.5", "abc", "36501", "9" * 5_000, "%D9%A5", "+5")
        ),
        *(
            (f"/api/requests?cursor={value}", "cursor")
            for value in ("", "%20", "1", "res_unknown", "%ff", "x" * 5_000, "a%00", "a'--")
        ),
        *((f"/api/requests?limit={value}", "limit") for value in ("0", "101", "abc", "%00")),
        *(
            (f"/api/requests?{name}=a%00", name)
            for name in ("customerId", "department", "fiscalPeriod")
        ),
        *(
            (f"/api/requests?fiscalPeriod={value}", "fiscalPeriod")
            for value in ("Q5%202025", "Q1", "TBD")
        ),
        *(
            (f"/api/requests?{name}=5&{name}=5", name)
            for name in (
                *("status", "waitingFor", "olderThanDays", "cursor", "limit"),
                *("customerId", "department", "fiscalPeriod"),
            )
        ),
        *(
            (f"/api/requests/intake-789?customerId={value}", "customerId")
            for value in ("", "%20", "%00", "org-456%00", "org-456&customerId=org-456")
        ),
    ],
)
def test_invalid_query_parameter_is_rejected_with_its_name(
    service: Service, path: str, field: str
) -> None:
    before = service.dump()
    assert_error(service.client.get(path, headers=service.key), 400, [field], Code.INVALID_REQUEST)
    assert service.dump() == before


@pytest.mark.parametrize("customer_id", ["org-999", "%ff", "%ed%a0%80", "x" * 100, "org-456%27--"])
@pytest.mark.parametrize("path", ["/api/budgets", "/api/requests", "/api/requests/intake-789"])
def test_unknown_customer_in_a_query_is_rejected(
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
def test_unknown_cursor_is_a_page_or_a_400(service: Service, cursor: str) -> None:
    response = service.client.get(f"/api/budgets?cursor={cursor}", headers=service.key)
    if response.status_code == 200:
        assert response.json
        assert set(response.json) == {"items", "nextCursor"}
    else:
        assert_error(response, 400, ["cursor"])


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
def test_odd_name_in_a_path_is_not_found(service: Service, path: str, name: str) -> None:
    before = service.dump()
    response = service.client.get(f"{path}{name}", headers=service.key)
    assert_error(response, 404)
    assert "X" not in response.headers
    assert service.dump() == before


# Any JSON value, with halves of surrogate pairs, numbers beyond floats, and known field names.
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
    """Any JSON value. About half are texts: most fields are texts, so texts get furthest."""
    return draw(
        draw(
            st.sampled_from(
                [ANY_TEXT, ANY_TEXT.map(lambda text: f"a{text}b"), KNOWN_TEXT, ANY_NUMBER, ANY_JSON]
            )
        )
    )


# Derandomized: the same code always gets the same result.
fuzzed = hypothesis_settings(max_examples=60, deadline=None, derandomize=True, database=None)


def assert_handled(service: Service, name: str, body: bytes) -> None:
    """Assert that the body never causes a 5xx, and moves nothing if it is rejected."""
    before = service.dump()
    response = service.post(name, body)
    assert response.status_code < 500, (body, response.text)
    assert isinstance(response.json, dict)
    if response.status_code >= 400:
        assert_error(response, response.status_code, list(response.json.get("fields", ())))
        after = service.dump()
        # A failed login is counted for the rate limit.
        assert {table for table in before if after[table] != before[table]} <= (
            {"LoginAttempt"} if name == "login" else set()
        )


@every_call
@fuzzed
@given(data=st.data())
def test_any_value_in_any_field_is_handled(
    service: Service, name: str, data: st.DataObject
) -> None:
    body = CALLS[name].body
    for field in data.draw(
        st.lists(st.sampled_from(CALLS[name].fields), min_size=1, max_size=2, unique=True).map(
            sorted
        )
    ):
        # A nested field needs an object around it.
        if "." not in field or isinstance(body["overBudget"], dict):
            body = body_with(body, field, data.draw(any_value()))
    text = json.dumps(body, ensure_ascii=data.draw(st.booleans()))
    assert_handled(service, name, text.encode("utf-8", "surrogatepass"))


@every_call
@fuzzed
@given(
    body=st.binary(max_size=64)
    | ANY_JSON.map(json.dumps).map(str.encode)
    | st.dictionaries(st.sampled_from(KNOWN_NAMES), any_value()).map(json.dumps).map(str.encode)
)
def test_any_body_is_handled(service: Service, name: str, body: bytes) -> None:
    assert_handled(service, name, body)


@pytest.mark.parametrize("name", [name for name in MONEY_CALLS if name != "check"])
def test_missing_credential_precedes_body_errors(service: Service, name: str) -> None:
    anonymous = service.app.test_client()
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
        response = anonymous.post(
            path, data=body, content_type=content_type, headers={"Idempotency-Key": " "}
        )
        assert_error(response, 401, code=Code.AUTHENTICATION_REQUIRED)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert service.dump() == before


@every_money_call
def test_bad_credential_precedes_body_errors(service: Service, name: str) -> None:
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
        assert_error(response, 401, code=Code.AUTHENTICATION_REQUIRED)
    assert service.dump() == before


@pytest.mark.parametrize("name", ["commit", "reverse", "release"])
def test_body_errors_precede_a_forbidden_role(service: Service, name: str) -> None:
    body = json.dumps(CALLS[name].body).encode()
    assert_error(service.post(name, body, client=service.jane), 403, code=Code.FORBIDDEN)
    service.assert_invalid(name, b"{}", *CALLS[name].required, client=service.jane)
    service.assert_invalid(
        name, raw_body(CALLS[name].body, {"amount": "-5"}), "amount", client=service.jane
    )
    service.assert_invalid(
        name, body, "Idempotency-Key", client=service.jane, headers={"Idempotency-Key": " "}
    )
    assert_error(
        service.post(name, b" " * (MAX_BODY_BYTES + 1), client=service.jane),
        413,
        code=Code.BODY_TOO_LARGE,
    )
    assert_error(
        service.post(name, body, client=service.jane, content_type="text/plain"),
        415,
        code=Code.UNSUPPORTED_MEDIA_TYPE,
    )


@pytest.mark.parametrize("name", ["commit", "reverse", "release"])
def test_forbidden_role_precedes_an_unknown_budget(service: Service, name: str) -> None:
    body = json.dumps(CALLS[name].body | {"budgetId": "budget-999"}).encode()
    assert_error(service.post(name, body, client=service.jane), 403, code=Code.FORBIDDEN)
    assert_error(service.post(name, body), 404, code=Code.BUDGET_NOT_FOUND)


def test_unknown_budget_precedes_another_users_request(service: Service) -> None:
    fionas_id = request_of_fiona(service)
    for name, body in (
        ("reserve", reserve_body(requestId=fionas_id)),
        (
            "release",
            release_body(requestId=fionas_id, action="cancel", originalRequesterId="user-123"),
        ),
    ):
        assert_error(
            service.post(
                name, json.dumps(body | {"budgetId": "budget-999"}).encode(), client=service.jane
            ),
            404,
            code=Code.BUDGET_NOT_FOUND,
        )
        assert_error(
            service.post(name, json.dumps(body).encode(), client=service.jane),
            403,
            code=Code.NOT_YOUR_REQUEST,
        )


def test_amount_error_precedes_another_users_request(
    service: Service,
) -> None:
    fionas_id = request_of_fiona(service)
    cancel = release_body(requestId=fionas_id, action="cancel", originalRequesterId="user-123")
    service.assert_invalid(
        "reserve",
        json.dumps(reserve_body(requestId=fionas_id, amount=5.001)).encode(),
        "amount",
        client=service.jane,
    )
    service.assert_invalid(
        "reserve",
        json.dumps(reserve_body(requestId=fionas_id, currency="EUR")).encode(),
        "currency",
        client=service.jane,
    )
    service.assert_invalid(
        "release", json.dumps(cancel | {"amount": 5.001}).encode(), "amount", client=service.jane
    )


def test_amount_error_precedes_another_users_check(
    service: Service,
) -> None:
    fionas_check = check_body(userId="fpa-001")
    assert_error(
        service.post("check", json.dumps(fionas_check).encode(), client=service.jane),
        403,
        code=Code.NOT_YOUR_REQUEST,
    )
    service.assert_invalid(
        "check",
        json.dumps(fionas_check | {"amount": 5.001}).encode(),
        "amount",
        client=service.jane,
    )
    service.assert_invalid(
        "check",
        json.dumps(fionas_check | {"currency": "EUR"}).encode(),
        "currency",
        client=service.jane,
    )


def test_another_users_request_precedes_conflicts(service: Service) -> None:
    fionas_id = request_of_fiona(service)
    before = service.dump()
    # For the requester, another amount is a conflict, and more than it holds is the guide's 200.
    for name, body in (
        ("reserve", reserve_body(requestId=fionas_id, amount=77)),
        ("reserve", reserve_body(requestId=fionas_id, amount=9_000_000)),
        (
            "release",
            release_body(
                requestId=fionas_id, amount=77_777, action="cancel", originalRequesterId="user-123"
            ),
        ),
    ):
        assert_error(
            service.post(name, json.dumps(body).encode(), client=service.jane),
            403,
            code=Code.NOT_YOUR_REQUEST,
        )
    assert service.dump() == before


def test_another_users_request_precedes_a_reused_key(service: Service) -> None:
    fionas_id, used = request_of_fiona(service), {"Idempotency-Key": "used"}
    body = json.dumps(release_body(requestId=fionas_id, amount=1, action="manual")).encode()
    assert service.post("release", body, headers=used).status_code == 200
    for requester, status, code in (
        ("user-123", 403, Code.NOT_YOUR_REQUEST),
        ("fpa-001", 422, Code.IDEMPOTENCY_KEY_REUSED),
    ):
        cancel = release_body(
            requestId=fionas_id, amount=1, action="cancel", originalRequesterId=requester
        )
        assert_error(
            service.post("release", json.dumps(cancel).encode(), headers=used), status, code=code
        )


def request_of_fiona(service: Service) -> str:
    """The id of Fiona's request, which holds 50 on the guide's budget."""
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
def test_unknown_path_is_a_404_as_json(service: Service, path: str, method: str) -> None:
    assert_error(
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
def test_wrong_method_is_a_405_with_the_allowed_methods(
    service: Service, path: str, allowed: set[str]
) -> None:
    before = service.dump()
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "BREW"} - allowed:
        response = service.client.open(
            path, method=method, headers=service.key, data=b"{}", content_type=JSON
        )
        assert_error(response, 405, code=Code.METHOD_NOT_ALLOWED)
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
def test_untrusted_host_is_rejected_as_json(service: Service, host: str) -> None:
    app = create_app(
        dataclasses.replace(service.app.config["SETTINGS"], trusted_hosts=("budgets.example.com",))
    )
    client = app.test_client()
    body = json.dumps(CALLS["reserve"].body).encode()
    before = service.dump()
    for path in (CALLS["reserve"].path, "/nope"):
        assert_error(
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
    assert_error(trusted, 400, CALLS["reserve"].required)
