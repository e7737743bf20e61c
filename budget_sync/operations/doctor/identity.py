"""Checks of the identity providers and of the API keys' lifetimes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from budget_sync.accounts import api_keys
from budget_sync.accounts.identity import IdentityFileError, load_verifier
from budget_sync.accounts.identity.keys import KeyFetchError
from budget_sync.domain import clock
from budget_sync.operations.doctor.findings import Finding, failed, warning
from budget_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class Providers:
    """The identity providers whose keys can be fetched, in words, and what is wrong with others."""

    working: str
    problems: list[Finding]


def providers(settings: Settings) -> Providers:
    """Look at the identity file, and fetch the keys of each provider."""
    try:
        verifier = load_verifier(settings)
    except IdentityFileError as problem:
        todo = "correct the file, then restart the service"
        return Providers("", [failed("Identity providers", str(problem), todo)])
    working: list[str] = []
    problems: list[Finding] = []
    for provider in verifier.identity.provider:
        try:
            count = verifier.keys[provider.name].refresh()
        except KeyFetchError as error:
            problems.append(
                failed(
                    f"Identity provider {provider.name}",
                    f"{provider.issuer}: its keys cannot be fetched: {error}",
                    "check the address and the network; `flask identity-check` tries again",
                )
            )
        else:
            working.append(f"{provider.name} ({count} keys)")
    return Providers(", ".join(working), problems)


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
