"""The API page: an OpenAPI document made from the models that check the bodies, and the page that people read it on."""

from budget_sync.web.openapi.views import blueprint

__all__ = ["blueprint"]
