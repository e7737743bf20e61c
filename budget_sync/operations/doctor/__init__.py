"""The integration guide's go-live checklist, line by line, checked; and the installation below it.

`checklist` has the guide's lines, `trial` tries the calls of three of them on a throw-away database, `installation` looks at
files, engine and surroundings. Nothing here changes the database, and nothing is left in the audit log.
"""

from budget_sync.operations.doctor.checklist import CHECKLIST, examine
from budget_sync.operations.doctor.findings import Finding, State

__all__ = ["CHECKLIST", "Finding", "State", "examine"]
