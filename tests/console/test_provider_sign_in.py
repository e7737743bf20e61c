"""Signing in at a real identity provider over HTTP, without a browser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from support.tokens import openid_provider, write_identity_file
from support.world import ROOT

from app import create_app
from budget_sync.accounts import people
from budget_sync.accounts.identity import keys
from budget_sync.database.models import AuditLog, Session, User
from budget_sync.settings import Settings
from budget_sync.web import auth


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The address of a running OpenID provider that knows mia, and nobody else."""
    with openid_provider() as url:
        yield url


@pytest.fixture
def site(guides_world: None, chosen: Settings, tmp_path: Path, provider: str) -> Flask:
    """The app with that provider."""
    return site_with(chosen, tmp_path, provider)


def site_with(chosen: Settings, folder: Path, provider: str, before: str = "") -> Flask:
    keys.forget_descriptions()
    path = write_identity_file(
        folder,
        issuer=provider,
        keys="",
        more='[provider.sign_in]\nclient_id = "budget-sync"\nclient_secret_env = "ACME_SECRET"\n'
        'scopes = ["openid", "email", "profile"]',
    )
    path.write_text(f"{before}\n{path.read_text('utf-8')}", "utf-8")
    return create_app(
        replace(
            chosen,
            identity_file=path,
            is_identity_file_named=True,
            variables={"ACME_SECRET": "a secret of Acme"},
        )
    )


def begin(browser: FlaskClient, **query: str) -> str:
    """Choose the provider on the sign-in page; returns its address."""
    reply = browser.get("/sign-in/provider", query_string={"name": "Acme"} | query)
    assert reply.status_code == 302, reply.text
    return str(reply.location)


def at_provider(address: str, subject: str = "mia") -> str:
    """Sign in at the provider; returns the address that it leads to."""
    reply = requests.post(address, data={"sub": subject}, allow_redirects=False, timeout=10)
    assert reply.status_code == 302, reply.text
    return reply.headers["Location"]


def sign_in(browser: FlaskClient, **query: str) -> Any:
    location = urlsplit(at_provider(begin(browser, **query)))
    return browser.get(f"{location.path}?{location.query}")


def test_person_signs_in_and_returns_to_the_page(site: Flask) -> None:
    browser = site.test_client()
    assert "Sign in with Acme" in browser.get("/sign-in?next=/budgets").text
    reply = sign_in(browser, next="/budgets")
    assert (reply.status_code, reply.location) == (302, "/budgets")
    assert browser.get("/budgets").status_code == 200
    user = User.get(User.subject == "mia")
    assert (user.role, user.customerId, user.name) == ("fpa_admin", "org-456", "Mia Meyer")
    assert AuditLog.get(AuditLog.subject == user.id).changedBy == "Acme (identity provider)"


def test_request_has_pkce_state_and_nonce(site: Flask) -> None:
    query = parse_qs(urlsplit(begin(site.test_client())).query)
    assert query["code_challenge_method"] == ["S256"]
    assert len(query["code_challenge"][0]) == 43
    assert len(query["state"][0]) >= 32
    assert len(query["nonce"][0]) >= 32
    assert query["response_type"] == ["code"]


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_sign_in_returns_to_own_pages_only(site: Flask, path: str) -> None:
    assert sign_in(site.test_client(), next=path).location == "/"


def test_answer_in_another_browser_signs_nobody_in(site: Flask) -> None:
    location = urlsplit(at_provider(begin(site.test_client())))
    other = site.test_client()
    reply = other.get(f"{location.path}?{location.query}")
    assert reply.status_code == 401
    assert "Sign in again" in reply.text
    assert other.get("/budgets").status_code == 302


def test_answer_is_taken_once(site: Flask) -> None:
    browser = site.test_client()
    location = urlsplit(at_provider(begin(browser)))
    path = f"{location.path}?{location.query}"
    assert browser.get(path).status_code == 302
    assert browser.get(path).status_code == 401


def test_wrong_code_signs_nobody_in(site: Flask) -> None:
    browser = site.test_client()
    state = parse_qs(urlsplit(begin(browser)).query)["state"][0]
    reply = browser.get("/sign-in/done", query_string={"state": state, "code": "wrong"})
    assert reply.status_code == 401
    assert not Session.select().where(Session.userId == "mia").exists()


def test_disabled_person_cannot_sign_in(site: Flask) -> None:
    sign_in(site.test_client())
    people.disable_user(ROOT, User.get(User.subject == "mia").id)
    reply = sign_in(site.test_client())
    assert reply.status_code == 403
    assert "disabled" in reply.text


def test_provider_is_unreachable(guides_world: None, chosen: Settings, tmp_path: Path) -> None:
    site = site_with(chosen, tmp_path, "http://127.0.0.1:9")
    reply = site.test_client().get("/sign-in/provider?name=Acme")
    assert reply.status_code == 503
    assert "Acme cannot be reached" in reply.text
    assert reply.headers["Retry-After"] == "5"


def test_unknown_provider_is_not_found(site: Flask) -> None:
    assert site.test_client().get("/sign-in/provider?name=x").status_code == 404


def test_session_is_confirmed_at_the_provider(site: Flask) -> None:
    browser = site.test_client()
    sign_in(browser)
    with browser.session_transaction() as values:
        values["confirmed"] = ["Acme", int(time.time()) - auth.CONFIRM_AFTER_S - 1]
    reply = browser.get("/budgets?department=x")
    assert reply.status_code == 302
    address = begin(browser, silent="1", next="/budgets?department=x")
    assert parse_qs(urlsplit(address).query)["prompt"] == ["none"]
    # This provider has no session of its own to confirm silently, so mia signs in again.
    location = urlsplit(at_provider(address.replace("prompt=none", "")))
    assert browser.get(f"{location.path}?{location.query}").location == "/budgets?department=x"
    assert browser.get("/budgets").status_code == 200


def test_unconfirmed_session_ends(site: Flask) -> None:
    browser = site.test_client()
    sign_in(browser)
    with browser.session_transaction() as values:
        values["confirmed"] = ["Acme", int(time.time()) - auth.CONFIRM_WITHIN_S - 1]
    assert browser.get("/api/auth/me").status_code == 401
    state = parse_qs(urlsplit(begin(browser, silent="1")).query)["state"][0]
    reply = browser.get("/sign-in/done", query_string={"state": state, "error": "login_required"})
    assert urlsplit(reply.location).path == "/sign-in"
    assert not Session.select().where(Session.userId == User.get(User.subject == "mia").id).exists()


def test_sign_out_ends_the_session_of_the_provider(site: Flask) -> None:
    browser = site.test_client()
    sign_in(browser)
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', browser.get("/budgets").text)
    assert token
    reply = browser.post("/sign-out", data={"csrf_token": token[1]})
    assert reply.status_code in (200, 302)
    assert browser.get("/budgets").status_code == 302


def test_passwords_can_be_switched_off(
    guides_world: None, chosen: Settings, tmp_path: Path, provider: str
) -> None:
    site = site_with(chosen, tmp_path, provider, "password_sign_in = false")
    folder = Path(site.instance_path)
    people.set_password(ROOT, "fpa-001", "correct horse battery", slots_folder=folder)
    browser = site.test_client()
    email = User.get(User.id == "fpa-001").email
    body = {"email": email, "password": "correct horse battery"}
    assert browser.post("/api/auth/login", json=body).status_code == 403
    admin = User.get(User.role == "admin")
    people.set_password(ROOT, admin.id, "correct horse battery", slots_folder=folder)
    body["email"] = admin.email
    assert browser.post("/api/auth/login", json=body).status_code == 200
