"""The interface between the views and the server below WSGI, which imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

#: The attributes that mark a view.
_MARK = "runs_on_event_loop"
_UPLOAD_MARK = "accepts_upload"

#: The largest body of a view with `@accepts_upload`: a file, and the other fields of its form.
MAX_UPLOAD_BYTES = 16 * 1024 * 1024 + 64 * 1024


class BrokenBodyError(Exception):
    """Raised on reading a body that is not framed as its headers say, such as an invalid chunk.

    The server raises it in place of its parser's exceptions, which quote the request.
    """


def runs_on_event_loop(view: View) -> View:
    """Let the server run this view in a greenlet on its event loop, without a thread.

    The view may wait only through `budget_sync.runtime.greenlets`: any other wait blocks the loop.
    Its URL has no variables.
    """
    setattr(view, _MARK, True)
    return view


def may_run_on_event_loop(view: Callable[..., Any]) -> bool:
    """Whether the view has the decorator `runs_on_event_loop`."""
    return getattr(view, _MARK, False)


def accepts_upload(view: View) -> View:
    """Let the server accept a body of up to MAX_UPLOAD_BYTES for this view, sent with POST.

    All other views accept at most MAX_BODY_BYTES. The view's URL has no variables.
    """
    setattr(view, _UPLOAD_MARK, True)
    return view


def may_accept_upload(view: Callable[..., Any]) -> bool:
    """Whether the view has the decorator `accepts_upload`."""
    return getattr(view, _UPLOAD_MARK, False)
