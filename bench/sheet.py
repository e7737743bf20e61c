"""(e) The sheet sync of 10,000 rows: its processor time, and checks while it runs.

The processor time is compared with that of a plain executemany.

Each step is measured in a new process, which runs this module as `python -m bench.sheet STEP`.
"""

from __future__ import annotations

import csv
import importlib.util
import secrets
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from app import create_app
from bench.machine import PROJECT
from bench.places import BenchError, Place, Sqlite, UnavailableError
from bench.servers import Load, free_port, product_command, running, wrk
from budget_sync.database import db
from budget_sync.domain.periods import fold, period_key
from budget_sync.domain.permissions import Actor, operator

ROWS = 10_000
FILE = "sheet.csv"
CUSTOMER = "sheet"


class Times(NamedTuple):
    """Processor seconds, medians of the rounds."""

    plain_s: float
    import_s: float
    unchanged_s: float


class LoadedChecks(NamedTuple):
    """A load of checks, with a description and the number of the sync runs during it."""

    during: str
    runs: int
    load: Load


def template(empty: Place, sqlite: Sqlite) -> Place:
    """A place with a sheet of 10,000 rows and its source, not synced yet.

    Raises UnavailableError if the product has no sheet sync.
    """
    if importlib.util.find_spec("budget_sync.sync") is None:
        raise UnavailableError("the product has no sheet sync")
    with sqlite.copy(empty) as copied:
        place = sqlite.new("sheet")
        (copied.folder / "budget_sync.db").rename(place.folder / "budget_sync.db")
        place = Place(place.folder, place.database_url, copied.key)
    place.flask("add-customer", CUSTOMER, "--name", "Sheet")
    write_sheet(place.folder, 0)
    _step("add", place)
    return place


def write_sheet(folder: Path, extra: int) -> None:
    """Write the sheet, with `extra` added to each amount."""
    draft = folder / f"{FILE}.draft"
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("Department", "Fiscal Period", "Budgeted Amount"))
        writer.writerows(
            (f"Team {number // 4}", f"Q{number % 4 + 1} 2025", 50_000 + number + extra)
            for number in range(ROWS)
        )
    draft.rename(folder / FILE)


def times(sheet: Place, sqlite: Sqlite, rounds: int) -> Times:
    """Measure, in turn, a plain executemany, a first import and an unchanged sync run."""
    seconds: dict[str, list[float]] = {"plain": [], "import": [], "unchanged": []}
    for _ in range(rounds):
        with sqlite.copy(sheet) as place:
            seconds["plain"].append(float(_step("plain", place)))
        with sqlite.copy(sheet) as place:
            seconds["import"].append(float(_step("run", place)))
            seconds["unchanged"].append(float(_step("run", place)))
            place.flask("verify")
    return Times(*(median(found) for found in seconds.values()))


def checks_during_sync(
    sheet: Place, sqlite: Sqlite, seconds: int, clients: int
) -> list[LoadedChecks]:
    """Load checks without a sync, and during sync runs that change no row or every row.

    The sync runs follow each other without a pause.
    """
    found = []
    with sqlite.copy(sheet) as place:
        _step("run", place)
        port = free_port()
        with running(product_command(port), port, place.environment(), place.folder / "server.log"):
            wrk(port, "check", place.key, clients=clients, seconds=1, tag="warm-")
            for during, step in (
                ("no sync", None),
                ("sync runs that change nothing", "unchanged-runs"),
                ("sync runs that change all 10,000 rows", "changing-runs"),
            ):
                process = _begin(step, place) if step else None
                try:
                    load = wrk(
                        port,
                        "check",
                        place.key,
                        clients=clients,
                        seconds=seconds,
                        tag=f"{secrets.token_hex(4)}-",
                    )
                finally:
                    runs = _end(process) if process else 0
                found.append(LoadedChecks(during, runs, load))
        place.flask("verify")
    return found


def _step(name: str, place: Place) -> str:
    command = [sys.executable, "-m", "bench.sheet", name]
    done = subprocess.run(
        command, cwd=PROJECT, env=place.environment(), check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise BenchError(f"bench.sheet {name}: {done.stderr.strip()}")
    return done.stdout


def _begin(name: str, place: Place) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.sheet", name]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=place.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    # It prints a line once it has begun.
    if process.stdout is None or not process.stdout.readline():
        raise BenchError(f"bench.sheet {name} does not start")
    return process


def _end(process: subprocess.Popen[str]) -> int:
    """Stop it, perhaps in the middle of a sync run; returns the number of finished runs."""
    process.terminate()
    output, _ = process.communicate(timeout=60)
    return len(output.split())


# The rest runs in the new process, with the place's environment.


def _add(actor: Actor, folder: Path) -> None:
    """Add the sheet as a source, with our headings."""
    from budget_sync import sync  # noqa: PLC0415

    if importlib.util.find_spec("budget_sync.sync.standard") is None:
        # Versions before readings.
        add: Any = sync.add_source
        add(actor, CUSTOMER, csv_path=FILE, csv_folder=folder)
        return
    from budget_sync.sync.source import CSV  # noqa: PLC0415
    from budget_sync.sync.standard import standard_reading  # noqa: PLC0415
    from budget_sync.sync.targets import file_target  # noqa: PLC0415

    sync.add_source(actor, CUSTOMER, file_target(CSV, FILE, folder), reading=standard_reading())


def _run_step(name: str) -> str:
    app = create_app()
    folder = Path(app.instance_path)
    if name == "plain":
        return str(_plain(folder))
    # Imported here because not every version of the product has it.
    from budget_sync.sync import Job, Reach, sync_all  # noqa: PLC0415

    actor = operator("bench")
    if name == "add":
        _add(actor, folder)
        return "added"
    job = Job(actor, Reach(folder), folder)

    def sync_once() -> float:
        began_s = time.process_time()
        (result,) = sync_all(job, customer_id=CUSTOMER)
        used_s = time.process_time() - began_s
        if result.status != "success":
            raise BenchError(f"the sync run: {result.status}, {result.message}")
        return used_s

    if name == "run":
        return str(sync_once())
    extra = 0
    sys.stdout.write("begun\n")
    while True:
        sys.stdout.flush()
        if name == "changing-runs":
            extra += 1
            write_sheet(folder, extra)
        sys.stdout.write(f"{sync_once()}\n")


def _plain(folder: Path) -> float:
    """Processor seconds to insert the rows of the sheet by one executemany, in one transaction."""
    with (folder / FILE).open(encoding="utf-8", newline="") as file:
        cells = list(csv.reader(file))[1:]
    now = "2025-01-15T12:00:00Z"
    rows = [
        (
            f"bud_{secrets.token_hex(8)}",
            CUSTOMER,
            row,
            department,
            fold(department),
            period,
            period_key(period),
            "USD",
            2,
            int(amount) * 100,
            now,
            now,
        )
        for row, (department, period, amount) in enumerate(cells, 2)
    ]
    db.connect()
    connection = db.connection()
    began_s = time.process_time()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        """
        INSERT INTO "Budget" ("id", "customerId", "sourceRow", "department", "departmentKey",
            "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor",
            "createdAt", "updatedAt") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        rows,
    )
    connection.execute("COMMIT")
    return time.process_time() - began_s


if __name__ == "__main__":
    sys.stdout.write(f"{_run_step(sys.argv[1])}\n")
