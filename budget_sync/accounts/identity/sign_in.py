"""Signing in at an identity provider: OpenID Connect, authorization code flow with PKCE."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from authlib.common.errors import (  # type: ignore[import-untyped]  # no types
    AuthlibBaseError,
)
from authlib.integrations.requests_client import (  # type: ignore[import-untyped]  # no types
    OAuth2Session,
)

from budget_sync.accounts.identity.config import Provider
from budget_sync.accounts.identity.keys import KeyFetchError, discover
from budget_sync.accounts.identity.tokens import Token, TokenError, Verifier
from budget_sync.domain.errors import Code, RequestError

#: How long a person may take at the provider.
MAX_AGE_S = 600

_TIMEOUT_S = 10.0
_MAX_USERINFO_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that has begun. It is kept in the browser's signed cookie until it ends."""

    provider: str
    state: str
    nonce: str
    verifier: str
    back: str
    began_at: int

    def to_dict(self) -> dict[str, object]:
        """As values for the cookie."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: object) -> Attempt | None:
        """The attempt in a cookie; None if there is none, or if it is too old."""
        if not isinstance(values, Mapping) or set(values) != set(cls.__slots__):
            return None
        attempt = cls(**values)
        age_s = time.time() - attempt.began_at
        return attempt if -MAX_AGE_S < age_s < MAX_AGE_S else None


def begin(provider: Provider, redirect_uri: str, back: str, *, silent: bool) -> tuple[str, Attempt]:
    """The provider's address to send the browser to, and the attempt to keep.

    With `silent`, the provider asks the person nothing: it confirms that the person is still signed
    in there, or says that it cannot. Raises RequestError UNAVAILABLE.
    """
    attempt = Attempt(
        provider=provider.name,
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        verifier=secrets.token_urlsafe(48),
        back=back,
        began_at=int(time.time()),
    )
    options = {"prompt": "none"} if silent else {}
    address, _ = _client(provider, redirect_uri).create_authorization_url(
        _endpoint(provider, "authorization_endpoint"),
        state=attempt.state,
        nonce=attempt.nonce,
        code_verifier=attempt.verifier,
        **options,
    )
    return str(address), attempt


def finish(
    verifier: Verifier, provider: Provider, redirect_uri: str, attempt: Attempt, code: str
) -> Token:
    """Exchange the code for the person's verified token.

    Claims that only the userinfo endpoint gives are added. Raises RequestError
    AUTHENTICATION_REQUIRED or UNAVAILABLE.
    """
    client = _client(provider, redirect_uri)
    try:
        reply = client.fetch_token(
            _endpoint(provider, "token_endpoint"),
            code=code,
            code_verifier=attempt.verifier,
            allow_redirects=False,
        )
        token = verifier.verify(
            str(reply.get("id_token") or ""),
            [provider],
            audience=client.client_id,
            nonce=attempt.nonce,
        )
        return Token(provider, _userinfo(provider, client, token) | dict(token.claims))
    except (TokenError, AuthlibBaseError) as error:
        raise RequestError(
            Code.AUTHENTICATION_REQUIRED,
            f"{provider.name} did not confirm this sign-in. Try again. ({_short(error)})",
        ) from None
    except requests.RequestException as error:
        raise _unreachable(provider, type(error).__name__) from None
    except (ValueError, TypeError, AttributeError):
        raise _unreachable(provider, "its reply is not JSON") from None


def sign_out_address(provider: Provider, back: str) -> str | None:
    """The provider's address that ends its session too; None if it has none or is unreachable."""
    try:
        address = discover(provider).get("end_session_endpoint")
    except KeyFetchError:
        return None
    if address is None or provider.sign_in is None:
        return None
    query = urlencode({"client_id": provider.sign_in.client_id, "post_logout_redirect_uri": back})
    return f"{address}{'&' if urlsplit(address).query else '?'}{query}"


def _client(provider: Provider, redirect_uri: str) -> Any:
    sign_in = provider.sign_in
    if sign_in is None:
        raise ValueError(f"{provider.name} has no sign-in")
    secret = provider.client_secret
    client = OAuth2Session(
        client_id=sign_in.client_id,
        client_secret=secret,
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
        scope=" ".join(sign_in.scopes),
        redirect_uri=redirect_uri,
        code_challenge_method="S256",
        default_timeout=_TIMEOUT_S,
    )
    client.max_redirects = 0
    return client


def _endpoint(provider: Provider, name: str) -> str:
    try:
        endpoints = discover(provider)
    except KeyFetchError as error:
        raise _unreachable(provider, str(error)) from None
    if name not in endpoints:
        raise _unreachable(provider, f"it has no {name}")
    return endpoints[name]


def _userinfo(provider: Provider, client: Any, token: Token) -> dict[str, Any]:
    """The claims of the userinfo endpoint, if the token lacks one that is needed."""
    needed = [provider.email, provider.user_name]
    needed += [provider.roles.claim] if provider.roles else []
    needed += [provider.customer.claim] if provider.customer.claim else []
    address = discover(provider).get("userinfo_endpoint")
    if address is None or all(name in token.claims for name in needed):
        return {}
    reply = client.get(address, allow_redirects=False)
    if reply.status_code != 200 or len(reply.content) > _MAX_USERINFO_BYTES:
        return {}
    found = reply.json()
    # OpenID Connect Core, 5.3.2: the claims of another subject must not be used.
    is_same = isinstance(found, dict) and found.get("sub") == token.claims.get("sub")
    return found if is_same else {}


def _unreachable(provider: Provider, why: str) -> RequestError:
    return RequestError(
        Code.UNAVAILABLE,
        f"{provider.name} cannot be reached right now. Try again in a few seconds. ({why})",
        retryAfter=5,
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
