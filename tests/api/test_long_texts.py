"""Every text from outside has a maximum length, which is checked before anything parses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import click
import pytest
from flask import Flask
from support.world import key_headers, person, sign_in

import cli
from budget_sync import settings
from budget_sync.accounts import authentication
from budget_sync.commands import support
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.periods import MAX_FORM_LENGTH, fold, parse, period_key
from budget_sync.domain.permissions import Role
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.web.api import MAX_ARGUMENT_LENGTHS, Login
from budget_sync.web.console import formats


def texts_without_limit(schema: Any, path: str = "") -> list[str]:
    """The paths of strings in a JSON Schema that have neither a maximum length nor choices."""
    if isinstance(schema, list):
        return [found for each in schema for found in texts_without_limit(each, path)]
    if not isinstance(schema, dict):
        return []
    is_open = schema.get("type") == "string" and not {"maxLength", "enum", "const"} & set(schema)
    return [path] * is_open + [
        found
        for name, inner in schema.items()
        if name != "examples"
        for found in texts_without_limit(inner, f"{path}/{name}")
    ]


@pytest.mark.parametrize(
    "model", [CheckRequest, ReserveRequest, CommitRequest, ReleaseRequest, Login]
)
def test_every_text_field_has_a_maximum_length(model: Any) -> None:
    assert texts_without_limit(model.model_json_schema()) == []


def documented_lengths(app: Flask) -> dict[str, dict[str, int | None]]:
    """The query parameters of each list of the API, with their documented length."""
    document = app.test_client().get("/openapi.json").json or {}
    lists = {
        path: methods["get"]["parameters"]
        for path, methods in document["paths"].items()
        if "{" not in path and "parameters" in methods.get("get", {})
    }
    return {
        path: {
            parameter["name"]: parameter["schema"].get("maxLength")
            for parameter in parameters
            if parameter.get("in") == "query"
        }
        for path, parameters in lists.items()
    }


@pytest.mark.parametrize("name", MAX_ARGUMENT_LENGTHS)
def test_long_query_parameter_is_rejected_by_name(
    app: Flask, guides_world: None, name: str
) -> None:
    longest = MAX_ARGUMENT_LENGTHS[name]
    path = next(path for path, limits in documented_lengths(app).items() if name in limits)
    reply = app.test_client().get(f"{path}?{name}={'x' * (longest + 1)}", headers=key_headers())
    assert reply.status_code == 400
    assert reply.json
    assert reply.json["code"] == Code.INVALID_REQUEST
    assert reply.json["fields"] == {name: f"must have at most {longest} characters"}


@pytest.mark.parametrize("path", ["/api/budgets/", "/api/requests/"])
def test_id_that_is_too_long_is_not_looked_up(app: Flask, guides_world: None, path: str) -> None:
    assert app.test_client().get(f"{path}{'x' * 201}", headers=key_headers()).status_code == 404


def test_query_parameters_are_documented_with_their_length(app: Flask) -> None:
    documented: dict[str, int | None] = {}
    for limits in documented_lengths(app).values():
        for name, length in limits.items():
            assert documented.setdefault(name, length) == length
    # Numbers and the words of a list have no length.
    lengths = {name: length for name, length in documented.items() if length is not None}
    assert lengths.items() <= MAX_ARGUMENT_LENGTHS.items()
    assert documented.keys() == MAX_ARGUMENT_LENGTHS.keys()


def test_text_too_long_for_a_key_has_no_key(app: Flask) -> None:
    assert authentication.actor_of_key("bsk_" + "a" * 1_000_000) is None


def test_long_address_is_cut_before_it_is_counted() -> None:
    assert len(authentication._network("[" + "1" * 30_000)) <= 100  # noqa: SLF001


@pytest.mark.parametrize("path", ["/", "/sign-in", "/api/budgets", "/api/auth/me", "/healthz"])
def test_long_cookie_header_is_read_at_once(app: Flask, path: str) -> None:
    """32 KB of spaces after a name took 10 seconds on the event loop, without signing in."""
    client = app.test_client(use_cookies=False)
    for name in ("a", "budget_sync_session"):
        started_s = time.process_time()
        client.get(path, headers={"Cookie": f'{name}={" " * 30_000}"'})
        assert time.process_time() - started_s < 2


@pytest.mark.parametrize("before", ["", "other=1; ", 'broken="; ', "; ;=;  "])
def test_session_is_found_among_other_cookies(app: Flask, guides_world: None, before: str) -> None:
    person("u-cookie", Role.FPA_ADMIN)
    cookie = sign_in(app, "u-cookie@example.com").get_cookie("budget_sync_session")
    assert cookie
    reply = app.test_client(use_cookies=False).get(
        "/api/auth/me", headers={"Cookie": f"{before}{cookie.key}={cookie.value}; last=2"}
    )
    assert reply.status_code == 200


@pytest.mark.parametrize("value", ["", "x" * 5000, '"quoted"', "\u00e9"])
def test_impossible_session_cookie_is_an_ended_session(app: Flask, value: str) -> None:
    reply = app.test_client(use_cookies=False).get(
        "/api/auth/me", headers={"Cookie": f"budget_sync_session={value}"}
    )
    assert reply.json
    assert reply.json["error"].startswith("Authentication required: this session has ended.")


@pytest.mark.parametrize("name", ["TRUSTED_PROXIES", "TRUSTED_HOSTS", "INSTANCE_FOLDER"])
def test_long_setting_is_rejected_by_name(name: str) -> None:
    with pytest.raises(settings.SettingsError, match=f"{name} must have at most 4,096 characters"):
        settings.load({"SECRET_KEY": "a key for tests, long enough", name: "1" * 5000})


def test_long_host_is_not_this_machine() -> None:
    assert not settings.is_loopback("0" * 30_000 + "127.0.0.1")


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: str(command.name))
def test_long_argument_of_a_command_is_rejected(command: click.Command) -> None:
    with pytest.raises(click.ClickException, match=r"more than 4,096 characters"):
        command.make_context(str(command.name), ["x" * 5000])


def test_long_amount_of_a_command_is_rejected() -> None:
    with pytest.raises(click.BadParameter, match="at most 100 characters"):
        support.AMOUNT.convert("1" * 101, None, None)
    assert support.AMOUNT.convert("1,250.50", None, None) == Decimal("1250.50")


@pytest.mark.parametrize("text", ["1" * 31, "1" + ",000" * 70, "1" + " " * 200 + "x1"])
def test_long_amount_in_a_form_is_rejected(text: str) -> None:
    with pytest.raises(RequestError) as raised:
        formats.parse_amount(text)
    assert raised.value.code is Code.INVALID_REQUEST


def test_longest_amount_in_a_form_is_accepted() -> None:
    assert formats.parse_amount("999,999,999,999,999.9999") == Decimal("999999999999999.9999")


def test_long_period_has_no_known_form_and_is_not_cached() -> None:
    text = "Q1" + "-" * MAX_FORM_LENGTH + "2025"
    before = period_key_cache_size()
    assert period_key(text) == text.casefold()
    assert period_key_cache_size() == before
    assert period_key("Q1" + " " * 500 + "2025") == "2025-Q1"


def period_key_cache_size() -> int:
    return int(parse._parse_short.cache_info().currsize)  # noqa: SLF001


@pytest.mark.parametrize("parse", [fold, period_key])
def test_long_run_of_accents_is_folded_at_once(parse: Callable[[str], str]) -> None:
    """Composing sorts the accents of a letter, in quadratic time: 100,000 took 12 seconds."""
    started_s = time.process_time()
    parse("a" + "\u0315\u0300" * 50_000)
    assert time.process_time() - started_s < 2
