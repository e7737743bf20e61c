"""Whether a sheet from before readings can be read better now: one line on the Sync page. Pure."""

from __future__ import annotations

from budget_sync.sync.reading.headings import words
from budget_sync.sync.reading.result import SheetResult

BETTER_NOW = "Reread this source. It can be read better now."


def better_now_notes(sheet: SheetResult) -> list[str]:
    """The note if reading the sheet again would help; its reading is from an upgrade.

    It helps if a column says which rows count, or if several rows are rejected because they are for
    one department and period.
    """
    has_filter = any(map(_says_which_rows_count, sheet.headings))
    has_repeated = any(len(error.rows) > 1 and error.key is not None for error in sheet.errors)
    return [BETTER_NOW] if has_filter or has_repeated else []


def _says_which_rows_count(heading: str) -> bool:
    found = words(heading)
    return "status" in found or {"expense", "revenue"} <= set(found)
