"""Checks of the identity providers and of the API keys' lifetimes."""

from __future__ import annotations

from collections.abc import Iterator

from budget_sync.accounts import api_keys
from budget_sync.accounts.identity import IdentityFileError, load_verifier
from budget_sync.accounts.identity.keys import KeyFetchError
from budget_sync.domain import clock
from budget_sync.operations.doctor.findings import Finding, failed, ok, warning
from budget_sync.settings import Settings

_NAME = "Identity providers"


def providers(settings: Settings) -> Iterator[Finding]:
    """Whether the identity file is valid, and whether the keys of each provider can be fetched."""
    try:
        verifier = load_verifier(settings)
    except IdentityFileError as problem:
        yield failed(_NAME, str(problem), "correct the file, then restart the service")
        return
    if not verifier.identity.provider:
        yield warning(
            _NAME,
            "none: people have local passwords, and services have API keys",
            "to sign people in with the customer's own identity, see docs/sign-in.md",
        )
    for provider in verifier.identity.provider:
        name = f"Identity provider {provider.name}"
        try:
            count = verifier.keys[provider.name].refresh()
        except KeyFetchError as error:
            yield failed(
                name,
                f"{provider.issuer}: its keys cannot be fetched: {error}",
                "check the address and the network; `flask identity-check` tries again",
            )
        else:
            yield ok(name, f"{provider.issuer}, {count} keys")


def expiring_keys() -> Iterator[Finding]:
    """A warning for each API key that expires soon and has no successor."""
    for key in api_keys.expiring_keys():
        of_whom = f"customer {key.customerId}" if key.customerId else "all customers"
        yield warning(
            "API keys",
            f"key {key.id} of the service {key.name} ({of_whom}) expires "
            f"{clock.to_text(key.expiresAt)}",
            "replace it with `flask rotate-key`",
        )
