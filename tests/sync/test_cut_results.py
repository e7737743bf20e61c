"""Results of child processes: they are small, whatever the sheet is, and their counts stay."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

from budget_sync.sync.history import MAX_LISTED, SyncRunResult
from budget_sync.sync.preview import Preview
from budget_sync.sync.reading.result import RowError
from budget_sync.sync.source import CSV, Source, Target

ROWS = 199_999


def result_of_large_sheet() -> SyncRunResult:
    """A result in which each row of the sheet is rejected and skipped, and has a note."""
    source = Source("src", "org", Target(CSV, file_path="a.csv"))
    rows = range(2, ROWS + 2)
    return SyncRunResult(
        None,
        source,
        "partial",
        datetime.now(UTC),
        1,
        error_count=ROWS,
        errors=[RowError(tuple(rows), "Bad."), *(RowError((row,), "Bad.") for row in rows)],
        notes=[f"Row {row}." for row in rows],
        skipped=dict.fromkeys(rows, "total"),
    )


def test_cut_result_is_small_and_keeps_its_counts() -> None:
    result = result_of_large_sheet()
    cut = result.cut()
    assert len(pickle.dumps(cut)) < 50_000
    assert len(cut.errors) == len(cut.notes) == len(cut.skipped) == MAX_LISTED
    assert cut.error_count == ROWS
    assert cut.to_json() == result.to_json()


def test_cut_preview_has_a_cut_result() -> None:
    preview = Preview(result_of_large_sheet(), "nothing.")
    assert preview.cut() == Preview(preview.result.cut(), "nothing.")
