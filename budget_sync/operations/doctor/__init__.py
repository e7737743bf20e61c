"""Checks an installation: the lines of the integration guide's go-live checklist, then the machine.

`checklist` has the guide's lines. `smoke_test` sends the guide's calls to a temporary database.
`installation` checks the files, the database and the machine. Nothing here changes the database,
and nothing is left in the audit log.
"""

from budget_sync.operations.doctor.checklist import CHECKLIST, examine
from budget_sync.operations.doctor.findings import Finding, State

__all__ = ["CHECKLIST", "Finding", "State", "examine"]
