"""Mutation: small mistakes put into the code that decides about money; the tests must notice them.

Each mutant is tried against the tests whose business its module is. A survivor is a mistake that no test would notice: it is
explained in EQUIVALENT, or a test is missing.
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

#: Modules, and the tests whose business they are.
TARGETS = {
    "domain.money": ("money",),
    "domain.permissions": ("permissions",),
    "ledger.check": ("ledger", "guide_sql", "requesters"),
    "ledger.reserve": ("ledger", "requesters", "tenants"),
    "ledger.reservations": ("ledger", "requesters", "tenants"),
    "ledger.movements": ("ledger", "requesters", "tenants"),
    "ledger.idempotency": ("ledger", "tenants"),
    "sync.match": ("sync_plan", "sync_run"),
    "sync.plan": ("sync_plan", "sync_run"),
}

MIN_KILLED = 0.95

#: Mutants that change nothing anybody could see, by module and a piece of what was made of the line, and why.
EQUIVALENT: dict[str, dict[str, str]] = {
    "domain.money": {
        "maxsize=257": "how many currencies a cache holds",
        "Decimal(2).scaleb(-decimals)": "quantize takes the exponent alone",
    },
    "domain.permissions": {"slots=False": "what an actor takes of memory"},
    "ledger.check": {
        "max(1, time": "less than a millisecond is none",
        "row[5] is not None": "a budget's columns are there or missing all together",
    },
    "ledger.reserve": {
        ".limit(2)": "the first row alone is read",
        "lock_name(f'request {standing.customer_id} {request_id}') -> pass": "a lock for PostgreSQL, where writers work side by side; SQLite has one",
        "has no utilisation row') -> pass": "a row that is made with its budget; without it, the next line is the same 500",
        "approver is None and request.over_budget is None": "an approver is there exactly where an approval was sent",
    },
    "ledger.reservations": {
        ".limit(2)": "the first row alone is read",
        "changed by someone else inside this transaction') -> pass": "cannot be: the row is read in the transaction that changes it; a last resort",
        "has no utilisation row') -> pass": "a row that is made with its budget; without it, the next line is the same 500",
    },
    "ledger.movements": {
        ".limit(2)": "the first row alone is read",
        "customer_id and actor.customer_id": "the budget says whose it is, by one query more; whose it must be is looked at afterwards",
    },
    "sync.match": {
        "maxsize=4097": "the size of a cache",
    },
    "sync.plan": {
        "slots=False": "what a plan takes of memory",
        "frozen=False": "nobody tries to change one",
        "if bad or missing:": "a shortcut: without both, nothing is kept",
    },
    "ledger.idempotency": {
        "slots=False": "what a scope takes of memory",
        "frozen=False": "nobody tries to change one",
    },
}


def stress(tries: int, place: Place) -> Outcome:
    """Try every mutant of every module, or `tries` of each by dice where there are more."""
    outcome = Outcome()
    mutants = {name: list(mutants_of(_path(name).read_text(encoding="utf-8"))) for name in TARGETS}
    chosen = {
        name: place.dice.sample(range(len(those)), min(len(those), tries))
        for name, those in mutants.items()
    }
    for name, those in mutants.items():
        survivors, excused = [], []
        try:
            for number, survived in _try(name, chosen[name], place):
                mutant = those[number]
                told = f"line {mutant.line}: {mutant.change}"
                if survived and (why := _excuse(name, mutant.change)):
                    excused.append(f"{told} ({why})")
                elif survived:
                    survivors.append(told)
                    place.tell(f"survived in {name}: {told}")
                outcome.tries += 1
                place.progress(outcome.tries, sum(map(len, chosen.values())))
        except RuntimeError as error:
            outcome.expect(holds=False, otherwise=f"{name}: {error}")
            continue
        _judge(name, len(chosen[name]), survivors, excused, outcome)
    return outcome


def _judge(
    name: str, count: int, survivors: list[str], excused: list[str], outcome: Outcome
) -> None:
    """Hold how many were noticed against how many somebody could have noticed."""
    visible = count - len(excused)
    noticed = visible - len(survivors)
    outcome.notes.append(f"{name}: {noticed} noticed, {len(excused)} excused of {count}")
    outcome.notes += [f"  survived: {line}" for line in survivors]
    outcome.notes += [f"  excused: {line}" for line in excused]
    outcome.expect(
        noticed >= MIN_KILLED * visible, f"{name}: {noticed} of {visible} mutants noticed"
    )


def _excuse(name: str, change: str) -> str | None:
    """Why nobody could see that change of that module."""
    return next((why for piece, why in EQUIVALENT.get(name, {}).items() if piece in change), None)


def _path(name: str) -> Path:
    return PROJECT / "budget_sync" / Path(*name.split(".")).with_suffix(".py")


def _try(name: str, numbers: list[int], place: Place) -> Iterator[tuple[int, bool]]:
    """Each of those mutants, and whether it survived. Raises RuntimeError where the tests themselves are no good."""
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
            told = json.loads(line)
            count += 1
            yield told["number"], told["survived"]
        said = process.stderr.read()
    if process.returncode or count != len(numbers):
        raise RuntimeError(f"{said.strip()[-2000:] or 'some were not tried'}")
