"""Property tests of the API with schemathesis, generated from its OpenAPI document.

They run as a service, as an admin, and without credentials.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

from support.installation import Installation, session_cookie
from support.machine import PROJECT

from stress.kills import traceback_in
from stress.load import verify_balances
from stress.outcome import Outcome, Place

CRON_SECRET, METRICS_TOKEN = "a secret for cron", "a token for metrics"

#: With at least this many tries per call, each caller runs all phases of schemathesis.
#: Otherwise only the first caller does.
THOROUGH = 100

#: Values mixed into the generated ones, so that some calls succeed and move money.
WORDS: Mapping[str, tuple[tuple[str, ...], list[object]]] = {
    "budgets": (("body.budgetId", "path.budgetId"), ["budget-123"]),
    "targets": (("body.toBudgetId",), ["MKT-25Q1", "budget-123"]),
    "requests": (
        ("body.requestId", "path.requestId", "body.spendId"),
        [f"intake-{number}" for number in range(20)],
    ),
    "people": (("body.userId", "body.originalRequesterId"), ["user-123", "fpa-001"]),
    "customers": (("body.customerId", "query.customerId"), ["org-456"]),
    "departments": (("body.department", "query.department"), ["Engineering"]),
    "periods": (("body.fiscalPeriod", "query.fiscalPeriod"), ["Q1 2025"]),
    "amounts": (("body.amount",), [1, 2.5, 10, 0.01]),
    "days": (("body.date",), ["2025-02-07"]),
    "goals": (("body.to",), ["available", "reserved"]),
    "references": (("body.externalRef",), ["PO-1", "PO-2"]),
}

#: Two checks are disabled. A schema cannot express that a customer is unknown or a currency is
#: wrong. The only required header is the credential, which `ignored_auth` covers.
CONFIG = """
continue-on-failure = true
hooks = "stress.api_page_checks"
cache = { enabled = false }
generation = { database = "none" }
checks = { \
positive_data_acceptance = { enabled = false }, missing_required_header = { enabled = false } }

[[operations]]
# Without its token, this route does not exist.
include-path = "/metrics"
checks = { ignored_auth = { enabled = false } }

[[operations]]
# It would end the session that the other calls need.
include-path = "/api/auth/logout"
enabled = LOGS_OUT
"""


def stress(tries: int, place: Place) -> Outcome:
    """Send `tries` random cases to each call, divided among the three callers.

    The first phases derive further cases from the document's limits and examples.
    """
    outcome = Outcome()
    with place.installation(CRON_SECRET=CRON_SECRET, METRICS_TOKEN=METRICS_TOKEN) as server:
        server.start()
        secrets = {"cronSecret": {"bearer": CRON_SECRET}, "metricsToken": {"bearer": METRICS_TOKEN}}
        callers: dict[str, Mapping[str, Mapping[str, str]]] = {
            "a service": secrets
            | {"apiKey": {"bearer": server.key()["Authorization"].removeprefix("Bearer ")}},
            "an admin": {"session": {"api_key": session_cookie(server.session("alex"))}},
            "anonymous": {},
        }
        for number, (caller, credentials) in enumerate(callers.items()):
            phases = "examples,coverage,fuzzing" if number == 0 or tries >= THOROUGH else "fuzzing"
            place.report(f"{caller}: {phases}")
            _send(
                server, caller, credentials, phases, max(1, tries // len(callers)), place, outcome
            )
        verify_balances(server.target, outcome, "at the end")
        outcome.expect(
            "Traceback" not in server.log,
            f"traceback in the server log: {traceback_in(server.log)}",
        )
    return outcome


def _send(
    server: Installation,
    caller: str,
    credentials: Mapping[str, Mapping[str, str]],
    phases: str,
    cases: int,
    place: Place,
    outcome: Outcome,
) -> None:
    config = place.folder / f"{caller.replace(' ', '-')}.toml"
    config.write_text(_config(credentials), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(config),
        "run",
        f"{server.url}/openapi.json",
        "--no-color",
    ]
    options = ["--phases", phases, "--max-examples", str(cases), "--seed", str(place.seed)]
    path = os.pathsep.join((str(PROJECT / "tests"), str(PROJECT)))
    ended = subprocess.run(
        [*command, *options],
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": path, "NO_PROXY": "127.0.0.1"},
        text=True,
        capture_output=True,
        check=False,
    )
    generated = re.search(r"^ +([\d,]+) generated", ended.stdout, flags=re.MULTILINE)
    count = int(generated[1].replace(",", "")) if generated else 0
    outcome.expect(
        count,
        f"{caller}: no case was generated:\n{ended.stdout[-1000:]}\n{ended.stderr[-1000:]}",
    )
    outcome.tries += count
    if ended.returncode:
        # One section per call, with each of its failures.
        found = re.findall(
            r"^\d+\. Test Case ID: .*?(?=^\d+\. Test Case ID|^_{5,}|^={5,})",
            ended.stdout,
            flags=re.MULTILINE | re.DOTALL,
        )
        for each in found or [f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"]:
            outcome.expect(holds=False, otherwise=f"{caller}: {each.strip()}")


def _config(credentials: Mapping[str, Mapping[str, str]]) -> str:
    lines = [CONFIG.replace("LOGS_OUT", "false" if "session" in credentials else "true")]
    for scheme, secret in credentials.items():
        lines += [
            f"[auth.openapi.{scheme}]",
            *(f'{name} = "{value}"' for name, value in secret.items()),
        ]
    for name, (_, values) in WORDS.items():
        lines += [f"[dictionaries.{name}]", f"values = {values!r}"]
    lines.append("[parameters]")
    for name, (places, _) in WORDS.items():
        lines += [f'"{each}" = {{ dictionary = "{name}", probability = 0.6 }}' for each in places]
    return "\n".join(lines)
