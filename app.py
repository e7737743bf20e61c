"""The Flask application: `create_app` is a list of the steps that make it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from flask import Flask

import cli
from budget_sync import database, settings
from budget_sync.accounts import authentication
from budget_sync.settings import Settings, SettingsError
from budget_sync.web import api, auth, console, errors, headers, logs, metrics, openapi, payloads
from budget_sync.web.proxies import TrustedProxies


class BudgetSync(Flask):
    """Flask, told that every view is a plain function: else it asks each of them again at each request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself."""
        return func


def create_app(chosen: Settings | None = None) -> Flask:
    """The app for these settings, or for those of the environment; then a wrong one ends the process with one line."""
    if chosen is None:
        try:
            chosen = settings.load()
            database.check_library()
        except (SettingsError, database.DatabaseProblem) as problem:
            sys.exit(f"budget-sync: {problem}")
        # The process is ours. What is loaded stays until its end: in the middle of a sync, the collector need not look through it.
        gc.freeze()
    app = BudgetSync("budget_sync", instance_path=str(chosen.instance_folder))
    configure(app, chosen)
    metrics.init_app(app)
    headers.init_app(app)
    logs.init_app(app, chosen)
    database.connect(chosen.database, busy_timeout_s=chosen.busy_timeout_s)
    app.teardown_request(lambda _: database.end_request())
    auth.init_app(app)
    errors.init_app(app)
    app.register_blueprint(api.api)
    app.register_blueprint(openapi.blueprint)
    console.init_app(app)
    cli.init_app(app)
    return app


def configure(app: Flask, chosen: Settings) -> None:
    """Flask's own settings, from ours."""
    app.config.update(
        SETTINGS=chosen,
        # For `flask serve`, whose workers each make an app of their own.
        CREATE_APP=create_app,
        SECRET_KEY=chosen.secret_key,
        # One more than is taken: a chunked body is cut at this length without a word, and must be seen to be too long.
        MAX_CONTENT_LENGTH=payloads.MAX_BODY_BYTES + 1,
        TRUSTED_HOSTS=list(chosen.trusted_hosts) or None,
        SHARED_CALLS=api.SHARED_CALLS,
        SHARED_AT_ONCE=database.calls_at_once(chosen.database),
        SESSION_COOKIE_NAME="budget_sync_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=chosen.session_cookie_secure,
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=authentication.SESSION_LIFETIME,
    )
    if chosen.trusted_proxies:
        app.wsgi_app = TrustedProxies(app.wsgi_app, chosen.trusted_proxies)  # type: ignore[method-assign]  # Flask's documented way to wrap an app
