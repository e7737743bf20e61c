"""The five scenarios of the integration guide as one state machine.

Reads the steps of a workflow as JSON lines, and prints the new state of each request.
"""

import json
import os
import random
import sqlite3
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import requests
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

HOLDING, ENDED = {"awaiting_approval", "approved"}, {"released", "fulfilled"}
UNDECIDED = HOLDING | {"over_budget"}
BEFORE = {  # the states in which a step may begin
    "submit": {"new", "needs_correction", "released"},
    "approve": UNDECIDED,
    "reject": UNDECIDED,
    "cancel": UNDECIDED,
    "fulfill": {"approved"},
}


class Problem(Exception):
    """The code of an error that sending again does not solve."""


def call(method, path, body=None, key=None, query=None):
    """Send a call until it is answered, for about 15 minutes. With a key, it is done only once."""
    headers = {"Authorization": f"Bearer {os.environ['BUDGET_SYNC_KEY']}", "Idempotency-Key": key}
    options = {"json": body, "params": query, "headers": headers}
    url = os.environ["BUDGET_SYNC_URL"] + path
    for failures in range(20):
        wait_s = min(2**failures, 60)
        with suppress(requests.RequestException):  # no reply, or only a part of it
            reply = requests.request(method, url, timeout=10, **options)
            is_bug = reply.status_code == 500 and failures >= 3
            if reply.status_code not in {429, 500, 502, 503, 504} or is_bug:
                content = reply.json()
                if reply.ok and content.get("success", True):
                    return content
                raise Problem(content["code"])
            wait_s = max(wait_s, int(reply.headers.get("Retry-After", 0)))
        time.sleep(wait_s * random.uniform(1, 1.3))
    raise Problem("NO_REPLY")


class Orchestrator:
    """The requests and their states. A lock lets one step or event change them at a time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.db = sqlite3.connect(os.environ["STORE"], check_same_thread=False)
        self.db.execute("CREATE TABLE IF NOT EXISTS kept (id TEXT PRIMARY KEY, data TEXT)")

    def load(self, kind, name=""):
        found = self.db.execute("SELECT data FROM kept WHERE id = ?", [f"{kind}:{name}"]).fetchone()
        return found and json.loads(found[0])

    def save(self, data, kind, name=""):
        self.db.execute("REPLACE INTO kept VALUES (?, ?)", [f"{kind}:{name}", json.dumps(data)])

    def step(self, name, request_id, facts):
        """Do a step of the workflow. After a problem, or a crash, it can be done again."""
        with self.lock, self.db:
            row = {"id": request_id, "state": "new", "held": 0, "moves": 0}
            row |= (self.load("request", request_id) or {}) | {"problem": None}
            try:
                if row["state"] not in BEFORE[name]:
                    raise Problem(f"CANNOT_{name.upper()}")
                getattr(self, name)(row, **facts)
            except Problem as error:
                row["problem"] = str(error)
            self.save(row, "request", request_id)
            return row

    def submit(self, row, intake):  # scenarios 1, 2 and 3
        check = call("POST", "/api/budget/check", intake | {"requestId": row["id"]})
        row |= {"user": intake["userId"], "amount": intake["amount"]}
        row["budget"] = check["budget"] and check["budget"]["id"]
        if check["available"]:
            self.reserve(row, "approved" if check["canAutoApprove"] else "awaiting_approval")
        else:
            row["state"] = "over_budget" if row["budget"] else "needs_correction"

    def approve(self, row, by, reason):  # scenarios 2 and 3
        if row["state"] == "over_budget":
            self.reserve(row, "approved", overBudget={"approvedBy": by, "reason": reason})
        else:
            row["state"] = "approved"

    def reject(self, row, reason):  # scenario 4
        self.release(row, "rejected", action="reject", reason=reason)

    def cancel(self, row, by, reason):  # scenario 5
        self.release(row, "cancelled", action="cancel", originalRequesterId=by, reason=reason)

    def fulfill(self, row, amount, invoice):
        self.move(row, "commit", "fulfilled", 0, amount=amount, externalRef=invoice, final=True)

    def reserve(self, row, state, **more):
        amount = row["amount"]
        try:
            self.move(row, "reserve", state, amount, amount=amount, userId=row["user"], **more)
        except Problem as problem:
            if str(problem) != "INSUFFICIENT_BUDGET":
                raise
            row["state"] = "over_budget"  # another request was faster

    def release(self, row, state, **body):
        self.refresh(row)  # FP&A may have changed the amount or the budget
        if row["held"]:
            self.move(row, "release", state, 0, amount=row["held"], **body)
        row["state"] = state

    def move(self, row, name, state, held, **body):
        body |= {"budgetId": row["budget"], "requestId": row["id"]}
        call("POST", f"/api/budget/{name}", body, key=f"{row['id']}-{row['moves']}")
        row |= {"state": state, "held": held, "moves": row["moves"] + 1}

    def refresh(self, row):
        """Read what people did in the console: another amount or budget, or the end of the hold."""
        found = call("GET", f"/api/requests/{quote(row['id'], safe='')}")["reservations"]
        held = [each for each in found if each["status"] == "open"]
        if held:
            row |= {"held": held[0]["amountHeld"], "budget": held[0]["budgetId"]}
            if row["state"] in ENDED | {"over_budget"}:
                row["state"] = "approved"
        elif row["state"] in HOLDING:
            is_spent = sum(each["amountCommitted"] - each["amountReversed"] for each in found)
            row |= {"state": "fulfilled" if is_spent else "released", "held": 0}

    def take(self, event):
        """Handle an event from a webhook or from the feed, once."""
        with self.lock, self.db:
            row = self.load("request", event["data"].get("requestId"))
            if row and not self.load("event", event["id"]):
                self.refresh(row)
                self.save(row, "request", row["id"])
            self.save(event["type"], "event", event["id"])

    def poll(self):
        """Handle a page of the feed, in case no webhook came. Returns whether there may be more."""
        page = call("GET", "/api/events", query={"after": self.load("cursor") or "latest"})
        for event in page["items"]:
            self.take(event)
        with self.lock, self.db:
            self.save(page["nextCursor"], "cursor")
        return page["items"]

    def follow(self):
        while True:
            with suppress(Problem):
                while self.poll():
                    pass
            time.sleep(float(os.environ.get("POLL_S", "60")))


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body, status = self.rfile.read(int(self.headers.get("Content-Length", 0))), 204
        try:
            event = Webhook(os.environ["WEBHOOK_SECRET"]).verify(body, dict(self.headers))
            self.server.orchestrator.take(event)
        except (WebhookVerificationError, ValueError):
            status = 400
        except Problem:
            status = 503  # the event will arrive again
        self.send_response(status)
        self.end_headers()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver)
    server.orchestrator = Orchestrator()
    server.orchestrator.poll()
    for work in (server.serve_forever, server.orchestrator.follow):
        threading.Thread(target=work, daemon=True).start()
    for line in sys.stdin:
        step = json.loads(line)
        state = server.orchestrator.step(step.pop("step"), step.pop("requestId"), step)
        print(json.dumps(state), flush=True)
