"""Verifies signed tokens (JWT, RFC 7519 with the advice of RFC 8725).

The algorithm comes from the configuration, and the key from the provider. Nothing in a token's
header names a place to fetch a key from (`jku`, `x5u`), and no key inside a token is used (`jwk`).
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from budget_sync.accounts.identity.config import Identity, Provider, load
from budget_sync.accounts.identity.keys import Key, Keys
from budget_sync.settings import Settings

#: The allowed difference between the clocks of the provider and this machine.
LEEWAY_S = 30

#: Longer tokens are rejected. Tokens with many groups have some thousand characters.
MAX_TOKEN_CHARS = 16 * 1024

_MAX_CLAIM_DEPTH = 20

#: No date in a token is later: the year 9999.
_MAX_TIME_S = 253_402_300_799


class TokenError(Exception):
    """A token that is not accepted. The text is a sentence that says why, without the token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token."""

    provider: Provider
    claims: Mapping[str, Any]


class Verifier:
    """Verifies the tokens of all configured providers."""

    def __init__(self, identity: Identity, folder: Path) -> None:
        self.identity = identity
        self.keys = {provider.name: Keys(provider, folder) for provider in identity.provider}

    def verify(
        self,
        text: str,
        providers: Sequence[Provider],
        *,
        audience: str | None = None,
        nonce: str | None = None,
    ) -> Token:
        """The token in a text, which must be of one of these providers.

        `audience` replaces the provider's own audiences, and `nonce` must be in the token, for a
        token that the sign-in returned. Raises TokenError, and KeysUnavailableError if the keys
        cannot be fetched.
        """
        header, claims = _parse(text)
        provider = _provider_of(claims, providers, audience)
        algorithm = header.get("alg")
        if algorithm not in provider.algorithms:
            raise TokenError("Its algorithm is not allowed for this provider.")
        key_id = header.get("kid")
        if key_id is not None and not (isinstance(key_id, str) and 0 < len(key_id) <= 500):
            raise TokenError("The id of its key is not a text.")
        usable = [
            key
            for key in self.keys[provider.name].find(key_id)
            if key.alg is None or key.alg == algorithm
        ]
        if not any(_is_signed_by(text, key, str(algorithm)) for key in usable):
            raise TokenError("Its signature is not by a known key of its issuer.")
        _check_times(claims)
        if nonce is not None and claims.get("nonce") != nonce:
            raise TokenError("It does not belong to this sign-in (nonce).")
        return Token(provider, claims)


def load_verifier(settings: Settings) -> Verifier:
    """The verifier for the installation's identity file. Raises IdentityFileError."""
    identity = load(
        settings.identity_file, settings.variables, is_required=settings.is_identity_file_named
    )
    return Verifier(identity, settings.identity_file.parent)


def _parse(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims, not verified yet. Raises TokenError."""
    parts = text.split(".") if len(text) <= MAX_TOKEN_CHARS and text.isascii() else []
    if len(parts) != 3 or not all(parts):
        raise TokenError("It is not a signed token.")
    header, claims = _object(parts[0]), _object(parts[1])
    if "crit" in header or "b64" in header:
        raise TokenError("Its header has an extension that is not supported.")
    return header, claims


def _object(part: str) -> dict[str, Any]:
    """A JSON object in base64url without duplicate names. Raises TokenError."""
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_reject
        )
    except (binascii.Error, ValueError, RecursionError):
        raise TokenError("It is not a signed token: a part of it is not valid JSON.") from None
    if not isinstance(found, dict) or _depth(found) > _MAX_CLAIM_DEPTH:
        raise TokenError("It is not a signed token: a part of it is not a JSON object.")
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate name")
    return found


def _reject(name: str) -> None:
    raise ValueError(name)


def _depth(value: object) -> int:
    """How deep a JSON value is nested."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = inner
    return depth


def _provider_of(
    claims: Mapping[str, Any], providers: Sequence[Provider], audience: str | None
) -> Provider:
    """The provider that a token names as its issuer and audience. Raises TokenError."""
    issued = [provider for provider in providers if provider.issuer == claims.get("iss")]
    if not issued:
        raise TokenError("Its issuer is not one that is accepted here.")
    found = claims.get("aud")
    audiences = found if isinstance(found, list) else [found]
    if not all(isinstance(each, str) for each in audiences):
        raise TokenError("Its audience is not a text or a list of texts.")
    for provider in issued:
        wanted = provider.audience if audience is None else [audience]
        if any(each in wanted for each in audiences):
            return provider
    raise TokenError("It is for another audience.")


def _is_signed_by(text: str, key: Key, algorithm: str) -> bool:
    try:
        jws.deserialize_compact(text.encode("ascii"), key, algorithms=[algorithm])
    except (JoseError, ValueError, TypeError):
        return False
    return True


def _check_times(claims: Mapping[str, Any]) -> None:
    """Check that the token is valid now. Raises TokenError."""
    now = time.time()
    expires = _time(claims, "exp")
    if expires is None:
        raise TokenError("It has no time of expiry (exp).")
    if expires <= now - LEEWAY_S:
        raise TokenError("It has expired.")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and begins > now + LEEWAY_S:
            raise TokenError(f"It is not valid yet ({name}).")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenError(f"Its claim {name!r} is not a time.")
    if not 0 <= value <= _MAX_TIME_S:
        raise TokenError(f"Its claim {name!r} is not a time.")
    return float(value)
