"""The database: connections, the one seam for writing (`transact`), and the schema. SQL dialects stay in this folder."""

from budget_sync.database.connection import (
    DatabaseProblem,
    check_library,
    close_connection,
    connect,
    db,
    open_connection,
    refusal_of,
    snapshot,
)
from budget_sync.database.prepared import Prepared
from budget_sync.database.schema import SCHEMA_VERSION, init_schema, require_current_schema, schema_version, upgrade_schema
from budget_sync.database.transact import transact

__all__ = [
    "SCHEMA_VERSION",
    "DatabaseProblem",
    "Prepared",
    "check_library",
    "close_connection",
    "connect",
    "db",
    "init_schema",
    "open_connection",
    "refusal_of",
    "require_current_schema",
    "schema_version",
    "snapshot",
    "transact",
    "upgrade_schema",
]
