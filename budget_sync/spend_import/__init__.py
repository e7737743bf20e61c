"""Records the spends of a file, such as the export of a card provider.

A file passes through these modules: `table` (its cells and columns) -> `rows` (with `dates` and
`amounts`: a spend on a budget, or what is wrong with the row) -> `run` (compares the rows with what
is recorded, and records each spend in a transaction of its own). `stored` reads the database. All
others but `run` are pure.
"""

from budget_sync.spend_import.amounts import DecimalMark
from budget_sync.spend_import.dates import DateOrder
from budget_sync.spend_import.run import Choices, Outcome, RowResult, Summary, import_spend
from budget_sync.spend_import.table import FileOptions

__all__ = [
    "Choices",
    "DateOrder",
    "DecimalMark",
    "FileOptions",
    "Outcome",
    "RowResult",
    "Summary",
    "import_spend",
]
