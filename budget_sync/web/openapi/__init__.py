"""API documentation: an OpenAPI document generated from the models, and an HTML page of it."""

from budget_sync.web.openapi.views import blueprint

__all__ = ["blueprint"]
