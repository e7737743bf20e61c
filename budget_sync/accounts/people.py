"""Customers, users and API keys: create, change, list, disable.

Every change is audited and takes effect immediately.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from peewee import IntegrityError

from budget_sync.accounts import authentication, passwords
from budget_sync.database import audit_log, lock_name, locked, transact
from budget_sync.database.models import ApiKey, BudgetDataSourceConfig, Customer, Session, User
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.ids import CHOSEN_ID, CHOSEN_ID_RULE
from budget_sync.domain.money import MoneyError, currency_exponent, to_minor, to_text
from budget_sync.domain.permissions import (
    PEOPLE_ROLES,
    PERMISSIONS,
    Action,
    Actor,
    Role,
    is_demotion,
    require,
    require_serves,
)

# Roles that may enable a disabled user.
_ADMINS = [str(role) for role in PEOPLE_ROLES if Action.MANAGE_PEOPLE in PERMISSIONS[role]]
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class CustomerAccess:
    """How much of a customer works only while the customer is enabled."""

    users: int
    sessions: int
    keys: int
    sources: int


@dataclass(frozen=True, slots=True)
class _Change:
    """A changed field, with its values as the audit log writes them."""

    field: str
    old: str | None
    new: str | None


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
    fields |= _bad_calendar(time_zone, fiscal_year_start_month)
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


def set_customer(
    actor: Actor,
    customer_id: str,
    *,
    name: str | None = None,
    auto_approve_limit: Decimal | None = None,
    no_auto_approve_limit: bool = False,
    time_zone: str | None = None,
    fiscal_year_start_month: int | None = None,
) -> list[str]:
    """Change a customer's settings and return the names of the changed ones. None keeps a setting.

    Without an auto-approve limit, every amount needs an approval. Raises RequestError
    INVALID_CUSTOMER, FORBIDDEN, or INVALID_REQUEST with every field that is wrong.
    """
    require(actor, Action.MANAGE_PEOPLE)
    require_serves(actor, customer_id)
    exponent = get_customer(customer_id).currencyExponent
    fields = {} if name is None else _bad_names(name=name)
    fields |= _bad_calendar(time_zone, fiscal_year_start_month)
    given = {
        "name": name,
        "timeZone": time_zone,
        "fiscalYearStartMonth": fiscal_year_start_month,
    }
    wanted: dict[str, str | int | None] = {
        column: value for column, value in given.items() if value is not None
    }
    if auto_approve_limit is not None or no_auto_approve_limit:
        try:
            wanted["autoApproveLimitMinor"] = _minor(auto_approve_limit, exponent)
        except MoneyError as error:
            fields["autoApproveLimit"] = str(error)
    if fields:
        raise invalid_request(fields)
    return transact(lambda: _apply_settings(actor, customer_id, wanted, exponent))


def _minor(limit: Decimal | None, exponent: int) -> int | None:
    return None if limit is None else to_minor(limit, exponent)


def _apply_settings(
    actor: Actor, customer_id: str, wanted: Mapping[str, str | int | None], exponent: int
) -> list[str]:
    """Write the settings that differ, by column, with an audit row for each; return their names."""
    customer = _locked_customer(customer_id)
    changes = [
        _Change(
            column.removesuffix("Minor"),
            _setting_text(column, getattr(customer, column), exponent),
            _setting_text(column, new, exponent),
        )
        for column, new in wanted.items()
        if new != getattr(customer, column)
    ]
    if changes:
        Customer.update(wanted).where(Customer.id == customer_id).execute()
    _record_changes(actor, "SET_CUSTOMER", changes, customer_id=customer_id, subject=customer_id)
    return [change.field for change in changes]


def _setting_text(column: str, value: str | int | None, exponent: int) -> str | None:
    """A setting as the audit log writes it."""
    if column == "autoApproveLimitMinor" and isinstance(value, int):
        return to_text(value, exponent)
    return None if value is None else str(value)


def customer_access(actor: Actor, customer_id: str) -> CustomerAccess:
    """What ends when the customer is disabled. Raises RequestError INVALID_CUSTOMER."""
    require(actor, Action.MANAGE_PEOPLE)
    _require_all_customers(actor)
    get_customer(customer_id)
    is_user = (User.customerId == customer_id) & User.disabledAt.is_null()
    sessions = Session.select().join(User, on=(User.id == Session.userId)).where(is_user)
    keys = ApiKey.select().where(ApiKey.customerId == customer_id, ApiKey.revokedAt.is_null())
    sources = BudgetDataSourceConfig.select().where(
        BudgetDataSourceConfig.customerId == customer_id,
        BudgetDataSourceConfig.isActive,
        BudgetDataSourceConfig.removedAt.is_null(),
    )
    return CustomerAccess(
        users=User.select().where(is_user).count(),
        sessions=sessions.where(Session.expiresAt > clock.now()).count(),
        keys=keys.count(),
        sources=sources.count(),
    )


def disable_customer(actor: Actor, customer_id: str) -> None:
    """Lock a customer out: end its sessions, stop its API keys and its syncs. Its data stays.

    Raises RequestError INVALID_CUSTOMER.
    """
    require(actor, Action.MANAGE_PEOPLE)
    _require_all_customers(actor)

    def work() -> None:
        customer = _locked_customer(customer_id)
        if customer.disabledAt is None:
            Customer.update(disabledAt=clock.now()).where(Customer.id == customer_id).execute()
            for user in User.select(User.id).where(User.customerId == customer_id):
                authentication.end_sessions(user.id)
            audit_log.record(
                actor, "DISABLE_CUSTOMER", customer_id=customer_id, subject=customer_id
            )

    transact(work)


def enable_customer(actor: Actor, customer_id: str) -> None:
    """Let a disabled customer's users, API keys and sources work again.

    Sessions stay ended. Raises RequestError INVALID_CUSTOMER.
    """
    require(actor, Action.MANAGE_PEOPLE)
    _require_all_customers(actor)

    def work() -> None:
        customer = _locked_customer(customer_id)
        if customer.disabledAt is not None:
            Customer.update(disabledAt=None).where(Customer.id == customer_id).execute()
            audit_log.record(actor, "ENABLE_CUSTOMER", customer_id=customer_id, subject=customer_id)

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


def _locked_customer(customer_id: str) -> Customer:
    """The customer, for a change. Raises RequestError INVALID_CUSTOMER."""
    locked(Customer.select(Customer.id).where(Customer.id == customer_id)).first()
    return get_customer(customer_id)


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
    fields = _bad_names(id=user_id, name=name) | _bad_email(email) | _bad_role(actor, role)
    if customer_id is None and role != Role.SUPER_ADMIN:
        fields["customer"] = "is required: only a super_admin can be for all customers"
    if fields:
        raise invalid_request(fields)
    password_hash = _hash(password, slots_folder)

    def work() -> User:
        if customer_id is not None:
            get_customer(customer_id)
        try:
            _free_email(email, user_id)
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


def set_user(
    actor: Actor,
    user_id: str,
    *,
    name: str | None = None,
    email: str | None = None,
    role: str | None = None,
) -> list[str]:
    """Change a user's name, email or role and return the names of the changed fields.

    None keeps a field. A demotion ends the user's sessions. Raises RequestError NOT_FOUND,
    INVALID_REQUEST with every field that is wrong, or FORBIDDEN for the caller's own role and for
    the role of the last admin.
    """
    require(actor, Action.MANAGE_PEOPLE)
    fields = {} if name is None else _bad_names(name=name)
    fields |= {} if email is None else _bad_email(email)
    fields |= {} if role is None else _bad_role(actor, role)
    if fields:
        raise invalid_request(fields)
    wanted = {"name": name, "email": None if email is None else email.strip(), "role": role}

    def work() -> list[str]:
        user = _user_of(actor, user_id)
        changes = [
            _Change(field, getattr(user, field), new)
            for field, new in wanted.items()
            if new not in (None, getattr(user, field))
        ]
        new_values: dict[str, str | None] = {change.field: change.new for change in changes}
        if "role" in new_values:
            _change_role(actor, user, str(new_values["role"]))
        if "email" in new_values:
            new_values["emailKey"] = _email_key_for(user, str(new_values["email"]))
        if changes:
            User.update(new_values).where(User.id == user_id).execute()
        _record_changes(actor, "SET_USER", changes, customer_id=user.customerId, subject=user_id)
        return [change.field for change in changes]

    return transact(work)


def _change_role(actor: Actor, user: User, role: str) -> None:
    """Check that the user can get the role; end the user's sessions if it is a demotion."""
    if actor.user_id == user.id:
        raise RequestError(Code.FORBIDDEN, "You cannot change your own role. Ask another admin.")
    if user.customerId is None and role != Role.SUPER_ADMIN:
        raise invalid_request({"role": "must be super_admin for a user for all customers"})
    if role not in _ADMINS:
        _keep_an_admin(actor, user)
    if is_demotion(user.role, role):
        authentication.end_sessions(user.id)


def _email_key_for(user: User, email: str) -> str:
    if not _free_email(email, user.id):
        raise invalid_request({"email": "is taken"})
    return authentication.email_key(email)


def _free_email(email: str, user_id: str) -> bool:
    """Free an email address for a user if a disabled user has it; False if an enabled user has it.

    The disabled user keeps the address, but cannot be enabled while another user signs in with it.
    """
    key = authentication.email_key(email)
    other: User | None = User.get_or_none((User.emailKey == key) & (User.id != user_id))
    if other is None:
        return True
    # No address has a space, so this key equals no other user's.
    freed = (
        User.update(emailKey=f"disabled {other.id}")
        .where((User.id == other.id) & User.disabledAt.is_null(False))
        .execute()
    )
    return bool(freed)


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
    """Disable a user and end all sessions of that user. Another user may get the email address.

    Raises RequestError FORBIDDEN if an admin would disable themselves or the last admin.
    """
    require(actor, Action.MANAGE_PEOPLE)

    def work() -> None:
        user = _user_of(actor, user_id)
        if actor.user_id == user.id:
            raise RequestError(Code.FORBIDDEN, "You cannot disable yourself. Ask another admin.")
        _keep_an_admin(actor, user)
        if user.disabledAt is None:
            User.update(disabledAt=clock.now()).where(User.id == user_id).execute()
            authentication.end_sessions(user_id)
            audit_log.record(actor, "DISABLE_USER", customer_id=user.customerId, subject=user_id)

    transact(work)


def enable_user(actor: Actor, user_id: str) -> None:
    """Let a disabled user sign in again.

    Raises RequestError INVALID_REQUEST if another user has the email address now.
    """
    require(actor, Action.MANAGE_PEOPLE)

    def work() -> None:
        user = _user_of(actor, user_id)
        if user.disabledAt is not None:
            if not _free_email(user.email, user.id):
                raise RequestError(
                    Code.INVALID_REQUEST,
                    f"Another user has the email address {user.email} now. "
                    f"Change the email address of {user.name}, then enable this user.",
                )
            email_key = authentication.email_key(user.email)
            User.update(disabledAt=None, emailKey=email_key).where(User.id == user_id).execute()
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


def _keep_an_admin(actor: Actor, user: User) -> None:
    """Raise RequestError FORBIDDEN if the user is the customer's last admin that can sign in.

    The last super_admin for all customers may be disabled in the operator's shell: no customer is
    locked out, and the shell can add another one.
    """
    if user.customerId is None and actor.user_id is None:
        return
    # Two admins may be about to disable each other.
    lock_name(f"admins {user.customerId}")
    can_manage = (
        (User.customerId == user.customerId)
        & (User.role << _ADMINS)
        & User.disabledAt.is_null()
        & User.passwordHash.is_null(False)
    )
    admins = {row.id for row in User.select(User.id).where(can_manage)}
    if admins == {user.id}:
        raise RequestError(
            Code.FORBIDDEN,
            f"{user.name} is the last admin that can sign in. "
            "Add another admin with a password first.",
        )


def _user_of(actor: Actor, user_id: str) -> User:
    """A user whom the caller may manage, locked for a change.

    Raises RequestError NOT_FOUND also for users of other customers, so that nothing reveals them,
    and FORBIDDEN if an admin would change a super_admin.
    """
    user: User | None = locked(User.select().where(User.id == user_id)).first()
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


def _bad_email(email: str) -> dict[str, str]:
    if len(email) <= 254 and _EMAIL.fullmatch(email):
        return {}
    return {"email": f"{email[:100]!r} is not an email address"}


def _bad_role(actor: Actor, role: str) -> dict[str, str]:
    if role not in PEOPLE_ROLES:
        hint = " (a service gets an API key instead)" if role == Role.API_SYSTEM else ""
        return {"role": f"must be one of {', '.join(PEOPLE_ROLES)}{hint}"}
    if role == Role.SUPER_ADMIN and actor.role != Role.SUPER_ADMIN:
        return {"role": "super_admin can only be given by a super_admin"}
    return {}


def _bad_calendar(time_zone: str | None, fiscal_year_start_month: int | None) -> dict[str, str]:
    fields = {}
    try:
        ZoneInfo("UTC" if time_zone is None else time_zone)
    except (ValueError, OSError, KeyError):
        fields["timeZone"] = f"{time_zone!r} is not a time zone such as Europe/Berlin"
    if fiscal_year_start_month is not None and not 1 <= fiscal_year_start_month <= 12:
        fields["fiscalYearStartMonth"] = "must be a month from 1 to 12"
    return fields


def _record_changes(
    actor: Actor, action: str, changes: list[_Change], *, customer_id: str | None, subject: str
) -> None:
    for change in changes:
        audit_log.record(
            actor,
            action,
            customer_id=customer_id,
            subject=subject,
            field=change.field,
            oldValue=change.old,
            newValue=change.new,
        )
