"""Authentication by password, session token or API key, each resulting in an `Actor`.

Failed logins are limited per account and per address.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from datetime import timedelta
from pathlib import Path

from peewee import JOIN

from budget_sync.accounts import passwords
from budget_sync.database import Prepared, lock_name, locked, transact
from budget_sync.database.models import ApiKey, Customer, LoginAttempt, Session, User
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import (
    PEOPLE_ROLES,
    PERMISSIONS,
    Action,
    Actor,
    ApiScope,
    Role,
)

SESSION_LIFETIME = timedelta(hours=12)

#: Failed logins allowed per window: for one account from one address, and for one address in total.
WINDOW_S = 15 * 60
MAX_FAILURES_ACCOUNT = 5
MAX_FAILURES_ADDRESS = 50

KEY_PREFIX = "bsk"

#: The roles that may manage people, and so enable a disabled user.
ADMIN_ROLES = [str(role) for role in PEOPLE_ROLES if Action.MANAGE_PEOPLE in PERMISSIONS[role]]

# API keys and addresses of clients are shorter.
_MAX_KEY_LENGTH = 200
_MAX_ADDRESS_LENGTH = 100

_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")


_SESSION_USER = Prepared(
    lambda value: (
        User.select(User)
        .join(Session, on=(Session.userId == User.id))
        .join(Customer, JOIN.LEFT_OUTER, on=(Customer.id == User.customerId))
        .where(
            Session.tokenHash == value.token_hash,
            Session.expiresAt > value.now,
            User.disabledAt.is_null(),
            Customer.disabledAt.is_null(),
        )
    )
)
_KEY = Prepared(
    lambda value: (
        ApiKey.select(ApiKey, Customer.isTest)
        .join(Customer, JOIN.LEFT_OUTER, on=(Customer.id == ApiKey.customerId))
        .where(
            ApiKey.id == value.key_id,
            ApiKey.revokedAt.is_null(),
            ApiKey.expiresAt.is_null() | (ApiKey.expiresAt > value.now),
            Customer.disabledAt.is_null(),
        )
    )
)


def log_in(
    email: str,
    password: str,
    address: str,
    slots_folder: Path,
    *,
    needs_password_right: bool = False,
) -> tuple[Actor, str]:
    """Start a session and return its user and token.

    With `needs_password_right`, only super admins and the last admin of a customer may sign in with
    a password. Raises RequestError TOO_MANY_ATTEMPTS, BAD_CREDENTIALS or FORBIDDEN.
    """
    user = verify_password(email, password, address, slots_folder)
    token = secrets.token_urlsafe(32)

    def work() -> None:
        require_unchanged(user)
        if needs_password_right and user.role != Role.SUPER_ADMIN and not is_last_admin(user):
            raise RequestError(
                Code.FORBIDDEN, "Passwords are not used here. Sign in at your identity provider."
            )
        _insert_session(token, user.id, SESSION_LIFETIME)
        forget_attempts(email, address)

    transact(work)
    return actor_of_user(user), token


def start_session(user_id: str, lifetime: timedelta) -> str:
    """Start a session of a user who was identified otherwise; return its token.

    Raises RequestError BAD_CREDENTIALS if the user is disabled.
    """
    token = secrets.token_urlsafe(32)

    def work() -> None:
        user = locked(User.select().where(User.id == user_id)).first()
        if user is None or not _is_enabled(user):
            raise _bad_credentials()
        _insert_session(token, user_id, lifetime)

    transact(work)
    return token


def _insert_session(token: str, user_id: str, lifetime: timedelta) -> None:
    """Store a session in the open transaction, and delete those that have expired."""
    now = clock.now()
    Session.insert(
        tokenHash=digest(token), userId=user_id, createdAt=now, expiresAt=now + lifetime
    ).execute()
    Session.delete().where(Session.expiresAt < now).execute()
    User.update(lastLoginAt=now).where(User.id == user_id).execute()


def verify_password(email: str, password: str, address: str, slots_folder: Path) -> User:
    """Return the enabled user with this email and password.

    The attempt is counted before the password is compared, so that a hundred simultaneous guesses
    count as a hundred. After a success, the caller clears the count with `forget_attempts`.
    Raises RequestError TOO_MANY_ATTEMPTS or BAD_CREDENTIALS.
    """
    account, network = _attempt_keys(email, address)
    transact(lambda: _count_attempt(account, network))
    user: User | None = User.get_or_none(User.emailKey == email_key(email))
    is_correct = passwords.verify(user.passwordHash if user else None, password, slots_folder)
    if user is None or not is_correct or not _is_enabled(user):
        raise _bad_credentials()
    return user


def require_unchanged(user: User) -> None:
    """Check inside a transaction that the user is still enabled and has the same password.

    Comparing a password takes long enough for either to change. Raises RequestError
    BAD_CREDENTIALS if one has.
    """
    current = locked(
        User.select().where((User.id == user.id) & (User.passwordHash == user.passwordHash))
    ).first()
    if current is None or not _is_enabled(current):
        raise _bad_credentials()


def forget_attempts(email: str, address: str) -> None:
    """Delete the attempts on this account from this address, in the caller's transaction."""
    account, network = _attempt_keys(email, address)
    LoginAttempt.delete().where(
        (LoginAttempt.account == account) & (LoginAttempt.network == network)
    ).execute()


def _attempt_keys(email: str, address: str) -> tuple[str, str]:
    """The account and network that an attempt is counted for."""
    return digest(email_key(email)), _network(address)


def _bad_credentials() -> RequestError:
    return RequestError(
        Code.BAD_CREDENTIALS, "Email or password is wrong, or the account is disabled."
    )


def log_out(token: str) -> None:
    """Delete the session, which also invalidates any copy of its cookie."""
    transact(lambda: Session.delete().where(Session.tokenHash == digest(token)).execute())


def end_sessions(user_id: str, *, except_token: str | None = None) -> None:
    """Delete a user's sessions except the one with `except_token`, in the caller's transaction."""
    sessions = Session.delete().where(Session.userId == user_id)
    if except_token is not None:
        sessions = sessions.where(Session.tokenHash != digest(except_token))
    sessions.execute()


def actor_of_session(token: str) -> Actor | None:
    """The user of a session.

    None if the session is unknown or expired, or if its user or customer is disabled.
    """
    user = _SESSION_USER.first(token_hash=digest(token), now=clock.to_text(clock.now()))
    return actor_of_user(user) if user else None


def generate_key() -> tuple[str, str, str]:
    """A new API key: its public id, the hash of its secret, and the key, which is never stored."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return key_id, digest(secret), f"{KEY_PREFIX}_{key_id}_{secret}"


def is_key(text: str) -> bool:
    """Whether a text has the form of an API key, valid or not."""
    return text.startswith(f"{KEY_PREFIX}_")


def key_id_of(key: str) -> str:
    """The public id in an API key."""
    return key.removeprefix(f"{KEY_PREFIX}_").partition("_")[0]


def actor_of_key(key: str) -> Actor | None:
    """The service account of an API key. All keys with the same name are the same service.

    None if the key is malformed, unknown, revoked or expired, or if its customer is disabled.
    """
    if len(key) > _MAX_KEY_LENGTH:
        return None
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    row = _KEY.first(key_id=key_id, now=clock.to_text(clock.now()))
    if (
        prefix != KEY_PREFIX
        or row is None
        or not hmac.compare_digest(row.secretHash, digest(secret))
    ):
        return None
    return Actor(
        principal=f"service:{row.name}",
        user_id=None,
        name=row.name,
        email=None,
        role=Role.API_SYSTEM,
        customer_id=row.customerId,
        may_overspend=bool(row.mayOverspend),
        scopes=scopes_of(row.scopes),
        is_test=bool(row.isTest),
    )


def scopes_of(text: str | None) -> frozenset[ApiScope] | None:
    """The stored scopes of a key; None for all. A scope that is not known allows nothing."""
    if text is None:
        return None
    known = {str(scope) for scope in ApiScope}
    return frozenset(ApiScope(name) for name in text.split() if name in known)


def is_last_admin(user: User) -> bool:
    """Whether a user is the customer's only enabled admin with a password.

    In a transaction: two admins may be about to disable each other.
    """
    lock_name(f"admins {user.customerId}")
    can_manage = (
        (User.customerId == user.customerId)
        & (User.role << ADMIN_ROLES)
        & User.disabledAt.is_null()
        & User.passwordHash.is_null(False)
    )
    return {row.id for row in User.select(User.id).where(can_manage)} == {user.id}


def email_key(email: str) -> str:
    """An email address normalized for comparison: trimmed and case-folded."""
    return email.strip().casefold()


def digest(secret: str) -> str:
    """The SHA-256 of a text, in hexadecimal.

    Suits secrets that are long and random enough to need no slower hash, and names that should not
    be stored in readable form.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def actor_of_user(user: User) -> Actor:
    """The actor of a user, who must be enabled."""
    return Actor(
        principal=f"user:{user.id}",
        user_id=user.id,
        name=user.name,
        email=user.email,
        role=user.role,
        customer_id=user.customerId,
    )


def _is_enabled(user: User) -> bool:
    if user.disabledAt is not None:
        return False
    return (
        user.customerId is None
        or Customer.select()
        .where((Customer.id == user.customerId) & Customer.disabledAt.is_null())
        .exists()
    )


def _count_attempt(account: str, network: str) -> None:
    # Concurrent attempts from the same network are counted one after another.
    lock_name(f"logins {network}")
    now_s = int(time.time())
    LoginAttempt.delete().where(
        (LoginAttempt.attemptedAt <= now_s - WINDOW_S)
        | (LoginAttempt.attemptedAt > now_s + WINDOW_S)
    ).execute()
    from_network = LoginAttempt.select(LoginAttempt.attemptedAt).where(
        LoginAttempt.network == network
    )
    for attempts, limit in (
        (from_network.where(LoginAttempt.account == account), MAX_FAILURES_ACCOUNT),
        (from_network, MAX_FAILURES_ADDRESS),
    ):
        times_s = sorted(row.attemptedAt for row in attempts)
        if len(times_s) >= limit:
            wait_s = max(1, times_s[-limit] + WINDOW_S - now_s)
            raise RequestError(
                Code.TOO_MANY_ATTEMPTS,
                "Too many failed logins from this address."
                f" Try again in {-(-wait_s // 60)} minutes.",
                retryAfter=wait_s,
            )
    LoginAttempt.insert(account=account, network=network, attemptedAt=now_s).execute()


def _network(address: str) -> str:
    """The network that attempts are counted for: an IPv4 address, or the /64 of an IPv6 subscriber.

    Some proxies append the client's port, which differs with each connection, so it is removed.
    """
    address = address[:_MAX_ADDRESS_LENGTH]
    with_port = _WITH_PORT.fullmatch(address)
    try:
        parsed = ipaddress.ip_address(with_port[1] or with_port[2] if with_port else address)
    except ValueError:
        return address
    if parsed.version == 6:
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
