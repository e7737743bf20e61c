"""Calls with tokens of an identity provider: accepted callers, and rejected tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from joserfc.jwk import ECKey
from support.tokens import EC, OTHER_RSA, RSA, bearer, claims, sign, write_identity_file
from support.world import ROOT, check_body, demo_client, key_headers

from app import create_app
from budget_sync.accounts import people
from budget_sync.database.models import AuditLog, Session, User
from budget_sync.settings import Settings

pytestmark = pytest.mark.both_engines


@pytest.fixture
def caller(guides_world: None, chosen: Settings, tmp_path: Path) -> FlaskClient:
    """A client of an app with the identity provider Acme."""
    return app_with(chosen, tmp_path)


def app_with(chosen: Settings, folder: Path, more: str = "") -> FlaskClient:
    settings = replace(
        chosen,
        identity_file=write_identity_file(folder, more=more),
        is_identity_file_named=True,
        budget_check_auth="required",
    )
    return create_app(settings).test_client()


def me(caller: FlaskClient, **changes: object) -> Any:
    """The reply of GET /api/auth/me to a token with these claims."""
    return caller.get("/api/auth/me", headers=bearer(sign(claims(**changes))))


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def test_person_acts_with_customer_and_role_of_claims(caller: FlaskClient) -> None:
    reply = me(caller)
    assert reply.status_code == 200
    assert reply.json["user"]["role"] == "manager"
    assert reply.json["user"]["customerId"] == "org-456"
    user = User.get(User.provider == "Acme", User.subject == "mia")
    assert (user.name, user.email, user.customerId) == ("Mia Meyer", "mia@acme.example", "org-456")
    assert AuditLog.get(AuditLog.subject == user.id).action == "ADD_USER"


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_configured_algorithms_are_accepted(caller: FlaskClient, key: Any, algorithm: str) -> None:
    assert (
        caller.get("/api/auth/me", headers=bearer(sign(claims(), key, algorithm))).status_code
        == 200
    )


def test_service_token_acts_within_its_scopes(caller: FlaskClient) -> None:
    token = sign(claims(sub="orchestrator@clients", email=None, groups=None))
    reply = caller.post("/api/budget/check", json=check_body(), headers=bearer(token))
    assert reply.status_code == 200, reply.json


def test_new_role_is_stored_audited_and_ends_sessions(caller: FlaskClient) -> None:
    assert me(caller, groups=["fpa"]).json["user"]["role"] == "fpa_user"
    user = User.get(User.subject == "mia")
    Session.insert(
        tokenHash="x", userId=user.id, createdAt=user.createdAt, expiresAt=user.createdAt
    ).execute()
    assert me(caller, groups=["managers"]).json["user"]["role"] == "manager"
    row = AuditLog.get(AuditLog.action == "SET_ROLE")
    assert (row.oldValue, row.newValue, row.subject) == ("fpa_user", "manager", user.id)
    assert not Session.select().where(Session.userId == user.id).exists()


def test_role_with_most_permissions_wins(caller: FlaskClient) -> None:
    assert me(caller, groups=["staff", "fpa-admins", "x"]).json["user"]["role"] == "fpa_admin"


def test_same_subject_is_same_user_after_new_email(caller: FlaskClient) -> None:
    me(caller)
    assert me(caller, email="mia.new@acme.example", name="Mia New").status_code == 200
    users = list(User.select().where(User.subject == "mia"))
    assert [(user.email, user.name) for user in users] == [("mia.new@acme.example", "Mia New")]


def test_email_of_another_user_is_refused_until_linked(caller: FlaskClient) -> None:
    jane = User.get(User.customerId == "org-456", User.role == "business_user")
    reply = me(caller, email=jane.email)
    assert reply.status_code == 403
    assert "link" in reply.json["error"]
    people.link_user(ROOT, jane.id, provider="Acme", subject="mia")
    assert me(caller, email=jane.email).json["user"]["id"] == jane.id


def test_disabled_user_stays_out_with_a_valid_token(caller: FlaskClient) -> None:
    me(caller)
    people.disable_user(ROOT, User.get(User.subject == "mia").id)
    reply = me(caller)
    assert reply.status_code == 403
    assert "disabled" in reply.json["error"]


def test_same_subject_of_another_customer_is_refused(caller: FlaskClient) -> None:
    me(caller)
    assert me(caller, org_id="rival").status_code == 403


HOSTILE: dict[str, str] = {
    "no token": "x",
    "two parts": "a.b",
    "five parts (encrypted)": "a.b.c.d.e",
    "empty signature": ".".join(sign(claims()).split(".")[:2]) + ".",
    "signature of another token": ".".join(
        [*sign(claims()).split(".")[:2], sign(claims(sub="eve")).split(".")[2]]
    ),
    "alg none": f"{part({'alg': 'none'})}.{part(claims())}.",
    "alg None with signature": f"{part({'alg': 'None'})}.{part(claims())}.AAAA",
    "no alg": f"{part({'kid': 'rsa-1'})}.{part(claims())}.AAAA",
    "alg is a list": f"{part({'alg': ['RS256']})}.{part(claims())}.AAAA",
    "RS512 is not configured": sign(claims(), algorithm="RS512"),
    "other key with known kid": sign(claims(), OTHER_RSA, kid="rsa-1"),
    "other key": sign(claims(), OTHER_RSA),
    "other key without kid": sign(claims(), OTHER_RSA, kid=None),
    "ES256 with the id of the RSA key": sign(claims(), EC, "ES256", kid="rsa-1"),
    "kid with a path": sign(claims(), kid="../../etc/passwd"),
    "kid with SQL": sign(claims(), kid="' OR 1=1 --"),
    "kid is a number": f"{part({'alg': 'RS256', 'kid': 1})}.{part(claims())}.AAAA",
    "kid is empty": f"{part({'alg': 'RS256', 'kid': ''})}.{part(claims())}.AAAA",
    "kid is huge": sign(claims(), kid="k" * 5000),
    "jku of the attacker": sign(claims(), OTHER_RSA, jku="http://127.0.0.1:1/keys"),
    "x5u of the attacker": sign(claims(), OTHER_RSA, x5u="http://127.0.0.1:1/cert"),
    "embedded jwk": sign(claims(), OTHER_RSA, jwk=OTHER_RSA.as_dict(private=False)),
    "unknown critical header": f"{part({'alg': 'RS256', 'crit': ['x'], 'x': 1})}."
    f"{part(claims())}.AAAA",
    "empty crit": f"{part({'alg': 'RS256', 'kid': 'rsa-1', 'crit': []})}.{part(claims())}.AAAA",
    "unencoded payload": f"{part({'alg': 'RS256', 'b64': False})}.{part(claims())}.AAAA",
    "other issuer": sign(claims(iss="https://evil.example")),
    "issuer with a slash": sign(claims(iss="https://login.acme.example/")),
    "issuer is a list": sign(claims(iss=["https://login.acme.example"])),
    "no issuer": sign(claims(iss=None)),
    "other audience": sign(claims(aud="other")),
    "audience as part of a text": sign(claims(aud="budget-sync other")),
    "other audiences": sign(claims(aud=["other", "another"])),
    "audience is a number": sign(claims(aud=1)),
    "audience has a number": sign(claims(aud=["budget-sync", 1])),
    "no audience": sign(claims(aud=None)),
    "expired": sign(claims(exp=1)),
    "expired a minute ago": sign(claims(exp=claims()["iat"] - 60)),
    "no exp": sign(claims(exp=None)),
    "exp is a text": sign(claims(exp="2099-01-01")),
    "exp is true": sign(claims(exp=True)),
    "exp is negative": sign(claims(exp=-1)),
    "exp is infinite": sign(json.dumps(claims()).replace('"exp": ', '"exp": Infinity, "x": ')),
    "exp is huge": sign(json.dumps(claims()).replace('"exp": ', '"exp": 1e400, "x": ')),
    # Hours, because the tests may run long after they are collected.
    "not yet valid": sign(claims(nbf=claims()["iat"] + 12 * 3600)),
    "nbf is a text": sign(claims(nbf="now")),
    "issued in the future": sign(claims(iat=claims()["iat"] + 12 * 3600)),
    "no sub": sign(claims(sub=None)),
    "empty sub": sign(claims(sub=" ")),
    "sub is a number": sign(claims(sub=7)),
    "sub is huge": sign(claims(sub="s" * 300)),
    "sub with control characters": sign(claims(sub="a\x00b")),
    "no customer": sign(claims(org_id=None)),
    "unknown customer": sign(claims(org_id="nobody")),
    "customer is an object": sign(claims(org_id={"acme": 1})),
    "two customers": sign(claims(org_id=["acme", "rival"])),
    "no role": sign(claims(groups=None)),
    "unknown role": sign(claims(groups=["x"])),
    "role is a number": sign(claims(groups=1)),
    "role is an object": sign(claims(groups={"admins": True})),
    "role names our role": sign(claims(groups=["admin"])),
    "no email": sign(claims(email=None)),
    "email is no address": sign(claims(email="mia")),
    "email is a list": sign(claims(email=["mia@acme.example"])),
    "email is not verified": sign(claims(email_verified=False)),
    "duplicate claims": sign(json.dumps(claims()).replace('{"iss"', '{"sub": "eve", "iss"')),
    "claims are a list": sign("[]"),
    "claims are a text": sign('"x"'),
    "claims are not JSON": sign("{"),
    "claims are nested deeply": sign('{"a":' * 300 + "1" + "}" * 300),
    "claims are nested too deeply": sign('{"a":' * 3000 + "1" + "}" * 3000),
    "token is huge": sign(claims(x="x" * 20000)),
    "token is not ASCII": "a.b.\u00fc",
    "header is not JSON": f"{part('{')}.{part(claims())}.AAAA",
    "not base64url": "a+b/.c+d/.e+f/",
}


def hmac_with_public_key() -> str:
    """HS256 with the text of the public key as its secret."""
    signed = f"{part({'alg': 'HS256', 'kid': 'rsa-1'})}.{part(claims())}"
    digest = hmac.new(RSA.as_pem(private=False), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


HOSTILE["HS256 with the public key as its secret"] = hmac_with_public_key()
_P384 = ECKey.generate_key("P-384", {"kid": "ec-1"}, private=True)
HOSTILE["ES256 with the wrong curve"] = sign(claims(), _P384, "ES384").replace(
    part({"alg": "ES384", "typ": "JWT", "kid": "ec-1"}),
    part({"alg": "ES256", "typ": "JWT", "kid": "ec-1"}),
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_token_is_rejected(caller: FlaskClient, name: str) -> None:
    users = User.select().count()
    for path in ("/api/auth/me", "/api/budgets"):
        reply = caller.get(path, headers=bearer(HOSTILE[name]))
        assert reply.status_code in (401, 403), (name, reply.json)
        assert HOSTILE[name] not in reply.text
    assert User.select().count() == users


def test_there_are_enough_hostile_tokens() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("aud", ["budget-sync", ["other", "budget-sync"]])
def test_audience_may_be_a_text_or_a_list(caller: FlaskClient, aud: object) -> None:
    assert me(caller, aud=aud).status_code == 200


def test_token_and_key_of_different_callers_are_rejected(
    guides_world: None, chosen: Settings, tmp_path: Path
) -> None:
    caller = app_with(chosen, tmp_path, 'header = "Cf-Access-Jwt-Assertion"\ncookie = "acme"')
    token = {"Cf-Access-Jwt-Assertion": sign(claims())}
    assert caller.get("/api/auth/me", headers=token).status_code == 200
    both = caller.get("/api/auth/me", headers=token | key_headers())
    assert both.status_code == 401
    caller.set_cookie("acme", sign(claims(sub="eve", email="eve@acme.example")))
    assert caller.get("/api/auth/me", headers=token).status_code == 401
    caller.set_cookie("acme", sign(claims()))
    assert caller.get("/api/auth/me", headers=token).status_code == 200


def test_token_in_a_cookie_needs_the_same_origin(
    guides_world: None, chosen: Settings, tmp_path: Path
) -> None:
    caller = app_with(chosen, tmp_path, 'cookie = "acme"')
    caller.set_cookie("acme", sign(claims()))
    user: Any = caller.get("/api/auth/me").json
    body = check_body(userId=user["user"]["id"])
    ours = caller.post("/api/budget/check", json=body, headers={"Origin": "http://localhost"})
    assert ours.status_code == 200, ours.json
    foreign = caller.post(
        "/api/budget/check", json=check_body(), headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    assert "CROSS_ORIGIN" in foreign.text


def test_session_and_token_of_different_people_are_rejected(
    guides_world: None, chosen: Settings, tmp_path: Path
) -> None:
    app = app_with(chosen, tmp_path, 'cookie = "acme"').application
    fiona = demo_client(app, "fiona")
    assert fiona.get("/api/auth/me").status_code == 200
    fiona.set_cookie("acme", sign(claims()))
    assert fiona.get("/api/auth/me").status_code == 401
