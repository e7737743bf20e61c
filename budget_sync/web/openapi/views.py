"""`/openapi.json` for programs; `/docs` and `/docs/<page>` for people.

The page is rendered here. All OpenAPI viewers that could be vendored need inline styles or data:
images, which the Content-Security-Policy forbids. A page without scripts also loads faster and
works in every browser.
"""

from __future__ import annotations

from functools import lru_cache

from flask import Blueprint, Response, abort

from budget_sync.domain.results import dumps
from budget_sync.web.console.base import HEADERS, page

blueprint = Blueprint("openapi", __name__)

# The views import `document`, `docs_page` and `guides` late. They create all models, or load a
# library. No command should wait for that, and most workers never need them.


@blueprint.get("/openapi.json")
def describe() -> Response:
    """The API as an OpenAPI document."""
    return Response(_document(), mimetype="application/json")


@lru_cache(maxsize=1)
def _document() -> str:
    """The document as JSON, cached: building it costs more than a reserve, and it is public."""
    from budget_sync.web.openapi.document import document  # noqa: PLC0415

    return f"{dumps(document())}\n"


@blueprint.get("/docs")
def read() -> Response:
    """The API as an HTML page."""
    from budget_sync.web.openapi import docs_page, guides  # noqa: PLC0415

    response = page(
        "docs.html",
        about=docs_page.about(),
        groups=docs_page.groups(),
        codes=docs_page.codes(),
        about_errors=docs_page.about_errors(),
        error_fields=docs_page.error_fields(),
        schemes=docs_page.schemes(),
        guides=[(name, guides.guide(name).title) for name in guides.PAGES],
    )
    response.headers.extend(HEADERS)
    return response


@blueprint.get("/docs/<name>")
def read_guide(name: str) -> Response:
    """A page of docs/ for integrators."""
    from budget_sync.web.openapi import guides  # noqa: PLC0415

    if name not in guides.PAGES:
        abort(404)
    response = page(
        "guide.html",
        guide=guides.guide(name),
        others=[(each, guides.guide(each).title) for each in guides.PAGES if each != name],
    )
    response.headers.extend(HEADERS)
    return response
