"""API keys of services: create, list, revoke."""

from __future__ import annotations

from budget_sync.accounts import authentication
from budget_sync.accounts.changes import bad_names
from budget_sync.accounts.customers import get_customer
from budget_sync.database import audit_log, transact
from budget_sync.database.models import ApiKey
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Action, Actor, require, require_serves


def add_key(
    actor: Actor, name: str, *, customer_id: str | None, may_overspend: bool = False
) -> str:
    """Create an API key and return it, for the only time: the database keeps only its hash."""
    require(actor, Action.MANAGE_KEYS)
    require_serves(actor, customer_id)
    fields = bad_names(name=name)
    if fields:
        raise invalid_request(fields)
    key_id, secret_hash, key = authentication.generate_key()

    def work() -> None:
        if customer_id is not None:
            get_customer(customer_id)
        ApiKey.create(
            id=key_id,
            customerId=customer_id,
            name=name,
            secretHash=secret_hash,
            mayOverspend=may_overspend,
            createdAt=clock.now(),
        )
        audit_log.record(
            actor,
            "ADD_KEY",
            customer_id=customer_id,
            subject=key_id,
            newValue=f"{name}{', may overspend' if may_overspend else ''}",
        )

    transact(work)
    return key


def revoke_key(actor: Actor, key_id: str) -> None:
    """Revoke an API key, effective immediately. Raises RequestError NOT_FOUND."""
    require(actor, Action.MANAGE_KEYS)

    def work() -> None:
        key = ApiKey.get_or_none(ApiKey.id == key_id)
        if key is None or not (actor.customer_id is None or actor.customer_id == key.customerId):
            raise RequestError(Code.NOT_FOUND, f"There is no key {key_id!r}; see list-keys.")
        if key.revokedAt is None:
            ApiKey.update(revokedAt=clock.now()).where(ApiKey.id == key_id).execute()
            audit_log.record(actor, "REVOKE_KEY", customer_id=key.customerId, subject=key_id)

    transact(work)


def list_keys(actor: Actor, customer_id: str | None = None) -> list[ApiKey]:
    """The API keys the caller may manage, newest last, without their secrets."""
    require(actor, Action.MANAGE_KEYS)
    wanted = actor.customer_id or customer_id
    query = ApiKey.select().order_by(ApiKey.createdAt, ApiKey.id)
    return list(query if wanted is None else query.where(ApiKey.customerId == wanted))
