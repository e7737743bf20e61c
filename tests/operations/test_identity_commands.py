"""Commands for keys and identity providers, over a real installation."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from support.installation import Installation, found
from support.tokens import OTHER_RSA, claims, sign, write_identity_file
from support.world import ROOT, commit_body, key_headers, reserve_body

from budget_sync.accounts import api_keys, authentication
from budget_sync.database.models import ApiKey, AuditLog
from budget_sync.domain import clock
from budget_sync.domain.permissions import ApiScope


def say(installation: Installation, *arguments: str, given: str = "") -> tuple[int, str, str]:
    """Run a command with a text on standard input: exit status, output, errors."""
    done = installation.flask(*arguments, given=given, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def site(installation: Installation, tmp_path: Path) -> Installation:
    """An installation with the identity provider Acme."""
    installation.environment["IDENTITY_FILE"] = str(write_identity_file(tmp_path))
    return installation


def test_identity_check_shows_the_providers(site: Installation) -> None:
    status, out, _ = say(site, "identity-check")
    assert status == 0
    assert "Acme (https://login.acme.example): header Authorization; 2 keys fetched" in out


def test_identity_check_says_who_a_token_is(site: Installation) -> None:
    status, out, _ = say(site, "identity-check", "-", given=f"Bearer {sign(claims())}\n")
    assert status == 0
    assert "Person: Mia Meyer, mia@acme.example" in out
    assert "Role: manager" in out
    assert "User: would be created" in out
    rows = found(site.target, """SELECT COUNT(*) FROM "User" WHERE "subject" = 'mia'""")
    assert rows == [(0,)]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (sign(claims(), OTHER_RSA), "signature"),
        (sign(claims(groups=["x"])), "'groups'"),
        ("x", "not a signed token"),
    ],
)
def test_identity_check_says_why_a_token_is_refused(
    site: Installation, token: str, why: str
) -> None:
    status, out, err = say(site, "identity-check", token)
    assert status == 1
    assert why in err
    assert token not in out


def test_identity_check_without_providers_says_what_to_do(installation: Installation) -> None:
    status, _, err = say(installation, "identity-check")
    assert status == 1
    assert "docs/sign-in.md" in err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[provider", "is not TOML"),
        ('[[provider]]\nname = "A"', "provider.0.issuer: Field required"),
        ("x = 1", "x: Extra inputs are not permitted"),
        ("password_sign_in = false", "needs a provider"),
    ],
)
def test_wrong_identity_file_stops_every_command(
    site: Installation, text: str, problem: str
) -> None:
    path = Path(site.environment["IDENTITY_FILE"])
    path.write_text(text, "utf-8")
    status, _, err = say(site, "list-users")
    assert status == 1
    assert problem in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('issuer = "https://', 'issuer = "http://', "https address"),
        ('"budget-sync"]', '"budget-sync"]\nalgorithms = ["HS256"]', "algorithms"),
        ('"budget-sync"]', '"budget-sync"]\nalgorithms = ["none"]', "algorithms"),
        ('jwks_file = "keys.json"', 'jwks_file = "missing.json"', "cannot be read"),
        ('"admins" = "admin"', '"admins" = "super_admin"', "is not one of"),
        ('"release", "read"]', '"release", "everything"]', "is not one of"),
        ('"budget-sync"]', '"budget-sync"]\nheader = "Cookie"', "cannot carry"),
        ('"budget-sync"]', '"budget-sync"]\nclient_secret = "x"', "client_secret"),
        (
            "[[provider.service]]",
            (
                '[provider.sign_in]\nclient_id = "x"\nclient_secret_env = "NO_SUCH_NAME"\n'
                "[[provider.service]]"
            ),
            "NO_SUCH_NAME",
        ),
    ],
)
def test_wrong_value_in_identity_file_is_named(
    site: Installation, old: str, new: str, problem: str
) -> None:
    path = Path(site.environment["IDENTITY_FILE"])
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    status, _, err = say(site, "list-users")
    assert (status, len(err.strip().splitlines())) == (1, 1)
    assert problem.replace("cannot carry", "carry a token") in err


def test_rotated_key_keeps_rights_and_ends_old_ones(world: Flask) -> None:
    old = key_headers(scopes=[ApiScope.CHECK, ApiScope.READ])
    new = api_keys.rotate_key(
        ROOT, "orchestrator", customer_id="org-456", overlap=timedelta(days=7)
    )
    client = world.test_client()
    for headers in (old, {"Authorization": f"Bearer {new}"}):
        assert client.get("/api/budgets", headers=headers).status_code == 200
        reply = client.post("/api/budget/reserve", json=reserve_body(), headers=headers)
        assert reply.status_code == 403
        assert "scope 'reserve'" in reply.text
    rows = ApiKey.select().where(ApiKey.expiresAt.is_null(False))
    assert all(row.expiresAt <= clock.now() + timedelta(days=7) for row in rows)
    newest = api_keys.rotate_key(ROOT, "orchestrator", customer_id="org-456")
    assert client.get("/api/budgets", headers=old).status_code == 401
    assert authentication.actor_of_key(new) is None
    assert authentication.actor_of_key(newest) is not None
    assert AuditLog.select().where(AuditLog.action == "ROTATE_KEY").count() >= 2


def test_expired_key_is_rejected(world: Flask) -> None:
    key = api_keys.add_key(ROOT, "short", customer_id="org-456", lifetime=timedelta(days=1))
    assert authentication.actor_of_key(key) is not None
    ApiKey.update(expiresAt=clock.now() - timedelta(seconds=1)).where(
        ApiKey.name == "short"
    ).execute()
    assert authentication.actor_of_key(key) is None


def test_expiring_key_without_successor_is_reported(world: Flask) -> None:
    api_keys.add_key(ROOT, "soon", customer_id="org-456", lifetime=timedelta(days=3))
    assert [key.name for key in api_keys.expiring_keys()] == ["soon"]
    api_keys.add_key(ROOT, "soon", customer_id="org-456", lifetime=timedelta(days=90))
    assert api_keys.expiring_keys() == []


def test_commands_of_keys(installation: Installation) -> None:
    key = installation.flask(
        *[
            "add-key",
            "--customer",
            "org-456",
            "--name",
            "robot",
            "--scopes",
            "check,read",
            "--expires",
            "30d",
        ]
    ).stdout.strip()
    assert key.startswith("bsk_")
    new = installation.flask(
        *["rotate-key", "robot", "--customer", "org-456", "--overlap", "7d"]
    ).stdout
    assert new.strip().startswith("bsk_")
    assert len(new.splitlines()) == 1
    listed = installation.flask("list-keys").stdout
    assert "check read" in listed
    assert "expires soon" in listed
    for wrong in ("--scopes everything", "--expires soon", "--expires 0d"):
        done = installation.flask(
            *f"add-key --customer org-456 --name x {wrong}".split(), check=False
        )
        assert done.returncode in (1, 2)
        assert done.stdout == ""


def test_partial_commits_repeated_over_a_rotation_count_once(world: Flask) -> None:
    """Each commit is sent before and after the key was replaced, with the same Idempotency-Key."""
    client = world.test_client()
    headers = key_headers()
    body = reserve_body(amount=2000, requestId="rotated")
    assert client.post("/api/budget/reserve", json=body, headers=headers).status_code == 200
    budget = reserve_body()["budgetId"]

    def commit(number: int) -> str:
        sent = commit_body(requestId="rotated", amount=1, final=False, externalRef=f"PO-{number}")
        reply = client.post(
            "/api/budget/commit",
            json=sent,
            headers=headers | {"Idempotency-Key": f"commit-{number}"},
        )
        assert reply.status_code == 200, reply.text
        return reply.text

    committed = client.get(f"/api/budgets/{budget}", headers=headers).json
    assert committed is not None
    first = []
    for number in range(1000):
        first.append(commit(number))
        if number % 250 == 249:
            key = api_keys.rotate_key(ROOT, "orchestrator", customer_id="org-456")
            headers = {"Authorization": f"Bearer {key}"}
    again = [commit(number) for number in range(1000)]
    assert [json.loads(text) for text in first] == [json.loads(text) for text in again]
    after = client.get(f"/api/budgets/{budget}", headers=headers).json
    assert after is not None
    assert (
        after["budget"]["committedAmount"] - committed["budget"]["committedAmount"]
        if "budget" in after
        else after["committedAmount"] - committed["committedAmount"]
    ) == 1000
