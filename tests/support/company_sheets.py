"""Uploaded sheets of the example company, for screenshots: one waits, two have held changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import time_machine

from budget_sync import database, ledger, settings, sync
from budget_sync.database.models import Budget
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.sync import uploads
from budget_sync.sync.standard import standard_reading
from budget_sync.sync.targets import upload_target
from support.company import COMPANY
from support.installation import Installation
from support.machine import PROJECT
from support.world import ROOT

#: Asks which rows count; has a title, a total, rows that are added up, and an unreadable amount.
WAITING = """Spending plan 2027,,,,,
Cost Center,Class,FY,Status,Adopted Budget,Curr
Distillery,Copper,FY2027,Approved,"75,000",USD
Distillery,Peat,FY2027,Approved,"45,000",USD
Distillery,Casks,FY2027,Draft,"12,500",USD
Cooperage,Oak,FY2027,Draft,"38,000",USD
Cooperage,Ash,FY2027,Approved,"12,500",USD
Cooperage,Hoops,FY2027,Approved,"8,400",USD
Bottling,Glass,FY2027,Approved,"21,000",USD
Bottling,Labels,FY2027,Approved,"6,200",USD
Bottling,Corks,FY2027,Approved,5k,USD
Visitors,Guides,FY2027,Approved,"33,000",USD
Visitors,Tastings,FY2027,Approved,"17,250",USD
Malting,Barley,FY2027,Approved,"64,000",USD
Total,,,,"332,850",
"""

HEADER = "Department,Fiscal Period,Budgeted Amount\n"
TEAMS = ("Grain", "Yeast", "Water", "Fuel", "Cellar", "Cartage")


def rows(first: str, divisor: int = 1) -> bytes:
    """A plan in which the first department has this name."""
    lines = [f"{first},Q1 2027,100000"]
    lines += [
        f"{name},Q1 2027,{number * 12_000 // divisor}" for number, name in enumerate(TEAMS, 1)
    ]
    return (HEADER + "\n".join(lines) + "\n").encode()


def add_sheets(installation: Installation) -> None:
    """Add the sheets to the company, which exists."""
    chosen = settings.load(installation.environment)
    database.connect(chosen.database_path)
    try:
        job = sync.Job(ROOT, sync.Reach.of(chosen), chosen.instance_folder)
        now = datetime.now(UTC)
        # Apart in time, because the Sync page lists the oldest source first.
        with time_machine.travel(now - timedelta(minutes=20), tick=False):
            _add(job, "Plan 2027.csv", rows("Lamp - North"), rows("Lampe North"))
        with time_machine.travel(now - timedelta(minutes=10), tick=False):
            _add(job, "Cellars 2027.csv", _others(1), _others(1000))
        sync.add_source(ROOT, COMPANY, upload_target("Spending plan 2027.csv", WAITING.encode()))
    finally:
        database.close_connection()


def add_examples(installation: Installation, *names: str) -> list[str]:
    """Add files of examples/ as sources that wait for a confirmation; returns their ids."""
    database.connect(settings.load(installation.environment).database_path)
    try:
        return [
            sync.add_source(ROOT, COMPANY, upload_target(path.name, path.read_bytes()))[0].id
            for path in (PROJECT / "examples" / name for name in names)
        ]
    finally:
        database.close_connection()


def _others(divisor: int) -> bytes:
    return rows("Lamps", divisor).replace(b"Q1", b"Q2").replace(b"Lamps,Q2 2027,100000\n", b"")


def _add(job: sync.Job, name: str, first: bytes, newer: bytes) -> None:
    """Add a confirmed source, then use a newer file in which changes are held."""
    target = upload_target(name, first)
    source, _ = sync.add_source(ROOT, COMPANY, target, reading=standard_reading())
    sync.sync_source(job, source)
    for budget in Budget.select().where(Budget.department == "Lamp - North"):
        body = ReserveRequest(
            budget_id=budget.id, request_id="intake-lamps", amount=Decimal(95_000), user_id="jane"
        )
        ledger.reserve(ROOT, body)
    stored = uploads.store_upload(ROOT, source.id, name, newer)
    uploads.use_upload(ROOT, source.id, stored.digest)
    sync.sync_source(job, sync.get_source(ROOT, source.id))
    uploads.store_upload(ROOT, source.id, name, first + b"Glass,Q1 2027,9000\n")
