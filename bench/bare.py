"""(a) A bare Flask JSON reply: what the web server and the framework cost, before anything is done."""

from __future__ import annotations

from flask import Flask

from budget_sync.web.api import SHARED_CALLS


def create_app() -> Flask:
    """The app."""
    app = Flask("bare")
    # As in the product: see the server.
    app.config["SHARED_CALLS"] = SHARED_CALLS

    @app.post("/api/budget/<verb>")
    def answer(verb: str) -> dict[str, object]:
        return {
            "success": True,
            "reservationId": "res_0123456789abcdef01234567",
            "budgetId": "budget-123",
            "requestId": "intake-789",
            "amountReserved": 12.5,
            "newAvailable": 90000,
        }

    @app.get("/readyz")
    def ready() -> dict[str, object]:
        return {"status": "ready"}

    return app
