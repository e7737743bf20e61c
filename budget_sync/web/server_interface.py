"""The interface between the views and the server below WSGI, which imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

#: The attribute that marks a view.
_MARK = "runs_on_event_loop"


class BrokenBodyError(Exception):
    """Raised when a request's body is read and is not framed as its headers say: an invalid chunk.

    The server raises it in place of its parser's exceptions, which quote the request.
    """


def runs_on_event_loop(view: View) -> View:
    """Let the server run this view in a greenlet on its event loop, without a thread.

    The view must not block, other than by `budget_sync.runtime.greenlets`. Its URL has no
    variables.
    """
    setattr(view, _MARK, True)
    return view


def may_run_on_event_loop(view: Callable[..., Any]) -> bool:
    """Whether the view has that decorator."""
    return getattr(view, _MARK, False)
