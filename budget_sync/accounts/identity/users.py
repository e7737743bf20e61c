"""Users who sign in at an identity provider: found, created and kept up to date."""

from __future__ import annotations

import logging
import secrets

from peewee import IntegrityError

from budget_sync.accounts import authentication
from budget_sync.accounts.changes import Change, record_changes
from budget_sync.accounts.customers import get_customer
from budget_sync.accounts.identity.claims import Machine, Person, identify
from budget_sync.accounts.identity.tokens import Token
from budget_sync.accounts.people import free_email
from budget_sync.database import Prepared, audit_log, lock_name, locked, transact
from budget_sync.database.models import Customer, User
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role, is_demotion

log = logging.getLogger(__name__)

#: An enabled user of an enabled customer.
_USER = Prepared(
    lambda value: (
        User.select(User)
        .join(Customer, on=(Customer.id == User.customerId))
        .where(
            User.provider == value.provider,
            User.subject == value.subject,
            User.disabledAt.is_null(),
            Customer.disabledAt.is_null(),
        )
    )
)


_CUSTOMER = Prepared(
    lambda value: Customer.select(Customer.isTest).where(
        Customer.id == value.customer_id, Customer.disabledAt.is_null()
    )
)


def actor_of_token(token: Token) -> Actor:
    """The caller of a verified token.

    A person whom the provider describes anew is created, or changed and audited, before the call
    goes on. Raises RequestError FORBIDDEN, which names the claim or the reason.
    """
    found = identify(token)
    if isinstance(found, Machine):
        customer = _CUSTOMER.first(customer_id=found.customer_id)
        if customer is None:
            _require_enabled(found.customer_id)
        return Actor(
            principal=f"service:{found.name}",
            user_id=None,
            name=found.name,
            email=None,
            role=Role.API_SYSTEM,
            customer_id=found.customer_id,
            may_overspend=found.may_overspend,
            scopes=found.scopes,
            is_test=customer is not None and bool(customer.isTest),
        )
    return authentication.actor_of_user(user_of(found, may_create=token.provider.create_users))


def _require_enabled(customer_id: str) -> None:
    if get_customer(customer_id).disabledAt is not None:
        raise RequestError(Code.FORBIDDEN, f"Customer {customer_id} is disabled.")


def user_of(person: Person, *, may_create: bool) -> User:
    """The user that a person is, created or changed as the provider says.

    Raises RequestError FORBIDDEN.
    """
    known: User | None = _USER.first(provider=person.provider, subject=person.subject)
    if known is not None and _is_current(known, person):
        return known
    user: User | None = User.get_or_none(
        (User.provider == person.provider) & (User.subject == person.subject)
    )
    if user is None:
        if not may_create:
            raise _no_user(person)
        return transact(lambda: _create(person))
    _require_usable(user, person)
    return transact(lambda: _update(user.id, person))


def describe_user(person: Person, *, may_create: bool) -> str:
    """The user that a person would be, for people. Changes nothing.

    Raises RequestError FORBIDDEN if the person would be refused.
    """
    user: User | None = User.get_or_none(
        (User.provider == person.provider) & (User.subject == person.subject)
    )
    if user is not None:
        _require_usable(user, person)
        return f"{user.id} ({user.role})"
    if not may_create:
        raise _no_user(person)
    _require_enabled(person.customer_id)
    taken = User.select().where(
        (User.emailKey == authentication.email_key(person.email)) & User.disabledAt.is_null()
    )
    if taken.exists():
        raise _taken(person)
    return "would be created"


def _no_user(person: Person) -> RequestError:
    return RequestError(
        Code.FORBIDDEN,
        f"There is no user for this account of {person.provider}. Ask an admin to create one and "
        "to link it.",
    )


def _is_current(user: User, person: Person) -> bool:
    """Whether a user is as the provider says."""
    return (
        user.customerId == person.customer_id
        and (user.email, user.name) == (person.email, person.name)
        and not _wants_role(user, person)
    )


def _require_usable(user: User, person: Person) -> None:
    """Raise RequestError FORBIDDEN if the user is disabled or of another customer."""
    if user.customerId != person.customer_id:
        raise RequestError(
            Code.FORBIDDEN,
            f"This account of {person.provider} belongs to another customer of this service.",
        )
    if user.disabledAt is not None:
        raise RequestError(Code.FORBIDDEN, "This user is disabled. Ask an admin.")
    _require_enabled(person.customer_id)


def _wants_role(user: User, person: Person) -> bool:
    return user.role not in (person.role, Role.SUPER_ADMIN)


def _create(person: Person) -> User:
    """Create the user of a person, in the open transaction."""
    lock_name(f"identity {person.provider} {person.subject}")
    existing: User | None = User.get_or_none(
        (User.provider == person.provider) & (User.subject == person.subject)
    )
    if existing is not None:
        # Two first calls came at the same time.
        return existing
    _require_enabled(person.customer_id)
    user_id = f"usr_{secrets.token_hex(8)}"
    if not free_email(person.email, user_id):
        raise _taken(person)
    try:
        user: User = User.create(
            id=user_id,
            customerId=person.customer_id,
            name=person.name,
            email=person.email,
            emailKey=authentication.email_key(person.email),
            role=person.role,
            provider=person.provider,
            subject=person.subject,
            createdAt=clock.now(),
        )
    except IntegrityError:
        raise _taken(person) from None
    audit_log.record(
        _provider_actor(person),
        "ADD_USER",
        customer_id=person.customer_id,
        subject=user_id,
        newValue=person.role,
    )
    return user


def _taken(person: Person) -> RequestError:
    return RequestError(
        Code.FORBIDDEN,
        f"Another user has the email address {person.email}. Ask an admin to link that user to "
        f"this account of {person.provider}.",
    )


def _update(user_id: str, person: Person) -> User:
    """Store what the provider says of a user now, in the open transaction."""
    user: User = locked(User.select().where(User.id == user_id)).get()
    _require_usable(user, person)
    changes = [
        Change(field, getattr(user, field), new)
        for field, new in (("name", person.name), ("email", person.email))
        if getattr(user, field) != new
    ]
    values: dict[str, str] = {change.field: str(change.new) for change in changes}
    if "email" in values:
        if not free_email(person.email, user.id):
            raise _taken(person)
        values["emailKey"] = authentication.email_key(person.email)
    actor = _provider_actor(person)
    if _wants_role(user, person) and _may_change_role(user, person):
        values["role"] = person.role
        record_changes(
            actor,
            "SET_ROLE",
            [Change("role", user.role, person.role)],
            customer_id=user.customerId,
            subject=user.id,
        )
        if is_demotion(user.role, person.role):
            authentication.end_sessions(user.id)
    record_changes(actor, "SET_USER", changes, customer_id=user.customerId, subject=user.id)
    if values:
        User.update(values).where(User.id == user.id).execute()
    return User.get_by_id(user.id)


def _may_change_role(user: User, person: Person) -> bool:
    """Whether the role may change: the last admin of a customer stays an admin."""
    if is_demotion(user.role, person.role) and authentication.is_last_admin(user):
        log.warning("User %s stays %s, as the last admin of the customer.", user.id, user.role)
        return False
    return True


def _provider_actor(person: Person) -> Actor:
    """The actor of changes that a provider's token causes."""
    return Actor(
        principal=f"provider:{person.provider}",
        user_id=None,
        name=person.provider,
        email="identity provider",
        role=Role.SUPER_ADMIN,
        customer_id=person.customer_id,
    )
