"""(a) A bare Flask JSON reply: the cost of the web server and the framework only."""

from __future__ import annotations

from flask import Flask

from budget_sync.web.server_interface import runs_on_event_loop


def create_app() -> Flask:
    """The app."""
    app = Flask("bare")

    @app.post("/api/budget/check")
    @app.post("/api/budget/reserve")
    @runs_on_event_loop
    def answer() -> dict[str, object]:
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
