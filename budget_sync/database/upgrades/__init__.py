"""The steps from each schema version to the next. A released step is never edited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import peewee

from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.database.upgrades.before_5 import (
    TO_2,
    TO_3_IN_POSTGRESQL,
    TO_3_IN_SQLITE,
    TO_4_IN_POSTGRESQL,
    TO_4_IN_SQLITE,
)
from budget_sync.database.upgrades.report import Step
from budget_sync.database.upgrades.to_5 import TO_5_IN_POSTGRESQL, TO_5_IN_SQLITE

#: The names of rows that an error sentence lists.
_MAX_NAMED = 10


class Precondition(NamedTuple):
    """What must hold before a step runs.

    `violations` is a query for the ids of the rows that prevent the step. `problem` is the sentence
    for people, with `{ids}` in place of those ids.
    """

    violations: str
    problem: str


# A budget above the ceiling stops the upgrade: the constraint cannot be created over such a row,
# and an exception for the row would let its figures grow until they overflow. The earlier version
# can still release what is reserved. The comparison is written so that it cannot overflow either.
_PRECONDITIONS = {
    4: Precondition(
        """
        SELECT "budgetId" FROM "BudgetUtilization"
        WHERE "reservedMinor" >= 1000000000000000 - "committedMinor" ORDER BY "budgetId"
        """,
        "10^15 minor units or more are reserved and committed on {ids}: this version keeps every "
        "budget below that, and nothing was changed. Release reservations with the earlier version "
        "of the program, or restore a backup with it if the committed amounts alone are too large. "
        "Then upgrade again.",
    )
}


def upgrade_steps(database: peewee.Database) -> dict[int, Sequence[Step]]:
    """The upgrade steps for the engine of `database`, by the version that they lead to."""
    if isinstance(database, PostgresServer):
        return {2: TO_2, 3: TO_3_IN_POSTGRESQL, 4: TO_4_IN_POSTGRESQL, 5: TO_5_IN_POSTGRESQL}
    return {2: TO_2, 3: TO_3_IN_SQLITE, 4: TO_4_IN_SQLITE, 5: TO_5_IN_SQLITE}


def require_precondition(database: Any, step: int) -> None:
    """Raises DatabaseUnusableError, and names the rows, if the step to that version cannot run."""
    precondition = _PRECONDITIONS.get(step)
    if precondition is None:
        return
    ids = [str(row[0]) for row in database.execute_sql(precondition.violations).fetchall()]
    if ids:
        more = len(ids) - _MAX_NAMED
        named = ", ".join(ids[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise DatabaseUnusableError(
            f"The database cannot be upgraded to schema version {step}. "
            + precondition.problem.format(ids=named)
        )
