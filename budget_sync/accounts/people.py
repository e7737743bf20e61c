"""Customers, users and API keys: create, list, disable.

Every change is audited and takes effect immediately.
"""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo

from peewee import IntegrityError

from budget_sync.accounts import authentication, passwords
from budget_sync.database import audit_log, lock_name, transact
from budget_sync.database.models import ApiKey, Customer, User
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.ids import CHOSEN_ID, CHOSEN_ID_RULE
from budget_sync.domain.money import MoneyError, currency_exponent
from budget_sync.domain.permissions import (
    PEOPLE_ROLES,
    PERMISSIONS,
    Action,
    Actor,
    Role,
    require,
    require_serves,
)

# Roles that may enable a disabled user.
_ADMINS = [str(role) for role in PEOPLE_ROLES if Action.MANAGE_PEOPLE in PERMISSIONS[role]]
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def add_customer(
    actor: Actor,
    customer_id: str,
    name: str,
    *,
    currency: str = "USD",
    auto_approve_limit_minor: int | None = None,
    time_zone: str = "UTC",
    fiscal_year_start_month: int = 1,
) -> Customer:
    """Create a customer.

    Raises RequestError INVALID_REQUEST, naming each wrong field, also if the id is taken.
    """
    require(actor, Action.MANAGE_PEOPLE)
    _require_all_customers(actor)
    fields = _bad_names(id=customer_id, name=name)
    try:
        exponent = currency_exponent(currency)
    except MoneyError as error:
        fields["currency"] = str(error)
    try:
        ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError):
        fields["timeZone"] = f"{time_zone!r} is not a time zone such as Europe/Berlin"
    if not 1 <= fiscal_year_start_month <= 12:
        fields["fiscalYearStartMonth"] = "must be a month from 1 to 12"
    if fields:
        raise invalid_request(fields)

    def work() -> Customer:
        if Customer.get_or_none(Customer.id == customer_id):
            raise invalid_request({"id": f"{customer_id!r} is taken"})
        customer: Customer = Customer.create(
            id=customer_id,
            name=name,
            currency=currency,
            currencyExponent=exponent,
            autoApproveLimitMinor=auto_approve_limit_minor,
            timeZone=time_zone,
            fiscalYearStartMonth=fiscal_year_start_month,
            createdAt=clock.now(),
        )
        audit_log.record(
            actor, "ADD_CUSTOMER", customer_id=customer_id, subject=customer_id, newValue=name
        )
        return customer

    return transact(work)


def disable_customer(actor: Actor, customer_id: str) -> None:
    """Lock a customer out: end its sessions and stop its API keys. Its data stays.

    Raises RequestError INVALID_CUSTOMER.
    """
    require(actor, Action.MANAGE_PEOPLE)
    _require_all_customers(actor)

    def work() -> None:
        customer = get_customer(customer_id)
        if customer.disabledAt is None:
            Customer.update(disabledAt=clock.now()).where(Customer.id == customer_id).execute()
            for user in User.select(User.id).where(User.customerId == customer_id):
                authentication.end_sessions(user.id)
            audit_log.record(
                actor, "DISABLE_CUSTOMER", customer_id=customer_id, subject=customer_id
            )

    transact(work)


def list_customers(actor: Actor) -> list[Customer]:
    """The customers the caller serves, by id."""
    query = Customer.select().order_by(Customer.id)
    return list(
        query if actor.customer_id is None else query.where(Customer.id == actor.customer_id)
    )


def get_customer(customer_id: str) -> Customer:
    """The customer, even if disabled. Raises RequestError INVALID_CUSTOMER."""
    customer: Customer | None = Customer.get_or_none(Customer.id == customer_id)
    if customer is None:
        raise RequestError(Code.INVALID_CUSTOMER, f"There is no customer {customer_id!r}.")
    return customer


def add_user(
    actor: Actor,
    user_id: str,
    name: str,
    email: str,
    role: str,
    *,
    customer_id: str | None,
    password: str | None,
    slots_folder: Path,
) -> User:
    """Create a user. Without a password, the user cannot sign in yet.

    Raises RequestError INVALID_REQUEST or INVALID_CUSTOMER.
    """
    require(actor, Action.MANAGE_PEOPLE)
    require_serves(actor, customer_id)
    fields = _bad_names(id=user_id, name=name)
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        fields["email"] = f"{email[:100]!r} is not an email address"
    if role not in PEOPLE_ROLES:
        hint = " (a service gets an API key instead)" if role == Role.API_SYSTEM else ""
        fields["role"] = f"must be one of {', '.join(PEOPLE_ROLES)}{hint}"
    if customer_id is None and role != Role.SUPER_ADMIN:
        fields["customer"] = "is required: only a super_admin can be for all customers"
    if role == Role.SUPER_ADMIN and actor.role != Role.SUPER_ADMIN:
        fields["role"] = "super_admin can only be given by a super_admin"
    if fields:
        raise invalid_request(fields)
    password_hash = _hash(password, slots_folder)

    def work() -> User:
        if customer_id is not None:
            get_customer(customer_id)
        try:
            user: User = User.create(
                id=user_id,
                customerId=customer_id,
                name=name,
                email=email.strip(),
                emailKey=authentication.email_key(email),
                role=role,
                passwordHash=password_hash,
                createdAt=clock.now(),
            )
        except IntegrityError:
            raise invalid_request({"id": "or email is taken"}) from None
        audit_log.record(actor, "ADD_USER", customer_id=customer_id, subject=user_id, newValue=role)
        return user

    return transact(work)


def set_password(actor: Actor, user_id: str, password: str, *, slots_folder: Path) -> None:
    """Set a user's password and end all sessions of that user."""
    require(actor, Action.MANAGE_PEOPLE)
    password_hash = _hash(password, slots_folder)

    def work() -> None:
        user = _user_of(actor, user_id)
        User.update(passwordHash=password_hash).where(User.id == user_id).execute()
        authentication.end_sessions(user_id)
        audit_log.record(actor, "SET_PASSWORD", customer_id=user.customerId, subject=user_id)

    transact(work)


def change_own_password(
    actor: Actor, current: str, new: str, *, address: str, session_token: str, slots_folder: Path
) -> None:
    """Set the caller's password and end the caller's sessions except `session_token`.

    The current password is verified as at login, and wrong ones count as failed logins.
    Raises RequestError INVALID_REQUEST, BAD_CREDENTIALS or TOO_MANY_ATTEMPTS.
    """
    passwords.require_valid(new)
    email = actor.email or ""
    user = authentication.verify_password(email, current, address, slots_folder)
    password_hash = passwords.hash_password(new, slots_folder)

    def work() -> None:
        authentication.require_unchanged(user)
        User.update(passwordHash=password_hash).where(User.id == user.id).execute()
        authentication.end_sessions(user.id, except_token=session_token)
        authentication.forget_attempts(email, address)
        audit_log.record(actor, "SET_PASSWORD", customer_id=user.customerId, subject=user.id)

    transact(work)


def disable_user(actor: Actor, user_id: str) -> None:
    """Disable a user and end all sessions of that user.

    Raises RequestError FORBIDDEN if an admin would disable themselves or the last admin.
    """
    require(actor, Action.MANAGE_PEOPLE)

    def work() -> None:
        user = _user_of(actor, user_id)
        _prevent_lockout(actor, user)
        if user.disabledAt is None:
            User.update(disabledAt=clock.now()).where(User.id == user_id).execute()
            authentication.end_sessions(user_id)
            audit_log.record(actor, "DISABLE_USER", customer_id=user.customerId, subject=user_id)

    transact(work)


def enable_user(actor: Actor, user_id: str) -> None:
    """Let a disabled user sign in again."""
    require(actor, Action.MANAGE_PEOPLE)

    def work() -> None:
        user = _user_of(actor, user_id)
        if user.disabledAt is not None:
            User.update(disabledAt=None).where(User.id == user_id).execute()
            audit_log.record(actor, "ENABLE_USER", customer_id=user.customerId, subject=user_id)

    transact(work)


def list_users(actor: Actor, customer_id: str | None = None) -> list[User]:
    """The users the caller may manage, by customer and id."""
    require(actor, Action.MANAGE_PEOPLE)
    wanted = actor.customer_id or customer_id
    query = User.select().order_by(User.customerId, User.id)
    return list(query if wanted is None else query.where(User.customerId == wanted))


def add_key(
    actor: Actor, name: str, *, customer_id: str | None, may_overspend: bool = False
) -> str:
    """Create an API key and return it, for the only time: the database keeps only its hash."""
    require(actor, Action.MANAGE_KEYS)
    require_serves(actor, customer_id)
    fields = _bad_names(name=name)
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


def _hash(password: str | None, slots_folder: Path) -> str | None:
    if password is None:
        return None
    passwords.require_valid(password)
    return passwords.hash_password(password, slots_folder)


def _prevent_lockout(actor: Actor, user: User) -> None:
    """Raise RequestError FORBIDDEN if people disable themselves or their customer's last admin.

    The operator's shell (an actor without a user id) may do either, because it can also undo it.
    """
    if actor.user_id is None:
        return
    if actor.user_id == user.id:
        raise RequestError(Code.FORBIDDEN, "You cannot disable yourself. Ask another admin.")
    # Two admins may be about to disable each other.
    lock_name(f"admins {user.customerId}")
    admins = User.select().where(
        User.customerId == user.customerId,
        User.id != user.id,
        User.role << _ADMINS,
        User.disabledAt.is_null(),
    )
    if user.role in _ADMINS and not admins.exists():
        raise RequestError(
            Code.FORBIDDEN, f"{user.name} is the last admin. Add another admin first."
        )


def _user_of(actor: Actor, user_id: str) -> User:
    """A user whom the caller may manage.

    Raises RequestError NOT_FOUND also for users of other customers, so that nothing reveals them,
    and FORBIDDEN if an admin would change a super_admin.
    """
    user: User | None = User.get_or_none(User.id == user_id)
    if user is None or not (actor.customer_id is None or actor.customer_id == user.customerId):
        raise RequestError(Code.NOT_FOUND, f"There is no user {user_id!r}.")
    if user.role == Role.SUPER_ADMIN and actor.role != Role.SUPER_ADMIN:
        raise RequestError(Code.FORBIDDEN, "Only a super_admin can change a super_admin.")
    return user


def _require_all_customers(actor: Actor) -> None:
    if actor.customer_id is not None or actor.role != Role.SUPER_ADMIN:
        raise RequestError(Code.FORBIDDEN, "Only a super_admin for all customers can do this.")


def _bad_names(**names: str) -> dict[str, str]:
    fields = {}
    for field, text in names.items():
        if field == "id" and not CHOSEN_ID.fullmatch(text):
            fields[field] = CHOSEN_ID_RULE
        elif not text.strip() or len(text) > 200 or not text.isprintable():
            fields[field] = "must be 1 to 200 printable characters"
    return fields
