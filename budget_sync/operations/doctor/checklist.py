"""The lines of the guide's go-live checklist, in its order."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from peewee import fn

from budget_sync import database, sync
from budget_sync.database import DatabaseUnusableError
from budget_sync.database.models import ApiKey, AuditLog, BudgetCheckLog, SyncHistory, User
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor
from budget_sync.operations import load_test
from budget_sync.operations.doctor import (
    alerts,
    expiry,
    identity,
    installation,
    smoke_test,
    webhooks,
)
from budget_sync.operations.doctor.findings import Finding, by_hand, failed, ok, warning
from budget_sync.queries import inbox
from budget_sync.settings import (
    IS_INSTALLED,
    MIN_SECRET_LENGTH,
    PROJECT_FOLDER,
    Settings,
)

#: The lines of the checklist, in the guide's words.
CHECKLIST = (
    "Configure CRON_SECRET",
    "getUserFromRequest",
    "Test budget check",
    "Test budget reserve",
    "Test budget release (cancel)",
    "Test budget release (reject)",
    "Test budget release (manual)",
    "Audit logs are being created",
    "Test Google Sheets sync",
    "Monitoring alerts",
    "Load test",
    "Document the orchestrator's API",
)

_AUTH_MEANS = {
    "local": "a check needs credentials, except from this machine",
    "open": "a check needs no credentials",
    "required": "every call needs credentials",
}


def examine(
    actor: Actor, settings: Settings, make_app: Callable[[Settings], Any]
) -> Iterator[Finding]:
    """Check every line, then the installation.

    If the schema is not the one that the program needs, the checks of the database are skipped.
    """
    yield from installation.misspellings(settings)
    yield _cron_secret(settings)
    try:
        database.require_current_schema()
    except DatabaseUnusableError as problem:
        yield failed("Database", str(problem), "then run `flask doctor` again")
        yield from installation.files(settings)
        return
    providers = identity.providers(settings)
    yield _callers(settings, providers.working)
    yield from providers.problems
    yield from identity.expiring_keys()
    yield from smoke_test.try_calls(settings, make_app)
    yield _last_check()
    yield _audit_log()
    yield from _sheet_sync(actor, settings)
    yield from expiry.released_in_time(_program())
    yield _monitoring(settings)
    yield _load_test(settings)
    yield by_hand(
        "Document the orchestrator's API", "the page /docs has every call and every error code"
    )
    yield from installation.files(settings)
    yield from installation.engine()
    yield from webhooks.webhooks(actor)
    yield from alerts.alerts(settings)
    yield from installation.surroundings(settings)


def _cron_secret(settings: Settings) -> Finding:
    name, secret = "Configure CRON_SECRET", settings.cron_secret
    if not secret:
        return warning(
            name,
            "not set: no sync run can be started over HTTP",
            "set it, unless `flask sync-sheets` runs on this machine",
        )
    if len(secret) < MIN_SECRET_LENGTH:
        return failed(
            name,
            f"shorter than {MIN_SECRET_LENGTH} characters: no sync run can be started over HTTP",
            "set a longer one, such as the output of `openssl rand -hex 32`",
        )
    if len(set(secret)) < 8:
        return warning(
            name,
            "long enough, but with few different characters",
            "set a random one, such as the output of `openssl rand -hex 32`",
        )
    return ok(name, f"set, {len(secret)} characters")


def _callers(settings: Settings, providers: str) -> Finding:
    name = "getUserFromRequest"
    keys = ApiKey.select().where(ApiKey.revokedAt.is_null()).count()
    roles = Counter(
        row.role
        for row in User.select(User.role).where(
            User.disabledAt.is_null() & User.passwordHash.is_null(False)
        )
    )
    people = ", ".join(f"{count} {role}" for role, count in sorted(roles.items())) or "none"
    auth = settings.budget_check_auth
    seen = (
        f"{keys} API keys; users who can sign in: {people}; "
        f"identity providers: {providers or 'none'}; BUDGET_CHECK_AUTH is {auth}: "
        f"{_AUTH_MEANS[auth]}"
    )
    if not keys:
        return failed(
            name,
            seen,
            "create a key for the orchestrator: `flask add-key --customer ID --name orchestrator`",
        )
    if auth == "open":
        return warning(
            name, seen, "set BUDGET_CHECK_AUTH=required, unless checks must be open to everyone"
        )
    if auth == "local" and settings.trusted_proxies:
        return warning(
            name,
            seen,
            "set BUDGET_CHECK_AUTH=required: if the proxy does not send X-Forwarded-For, every "
            "caller looks local",
        )
    if not roles.keys() & {"super_admin", "admin", "fpa_admin", "fpa_user"}:
        return warning(
            name,
            seen,
            "add an FP&A user with `flask add-user` and `flask set-password`",
        )
    if not providers:
        return warning(
            name, seen, "to sign people in with the customer's own identity, see docs/sign-in.md"
        )
    return ok(name, seen)


def _last_check() -> Finding:
    name = "Test budget check with the orchestrator"
    row = (
        BudgetCheckLog.select(BudgetCheckLog.timestamp)
        .where(BudgetCheckLog.checkedBy.startswith("service:"))
        .order_by(BudgetCheckLog.id.desc())
        .first()
    )
    if row is None:
        return warning(
            name,
            "no service has ever checked a budget here",
            "send a check from the orchestrator, with its key",
        )
    return ok(name, f"a service last checked a budget at {clock.to_text(row.timestamp)}")


def _audit_log() -> Finding:
    name = "Audit logs are being created"
    try:
        database.check_append_only()
    except DatabaseUnusableError as problem:
        return failed(
            name,
            f"{problem}",
            "run `flask verify`, and look at the disk and the permissions in the database",
        )
    newest = AuditLog.select(AuditLog.createdAt).order_by(AuditLog.id.desc()).first()
    last = f"the newest is from {clock.to_text(newest.createdAt)}" if newest else "none yet"
    return ok(
        name,
        "a row can be written, but not changed or deleted (tested and undone); "
        f"{AuditLog.select().count():,} rows, {last}",
    )


def _sheet_sync(actor: Actor, settings: Settings) -> Iterator[Finding]:
    name = "Test Google Sheets sync"
    sources = sync.list_sources(actor, None)
    if not sources:
        yield ok(name, "not applicable: there is no source (`flask add-source` adds one)")
        return
    program = _program()
    for source in sources:
        label = f"{source.customer_id} {source.label}"
        try:
            sync.fetch_source(source.target, sync.Reach.of(settings))
        except sync.FetchError as problem:
            yield failed(
                name,
                f"{label} cannot be read: {problem}",
                "fix the source, then try it: "
                f"`flask sync-sheets --customer {source.customer_id} --dry-run`",
            )
            continue
        finally:
            database.open_connection()
        last = (
            SyncHistory.select()
            .where(SyncHistory.sourceId == source.id)
            .order_by(SyncHistory.id.desc())
            .first()
        )
        last_run = f"{last.status}, {clock.to_text(last.startTime)}" if last else "never"
        seen = f"{label} can be read; last sync run: {last_run}"
        if last is None or clock.now() - last.startTime > inbox.STALE_AFTER:
            yield warning(
                name,
                seen,
                "add this line to the crontab of the service's user: "
                f"0 * * * * {program} sync-sheets",
            )
        elif last.status in ("success", "skipped"):
            yield ok(name, seen)
        else:
            yield (failed if last.status == "failed" else warning)(
                name, seen, last.message or "see the page Sync in the console"
            )


def _program() -> str:
    """The command line for a crontab, before the name of the command."""
    programs = Path(sys.executable).parent
    if not IS_INSTALLED:
        return f"{programs}/flask --app {PROJECT_FOLDER}/app.py"
    folder = os.environ.get("INSTANCE_FOLDER") and shlex.quote(str(PROJECT_FOLDER))
    return f"{f'INSTANCE_FOLDER={folder} ' if folder else ''}{programs}/budget-sync"


def _monitoring(settings: Settings) -> Finding:
    name, token = "Monitoring alerts", settings.metrics_token
    if not token:
        return warning(
            name,
            "METRICS_TOKEN is not set: /metrics rejects every caller",
            "set it (`openssl rand -hex 32`), and load deploy/alerts.yml into Prometheus",
        )
    if len(token) < MIN_SECRET_LENGTH:
        return failed(
            name,
            f"METRICS_TOKEN is shorter than {MIN_SECRET_LENGTH} characters: "
            "/metrics rejects every caller",
            "set a longer one, such as the output of `openssl rand -hex 32`",
        )
    if settings.trusted_hosts and "127.0.0.1" not in settings.accepted_hosts:
        hosts = ",".join(settings.trusted_hosts)
        seen = (
            "METRICS_TOKEN is set, but a request to http://127.0.0.1 gets status 400, because "
            f"TRUSTED_HOSTS={hosts} has no loopback name"
        )
        return warning(
            name,
            seen,
            f"set TRUSTED_HOSTS={hosts},127.0.0.1, unless Prometheus uses one of those names",
        )
    return ok(name, "METRICS_TOKEN is set; the alerts are in deploy/alerts.yml")


def _load_test(settings: Settings) -> Finding:
    passed = load_test.last_passed(settings.instance_folder)
    if passed is None:
        return by_hand(
            "Load test",
            f"run `flask load-test` with a key of a test customer; {_busiest()}",
        )
    return ok(
        "Load test",
        f"`flask load-test` last passed at {passed.time}, with {passed.per_minute:,} calls per "
        f"minute for {passed.minutes:g} minutes: 99 % took at most {passed.p99_s:g} s; "
        f"{_busiest()}",
    )


def _busiest() -> str:
    """The number of checks in the busiest hour of the last week."""
    hour = fn.SUBSTR(BudgetCheckLog.timestamp.cast("TEXT"), 1, 13)
    week_ago = clock.now() - timedelta(days=7)
    counted: Any = (
        BudgetCheckLog.select(fn.COUNT(BudgetCheckLog.id))
        .where(BudgetCheckLog.timestamp > week_ago)
        .group_by(hour)
    )
    most = max((count for (count,) in counted.tuples()), default=0)
    return f"the busiest hour of the last week had {most:,} checks"
