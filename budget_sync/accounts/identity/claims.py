"""Maps the claims of a verified token to a person of a customer, or to a service. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from budget_sync.accounts.identity.config import Provider
from budget_sync.accounts.identity.tokens import Token
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import PEOPLE_ROLES, ApiScope

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_MAX_SUBJECT_CHARS = 255
_MAX_EMAIL_CHARS = 254
_MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Person:
    """A person as a token describes them. `subject` identifies them at the provider for good."""

    provider: str
    subject: str
    customer_id: str
    email: str
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A service as a token describes it."""

    customer_id: str
    name: str
    scopes: frozenset[ApiScope]
    may_overspend: bool


def identify(token: Token) -> Person | Machine:
    """The caller that a token describes. Raises RequestError FORBIDDEN and names the claim."""
    provider, claims = token.provider, token.claims
    subject = _text(provider, claims, provider.user_id, _MAX_SUBJECT_CHARS)
    customer_id = _customer_id(provider, claims)
    for service in provider.service:
        if service.subject == subject:
            return Machine(
                customer_id, service.name, frozenset(service.scopes), service.may_overspend
            )
    return Person(
        provider=provider.name,
        subject=subject,
        customer_id=customer_id,
        email=_email(provider, claims),
        name=_name(provider, claims),
        role=_role(provider, claims),
    )


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """The value of a claim; None if it is missing.

    A name with dots that is no claim itself is a path: "realm_access.roles".
    """
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _forbidden(sentence: str) -> RequestError:
    return RequestError(Code.FORBIDDEN, sentence)


def _text(provider: Provider, claims: Mapping[str, Any], name: str, max_length: int) -> str:
    value = claim(claims, name)
    if not isinstance(value, str) or not value.strip():
        raise _forbidden(f"The token of {provider.name} has no text in the claim {name!r}.")
    if len(value) > max_length or not value.isprintable():
        raise _forbidden(f"The claim {name!r} of the token of {provider.name} cannot be used.")
    return value


def _customer_id(provider: Provider, claims: Mapping[str, Any]) -> str:
    customer = provider.customer
    if customer.claim is None:
        return customer.fixed or ""
    known = {
        customer.map[value]
        for value in _values(claim(claims, customer.claim))
        if value in customer.map
    }
    if len(known) == 1:
        return known.pop()
    problem = "names several customers" if known else "names no customer of this service"
    raise _forbidden(f"The claim {customer.claim!r} of the token of {provider.name} {problem}.")


def _email(provider: Provider, claims: Mapping[str, Any]) -> str:
    email = _text(provider, claims, provider.email, _MAX_EMAIL_CHARS).strip()
    if not _EMAIL.fullmatch(email):
        raise _forbidden(
            f"The claim {provider.email!r} of the token of {provider.name} is no email address."
        )
    if provider.email == "email" and claims.get("email_verified") in (False, "false"):
        raise _forbidden(
            f"{provider.name} has not verified this email address (claim 'email_verified')."
        )
    return email


def _name(provider: Provider, claims: Mapping[str, Any]) -> str:
    """The name of a person, or the email address if the token has no usable name."""
    value = claim(claims, provider.user_name)
    if isinstance(value, str) and value.strip() and value.isprintable():
        return value.strip()[:_MAX_NAME_CHARS]
    return _email(provider, claims)[:_MAX_NAME_CHARS]


def _role(provider: Provider, claims: Mapping[str, Any]) -> str:
    roles = provider.roles
    if roles is None:
        raise _forbidden(f"Tokens of {provider.name} are for services, and this one names none.")
    found = {
        roles.map[value] for value in _values(claim(claims, roles.claim)) if value in roles.map
    }
    for role in PEOPLE_ROLES:
        if role in found:
            return str(role)
    if roles.default is not None:
        return roles.default
    raise _forbidden(
        f"The claim {roles.claim!r} of the token of {provider.name} names no role of this service."
    )


def _values(value: Any) -> Iterable[str]:
    """The texts in a claim, which is a text or a list. Other values are no names."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]
