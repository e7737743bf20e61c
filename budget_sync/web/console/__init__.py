"""The console: HTML pages for people. Each view parses its input, calls one query or verb, renders.

`base` has what all pages share, `errors` the error pages, and each other module one area.
"""

from __future__ import annotations

from flask import Flask
from werkzeug.exceptions import MethodNotAllowed, NotFound

from budget_sync.web.console import (  # noqa: F401  # importing an area registers its views
    actions,
    alerts,
    audit,
    budget_forms,
    budgets,
    checks,
    keys,
    overview,
    provider_sign_in,
    reports,
    request_list,
    requests,
    search,
    session,
    sync,
    sync_connect,
    sync_holds,
    sync_reading,
    sync_upload,
    team,
    unmatched,
    webhooks,
)
from budget_sync.web.console.base import console, csrf
from budget_sync.web.console.errors import unknown_path


def init_app(app: Flask) -> None:
    """Register the pages, CSRF protection for their forms, and HTML pages for unknown paths."""
    # The API has no forms: only the pages check CSRF tokens, in `base`. A token lives as long as
    # its session.
    app.config.setdefault("WTF_CSRF_CHECK_DEFAULT", False)
    app.config.setdefault("WTF_CSRF_TIME_LIMIT", None)
    csrf.init_app(app)
    app.register_blueprint(console)
    app.register_error_handler(NotFound, unknown_path)
    app.register_error_handler(MethodNotAllowed, unknown_path)
