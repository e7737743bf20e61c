"""API keys of services: create, rotate, list, revoke.

All keys of a customer with the same name are the same service: what it did belongs to the service,
not to one of its keys.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from budget_sync.accounts import authentication
from budget_sync.accounts.changes import bad_names
from budget_sync.accounts.customers import get_customer
from budget_sync.database import audit_log, lock_name, transact
from budget_sync.database.models import ApiKey
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Action, Actor, ApiScope, require, require_serves

#: A key that expires within this time is reported.
EXPIRES_SOON = timedelta(days=14)

#: The longest lifetime and the longest overlap of a rotation.
MAX_LIFETIME = timedelta(days=3660)
MAX_OVERLAP = timedelta(days=90)


def add_key(
    actor: Actor,
    name: str,
    *,
    customer_id: str | None,
    may_overspend: bool = False,
    scopes: Collection[ApiScope] | None = None,
    lifetime: timedelta | None = None,
) -> str:
    """Create an API key and return it, for the only time: the database keeps only its hash.

    None for `scopes` means all, and for `lifetime` that the key does not expire. Raises
    RequestError INVALID_REQUEST, INVALID_CUSTOMER or FORBIDDEN.
    """
    require(actor, Action.MANAGE_KEYS)
    require_serves(actor, customer_id)
    fields = bad_names(name=name)
    if scopes is not None and not scopes:
        fields["scopes"] = "must have at least one scope"
    if lifetime is not None and not timedelta(0) < lifetime <= MAX_LIFETIME:
        fields["expires"] = "must be between one day and ten years from now"
    if fields:
        raise invalid_request(fields)
    stored = None if scopes is None else " ".join(sorted(set(scopes)))

    def work() -> str:
        if customer_id is not None:
            get_customer(customer_id)
        expires_at = None if lifetime is None else clock.now() + lifetime
        return _insert(actor, "ADD_KEY", name, customer_id, may_overspend, stored, expires_at)

    return transact(work)


def _insert(
    actor: Actor,
    action: str,
    name: str,
    customer_id: str | None,
    may_overspend: bool,
    scopes: str | None,
    expires_at: datetime | None,
) -> str:
    """Store a new key in the open transaction, audited; returns the key."""
    key_id, secret_hash, key = authentication.generate_key()
    ApiKey.create(
        id=key_id,
        customerId=customer_id,
        name=name,
        secretHash=secret_hash,
        mayOverspend=may_overspend,
        scopes=scopes,
        expiresAt=expires_at,
        createdAt=clock.now(),
    )
    details = [
        name,
        "may overspend" if may_overspend else "",
        f"scopes {scopes}" if scopes else "",
        f"expires {clock.to_text(expires_at)}" if expires_at else "",
    ]
    audit_log.record(
        actor,
        action,
        customer_id=customer_id,
        subject=key_id,
        newValue=", ".join(filter(None, details)),
    )
    return key


def rotate_key(
    actor: Actor, name: str, *, customer_id: str | None, overlap: timedelta = timedelta(0)
) -> str:
    """Replace the keys of a service by a new one and return it, for the only time.

    The new key has the rights of the service's newest key, and as long a lifetime. The old keys end
    after the overlap, or at once without one. Raises RequestError NOT_FOUND or INVALID_REQUEST.
    """
    require(actor, Action.MANAGE_KEYS)
    require_serves(actor, customer_id)
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise invalid_request({"overlap": f"must be at most {MAX_OVERLAP.days} days"})

    def work() -> str:
        # Two rotations at the same time must not leave an old key valid.
        lock_name(f"key {customer_id} {name}")
        now = clock.now()
        old_keys = _valid_keys(name, customer_id, now)
        if not old_keys:
            raise RequestError(
                Code.NOT_FOUND, f"There is no valid key of the service {name!r}; see list-keys."
            )
        newest = old_keys[-1]
        expires_at = newest.expiresAt and now + (newest.expiresAt - newest.createdAt)
        key = _insert(
            actor,
            "ROTATE_KEY",
            name,
            customer_id,
            newest.mayOverspend,
            newest.scopes,
            expires_at,
        )
        for old in old_keys:
            _end(actor, old, now + overlap, now)
        return key

    return transact(work)


def _valid_keys(name: str, customer_id: str | None, now: datetime) -> list[ApiKey]:
    """The keys of a service that are valid, oldest first."""
    of_customer = (
        ApiKey.customerId.is_null() if customer_id is None else ApiKey.customerId == customer_id
    )
    keys = ApiKey.select().where((ApiKey.name == name) & of_customer & ApiKey.revokedAt.is_null())
    return [
        key
        for key in keys.order_by(ApiKey.createdAt, ApiKey.id)
        if key.expiresAt is None or key.expiresAt > now
    ]


def _end(actor: Actor, key: ApiKey, ends_at: datetime, now: datetime) -> None:
    """Let a key end at that time, or now; a key that expires earlier keeps its time. Audited."""
    if ends_at <= now:
        ApiKey.update(revokedAt=now).where(ApiKey.id == key.id).execute()
        audit_log.record(actor, "REVOKE_KEY", customer_id=key.customerId, subject=key.id)
    elif key.expiresAt is None or key.expiresAt > ends_at:
        ApiKey.update(expiresAt=ends_at).where(ApiKey.id == key.id).execute()
        audit_log.record(
            actor,
            "ROTATE_KEY",
            customer_id=key.customerId,
            subject=key.id,
            field="expiresAt",
            oldValue=key.expiresAt and clock.to_text(key.expiresAt),
            newValue=clock.to_text(ends_at),
        )


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


def expiring_keys() -> list[ApiKey]:
    """The valid keys of all customers that expire within EXPIRES_SOON and have no successor.

    A successor is a key of the same service that is valid for longer.
    """
    now = clock.now()
    query = ApiKey.select().where(
        ApiKey.revokedAt.is_null() & (ApiKey.expiresAt.is_null() | (ApiKey.expiresAt > now))
    )
    keys = list(query.order_by(ApiKey.customerId, ApiKey.name, ApiKey.id))
    soon = now + EXPIRES_SOON
    lasting = {
        (key.customerId, key.name) for key in keys if key.expiresAt is None or key.expiresAt > soon
    }
    return [
        key
        for key in keys
        if key.expiresAt is not None
        and key.expiresAt <= soon
        and (key.customerId, key.name) not in lasting
    ]
