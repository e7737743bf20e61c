"""The command that explains a token of an identity provider."""

from __future__ import annotations

import sys

import click
from flask import current_app

from budget_sync.accounts.identity import TokenError, Verifier
from budget_sync.accounts.identity.claims import Machine, identify
from budget_sync.accounts.identity.keys import KeyFetchError
from budget_sync.accounts.identity.users import describe_user
from budget_sync.commands.support import command, on_current_schema, settings
from budget_sync.domain.errors import RequestError

_STDIN = "-"
_MAX_INPUT_CHARS = 20_000


@command("identity-check")
@click.argument("token_text", required=False, metavar="[TOKEN|-]")
@on_current_schema
def identity_check(token_text: str | None) -> None:
    """Show the identity providers, and who a token would be.

    With - the token is read from standard input, so that it is in no shell history. Exit status 1
    if the token would be refused, or if the keys of a provider cannot be fetched. Nothing is
    stored.
    """
    verifier: Verifier = current_app.extensions["identity"]
    if not verifier.identity.provider:
        raise click.ClickException(
            f"There are no identity providers: {settings().identity_file} does not exist or is "
            "empty. See docs/sign-in.md."
        )
    if token_text is None:
        sys.exit(_show_providers(verifier))
    text = sys.stdin.read(_MAX_INPUT_CHARS) if token_text == _STDIN else token_text
    sys.exit(_explain(verifier, text.strip().removeprefix("Bearer ").strip()))


def _show_providers(verifier: Verifier) -> int:
    """Print a line for each provider; returns the exit status."""
    status = 0
    for provider in verifier.identity.provider:
        places = [f"header {provider.token_header}"] if provider.token_header else []
        places += [f"cookie {provider.cookie}"] if provider.cookie else []
        places += ["sign-in page"] if provider.sign_in else []
        try:
            count = verifier.keys[provider.name].refresh()
            keys = f"{count} key{'s' * (count != 1)} fetched"
        except KeyFetchError as error:
            keys, status = f"its keys cannot be fetched: {error}", 1
        click.echo(f"{provider.name} ({provider.issuer}): {', '.join(places)}; {keys}")
    return status


def _explain(verifier: Verifier, text: str) -> int:
    """Print who a token would be, or why it would be refused; returns the exit status."""
    try:
        token = verifier.verify(text, verifier.identity.provider)
        click.echo(f"Provider: {token.provider.name}")
        found = identify(token)
        if isinstance(found, Machine):
            click.echo(f"Service: {found.name} of customer {found.customer_id}")
            click.echo(f"Scopes: {', '.join(sorted(found.scopes))}")
            return 0
        click.echo(f"Person: {found.name}, {found.email}")
        click.echo(f"Subject: {found.subject}")
        click.echo(f"Customer: {found.customer_id}")
        click.echo(f"Role: {found.role}")
        click.echo(f"User: {describe_user(found, may_create=token.provider.create_users)}")
    except TokenError as error:
        click.echo(f"Refused with 401: {error}", err=True)
        return 1
    except RequestError as error:
        click.echo(f"Refused: {error.sentence}", err=True)
        return 1
    return 0


COMMANDS = (identity_check,)
