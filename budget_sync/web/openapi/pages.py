"""`/openapi.json` for programs, `/docs` for people: rendered here, since the viewers that one can vendor all need inline styles
or data: images, which the Content-Security-Policy refuses, and a page without scripts is quicker and reads everywhere.
"""

from __future__ import annotations

from flask import Blueprint, Response

import budget_sync
from budget_sync.web.console.frame import HEADERS, page
from budget_sync.web.openapi import reading
from budget_sync.web.openapi.document import document
from budget_sync.web.payloads import json_response

blueprint = Blueprint("openapi", __name__)
blueprint.add_app_template_filter(reading.marked)


@blueprint.get("/openapi.json")
def describe() -> Response:
    """The API as an OpenAPI document."""
    return json_response(document())


@blueprint.get("/docs")
def read() -> Response:
    """The same, to be read."""
    response = page(
        "docs.html", version=budget_sync.__version__, about=reading.about(), groups=reading.groups(), codes=reading.codes(), schemes=reading.schemes()
    )
    response.headers.extend(HEADERS)
    return response
