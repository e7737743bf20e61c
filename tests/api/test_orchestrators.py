"""examples/orchestrator: both programs do the guide's scenarios against the server, with faults."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from support.installation import Installation
from support.machine import ENGINE, PROJECT
from support.orchestrators import (
    FOLDER,
    LANGUAGES,
    PYTHON,
    TYPESCRIPT,
    FaultyProxy,
    built_typescript,
    orchestrator,
)

from budget_sync.delivery.signatures import new_secret, signed_headers
from budget_sync.web.openapi.document import document

pytestmark = [
    pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine"),
    pytest.mark.long,
]

#: The most lines of code, without empty lines, comments and docstrings.
MOST_LINES = 150

INTAKE = {
    "userId": "user-123",
    "userName": "Jane Doe",
    "userEmail": "jane@acme.com",
    "customerId": "org-456",
    "department": "Engineering",
    "fiscalPeriod": "Q1 2025",
    "amount": 5000,
    "vendor": "Slack",
}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    """The language of the example."""
    name: str = request.param
    return name


@pytest.fixture
def proxy(server: Installation) -> Iterator[FaultyProxy]:
    """A proxy to the server with a fault for each call."""
    with FaultyProxy(server.url).running() as started:
        yield started


def reservation(server: Installation, request_id: str) -> dict[str, Any]:
    """What the server has stored: the only reservation of a request, and its movements."""
    reply = requests.get(
        f"{server.url}/api/requests/{request_id}", headers=server.key(), timeout=30
    ).json()
    found = reply["reservations"]
    assert len(found) <= 1
    actions = [movement["action"] for movement in reply["movements"]]
    return (found[0] if found else {}) | {"actions": actions, "movements": reply["movements"]}


def intake(**changes: Any) -> dict[str, Any]:
    return INTAKE | changes


def test_example_does_all_five_scenarios_despite_faults(
    language: str, shared: Path, server: Installation, tmp_path: Path, proxy: FaultyProxy
) -> None:
    """Each call loses its first reply, or is answered with 502 or 503. The server restarts."""
    fiona = server.session("fiona")
    with orchestrator(language, shared, server, tmp_path, proxy.url, poll_s=3600) as program:
        # 1: available, approved at once.
        assert program.do("submit", "one", intake=intake()) == ("approved", None)
        assert program.do("fulfill", "one", amount=4950.5, invoice="INV-1") == ("fulfilled", None)
        # 2: available, needs an approval. The server restarts in the middle of the call.
        server.stop()
        program.send("submit", "two", intake=intake(amount=20_000))
        server.start()
        assert program.result() == ("awaiting_approval", None)
        assert reservation(server, "two")["amountHeld"] == 20_000
        approval = {"by": "fpa-001", "reason": "Planned"}
        assert program.do("approve", "two", **approval) == ("approved", None)
        # 3: not available. FP&A approves one in the console, the workflow has the other approved.
        for name in ("three", "three-b", "three-c"):
            submitted = program.do("submit", name, intake=intake(amount=90_000))
            assert submitted == ("over_budget", None)
            assert reservation(server, name)["actions"] == []
        reply = fiona.post(
            f"{server.url}/api/budget/reserve",
            json={"budgetId": "budget-123", "amount": 90_000, "requestId": "three"}
            | {"overBudget": {"approvedBy": "fpa-001", "reason": "Urgent"}},
            timeout=30,
        )
        assert reply.ok, reply.text
        server.flask("deliver", "--once")
        program.wait_for("three", state="approved", held=90_000)
        assert program.do("approve", "three-b", **approval) == ("approved", None)
        assert program.do("reject", "three-c", reason="No") == ("rejected", None)
        # 4: rejected after the reserve. FP&A has lowered the amount since.
        assert program.do("submit", "four", intake=intake(amount=1))[0] == "over_budget"
        assert program.do("approve", "four", **approval) == ("approved", None)
        amend = {"budgetId": "budget-123", "amount": 0.75, "requestId": "four", "reason": "x"}
        assert fiona.post(f"{server.url}/api/budget/amend", json=amend, timeout=30).ok
        assert program.do("reject", "four", reason="Duplicate") == ("rejected", None)
        # 5: cancelled by the requester, and by no other user.
        assert program.do("submit", "five", intake=intake(amount=2))[0] == "over_budget"
        assert program.do("approve", "five", **approval) == ("approved", None)
        cancel = {"by": "user-999", "reason": "No longer needed"}
        assert program.do("cancel", "five", **cancel) == ("approved", "NOT_YOUR_REQUEST")
        assert reservation(server, "five")["amountHeld"] == 2
        assert program.do("cancel", "five", **cancel | {"by": "user-123"}) == ("cancelled", None)
        assert program.do("fulfill", "five", amount=2, invoice="X")[1] == "CANNOT_FULFILL"
        assert sorted(proxy.happened) == sorted(path for path, _ in proxy.FAULTS)
    one = reservation(server, "one")
    assert one["actions"] == ["RESERVE", "COMMIT", "RELEASE"]
    assert (one["amountCommitted"], one["movements"][1]["externalRef"]) == (4950.5, "INV-1")
    assert reservation(server, "two")["actions"] == ["RESERVE"]
    for name in ("three", "three-b"):
        assert reservation(server, name)["movements"][0]["action"] == "OVER_BUDGET"
        assert reservation(server, name)["amountHeld"] == 90_000
    assert reservation(server, "three-c")["actions"] == []
    for name, amount, reason in (("four", 0.75, "Duplicate"), ("five", 2, "No longer needed")):
        last = reservation(server, name)["movements"][-1]
        assert (last["action"], last["reservedDelta"]) == ("RELEASE", -amount)
        assert last["reason"] == reason
    server.flask("verify")


def test_example_follows_people_by_webhook_and_feed(
    language: str, shared: Path, server: Installation, tmp_path: Path
) -> None:
    fiona = server.session("fiona")
    with orchestrator(language, shared, server, tmp_path, server.url, poll_s=0.1) as program:
        for name in ("moved", "ended", "paid"):
            assert program.do("submit", name, intake=intake()) == ("approved", None)
        move = {"budgetId": "budget-123", "requestId": "moved", "amount": 4000}
        for call, body in (
            ("amend", move),
            ("release", {"requestId": "ended", "amount": 5000, "action": "reject"}),
            ("commit", {"requestId": "paid", "amount": 5000}),
        ):
            sent = {"budgetId": "budget-123", "reason": "A console action"} | body
            assert fiona.post(f"{server.url}/api/budget/{call}", json=sent, timeout=30).ok
        # No webhook is delivered yet.
        program.wait_for("moved", state="approved", held=4000)
        program.wait_for("ended", state="released", held=0)
        program.wait_for("paid", state="fulfilled", held=0)
        # The webhook brings the same events.
        before = [program.stored(name) for name in ("moved", "ended", "paid")]
        server.flask("deliver", "--once")
        assert [program.stored(name) for name in ("moved", "ended", "paid")] == before


def test_example_handles_signed_webhooks_once(
    language: str, shared: Path, server: Installation, tmp_path: Path
) -> None:
    fiona = server.session("fiona")

    def amend(amount: int) -> None:
        sent = {"budgetId": "budget-123", "requestId": "signed", "amount": amount, "reason": "x"}
        assert fiona.post(f"{server.url}/api/budget/amend", json=sent, timeout=30).ok

    with orchestrator(language, shared, server, tmp_path, server.url, poll_s=3600) as program:

        def post(event_id: str, headers: dict[str, str] | None = None) -> int:
            data = {"requestId": "signed"}
            event = {"id": event_id, "type": "reservation.amended", "data": data}
            body = json.dumps(event).encode()
            now = int(time.time())
            signed = signed_headers(event_id, now, body, [new_secret(), program.secret])
            url = f"http://127.0.0.1:{program.port}/"
            sent = signed if headers is None else headers
            return requests.post(url, data=body, headers=sent, timeout=30).status_code

        assert program.do("submit", "signed", intake=intake()) == ("approved", None)
        amend(4000)
        for forged in (
            signed_headers("evt_1", int(time.time()), b"{}", [new_secret()]),
            {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "nonsense"},
            {},
        ):
            assert post("evt_1", forged) == 400
        assert program.stored("signed")["held"] == 5000
        assert post("evt_1") == 204
        assert program.stored("signed")["held"] == 4000
        amend(3000)
        assert post("evt_1") == 204
        assert program.stored("signed")["held"] == 4000
        assert post("evt_2") == 204
        assert program.stored("signed")["held"] == 3000


def lines_of_python(text: str) -> int:
    """The number of lines with code."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (*skipped, tokenize.INDENT, tokenize.DEDENT)
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            code -= set(range(first.lineno, (first.end_lineno or 0) + 1))
    return len(code)


def test_examples_have_at_most_150_lines_of_code() -> None:
    assert lines_of_python(PYTHON.read_text(encoding="utf-8")) <= MOST_LINES
    text = (TYPESCRIPT / "orchestrator.ts").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()]
    assert all(len(line) <= 100 for line in text.splitlines())
    code = [line for line in lines if line and not line.startswith(("/**", "*", "//"))]
    assert len(code) <= MOST_LINES


def test_typescript_schema_is_generated_from_the_document(shared: Path) -> None:
    folder = built_typescript(shared)
    (folder / "openapi.json").write_text(json.dumps(document()), encoding="utf-8")
    generated = folder / "generated.d.ts"
    line = ["node_modules/.bin/openapi-typescript", "openapi.json", "--output", str(generated)]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stored = (TYPESCRIPT / "schema.d.ts").read_text(encoding="utf-8")
    assert generated.read_text(encoding="utf-8") == stored, "run: npm run generate"


def test_npm_lock_has_hashes_and_no_registry() -> None:
    lock = json.loads((TYPESCRIPT / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
    wanted = json.loads((TYPESCRIPT / "package.json").read_text(encoding="utf-8"))
    pins = wanted["dependencies"] | wanted["devDependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in pins} == pins


def test_python_example_has_the_pins_of_the_tests() -> None:
    def pins(path: Path) -> set[str]:
        return set(re.findall(r"^\w[\w.-]*==\S+", path.read_text(encoding="utf-8"), re.MULTILINE))

    all_pins = pins(PROJECT / "requirements.txt") | pins(PROJECT / "tests" / "requirements.txt")
    assert pins(FOLDER / "python" / "requirements.txt") < all_pins
