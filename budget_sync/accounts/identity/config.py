"""The file `identity.toml`: the identity providers, and what their tokens mean here.

Every wrong value is one line. A file with a wrong value is never used in part.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from budget_sync.domain.permissions import PEOPLE_ROLES, ApiScope, Role
from budget_sync.settings import is_loopback

#: The algorithms that a provider may use. "none" and HMAC are not among them: a caller who can
#: verify an HMAC can also create it.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]

#: The header of API keys, and of tokens if a provider names no other.
AUTHORIZATION = "Authorization"

_MAX_BYTES = 1024 * 1024

_Text = Annotated[str, Field(min_length=1, max_length=500)]
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}")
_COOKIE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")

#: Headers that any proxy or client can set, so that a token in them would be a mistake.
_UNSUITABLE_HEADERS = frozenset({"cookie", "host", "origin", "x-forwarded-user", "x-request-id"})


class IdentityFileError(ValueError):
    """The file cannot be used. The text is one line that says what is wrong, and where."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class CustomerOfToken(_Part):
    """The customer of a token: always the same one, or by the value of a claim."""

    fixed: _Text | None = None
    claim: _Text | None = None
    map: dict[_Text, _Text] = {}

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.fixed is None) == (self.claim is None):
            raise ValueError('must have either "fixed" or "claim"')
        if self.claim is not None and not self.map:
            raise ValueError('needs "map", from the values of the claim to ids of customers')
        if self.fixed is not None and self.map:
            raise ValueError('"map" is only for "claim"')
        return self


class RolesOfToken(_Part):
    """The role of a person, by the values of a claim. The role with the most permissions wins."""

    claim: _Text
    map: dict[_Text, str] = {}
    default: str | None = None

    @field_validator("map", "default")
    @classmethod
    def _require_roles(cls, value: Mapping[str, str] | str | None) -> object:
        roles = value.values() if isinstance(value, Mapping) else [value]
        allowed = [str(role) for role in PEOPLE_ROLES if role is not Role.SUPER_ADMIN]
        for role in roles:
            if role is not None and role not in allowed:
                raise ValueError(f"{role!r} is not one of {', '.join(allowed)}")
        return value

    @model_validator(mode="after")
    def _require_some(self) -> Self:
        if not self.map and self.default is None:
            raise ValueError('must have "map" or "default"')
        return self


class SignIn(_Part):
    """The button of the sign-in page. The secret itself is in an environment variable."""

    client_id: _Text
    client_secret_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")] | None = None
    scopes: list[_Text] = ["openid", "email", "profile"]

    @field_validator("scopes")
    @classmethod
    def _require_openid(cls, value: list[str]) -> list[str]:
        if "openid" not in value:
            raise ValueError('must include "openid"')
        return value


class Service(_Part):
    """A machine that calls with its own tokens. `subject` is the value of the claim `user_id`."""

    subject: _Text
    name: Annotated[str, Field(min_length=1, max_length=200)]
    scopes: list[ApiScope] = Field(min_length=1)
    may_overspend: bool = False

    @field_validator("scopes", mode="before")
    @classmethod
    def _read_scopes(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        known = [str(scope) for scope in ApiScope]
        for scope in value:
            if scope not in known:
                raise ValueError(f"{scope!r} is not one of {', '.join(known)}")
        return [ApiScope(scope) for scope in value]


class Provider(_Part):
    """An identity provider: how its tokens are verified, where they are, and what they mean.

    `user_id`, `email` and `user_name` are names of claims.
    """

    name: Annotated[str, Field(min_length=1, max_length=50)]
    issuer: _Text
    audience: list[_Text] = Field(min_length=1)
    jwks_url: _Text | None = None
    jwks_file: _Text | None = None
    algorithms: list[Algorithm] = Field(default=["RS256", "ES256"], min_length=1)
    header: str | None = None
    cookie: str | None = None
    customer: CustomerOfToken
    user_id: _Text = "sub"
    email: _Text = "email"
    user_name: _Text = "name"
    roles: RolesOfToken | None = None
    create_users: bool = True
    session_hours: Annotated[int, Field(ge=1, le=24)] = 8
    sign_in: SignIn | None = None
    #: Comes from the environment, never from the file.
    client_secret: str | None = Field(default=None, repr=False)
    service: list[Service] = []

    @field_validator("issuer", "jwks_url")
    @classmethod
    def _require_safe(cls, value: str | None) -> str | None:
        if value is not None and not is_safe_url(value):
            raise ValueError(f"{value!r} must be an https address, or http on this machine")
        return value

    @field_validator("header")
    @classmethod
    def _require_header(cls, value: str | None) -> str | None:
        if value is not None and (
            not _HEADER_NAME.fullmatch(value) or value.lower() in _UNSUITABLE_HEADERS
        ):
            raise ValueError(f"{value!r} is not a header that can carry a token")
        return value

    @field_validator("cookie")
    @classmethod
    def _require_cookie(cls, value: str | None) -> str | None:
        if value is not None and not _COOKIE_NAME.fullmatch(value):
            raise ValueError(f"{value!r} is not the name of a cookie")
        return value

    @model_validator(mode="after")
    def _require_consistency(self) -> Self:
        if self.jwks_url is not None and self.jwks_file is not None:
            raise ValueError('must not have both "jwks_url" and "jwks_file"')
        if self.roles is None and not self.service:
            raise ValueError('needs "roles" for people, or a "service"')
        if self.roles is None and self.sign_in is not None:
            raise ValueError('"sign_in" needs "roles"')
        subjects = [service.subject for service in self.service]
        if len(set(subjects)) < len(subjects):
            raise ValueError("two services have the same subject")
        return self

    @property
    def token_header(self) -> str | None:
        """The header that carries tokens; None if only a cookie does."""
        return self.header or (AUTHORIZATION if self.cookie is None else None)


class Identity(_Part):
    """The whole file. `provider` is empty without a file."""

    password_sign_in: bool = True
    provider: list[Provider] = []

    @model_validator(mode="after")
    def _require_different_providers(self) -> Self:
        names = [provider.name for provider in self.provider]
        if len(set(names)) < len(names):
            raise ValueError("two providers have the same name")
        if not self.password_sign_in and not any(provider.sign_in for provider in self.provider):
            raise ValueError("password_sign_in = false needs a provider with [provider.sign_in]")
        return self


def is_safe_url(text: str) -> bool:
    """Whether keys and tokens may come from an address: https, or http on this machine."""
    try:
        parts = urlsplit(text)
        hostname = parts.hostname or ""
    except ValueError:
        return False
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(hostname))
    return bool(is_safe and hostname) and "@" not in parts.netloc and not parts.fragment


def load(path: Path, environ: Mapping[str, str], *, is_required: bool = False) -> Identity:
    """The identity file. Without one, no providers, unless it is required.

    `environ` has the variables that hold secrets. Raises IdentityFileError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if is_required:
            raise IdentityFileError(f"{path}: there is no such file.") from None
        return Identity()
    except OSError as error:
        raise IdentityFileError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > _MAX_BYTES:
        raise IdentityFileError(f"{path} is larger than 1 MB.")
    try:
        identity = Identity.model_validate(tomllib.loads(data.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IdentityFileError(f"{path} is not TOML: {error}.") from None
    except ValidationError as error:
        raise IdentityFileError(f"{path}: {_problems(error)}.") from None
    if any(provider.client_secret is not None for provider in identity.provider):
        raise IdentityFileError(
            f"{path}: client_secret must not be in the file. Name an environment variable with "
            "client_secret_env."
        )
    providers = [_with_secret(path, provider, environ) for provider in identity.provider]
    return identity.model_copy(update={"provider": providers})


def _problems(error: ValidationError) -> str:
    found = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in each["loc"])
        text = each["msg"].removeprefix("Value error, ")
        found.append(f"{place}: {text}" if place else text)
    return "; ".join(found)


def _with_secret(path: Path, provider: Provider, environ: Mapping[str, str]) -> Provider:
    """The provider with its secret, after a look at the file of keys that it names."""
    if provider.jwks_file is not None:
        keys = path.parent / provider.jwks_file
        try:
            keys.read_bytes()
        except OSError as error:
            raise IdentityFileError(
                f"{path}: the jwks_file {keys} of {provider.name} cannot be read: {error.strerror}."
            ) from None
    name = provider.sign_in.client_secret_env if provider.sign_in else None
    if name is None:
        return provider
    if not environ.get(name):
        raise IdentityFileError(
            f"{path}: the environment variable {name} of {provider.name} is not set."
        )
    return provider.model_copy(update={"client_secret": environ[name]})
