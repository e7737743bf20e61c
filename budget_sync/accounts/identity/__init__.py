"""Identity of the customers' own providers: signed tokens (JWT) that say who a caller is."""

from budget_sync.accounts.identity.config import AUTHORIZATION, IdentityFileError, Provider
from budget_sync.accounts.identity.tokens import Token, TokenError, Verifier, load_verifier

__all__ = [
    "AUTHORIZATION",
    "IdentityFileError",
    "Provider",
    "Token",
    "TokenError",
    "Verifier",
    "load_verifier",
]
