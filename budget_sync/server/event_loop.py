"""Which requests run on the event loop, and which may be uploads, by their first bytes."""

from __future__ import annotations

from flask import Flask

from budget_sync.web.server_interface import may_accept_upload, may_run_on_event_loop


def event_loop_requests(app: Flask) -> tuple[bytes, ...]:
    """The beginnings of the request lines of the views with `@runs_on_event_loop`.

    Each has the method, the path and the byte that ends the path, for `bytes.startswith`. Any other
    spelling of the same URL runs in a thread. Raises ValueError if such a view's URL has variables.
    """
    beginnings = []
    for rule in app.url_map.iter_rules():
        if not may_run_on_event_loop(app.view_functions[rule.endpoint]):
            continue
        if rule.arguments:
            raise ValueError(f"a view on the event loop needs a URL without variables: {rule}")
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            beginnings += [f"{method} {rule.rule}{end}".encode() for end in (" ", "?")]
    return tuple(beginnings)


def upload_requests(app: Flask) -> tuple[bytes, ...]:
    """The beginnings of the request lines of the views with `@accepts_upload`."""
    return tuple(
        f"POST {rule.rule}{end}".encode()
        for rule in app.url_map.iter_rules()
        if may_accept_upload(app.view_functions[rule.endpoint])
        for end in (" ", "?")
    )
