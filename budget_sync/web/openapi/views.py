"""`/openapi.json` for programs, `/docs` for people: rendered here, since the viewers that one can vendor all need inline styles
or data: images, which the Content-Security-Policy refuses, and a page without scripts is quicker and reads everywhere.
"""

from __future__ import annotations

from functools import lru_cache

from flask import Blueprint, Response

import budget_sync
from budget_sync.domain.results import dumps
from budget_sync.web.console.base import HEADERS, page

blueprint = Blueprint("openapi", __name__)

# Both make their models when they are loaded: no command should wait for that, and most workers are never asked.


@blueprint.get("/openapi.json")
def describe() -> Response:
    """The API as an OpenAPI document."""
    return Response(_document(), mimetype="application/json")


@lru_cache(maxsize=1)
def _document() -> str:
    """The document's text: to write it costs more than a movement does, and anybody may ask for it."""
    from budget_sync.web.openapi.document import document  # noqa: PLC0415

    return f"{dumps(document())}\n"


@blueprint.get("/docs")
def read() -> Response:
    """The same, to be read."""
    from budget_sync.web.openapi import docs_page  # noqa: PLC0415

    response = page(
        "docs.html",
        version=budget_sync.__version__,
        about=docs_page.about(),
        groups=docs_page.groups(),
        codes=docs_page.codes(),
        schemes=docs_page.schemes(),
    )
    response.headers.extend(HEADERS)
    return response
