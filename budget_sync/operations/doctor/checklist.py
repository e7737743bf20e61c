"""The lines of the guide's go-live checklist, in its order."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from peewee import fn

from budget_sync import database, sync
from budget_sync.database import DatabaseProblem
from budget_sync.database.models import ApiKey, AuditLog, BudgetCheckLog, SyncHistory, User
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor
from budget_sync.operations.doctor import installation, smoke_test
from budget_sync.operations.doctor.findings import Finding, by_hand, failed, ok, warning
from budget_sync.queries import overview
from budget_sync.settings import MIN_SECRET_LENGTH, PROJECT_FOLDER, Settings, is_loopback

#: What each line of the checklist is called here, in the guide's words.
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
    "local": "a check without credentials is answered to callers on this machine alone",
    "open": "a check without credentials is answered to everybody",
    "required": "every call needs credentials",
}


def examine(
    actor: Actor, settings: Settings, make_app: Callable[[Settings], Any]
) -> Iterator[Finding]:
    """Every line, then the installation. Once the schema is not what the program needs, nothing else can be asked of the database."""
    yield _cron_secret(settings)
    try:
        database.require_current_schema()
    except DatabaseProblem as problem:
        yield failed("Database", str(problem), "then run this again")
        yield from installation.files(settings)
        return
    yield _who_may_call(settings)
    yield from smoke_test.try_calls(settings, make_app)
    yield _last_check()
    yield _audit_log()
    yield from _sheet_sync(actor, settings)
    yield _monitoring(settings)
    yield by_hand("Load test", f"`make bench` measures this machine; {_busiest()}")
    yield by_hand(
        "Document the orchestrator's API", 'the README has every call and code under "The calls"'
    )
    yield from installation.files(settings)
    yield from installation.engine()
    yield from installation.surroundings(settings)


def _cron_secret(settings: Settings) -> Finding:
    name, secret = "Configure CRON_SECRET", settings.cron_secret
    if not secret:
        return warning(
            name,
            "not set: nobody can run a pass over HTTP",
            "set it, unless cron runs `flask sync-sheets` on this machine",
        )
    if len(secret) < MIN_SECRET_LENGTH:
        return failed(
            name,
            f"shorter than {MIN_SECRET_LENGTH} characters, so nobody can run a pass over HTTP",
            "set a longer one: openssl rand -hex 32",
        )
    if len(set(secret)) < 8:
        return warning(
            name,
            "long enough, but of few different characters",
            "set a random one: openssl rand -hex 32",
        )
    return ok(name, f"set, {len(secret)} characters")


def _who_may_call(settings: Settings) -> Finding:
    name = "getUserFromRequest"
    keys = ApiKey.select().where(ApiKey.revokedAt.is_null()).count()
    roles = Counter(
        row.role
        for row in User.select(User.role).where(
            User.disabledAt.is_null() & User.passwordHash.is_null(False)
        )
    )
    people = ", ".join(f"{count} {role}" for role, count in sorted(roles.items())) or "nobody"
    seen = f"{keys} API keys; people who can sign in: {people}; BUDGET_CHECK_AUTH is {settings.budget_check_auth}: {_AUTH_MEANS[settings.budget_check_auth]}"
    if not keys:
        return failed(
            name,
            seen,
            "make the orchestrator a key: flask add-key --customer ID --name orchestrator",
        )
    if settings.budget_check_auth == "open":
        return warning(
            name, seen, "set BUDGET_CHECK_AUTH=required, unless the checks of strangers are wanted"
        )
    if settings.budget_check_auth == "local" and settings.trusted_proxies:
        return warning(
            name,
            seen,
            "set BUDGET_CHECK_AUTH=required behind a proxy: one that leaves X-Forwarded-For out looks like a local caller",
        )
    if not roles.keys() & {"super_admin", "admin", "fpa_admin", "fpa_user"}:
        return warning(
            name,
            seen,
            "somebody of FP&A should be able to sign in: flask add-user, then flask set-password",
        )
    return ok(name, seen)


def _last_check() -> Finding:
    name = "Test budget check with the orchestrator"
    row = (
        BudgetCheckLog.select(BudgetCheckLog.timestamp)
        .where(BudgetCheckLog.checkedBy.startswith("key:"))
        .order_by(BudgetCheckLog.id.desc())
        .first()
    )
    if row is None:
        return warning(
            name,
            "no service has ever checked a budget here",
            "let the orchestrator send a check with its key",
        )
    return ok(name, f"a service last checked a budget at {clock.to_text(row.timestamp)}")


def _audit_log() -> Finding:
    name = "Audit logs are being created"
    try:
        database.prove_append_only()
    except DatabaseProblem as problem:
        return failed(
            name, f"{problem}", "see `flask verify`, the disk, and who may write to the database"
        )
    newest = AuditLog.select(AuditLog.createdAt).order_by(AuditLog.id.desc()).first()
    last = f"the newest is of {clock.to_text(newest.createdAt)}" if newest else "none yet"
    return ok(
        name,
        f"a row can be written, and neither changed nor deleted (all undone); {AuditLog.select().count():,} rows, {last}",
    )


def _sheet_sync(actor: Actor, settings: Settings) -> Iterator[Finding]:
    name = "Test Google Sheets sync"
    followed = sync.list_sources(actor, None)
    if not followed:
        yield ok(name, "not applicable: no source is followed (`flask add-source` adds one)")
        return
    flask = Path(sys.executable).with_name("flask")
    for source in followed:
        called = f"{source.customer_id} {source.label}"
        try:
            sync.fetch_source(source, sync.Reach.of(settings))
        except sync.FetchFailed as problem:
            yield failed(
                name,
                f"{called} cannot be read: {problem}",
                f"then see: flask sync-sheets --customer {source.customer_id} --dry-run",
            )
            continue
        last = (
            SyncHistory.select()
            .where(SyncHistory.sourceId == source.id)
            .order_by(SyncHistory.id.desc())
            .first()
        )
        seen = f"{called} can be read; last pass: {f'{last.status}, {clock.to_text(last.startTime)}' if last else 'never'}"
        if last is None or clock.now() - last.startTime > overview.STALE_AFTER:
            yield warning(
                name,
                seen,
                f"run it every hour, from the service's crontab: 0 * * * * {flask} --app {PROJECT_FOLDER}/app.py sync-sheets",
            )
        elif last.status in ("success", "skipped"):
            yield ok(name, seen)
        else:
            yield (failed if last.status == "failed" else warning)(
                name, seen, last.message or "see SyncHistory"
            )


def _monitoring(settings: Settings) -> Finding:
    name, token = "Monitoring alerts", settings.metrics_token
    if not token:
        return warning(
            name,
            "METRICS_TOKEN is not set: /metrics answers nobody",
            "set it (openssl rand -hex 32), and load deploy/alerts.yml into Prometheus",
        )
    if len(token) < MIN_SECRET_LENGTH:
        return failed(
            name,
            f"METRICS_TOKEN is shorter than {MIN_SECRET_LENGTH} characters: /metrics answers nobody",
            "set a longer one: openssl rand -hex 32",
        )
    # Up to a colon, as Flask reads them.
    if settings.trusted_hosts and not any(
        is_loopback(host.lstrip(".").partition(":")[0]) for host in settings.trusted_hosts
    ):
        answered = ",".join(settings.trusted_hosts)
        seen = f"METRICS_TOKEN is set, but whoever asks http://127.0.0.1 gets a 400: TRUSTED_HOSTS={answered} has no name of this machine's own"
        return warning(
            name,
            seen,
            f"set TRUSTED_HOSTS={answered},127.0.0.1, unless Prometheus asks by one of those names",
        )
    return ok(name, "METRICS_TOKEN is set; the alerts are in deploy/alerts.yml")


def _busiest() -> str:
    """How many checks the busiest hour of the last week had."""
    hour = fn.SUBSTR(BudgetCheckLog.timestamp.cast("TEXT"), 1, 13)
    week_ago = clock.now() - timedelta(days=7)
    counted: Any = (
        BudgetCheckLog.select(fn.COUNT(BudgetCheckLog.id))
        .where(BudgetCheckLog.timestamp > week_ago)
        .group_by(hour)
    )
    most = max((count for (count,) in counted.tuples()), default=0)
    return f"the busiest hour of the last week had {most:,} checks"
