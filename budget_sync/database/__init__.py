"""The database: connections, `transact` (the only way to write) and the schema.

Differences between SQLite and PostgreSQL stay in this folder.
"""

from budget_sync.database.connection import (
    calls_at_once,
    check_library,
    close_connection,
    connect,
    db,
    disconnect,
    elsewhere,
    end_request,
    is_file,
    label,
    open_connection,
    refusal_of,
    snapshot,
    wal_size,
)
from budget_sync.database.errors import DatabaseProblem
from budget_sync.database.hooks import Observer, observe
from budget_sync.database.locks import held_alone, lock_name, locked, require_writable
from budget_sync.database.maintenance.copy_file import write_copy
from budget_sync.database.maintenance.health import (
    clock_offset_s,
    durability,
    engine_version,
    prove_append_only,
    trial_schema,
)
from budget_sync.database.maintenance.integrity import damage, require_sound, require_whole_schema
from budget_sync.database.maintenance.migrate import copy_to
from budget_sync.database.maintenance.replace import replace_file, replace_rows, sync_folder
from budget_sync.database.prepared import Prepared, first_of_both
from budget_sync.database.schema import (
    SCHEMA_VERSION,
    init_schema,
    require_current_schema,
    schema_version,
    upgrade_schema,
)
from budget_sync.database.sums import rough_sum, sums, whole_sums
from budget_sync.database.transact import transact

__all__ = [
    "SCHEMA_VERSION",
    "DatabaseProblem",
    "Observer",
    "Prepared",
    "calls_at_once",
    "check_library",
    "clock_offset_s",
    "close_connection",
    "connect",
    "copy_to",
    "damage",
    "db",
    "disconnect",
    "durability",
    "elsewhere",
    "end_request",
    "engine_version",
    "first_of_both",
    "held_alone",
    "init_schema",
    "is_file",
    "label",
    "lock_name",
    "locked",
    "observe",
    "open_connection",
    "prove_append_only",
    "refusal_of",
    "replace_file",
    "replace_rows",
    "require_current_schema",
    "require_sound",
    "require_whole_schema",
    "require_writable",
    "rough_sum",
    "schema_version",
    "snapshot",
    "sums",
    "sync_folder",
    "transact",
    "trial_schema",
    "upgrade_schema",
    "wal_size",
    "whole_sums",
    "write_copy",
]
