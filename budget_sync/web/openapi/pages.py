"""`/openapi.json` for programs, `/docs` for people: rendered here, since the viewers that one can vendor all need inline styles
or data: images, which the Content-Security-Policy refuses, and a page without scripts is quicker and reads everywhere.
"""

from __future__ import annotations

from flask import Blueprint, Response

import budget_sync
from budget_sync.web.console.frame import HEADERS, page
from budget_sync.web.payloads import json_response

blueprint = Blueprint("openapi", __name__)

# Both make their models when they are loaded: no command should wait for that, and most workers are never asked.


@blueprint.get("/openapi.json")
def describe() -> Response:
    """The API as an OpenAPI document."""
    from budget_sync.web.openapi.document import document  # noqa: PLC0415

    return json_response(document())


@blueprint.get("/docs")
def read() -> Response:
    """The same, to be read."""
    from budget_sync.web.openapi import reading  # noqa: PLC0415

    response = page(
        "docs.html", version=budget_sync.__version__, about=reading.about(), groups=reading.groups(), codes=reading.codes(), schemes=reading.schemes()
    )
    response.headers.extend(HEADERS)
    return response
