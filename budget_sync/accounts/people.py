"""Users: create, change, list, disable.

Every change is audited and takes effect immediately.
"""

from __future__ import annotations

from pathlib import Path

from peewee import IntegrityError

from budget_sync.accounts import authentication, passwords
from budget_sync.accounts.changes import Change, bad_names, record_changes
from budget_sync.accounts.customers import get_customer
from budget_sync.database import audit_log, lock_name, locked, transact
from budget_sync.database.models import User
from budget_sync.domain import clock
from budget_sync.domain.emails import is_email
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import (
    PEOPLE_ROLES,
    Action,
    Actor,
    Role,
    is_demotion,
    require,
    require_serves,
)


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
    fields = bad_names(id=user_id, name=name) | _bad_email(email) | _bad_role(actor, role)
    if customer_id is None and role != Role.SUPER_ADMIN:
        fields["customer"] = "is required: only a super_admin can be for all customers"
    if fields:
        raise invalid_request(fields)
    password_hash = _hash(password, slots_folder)

    def work() -> User:
        if customer_id is not None:
            get_customer(customer_id)
        try:
            free_email(email, user_id)
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
    fields = {} if name is None else bad_names(name=name)
    fields |= {} if email is None else _bad_email(email)
    fields |= {} if role is None else _bad_role(actor, role)
    if fields:
        raise invalid_request(fields)
    wanted = {"name": name, "email": None if email is None else email.strip(), "role": role}

    def work() -> list[str]:
        user = _user_of(actor, user_id)
        changes = [
            Change(field, getattr(user, field), new)
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
        record_changes(actor, "SET_USER", changes, customer_id=user.customerId, subject=user_id)
        return [change.field for change in changes]

    return transact(work)


def _change_role(actor: Actor, user: User, role: str) -> None:
    """Check that the user can get the role; end the user's sessions if it is a demotion."""
    if actor.user_id == user.id:
        raise RequestError(Code.FORBIDDEN, "You cannot change your own role. Ask another admin.")
    if user.customerId is None and role != Role.SUPER_ADMIN:
        raise invalid_request({"role": "must be super_admin for a user for all customers"})
    if role not in authentication.ADMIN_ROLES:
        _keep_an_admin(actor, user)
    if is_demotion(user.role, role):
        authentication.end_sessions(user.id)


def _email_key_for(user: User, email: str) -> str:
    if not free_email(email, user.id):
        raise invalid_request({"email": "is taken"})
    return authentication.email_key(email)


def free_email(email: str, user_id: str) -> bool:
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
            if not free_email(user.email, user.id):
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
    if authentication.is_last_admin(user):
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


def _bad_email(email: str) -> dict[str, str]:
    if is_email(email):
        return {}
    return {"email": f"{email[:100]!r} is not an email address"}


def _bad_role(actor: Actor, role: str) -> dict[str, str]:
    if role not in PEOPLE_ROLES:
        hint = " (a service gets an API key instead)" if role == Role.API_SYSTEM else ""
        return {"role": f"must be one of {', '.join(PEOPLE_ROLES)}{hint}"}
    if role == Role.SUPER_ADMIN and actor.role != Role.SUPER_ADMIN:
        return {"role": "super_admin can only be given by a super_admin"}
    return {}


def link_user(actor: Actor, user_id: str, *, provider: str, subject: str) -> None:
    """Link a user to an account at an identity provider; audited. An earlier link is replaced.

    Raises RequestError NOT_FOUND, or INVALID_REQUEST if the account is another user's.
    """
    require(actor, Action.MANAGE_PEOPLE)
    fields = bad_names(provider=provider, subject=subject)
    if fields:
        raise invalid_request(fields)

    def work() -> None:
        user = _user_of(actor, user_id)
        lock_name(f"identity {provider} {subject}")
        other: User | None = User.get_or_none(
            (User.provider == provider) & (User.subject == subject) & (User.id != user_id)
        )
        if other is not None:
            known = actor.serves(other.customerId or "")
            raise invalid_request(
                {"subject": f"is linked to user {other.id}" if known else "is linked already"}
            )
        User.update(provider=provider, subject=subject).where(User.id == user_id).execute()
        authentication.end_sessions(user_id)
        audit_log.record(
            actor,
            "LINK_USER",
            customer_id=user.customerId,
            subject=user_id,
            newValue=f"{provider}: {subject}",
        )

    transact(work)
