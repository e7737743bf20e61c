"""The profile of a sheet: its columns below the header, and what is in them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from budget_sync.domain.names import fold
from budget_sync.sync.reading.detect.cells import is_numeric, is_year, text_of
from budget_sync.sync.reading.grid import Cell, Grid
from budget_sync.sync.reading.headings import Role, scores, words
from budget_sync.sync.reading.vocabulary import CODE_COLUMN_WORDS

#: Columns are profiled on at most this many rows that are not blank...
PROFILE_ROWS = 2000
#: ...and on at most this many cells, so that a very wide sheet takes no longer.
PROFILE_CELLS = 200_000


@dataclass(frozen=True, slots=True)
class HeaderPlace:
    """The place of the header: the index of its first row, its rows, and the headings by column.

    A column without a heading has "".
    """

    top: int
    rows: int
    headings: tuple[str, ...]

    @property
    def bottom(self) -> int:
        """The index of its last row."""
        return self.top + self.rows - 1

    @property
    def sheet_row(self) -> int:
        """The number of its last row, as a person sees it."""
        return self.bottom + 1


@dataclass(eq=False)
class Column:
    """A column below the header. `cells` are those of the profiled rows, blank ones included."""

    index: int
    heading: str
    cells: list[Cell]

    @property
    def name(self) -> str:
        """The heading as the reading writes it: "@3" for a column without one."""
        return self.heading or f"@{self.index}"

    @property
    def label(self) -> str:
        """The heading in quotes, for people; the number of a column without one, from 1."""
        return f"'{self.heading}'" if self.heading else f"column {self.index + 1}"

    @cached_property
    def texts(self) -> list[str]:
        """The cells as texts."""
        return [text_of(cell) for cell in self.cells]

    @cached_property
    def values(self) -> Counter[str]:
        """How often each text occurs, blank ones excluded."""
        return Counter(text for text in self.texts if text)

    @cached_property
    def filled(self) -> int:
        """The number of cells that are not blank."""
        return sum(self.values.values())

    @cached_property
    def numeric(self) -> int:
        """The number of numeric cells."""
        return sum(map(is_numeric, self.cells))

    @property
    def share(self) -> float:
        """The numeric share; 0 for an empty column."""
        return self.numeric / self.filled if self.filled else 0.0

    @cached_property
    def years(self) -> int:
        """The number of cells that are a year of four digits."""
        return sum(times for text, times in self.values.items() if is_year(text))

    @cached_property
    def roles(self) -> dict[Role, float]:
        """The roles that the heading may have, by score."""
        return dict(scores(self.heading)) if self.heading else {}

    @cached_property
    def words(self) -> list[str]:
        """The words of the heading."""
        return words(self.heading) if self.heading else []

    @property
    def is_text(self) -> bool:
        """Whether the column holds texts of several values."""
        return self.share < 0.3 and len(self.values) >= 2

    @property
    def is_measure(self) -> bool:
        """Whether the column holds amounts or other quantities, and not codes."""
        return (
            self.share >= 0.8
            and len(self.values) >= 2
            and not any(word in CODE_COLUMN_WORDS for word in self.words)
            and not any(
                self.roles.get(role, 0) >= 5 for role in (Role.PERIOD, Role.DEPARTMENT, Role.LIMIT)
            )
        )


@dataclass
class Sheet:
    """A grid with its header and the profile of its columns.

    `rows` are the indices of the profiled rows: below the header, not blank, and not the header
    again. `title` are the texts above the header.
    """

    grid: Grid
    header: HeaderPlace
    file_name: str = ""
    rows: list[int] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows, profiled = self._profiled_rows()
        width = max(len(self.header.headings), max((len(row) for row in profiled), default=0))
        most = max(1, PROFILE_CELLS // max(1, width))
        self.rows, profiled = self.rows[:most], profiled[:most]
        headings = self.header.headings + ("",) * (width - len(self.header.headings))
        self.columns = [
            Column(index, headings[index], [cell_at(row, index) for row in profiled])
            for index in range(width)
        ]

    def _profiled_rows(self) -> tuple[list[int], list[Sequence[Cell]]]:
        profiled = self.body[:PROFILE_ROWS]
        return [index for index, _ in profiled], [row for _, row in profiled]

    @cached_property
    def body(self) -> list[tuple[int, Sequence[Cell]]]:
        """All rows below the header with their indices, without blank rows and repeated headers."""
        header = [text_of(cell) for cell in self.grid.rows[self.header.bottom]]
        while header and not header[-1]:
            header.pop()
        is_repeatable = self.header.rows == 1
        first = self.header.bottom + 1
        return [
            (index, row)
            for index, row in enumerate(self.grid.rows[first:], first)
            if not _is_blank(row) and not (is_repeatable and _same(row, header))
        ]

    @property
    def is_whole(self) -> bool:
        """Whether the profile covers all rows."""
        return self.header.bottom + 1 + PROFILE_ROWS >= len(self.grid.rows)

    @cached_property
    def title(self) -> list[str]:
        """The texts above the header."""
        rows = self.grid.rows[: self.header.top]
        return [text for row in rows for cell in row[:50] if (text := text_of(cell))]

    @cached_property
    def _counts(self) -> dict[int, Counter[str]]:
        return {}

    def counts(self, column: Column) -> Counter[str]:
        """How often each text occurs in a column in all rows, blank ones excluded."""
        if column.index not in self._counts:
            raw = Counter(_raw(cell_at(row, column.index)) for _, row in self.body)
            found: Counter[str] = Counter()
            for cell, times in raw.items():
                if text := text_of(cell):
                    found[text] += times
            self._counts[column.index] = found
        return self._counts[column.index]

    def folded_counts(self, column: Column) -> Counter[str]:
        """The same by folded text."""
        found: Counter[str] = Counter()
        for text, times in self.counts(column).items():
            found[fold(text)] += times
        return found

    def column(self, name: str) -> Column:
        """The column with this name. Raises StopIteration if it is missing."""
        return next(each for each in self.columns if each.name == name)

    def text(self, index: int, column: Column) -> str:
        """The text of a cell by the index of its row."""
        return text_of(cell_at(self.grid.rows[index], column.index))


def cell_at(row: Sequence[Cell], index: int) -> Cell:
    """A cell of a row; None beyond its end."""
    return row[index] if index < len(row) else None


def _raw(cell: Cell) -> Cell:
    """A cell for counting: True and 1 are equal, and must not be counted as one."""
    return str(cell).upper() if isinstance(cell, bool) else cell


def _is_blank(row: Sequence[Cell]) -> bool:
    return not any(cell is not None and cell != "" for cell in row)


def _same(row: Sequence[Cell], header: list[str]) -> bool:
    if text_of(row[0]) != (header[0] if header else ""):
        return False
    texts = [text_of(cell) for cell in row]
    while texts and not texts[-1]:
        texts.pop()
    return texts == header


def goes_with(one: Column, other: Column) -> bool:
    """Whether each value of one column has one value of the other, and the reverse."""
    pairs = {(a, b) for a, b in zip(one.texts, other.texts, strict=True) if a and b}
    firsts, seconds = {a for a, _ in pairs}, {b for _, b in pairs}
    return bool(pairs) and len(pairs) == len(firsts) == len(seconds)


def texts_only(cells: Iterable[Cell]) -> Iterator[str]:
    """The texts among the cells; numbers have no marks."""
    return (text_of(cell) for cell in cells if isinstance(cell, str))
