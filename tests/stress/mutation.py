"""Mutation testing: small mistakes in the code that handles money; the tests must detect them.

Each mutant is tested with the tests of its module. A mutant that survives is listed in EQUIVALENT
with a reason, or a test is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.machine import PROJECT

from stress.mutants import mutants_of
from stress.outcome import Outcome, Place
from stress.suites import find_test_file

#: Modules, and the test files about them.
TARGETS = {
    "domain.money": ("money",),
    "domain.permissions": ("permissions",),
    **{
        f"ledger.policy.{name}": ("policy", "ledger", "requesters", "tenants")
        for name in ("amounts", "approval", "check", "reserve", "release")
    },
    "ledger.policy.commit": ("policy", "commit_tolerance", "ledger"),
    "ledger.policy.amend": ("policy", "amend"),
    "ledger.policy.reverse": ("policy", "reverse"),
    "ledger.policy.spend": ("policy", "spend"),
    "ledger.amend": ("amend", "exactly_once"),
    "ledger.approvals": ("requesters", "commit_tolerance", "amend"),
    "ledger.expiry": ("expiry",),
    "ledger.past_movements": ("reverse", "commit_tolerance", "amend"),
    "ledger.reverse": ("reverse", "exactly_once"),
    "ledger.spend": ("spend", "exactly_once"),
    "ledger.check": ("ledger", "guide_sql", "requesters"),
    "ledger.reserve": ("ledger", "requesters", "tenants"),
    "ledger.commit": ("commit_tolerance", "ledger", "requesters", "tenants"),
    "ledger.release": ("ledger", "requesters", "tenants"),
    "ledger.reservations": ("ledger", "amend", "reverse", "requesters", "tenants"),
    "ledger.movements": ("ledger", "amend", "requesters", "tenants"),
    "ledger.idempotency": ("ledger", "tenants"),
    "sync.match": ("sync_plan", "sync_run"),
    "sync.plan": ("sync_plan", "sync_run"),
}

MIN_KILLED = 0.95

#: Mutants without observable effect: by module, a part of the changed line, and the reason.
EQUIVALENT: dict[str, dict[str, str]] = {
    "domain.money": {
        "maxsize=257": "only affects how many currencies are cached",
        "Decimal(2).scaleb(-decimals)": "quantize only uses the exponent",
    },
    "domain.permissions": {"slots=False": "only affects an actor's memory"},
    "ledger.check": {
        "max(1, time": "durations below a millisecond are rounded up",
        "row[5] is not None": "either all of a budget's columns are null or none",
    },
    "ledger.reserve": {
        ".limit(2)": "only the first row is read",
        "lock_name(f'request {budget.customer_id} {request_id}') -> pass": (
            "needed on PostgreSQL, which has parallel writers; SQLite has one"
        ),
    },
    "ledger.commit": {".limit(2)": "only the first row is read"},
    "ledger.reservations": {
        ".limit(2)": "only the first row is read",
        "changed between read and update in one transaction') -> pass": (
            "cannot happen, because the row is read in the transaction that changes it"
        ),
    },
    "ledger.movements": {
        ".limit(2)": "only the first row is read",
        "has no utilization row') -> pass": (
            "the row is created with its budget; without the check, the next line fails with a 500"
        ),
        "customer_id and actor.customer_id": (
            "one more query finds the budget's customer, which is verified afterwards"
        ),
    },
    "sync.match": {
        "maxsize=4097": "only affects the size of a cache",
    },
    "sync.plan": {
        "slots=False": "only affects a plan's memory",
        "frozen=False": "plans are not modified",
        "if bad or missing:": "a shortcut: without both, nothing is kept",
    },
    "ledger.idempotency": {
        "slots=False": "only affects a scope's memory",
        "frozen=False": "scopes are not modified",
    },
}


def stress(tries: int, place: Place) -> Outcome:
    """Test every mutant of every module, or `tries` random ones per module if there are more."""
    outcome = Outcome()
    mutants = {name: list(mutants_of(_path(name).read_text(encoding="utf-8"))) for name in TARGETS}
    chosen = {
        name: place.rng.sample(range(len(those)), min(len(those), tries))
        for name, those in mutants.items()
    }
    for name, those in mutants.items():
        survivors, excused = [], []
        try:
            for number, survived in _try(name, chosen[name], place):
                mutant = those[number]
                shown = f"line {mutant.line}: {mutant.change}"
                if survived and (why := _excuse(name, mutant.change)):
                    excused.append(f"{shown} ({why})")
                elif survived:
                    survivors.append(shown)
                    place.report(f"survived in {name}: {shown}")
                outcome.tries += 1
                place.progress(outcome.tries, sum(map(len, chosen.values())))
        except RuntimeError as error:
            outcome.expect(holds=False, otherwise=f"{name}: {error}")
            continue
        _evaluate(name, len(chosen[name]), survivors, excused, outcome)
    return outcome


def _evaluate(
    name: str, count: int, survivors: list[str], excused: list[str], outcome: Outcome
) -> None:
    """Compare the number of killed mutants with the number of those that can be detected."""
    visible = count - len(excused)
    killed = visible - len(survivors)
    outcome.notes.append(f"{name}: {killed} killed, {len(excused)} equivalent of {count}")
    outcome.notes += [f"  survived: {line}" for line in survivors]
    outcome.notes += [f"  equivalent: {line}" for line in excused]
    outcome.expect(killed >= MIN_KILLED * visible, f"{name}: {killed} of {visible} mutants killed")


def _excuse(name: str, change: str) -> str | None:
    """Why this change of this module has no observable effect."""
    return next((why for piece, why in EQUIVALENT.get(name, {}).items() if piece in change), None)


def _path(name: str) -> Path:
    return PROJECT / "budget_sync" / Path(*name.split(".")).with_suffix(".py")


def _try(name: str, numbers: list[int], place: Place) -> Iterator[tuple[int, bool]]:
    """Test these mutants; yields each number and whether it survived.

    Raises RuntimeError if the tests fail without a mutant.
    """
    folder = tempfile.mkdtemp(dir=place.folder)
    files = [str(find_test_file(test)) for test in TARGETS[name]]
    command = [
        sys.executable,
        "-m",
        "stress.mutant",
        f"budget_sync.{name}",
        str(_path(name)),
        folder,
        json.dumps(numbers),
        *files,
    ]
    environment = os.environ | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}"}
    count = 0
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            result = json.loads(line)
            count += 1
            yield result["number"], result["survived"]
        errors = process.stderr.read()
    if process.returncode or count != len(numbers):
        raise RuntimeError(f"{errors.strip()[-2000:] or 'some mutants were not tested'}")
