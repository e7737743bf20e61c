"""The Flask application: `create_app` is a list of steps."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from flask import Flask

import cli
from budget_sync import database, settings
from budget_sync.accounts import authentication
from budget_sync.accounts.identity import IdentityFileError
from budget_sync.settings import Settings, SettingsError
from budget_sync.web import api, auth, console, errors, headers, logs, metrics, openapi, payloads
from budget_sync.web.proxies import TrustedProxies


class BudgetSync(Flask):
    """Flask without the check, at each request, whether the view is a coroutine. None is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself."""
        return func


def create_app(chosen: Settings | None = None) -> Flask:
    """The app with the given settings, or with those of the environment.

    A wrong setting in the environment, or a wrong identity file, ends the process with one line on
    standard error. With given settings, IdentityFileError is raised.
    """
    if chosen is None:
        try:
            return create_app(_settings_of_environment())
        except IdentityFileError as problem:
            sys.exit(f"budget-sync: {problem}")
    app = BudgetSync("budget_sync", instance_path=str(chosen.instance_folder))
    configure(app, chosen)
    metrics.init_app(app)
    headers.init_app(app)
    logs.init_app(app, chosen)
    database.connect(chosen.database, busy_timeout_s=chosen.busy_timeout_s)
    app.teardown_request(lambda _: database.end_request())
    auth.init_app(app, chosen)
    errors.init_app(app)
    app.register_blueprint(api.api)
    app.register_blueprint(openapi.blueprint)
    console.init_app(app)
    cli.init_app(app)
    return app


def _settings_of_environment() -> Settings:
    try:
        chosen = settings.load()
        database.check_library()
    except (SettingsError, database.DatabaseUnusableError) as problem:
        sys.exit(f"budget-sync: {problem}")
    # Without given settings, the process is for this app only. The modules loaded now
    # stay until the end: the garbage collector need not scan them in the middle of a sync.
    gc.freeze()
    return chosen


def configure(app: Flask, chosen: Settings) -> None:
    """Set Flask's settings from this project's settings."""
    app.config.update(
        SETTINGS=chosen,
        # For `flask serve`, in which each worker creates its app.
        CREATE_APP=create_app,
        SECRET_KEY=chosen.secret_key,
        # One byte over the limit: Flask cuts a chunked body at this length without an error, and
        # the app has to see that the body is too long.
        MAX_CONTENT_LENGTH=payloads.MAX_BODY_BYTES + 1,
        TRUSTED_HOSTS=list(chosen.accepted_hosts) or None,
        # For the server: how many requests may run on its event loop at a time.
        EVENT_LOOP_MAX_CALLS=database.max_concurrent_calls(chosen.database),
        SESSION_COOKIE_NAME="budget_sync_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=chosen.session_cookie_secure,
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=authentication.SESSION_LIFETIME,
    )
    if chosen.trusted_proxies:
        trusting = TrustedProxies(app.wsgi_app, chosen.trusted_proxies)
        app.wsgi_app = trusting  # type: ignore[method-assign]  # Flask's way to add middleware
