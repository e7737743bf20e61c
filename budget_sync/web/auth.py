"""Authentication: `get_user_from_request()`, sessions, and anonymous checks."""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from flask import Flask, Request, Response, after_this_request, current_app, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.utils import cached_property

from budget_sync.accounts import authentication, last_use
from budget_sync.accounts.identity import (
    AUTHORIZATION,
    Provider,
    Token,
    TokenError,
    Verifier,
    load_verifier,
)
from budget_sync.accounts.identity.users import actor_of_token
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import ANONYMOUS, Actor
from budget_sync.settings import MIN_SECRET_LENGTH, Settings, is_loopback


class _LoginManager(LoginManager):  # type: ignore[misc]  # flask_login has no types
    """Flask-Login without the remember-me cookie, which it would look for after each request."""

    def _update_remember_cookie(self, response: Response) -> Response:
        return response


login_manager = _LoginManager()
# Sessions are rows that can be ended. Binding them to an address and a user agent as well would
# only sign people out.
login_manager.session_protection = None

_NO_CREDENTIAL = "Authentication required. Log in, or send an API key as a bearer token."

# Browsers store no cookie that is longer.
_MAX_COOKIE_LENGTH = 4096

#: A session that began at an identity provider is confirmed there when a page is opened after the
#: first time, and is not accepted after the second: a person who leaves is locked out by then.
CONFIRM_AFTER_S = 5 * 60
CONFIRM_WITHIN_S = 15 * 60

#: The key of requests in their WSGI environment that the metrics leave out.
UNCOUNTED = "budget_sync.uncounted"

_FORWARDING_HEADERS = ("forwarded", "via", "x-real-ip")


class SignedIn(UserMixin):  # type: ignore[misc]  # flask_login has no types
    """Flask-Login's view of a session: the cookie holds the session's token."""

    def __init__(self, actor: Actor, token: str) -> None:
        self.actor = actor
        self.token = token

    def get_id(self) -> str:
        """The value that Flask-Login stores in the signed cookie."""
        return self.token


@login_manager.user_loader  # type: ignore[untyped-decorator]  # flask_login has no types
def _load_session(token: str) -> SignedIn | None:
    actor = authentication.actor_of_session(token)
    return SignedIn(actor, token) if actor else None


class _Request(Request):
    """A request of which only the cookies with a credential are read.

    Werkzeug's pattern for cookies takes quadratic time: 32 KB of spaces after a name kept a worker
    busy for 10 seconds.
    """

    @cached_property
    def cookies(self) -> ImmutableMultiDict[str, str]:
        """The cookies of sessions and tokens; a value is "" if no credential has such a value."""
        wanted: tuple[str, ...] = current_app.config["CREDENTIAL_COOKIES"]
        found: dict[str, str] = {}
        for pair in self.environ.get("HTTP_COOKIE", "").split(";"):
            name, _, value = pair.partition("=")
            name = name.strip()
            if name in wanted and name not in found:
                is_possible = len(value) <= _MAX_COOKIE_LENGTH and value.isascii()
                found[name] = value.strip() if is_possible else ""
        return ImmutableMultiDict(found)


class _CookieSessions(SecureCookieSessionInterface):
    """Flask's signed cookie, skipped for requests without a cookie, such as a service's calls."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """The session in the request's cookie, or a new one."""
        if "HTTP_COOKIE" not in request.environ:
            return self.session_class()
        return super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Set the cookie if the session was read or changed."""
        if session.accessed or session.modified:
            super().save_session(app, session, response)


def init_app(app: Flask, settings: Settings) -> None:
    """Set up sessions, tokens and Flask-Login. Raises IdentityFileError."""
    verifier = load_verifier(settings)
    providers = verifier.identity.provider
    app.extensions["identity"] = verifier
    app.config["CREDENTIAL_COOKIES"] = (
        app.config["SESSION_COOKIE_NAME"],
        *{provider.cookie for provider in providers if provider.cookie},
    )
    app.request_class = _Request
    app.session_interface = _CookieSessions()
    # Pages get the user from their view. A lookup while an error page renders could fail again.
    login_manager.init_app(app, add_context_processor=False)


def verifier() -> Verifier:
    """The verifier of tokens, with the identity providers of this installation."""
    found: Verifier = current_app.extensions["identity"]
    return found


def get_user_from_request() -> Actor | None:
    """The caller, by API key, token or session; None if the request has no credential.

    A credential is always verified, and two credentials must be of the same caller. Raises
    RequestError AUTHENTICATION_REQUIRED if one is invalid, expired or revoked, FORBIDDEN if a token
    is valid but names no caller of this service, and CROSS_ORIGIN if a page of another site had a
    browser send its session or token.
    """
    providers = verifier().identity.provider
    callers = [caller for caller in (_caller_by_authorization(providers),) if caller]
    if providers:
        callers += _callers_by_browser_token(providers)
    # A program that sends its own credential is not asked about a session.
    if (
        "HTTP_AUTHORIZATION" not in request.environ
        and current_app.config["SESSION_COOKIE_NAME"] in request.cookies
        # Next to a token, the cookie may hold only what the sign-in page stored.
        and not (callers and "_user_id" not in session)
    ):
        callers.append(_caller_by_session())
    if any(
        (caller.principal, caller.customer_id) != (callers[0].principal, callers[0].customer_id)
        for caller in callers
    ):
        raise RequestError(
            Code.AUTHENTICATION_REQUIRED,
            "Authentication required: this request has credentials of two different callers. "
            "Send one of them.",
        )
    if callers and callers[0].is_test:
        request.environ[UNCOUNTED] = True
    return callers[0] if callers else None


def _caller_by_authorization(providers: Sequence[Provider]) -> Actor | None:
    """The caller by the Authorization header: an API key, or the token of a provider."""
    authorization = request.environ.get("HTTP_AUTHORIZATION")
    if authorization is None:
        return None
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    accepted = [provider for provider in providers if provider.token_header == AUTHORIZATION]
    if scheme.lower() == "bearer" and accepted and not authentication.is_key(text):
        return _caller_by_token(text, accepted)
    actor = authentication.actor_of_key(text) if scheme.lower() == "bearer" else None
    if actor is None:
        raise RequestError(
            Code.AUTHENTICATION_REQUIRED,
            "Authentication required: this API key is not valid. Ask an admin for a new one.",
        )
    _record_use(authentication.key_id_of(text))
    return actor


def _callers_by_browser_token(providers: Sequence[Provider]) -> list[Actor]:
    """The callers by tokens that a browser or a proxy adds by itself, each token once."""
    accepted: dict[str, list[Provider]] = {}
    for provider in providers:
        header = provider.token_header
        texts = [
            None if header in (None, AUTHORIZATION) else request.headers.get(header),
            request.cookies.get(provider.cookie) if provider.cookie else None,
        ]
        for text in texts:
            if text is not None:
                accepted.setdefault(text.strip(), []).append(provider)
    if accepted:
        require_same_origin()
    return [_caller_by_token(text, candidates) for text, candidates in accepted.items()]


def _caller_by_token(text: str, providers: Sequence[Provider]) -> Actor:
    try:
        return actor_of_token(verifier().verify(text, providers))
    except TokenError as error:
        raise RequestError(
            Code.AUTHENTICATION_REQUIRED,
            f"Authentication required: this token is not accepted. {error}",
        ) from None


def _caller_by_session() -> Actor:
    if not current_user.is_authenticated:
        raise RequestError(
            Code.AUTHENTICATION_REQUIRED,
            "Authentication required: this session has ended. Log in again.",
        )
    if not is_confirmed(CONFIRM_WITHIN_S):
        raise RequestError(
            Code.AUTHENTICATION_REQUIRED,
            "Authentication required: your sign-in must be confirmed again. Open any page.",
        )
    require_same_origin()
    signed_in: SignedIn = current_user
    return signed_in.actor


def _record_use(key_id: str) -> None:
    """Record the use of a key after this request, so that no movement waits for the write."""
    if not last_use.is_due(key_id):
        return

    def record(response: Response) -> Response:
        last_use.record(key_id)
        return response

    # Flask also calls this after an error.
    after_this_request(record)


def require_user() -> Actor:
    """The caller. Raises RequestError AUTHENTICATION_REQUIRED if the request has no credential."""
    actor = get_user_from_request()
    if actor is None:
        raise RequestError(Code.AUTHENTICATION_REQUIRED, _NO_CREDENTIAL)
    return actor


def require_user_or_local() -> Actor:
    """The caller of a check, which `BUDGET_CHECK_AUTH` may open to callers without credentials.

    Raises RequestError AUTHENTICATION_REQUIRED if it does not.
    """
    actor = get_user_from_request()
    if actor is not None:
        return actor
    settings: Settings = current_app.config["SETTINGS"]
    if settings.budget_check_auth == "open" or (
        settings.budget_check_auth == "local" and _is_from_this_machine()
    ):
        require_same_origin()
        return ANONYMOUS
    raise RequestError(Code.AUTHENTICATION_REQUIRED, _NO_CREDENTIAL)


def _is_from_this_machine() -> bool:
    """Whether the request came from a loopback address to a loopback host name, without a proxy.

    A proxy on this machine passes on requests from other machines.
    """
    if any(
        name.lower() in _FORWARDING_HEADERS or name.lower().startswith("x-forwarded-")
        for name, _ in request.headers
    ):
        return False
    hostname = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    return is_loopback(request.remote_addr or "") and is_loopback(hostname)


def has_bearer_token(secret: str | None) -> bool:
    """Whether the bearer token is this secret. False if the secret is unset or too short."""
    expected = secret or ""
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    # As bytes: compare_digest raises for text that is not ASCII.
    same = hmac.compare_digest(
        sent.strip().encode("utf-8", "surrogateescape"), expected.encode("utf-8", "surrogateescape")
    )
    return len(expected) >= MIN_SECRET_LENGTH and scheme.lower() == "bearer" and same


def require_same_origin() -> None:
    """Raises RequestError CROSS_ORIGIN if a page of another site had a browser send this write."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    foreign_origin = origin is not None and origin != f"{request.scheme}://{request.host}"
    if foreign_origin or request.headers.get("Sec-Fetch-Site", "same-origin") not in (
        "same-origin",
        "none",
    ):
        raise RequestError(
            Code.CROSS_ORIGIN,
            "This request came from a page of another site. Send it from this site's own pages.",
        )


def log_in(email: str, password: str) -> Actor:
    """Sign a person in, with a new session even if the request has a cookie.

    Raises RequestError BAD_CREDENTIALS or TOO_MANY_ATTEMPTS, and FORBIDDEN if this installation has
    no passwords for this person.
    """
    actor, token = authentication.log_in(
        email,
        password,
        request.remote_addr or "",
        _slots_folder(),
        needs_password_right=not verifier().identity.password_sign_in,
    )
    session.clear()
    login_user(SignedIn(actor, token))
    return actor


def log_in_with_token(token: Token) -> Actor:
    """Sign in the person of a token that an identity provider's sign-in returned.

    The session must be confirmed by the provider again from time to time, see `is_confirmed`.
    """
    actor = actor_of_token(token)
    if actor.user_id is None:
        raise RequestError(Code.FORBIDDEN, "These pages are for people.")
    lifetime = timedelta(hours=token.provider.session_hours)
    session_token = authentication.start_session(actor.user_id, lifetime)
    zone, customer = session.get("zone"), session.get("customer")
    session.clear()
    session.update(
        {
            name: value
            for name, value in (("zone", zone), ("customer", customer))
            if value is not None
        }
    )
    login_user(SignedIn(actor, session_token))
    session["confirmed"] = [token.provider.name, int(time.time())]
    return actor


def provider_of_session() -> Provider | None:
    """The provider at which this session began; None for a session with a password."""
    confirmed = session.get("confirmed")
    if not confirmed:
        return None
    providers = verifier().identity.provider
    return next((provider for provider in providers if provider.name == confirmed[0]), None)


def is_confirmed(max_age_s: float) -> bool:
    """Whether the provider has confirmed the person of this session within that time.

    True for a session with a password.
    """
    confirmed = session.get("confirmed")
    return not confirmed or 0 <= time.time() - confirmed[1] + 60 <= max_age_s + 60


def log_out() -> None:
    """End the caller's session, if any. Every copy of its cookie becomes invalid."""
    if current_user.is_authenticated:
        require_same_origin()
        authentication.log_out(current_user.token)
    logout_user()
    session.clear()


def end_session() -> None:
    """End this browser's session, if any, because its provider does not confirm it any more."""
    if current_user.is_authenticated:
        authentication.log_out(current_user.token)
    logout_user()
    session.clear()


def _slots_folder() -> Path:
    return Path(current_app.instance_path)
