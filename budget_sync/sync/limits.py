"""The limits of a sheet, and how long loops over its rows stay interruptible. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Final, TypeVar

#: The most rows below the header. The largest budget sheets that we know have some thousand rows.
MAX_ROWS: Final = 200_000

#: The most used cells below the header. A row counts up to its last cell that is not empty.
MAX_CELLS: Final = 2_000_000

#: The most rows above and including the header. Files count them in addition to MAX_ROWS, which
#: `apply` counts exactly.
HEADER_WITHIN_ROWS: Final = 50

#: The most bytes of a source. A larger one is rejected: it cannot be a list of budgets.
MAX_BYTES: Final = 64 * 1024 * 1024

#: The most bytes of one unpacked part of an Excel file: 2,000,000 cells take about 80 MB.
MAX_UNPACKED_BYTES: Final = 128 * 1024 * 1024

#: The most parts of an Excel file. One with 100 worksheets and many pictures has some hundred.
MAX_ZIP_ENTRIES: Final = 10_000

#: The most XML elements of one part of an Excel file: a cell with a formula has three.
MAX_XML_ELEMENTS: Final = 7_000_000

#: The most cells of the rectangle around the used cells of an Excel sheet, empty ones included.
#: python-calamine stores all of them.
MAX_AREA_CELLS: Final = 4_000_000

#: The most characters in the cells of an Excel sheet. A text that is stored once and used in many
#: cells counts for each.
MAX_TEXT_CHARS: Final = 64_000_000

#: A longer text in one of our columns is a row error. No pattern and no parser reads it.
MAX_CELL_CHARS: Final = 1000

#: A message quotes at most this many characters of a cell.
MAX_QUOTED_CHARS: Final = 80

#: SyncHistory stores at most this many characters of a message.
MAX_MESSAGE_CHARS: Final = 1000

#: A loop over rows calls its check once for this many rows.
CHECK_EVERY_ROWS: Final = 1000

T = TypeVar("T")

#: Raises an exception if the work must end, because its time is over or the run is cancelled.
Check = Callable[[], None]


def no_check() -> None:
    """A check that never ends the work."""


def checked(items: Iterable[T], check: Check) -> Iterator[T]:
    """The items, with a call of `check` from time to time."""
    for number, item in enumerate(items):
        if number % CHECK_EVERY_ROWS == 0:
            check()
        yield item


def size_problem(rows: int, cells: int) -> str | None:
    """Why a sheet with this many rows and used cells cannot be read; None if it can."""
    if rows > MAX_ROWS:
        return (
            f"The sheet has more than {MAX_ROWS:,} rows: remove the rows that are not budgets, "
            "or split it into several sources."
        )
    if cells > MAX_CELLS:
        return (
            f"The sheet has more than {MAX_CELLS:,} used cells: remove columns that are not "
            "needed, or split it into several sources."
        )
    return None


def count_cells(rows: Iterable[Sized]) -> int:
    """The number of cells in these rows."""
    return sum(map(len, rows))


def cut(text: str, max_chars: int) -> str:
    """The text, with an ellipsis in place of what is too long."""
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def quoted(text: str) -> str:
    """A text from a cell in quotes, short enough for a message."""
    return repr(cut(text, MAX_QUOTED_CHARS))


def without_trailing_blanks(cells: Sequence[str]) -> Sequence[str]:
    """The cells of a row up to the last one that is not empty."""
    count = len(cells)
    while count and not cells[count - 1]:
        count -= 1
    return cells if count == len(cells) else cells[:count]
