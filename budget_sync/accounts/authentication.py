"""Signing in: sessions, API keys, and the limit on failed logins. What comes out is an `Actor`."""

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
from budget_sync.domain.permissions import Actor, Role

SESSION_LIFETIME = timedelta(hours=12)

#: Failed logins allowed in the window: for one account from one address, and from one address in all.
WINDOW_S = 15 * 60
MAX_FAILURES_ACCOUNT = 5
MAX_FAILURES_ADDRESS = 50

KEY_PREFIX = "bsk"

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
        ApiKey.select(ApiKey)
        .join(Customer, JOIN.LEFT_OUTER, on=(Customer.id == ApiKey.customerId))
        .where(ApiKey.id == value.key_id, ApiKey.revokedAt.is_null(), Customer.disabledAt.is_null())
    )
)


def log_in(email: str, password: str, address: str, slots_folder: Path) -> tuple[Actor, str]:
    """The person and a new session's token. Raises RequestError TOO_MANY_ATTEMPTS or BAD_CREDENTIALS."""
    user = prove(email, password, address, slots_folder)
    token = secrets.token_urlsafe(32)

    def work() -> None:
        require_unchanged(user)
        now = clock.now()
        Session.insert(
            tokenHash=digest(token), userId=user.id, createdAt=now, expiresAt=now + SESSION_LIFETIME
        ).execute()
        Session.delete().where(Session.expiresAt < now).execute()
        User.update(lastLoginAt=now).where(User.id == user.id).execute()
        forget_attempts(email, address)

    transact(work)
    return _person(user), token


def prove(email: str, password: str, address: str, slots_folder: Path) -> User:
    """The person whose password that is. Raises RequestError TOO_MANY_ATTEMPTS or BAD_CREDENTIALS.

    The attempt is counted before the password is looked at, so that a hundred guesses at once are counted as a hundred; whoever
    was right has it forgotten by `forget_attempts`.
    """
    account, network = _who_tries(email, address)
    transact(lambda: _count_attempt(account, network))
    user: User | None = User.get_or_none(User.emailKey == email_key(email))
    right = passwords.matches(user.passwordHash if user else None, password, slots_folder)
    if user is None or not right or not _is_enabled(user):
        raise _bad_credentials()
    return user


def require_unchanged(user: User) -> None:
    """Look again inside a transaction, as the password check took its time. Raises RequestError BAD_CREDENTIALS for a user disabled meanwhile."""
    current = locked(
        User.select().where((User.id == user.id) & (User.passwordHash == user.passwordHash))
    ).first()
    if current is None or not _is_enabled(current):
        raise _bad_credentials()


def forget_attempts(email: str, address: str) -> None:
    """Take back the count of attempts for that account from that address, inside the caller's transaction."""
    account, network = _who_tries(email, address)
    LoginAttempt.delete().where(
        (LoginAttempt.account == account) & (LoginAttempt.network == network)
    ).execute()


def _who_tries(email: str, address: str) -> tuple[str, str]:
    return digest(email_key(email)), _network(address)


def _bad_credentials() -> RequestError:
    return RequestError(
        Code.BAD_CREDENTIALS, "Email or password is wrong, or the account is disabled."
    )


def log_out(token: str) -> None:
    """End one session; a copy of its cookie is worth nothing from then on."""
    transact(lambda: Session.delete().where(Session.tokenHash == digest(token)).execute())


def end_sessions(user_id: str, *, but: str | None = None) -> None:
    """End all sessions of a person, but for the one with that token, inside the caller's transaction."""
    sessions = Session.delete().where(Session.userId == user_id)
    (sessions if but is None else sessions.where(Session.tokenHash != digest(but))).execute()


def actor_of_session(token: str) -> Actor | None:
    """Who holds the session; None where it is unknown, expired, or its user or customer is disabled."""
    user = _SESSION_USER.first(token_hash=digest(token), now=clock.to_text(clock.now()))
    return _person(user) if user else None


def make_key() -> tuple[str, str, str]:
    """A new API key: its public id, its secret's hash, and the key itself, which is stored nowhere."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return key_id, digest(secret), f"{KEY_PREFIX}_{key_id}_{secret}"


def actor_of_key(key: str) -> Actor | None:
    """Whose key it is; None where it is malformed, unknown, revoked, or its customer is disabled."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    row = _KEY.first(key_id=key_id)
    if (
        prefix != KEY_PREFIX
        or row is None
        or not hmac.compare_digest(row.secretHash, digest(secret))
    ):
        return None
    return Actor(
        principal=f"key:{row.id}",
        user_id=None,
        name=row.name,
        email=None,
        role=Role.API_SYSTEM,
        customer_id=row.customerId,
        may_overspend=bool(row.mayOverspend),
    )


def email_key(email: str) -> str:
    """An email address for comparing: trimmed, letter case folded."""
    return email.strip().casefold()


def digest(secret: str) -> str:
    """The SHA-256 of a secret long and random enough to need no slower hash, or of a name that should not be readable."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _person(user: User) -> Actor:
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
    # Nobody else counts from there meanwhile.
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
                f"Too many failed logins from this address. Try again in {-(-wait_s // 60)} minutes.",
                retryAfter=wait_s,
            )
    LoginAttempt.insert(account=account, network=network, attemptedAt=now_s).execute()


def _network(address: str) -> str:
    """Whom an address stands for: itself, or for IPv6 the /64 that one subscriber has whole.

    Some proxies pass on the client's port as well, which each of its connections chooses anew.
    """
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
