"""`/openapi.json` for programs, `/docs` for people."""

from __future__ import annotations

from flask import Blueprint, Response

from budget_sync.web.openapi.document import document
from budget_sync.web.payloads import json_response

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def describe() -> Response:
    """The API as an OpenAPI document."""
    return json_response(document())
