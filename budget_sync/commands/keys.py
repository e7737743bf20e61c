"""Commands for API keys."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

from budget_sync.accounts import api_keys
from budget_sync.commands.support import (
    command,
    customer_or_all,
    done,
    me,
    on_current_schema,
    one_of,
    require_known,
    show_table,
)
from budget_sync.database.models import ApiKey
from budget_sync.domain import clock
from budget_sync.domain.permissions import ApiScope

_DURATION = re.compile(r"([0-9]{1,4}) ?(d|h)")


class Duration(click.ParamType[timedelta]):
    """A time such as 90d or 12h."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """The duration of a text such as 90d."""
        if isinstance(value, timedelta):
            return value
        match = _DURATION.fullmatch(str(value).strip().lower())
        if match is None:
            self.fail(f"{value!r} must look like 90d (days) or 12h (hours).", param, ctx)
        amount = int(match[1])
        return timedelta(days=amount) if match[2] == "d" else timedelta(hours=amount)


class Scopes(click.ParamType[frozenset[ApiScope]]):
    """Names of scopes separated by commas."""

    name = "scopes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[ApiScope]:
        """The scopes of a text such as check,reserve."""
        if isinstance(value, frozenset):
            return value
        known = [str(scope) for scope in ApiScope]
        names = [name.strip() for name in str(value).split(",")]
        for name in names:
            if name not in known:
                self.fail(f"{name!r} is not one of {', '.join(known)}.", param, ctx)
        return frozenset(map(ApiScope, names))


@command("add-key")
@customer_or_all
@click.option(
    "--name",
    required=True,
    help="Name of the service, shown in the audit log. Keys with the same name are one service.",
)
@click.option(
    "--may-overspend",
    is_flag=True,
    help="The service may submit over-budget approvals on behalf of FP&A.",
)
@click.option(
    "--scopes",
    type=Scopes(),
    metavar="LIST",
    help=f"Some of {','.join(ApiScope)}. [default: all]",
)
@click.option(
    "--expires",
    type=Duration(),
    metavar="TIME",
    help="When the key ends, for example after 90d. [default: never]",
)
@on_current_schema
def add_key(
    customer_id: str | None,
    all_customers: bool,
    name: str,
    may_overspend: bool,
    scopes: frozenset[ApiScope] | None,
    expires: timedelta | None,
) -> None:
    """Create an API key and print it. It cannot be shown again."""
    key = api_keys.add_key(
        me(),
        name,
        customer_id=one_of(customer_id, all_customers),
        may_overspend=may_overspend,
        scopes=scopes,
        lifetime=expires,
    )
    _show(key)


@command("rotate-key")
@click.argument("name", metavar="NAME")
@customer_or_all
@click.option(
    "--overlap",
    type=Duration(),
    default="0d",
    show_default="the old key ends at once",
    metavar="TIME",
    help="How long the old key stays valid, for example 7d.",
)
@on_current_schema
def rotate_key(name: str, customer_id: str | None, all_customers: bool, overlap: timedelta) -> None:
    """Replace the API key of a service, and print the new one. It cannot be shown again.

    The new key has the same rights and the same lifetime.
    """
    key = api_keys.rotate_key(
        me(), name, customer_id=one_of(customer_id, all_customers), overlap=overlap
    )
    _show(key)


def _show(key: str) -> None:
    """Print a new key, the only time."""
    _, key_id, _ = key.split("_", 2)
    done(
        key,
        instead=f"revoke the key, which was not shown, with `flask revoke-key {key_id}`.",
    )


@command("list-keys")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@on_current_schema
def list_keys(customer_id: str | None) -> None:
    """Show the API keys without their secrets."""
    require_known(customer_id)
    now = clock.now()
    show_table(
        (
            "id",
            "customer",
            "name",
            "scopes",
            "may overspend",
            "created",
            "expires",
            "last used",
            "state",
        ),
        [
            (
                row.id,
                row.customerId or "(all)",
                row.name,
                row.scopes or "all",
                "yes" if row.mayOverspend else "no",
                clock.to_text(row.createdAt),
                clock.to_text(row.expiresAt) if row.expiresAt else "never",
                clock.to_text(row.lastUsedAt) if row.lastUsedAt else "never",
                _state(row, now),
            )
            for row in api_keys.list_keys(me(), customer_id)
        ],
        "There are no API keys yet. Create one with `flask add-key`.",
    )


def _state(key: ApiKey, now: datetime) -> str:
    if key.revokedAt is not None:
        return "revoked"
    if key.expiresAt is None:
        return "active"
    if key.expiresAt <= now:
        return "expired"
    return "expires soon" if key.expiresAt <= now + api_keys.EXPIRES_SOON else "active"


@command("revoke-key")
@click.argument("key_id", metavar="ID")
@on_current_schema
def revoke_key(key_id: str) -> None:
    """Revoke an API key. `flask list-keys` shows the IDs."""
    api_keys.revoke_key(me(), key_id)
    done(f"Revoked key {key_id}.")


COMMANDS = (add_key, rotate_key, list_keys, revoke_key)
