"""Notes about a sheet for people: a few of each kind, and how many more there are. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from budget_sync.sync.limits import MAX_QUOTED_CHARS, cut
from budget_sync.sync.reading.grid import Cell, Grid
from budget_sync.sync.reading.groups import row_list
from budget_sync.sync.reading.values import is_blank

_MAX_OF_A_KIND: Final = 20
_MAX_SPELLINGS: Final = 5


class Notes:
    """Sentences by kind, in the order in which they were added."""

    def __init__(self) -> None:
        self._by_kind: dict[str, list[str]] = {}
        self._more: dict[str, int] = {}

    def add(self, kind: str, sentence: str) -> None:
        """Add a sentence, unless there are many of its kind."""
        sentences = self._by_kind.setdefault(kind, [])
        if len(sentences) < _MAX_OF_A_KIND:
            sentences.append(sentence)
        else:
            self._more[kind] = self._more.get(kind, 0) + 1

    def sentences(self) -> list[str]:
        """All notes."""
        found: list[str] = []
        for kind, sentences in self._by_kind.items():
            found += sentences
            if more := self._more.get(kind):
                found.append(f"{more:,} more {kind}.")
        return found


def hidden_rows_note(grid: Grid, last_header_row: int, skipped: Mapping[int, str]) -> str | None:
    """How many hidden rows were read; None if none was."""
    count = sum(
        last_header_row < number <= len(grid.rows)
        and number not in skipped
        and not all(map(is_blank, grid.rows[number - 1]))
        for number in grid.hidden_rows
    )
    if not count:
        return None
    return "1 hidden row was read." if count == 1 else f"{count:,} hidden rows were read."


def outside_note(rows: Sequence[Sequence[Cell]], first: int, width: int) -> str | None:
    """How many cells are to the right of the header, and in which rows; None if none is."""
    cells, numbers = 0, []
    for number, row in enumerate(rows, first):
        if len(row) > width:
            count = sum(not is_blank(cell) for cell in row[width:])
            if count:
                cells += count
                numbers.append(number)
    if not cells:
        return None
    subject = "1 cell is" if cells == 1 else f"{cells:,} cells are"
    return f"{subject} outside the table, in {row_list(numbers)}."


def spelling_notes(spellings: Mapping[str, Mapping[str, None]], keys: Sequence[str]) -> Notes:
    """One note for each of these departments: all of them are written in several ways."""
    notes = Notes()
    for key in keys:
        texts = list(spellings[key])
        shown = ", ".join(cut(text, MAX_QUOTED_CHARS) for text in texts[:_MAX_SPELLINGS])
        more = f" and {len(texts) - _MAX_SPELLINGS} more" * (len(texts) > _MAX_SPELLINGS)
        notes.add(
            "departments with several spellings",
            f"One department has {len(texts)} spellings: {shown}{more}.",
        )
    return notes
