"""Adds, lists and removes sources. Each change is audited."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from budget_sync.accounts.customers import get_customer
from budget_sync.database import audit_log, locked, transact
from budget_sync.database.models import Budget, BudgetDataSourceConfig, BudgetUtilization
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.periods import fold
from budget_sync.domain.permissions import Action, Actor, require, require_serves
from budget_sync.sync.cells import known_locale
from budget_sync.sync.csv_file import csv_file
from budget_sync.sync.rows import COLUMNS
from budget_sync.sync.source import FetchError, Source

GOOGLE = "google_sheets"
CSV = "csv"

#: The principal of the command line. Only the command line may add files of this machine.
SHELL = "command"

_KEY = re.compile(r"[A-Za-z0-9_-]{5,200}")
_ADDRESS = re.compile(
    r"https://docs\.google\.com/spreadsheets/(?:u/\d+/)?d/([A-Za-z0-9_-]+)(?:[/?#].*)?"
)
_ADDRESS_GID = re.compile(r"[#?&]gid=(\d{1,15})")
_GID = re.compile(r"#?gid[=:]\s*(?P<gid>\d{1,15})")


@dataclass(frozen=True, slots=True)
class NewSource:
    """A validated source that is to be added."""

    kind: str
    spreadsheet_key: str | None
    worksheet: str | None
    worksheet_gid: int | None
    csv_path: str | None
    locale: str | None
    names: Mapping[str, str]


def add_source(
    actor: Actor,
    customer_id: str,
    *,
    spreadsheet: str | None = None,
    worksheet: str | None = None,
    csv_path: str | None = None,
    csv_folder: Path | None = None,
    locale: str | None = None,
    names: Mapping[str, str] | None = None,
) -> tuple[Source, list[str]]:
    """Create a source; return it with warnings for the caller.

    `spreadsheet` is the key or the address of a spreadsheet. `worksheet` is the title of a tab, or
    its number as "gid=123". `names` maps our columns to the sheet's. Raises RequestError
    INVALID_REQUEST (with every field that is wrong), INVALID_CUSTOMER or FORBIDDEN.
    """
    require(actor, Action.MANAGE_SOURCES)
    require_serves(actor, customer_id)
    if csv_path is not None and actor.principal != SHELL:
        raise RequestError(Code.FORBIDDEN, "A CSV source can only be added on the command line.")
    new = _validated(spreadsheet, worksheet, csv_path, csv_folder, locale, names or {})

    def work() -> tuple[Source, list[str]]:
        get_customer(customer_id)
        _require_unused(customer_id, new)
        row = BudgetDataSourceConfig.create(
            id=f"src_{secrets.token_hex(6)}",
            customerId=customer_id,
            sourceType=new.kind,
            spreadsheetKey=new.spreadsheet_key,
            worksheet=new.worksheet,
            worksheetGid=new.worksheet_gid,
            csvPath=new.csv_path,
            isActive=True,
            createdAt=clock.now(),
        )
        source = to_source(row)
        # Paths are only shown on the command line, and the audit log has other readers.
        label = "a CSV file" if new.kind == CSV else source.label
        audit_log.record(
            actor, "ADD_SOURCE", customer_id=customer_id, subject=source.id, newValue=label
        )
        return source, _warnings(source)

    return transact(work)


def list_sources(actor: Actor, customer_id: str | None = None) -> list[Source]:
    """The active sources that the caller may manage, ordered by customer and age."""
    require(actor, Action.MANAGE_SOURCES)
    wanted = actor.customer_id or customer_id
    query = BudgetDataSourceConfig.select().where(
        BudgetDataSourceConfig.isActive & BudgetDataSourceConfig.removedAt.is_null()
    )
    if wanted is not None:
        query = query.where(BudgetDataSourceConfig.customerId == wanted)
    order = (
        BudgetDataSourceConfig.customerId,
        BudgetDataSourceConfig.createdAt,
        BudgetDataSourceConfig.id,
    )
    return [to_source(row) for row in query.order_by(*order)]


def remove_source(actor: Actor, source_id: str) -> int:
    """Remove a source; return the number of its budgets. Raises RequestError NOT_FOUND.

    The budgets stay as they are, without a source: they can be changed by hand, and another source
    may adopt them.
    """
    require(actor, Action.MANAGE_SOURCES)

    def work() -> int:
        row = locked(
            BudgetDataSourceConfig.select().where(
                (BudgetDataSourceConfig.id == source_id)
                & BudgetDataSourceConfig.removedAt.is_null()
            )
        ).first()
        if row is None or not actor.serves(row.customerId):
            raise RequestError(
                Code.NOT_FOUND, f"There is no source {source_id!r}; see list-sources."
            )
        BudgetDataSourceConfig.update(isActive=False, removedAt=clock.now()).where(
            BudgetDataSourceConfig.id == source_id
        ).execute()
        audit_log.record(actor, "REMOVE_SOURCE", customer_id=row.customerId, subject=source_id)
        owned = list(
            locked(Budget.select(Budget.id).where(Budget.sourceId == source_id).order_by(Budget.id))
        )
        for budget in owned:
            _detach(actor, row.customerId, budget.id, source_id)
        return len(owned)

    return transact(work)


def _detach(actor: Actor, customer_id: str, budget_id: str, source_id: str) -> None:
    """Remove the source from a budget."""
    Budget.update(sourceId=None, sourceRow=None, updatedAt=clock.now()).where(
        Budget.id == budget_id
    ).execute()
    BudgetUtilization.update(version=BudgetUtilization.version + 1).where(
        BudgetUtilization.budgetId == budget_id
    ).execute()
    audit_log.record(
        actor,
        "UPDATE",
        customer_id=customer_id,
        budget_id=budget_id,
        version=BudgetUtilization.get_by_id(budget_id).version,
        field="sourceId",
        oldValue=source_id,
        reason="The source was removed",
    )


def to_source(row: BudgetDataSourceConfig) -> Source:
    """The source of a database row."""
    return Source(
        id=row.id,
        customer_id=row.customerId,
        kind=row.sourceType,
        spreadsheet_key=row.spreadsheetKey,
        worksheet=row.worksheet,
        worksheet_gid=row.worksheetGid,
        csv_path=row.csvPath,
        locale=None,
        names={},
    )


def _validated(
    spreadsheet: str | None,
    worksheet: str | None,
    csv_path: str | None,
    csv_folder: Path | None,
    locale: str | None,
    names: Mapping[str, str],
) -> NewSource:
    """The new source. Raises RequestError INVALID_REQUEST with every field that is wrong."""
    fields = _bad_names(names)
    known = None if locale is None else known_locale(locale)
    if locale is not None and known is None:
        fields["locale"] = f"{locale!r} is not a locale such as en_US or de_DE"
    key, title, gid = _sheet(spreadsheet, worksheet, fields)
    path = None if csv_path is None else _csv(csv_path, csv_folder, fields)
    if (spreadsheet is None) == (csv_path is None):
        fields["source"] = "must be either a spreadsheet or a CSV file"
    elif csv_path is not None and worksheet is not None:
        fields["worksheet"] = "is for a spreadsheet; a CSV file has none"
    if fields:
        raise invalid_request(fields)
    columns = {fold(column): column for column in COLUMNS}
    return NewSource(
        GOOGLE if csv_path is None else CSV,
        key,
        title,
        gid,
        path,
        known,
        {columns[fold(column)]: " ".join(name.split()) for column, name in names.items()},
    )


def _bad_names(names: Mapping[str, str]) -> dict[str, str]:
    known = {fold(column) for column in COLUMNS}
    unknown = [column for column in names if fold(column) not in known]
    if unknown:
        return {
            "map": f"names {', '.join(map(repr, unknown))}, "
            f"but the columns are {', '.join(COLUMNS)}"
        }
    headings = [fold(name) for name in names.values()]
    if not all(headings) or len(set(headings)) < len(headings):
        return {"map": "must give each column a different name in the sheet"}
    return {}


def _sheet(
    spreadsheet: str | None, worksheet: str | None, fields: dict[str, str]
) -> tuple[str | None, str | None, int | None]:
    """The key of a spreadsheet, and the title or number of its tab."""
    if spreadsheet is None:
        return None, None, None
    address = _ADDRESS.fullmatch(spreadsheet.strip())
    key = address[1] if address else spreadsheet.strip()
    if not _KEY.fullmatch(key):
        fields["spreadsheet"] = (
            "must be the spreadsheet's address, or the key between /d/ and /edit in it"
        )
    numbered = _GID.fullmatch((worksheet or "").strip())
    if numbered:
        return key, None, int(numbered["gid"])
    if worksheet is not None:
        if not worksheet.strip() or len(worksheet) > 100 or not worksheet.isprintable():
            fields["worksheet"] = 'must be the title of a tab, or its number as in "gid=0"'
        return key, worksheet, None
    gid = _ADDRESS_GID.search(spreadsheet) if address else None
    if gid:
        return key, None, int(gid[1])
    fields["worksheet"] = "is required: name a tab of the spreadsheet"
    return key, None, None


def _csv(path: str, folder: Path | None, fields: dict[str, str]) -> str | None:
    """The path relative to the folder."""
    try:
        if folder is None:
            raise FetchError("is not possible without a folder")
        return str(csv_file(folder, path).relative_to(folder.resolve()))
    except FetchError:
        fields["csv"] = f"must be inside {folder}"
        return None


def _require_unused(customer_id: str, new: NewSource) -> None:
    """Raise RequestError if the customer has a source of the same sheet.

    Two sources of one sheet would take its budgets from each other.
    """
    same = BudgetDataSourceConfig.select().where(
        (BudgetDataSourceConfig.customerId == customer_id)
        & BudgetDataSourceConfig.isActive
        & (
            (BudgetDataSourceConfig.csvPath == new.csv_path)
            if new.kind == CSV
            else (BudgetDataSourceConfig.spreadsheetKey == new.spreadsheet_key)
            & (
                (BudgetDataSourceConfig.worksheetGid == new.worksheet_gid)
                if new.worksheet_gid is not None
                else (BudgetDataSourceConfig.worksheet == new.worksheet)
            )
        )
    )
    existing = same.first()
    if existing is not None:
        raise invalid_request({"source": f"exists already, as {existing.id}"})


def _warnings(source: Source) -> list[str]:
    if source.spreadsheet_key is None:
        return []
    others = BudgetDataSourceConfig.select(BudgetDataSourceConfig.customerId).where(
        (BudgetDataSourceConfig.spreadsheetKey == source.spreadsheet_key)
        & (BudgetDataSourceConfig.customerId != source.customer_id)
        & BudgetDataSourceConfig.isActive
    )
    return [
        f"Customer {customer_id} has a source in this spreadsheet too: is that intended?"
        for customer_id in sorted({row.customerId for row in others})
    ]
