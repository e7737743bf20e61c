"""Signing in at an identity provider, and confirming a session there."""

from __future__ import annotations

from flask import current_app, redirect, session, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.accounts.identity import Provider
from budget_sync.accounts.identity import sign_in as identity_sign_in
from budget_sync.accounts.identity.sign_in import Attempt
from budget_sync.domain.errors import Code, RequestError
from budget_sync.web import auth
from budget_sync.web.console.base import argument, console, page
from budget_sync.web.console.errors import status_of
from budget_sync.web.console.session import safe_path

#: The codes by which a provider says that it cannot confirm without asking (OpenID Connect Core,
#: 3.1.2.6).
_NOT_CONFIRMED = (
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
)


@console.get("/sign-in/provider")
def begin_sign_in() -> AnyResponse:
    """Send the browser to the identity provider that the query names."""
    provider = _provider(argument("name"))
    is_silent = argument("silent") == "1"
    try:
        address, attempt = identity_sign_in.begin(
            provider, _redirect_uri(), safe_path(argument("next", 2000)), silent=is_silent
        )
    except RequestError as error:
        return _failed(error)
    session["attempt"] = attempt.to_dict()
    return redirect(address)


@console.get("/sign-in/done")
def finish_sign_in() -> AnyResponse:
    """Take the provider's answer, and return to the page that the person came for."""
    attempt = Attempt.from_dict(session.pop("attempt", None))
    state = argument("state", 500)
    if attempt is None or not state or state != attempt.state:
        return _failed(
            RequestError(
                Code.AUTHENTICATION_REQUIRED,
                "This sign-in took too long, or was begun in another window. Sign in again.",
            )
        )
    provider = _provider(attempt.provider)
    problem = argument("error", 100)
    if problem:
        return _declined(provider, problem, attempt)
    try:
        token = identity_sign_in.finish(
            auth.verifier(), provider, _redirect_uri(), attempt, argument("code", 4000)
        )
        auth.log_in_with_token(token)
    except RequestError as error:
        return _failed(error)
    return redirect(safe_path(attempt.back))


def _declined(provider: Provider, problem: str, attempt: Attempt) -> AnyResponse:
    """The provider signed nobody in: end our session as well if it was to be confirmed."""
    if problem in _NOT_CONFIRMED:
        auth.end_session()
        return redirect(url_for("console.sign_in", next=attempt.back))
    current_app.logger.warning("%s declined a sign-in: %s", provider.name, problem[:100])
    return _failed(
        RequestError(Code.FORBIDDEN, f"{provider.name} did not sign you in ({problem[:100]}).")
    )


def _failed(error: RequestError) -> AnyResponse:
    response = page("sign_in.html", status_of(error), next="", email="", error=error.sentence)
    if "retryAfter" in error.facts:
        response.headers["Retry-After"] = str(error.facts["retryAfter"])
    return response


def _provider(name: str) -> Provider:
    for provider in auth.verifier().identity.provider:
        if provider.name == name and provider.sign_in is not None:
            return provider
    raise RequestError(Code.NOT_FOUND, "There is no such identity provider.")


def _redirect_uri() -> str:
    return url_for("console.finish_sign_in", _external=True)
