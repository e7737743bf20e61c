"""The database: connections, `transact` (the only way to write) and the schema.

Differences between SQLite and PostgreSQL stay in this folder.
"""

from budget_sync.database.connection import (
    check_library,
    close_connection,
    connect,
    connected_to,
    db,
    disconnect,
    end_request,
    is_file,
    label,
    max_concurrent_calls,
    open_connection,
    snapshot,
    unavailable_error,
    wal_size,
)
from budget_sync.database.errors import DatabaseUnusableError, unavailable
from budget_sync.database.hooks import Observer, observe
from budget_sync.database.locks import lock_name, locked, locked_for_deletion, require_writable
from budget_sync.database.maintenance.copy_file import write_copy
from budget_sync.database.maintenance.health import (
    check_append_only,
    clock_offset_s,
    durability,
    engine_version,
    temporary_schema,
)
from budget_sync.database.maintenance.integrity import (
    find_damage,
    require_complete_schema,
    require_intact_file,
)
from budget_sync.database.maintenance.migrate import copy_to, undo_copy
from budget_sync.database.maintenance.replace import replace_file, replace_rows, sync_folder
from budget_sync.database.prepared import Prepared, first_row_of_each
from budget_sync.database.schema import (
    SCHEMA_VERSION,
    init_schema,
    require_current_schema,
    schema_version,
    upgrade_schema,
)
from budget_sync.database.settled import Horizon, LogIds, horizon
from budget_sync.database.sole_process import SoleProcess
from budget_sync.database.sqlite.moved import DatabaseMovedError, accept_writes
from budget_sync.database.sums import approximate_sum, combine_sums, sums
from budget_sync.database.transact import start_writer, transact

__all__ = [
    "SCHEMA_VERSION",
    "DatabaseMovedError",
    "DatabaseUnusableError",
    "Horizon",
    "LogIds",
    "Observer",
    "Prepared",
    "SoleProcess",
    "accept_writes",
    "approximate_sum",
    "check_append_only",
    "check_library",
    "clock_offset_s",
    "close_connection",
    "combine_sums",
    "connect",
    "connected_to",
    "copy_to",
    "db",
    "disconnect",
    "durability",
    "end_request",
    "engine_version",
    "find_damage",
    "first_row_of_each",
    "horizon",
    "init_schema",
    "is_file",
    "label",
    "lock_name",
    "locked",
    "locked_for_deletion",
    "max_concurrent_calls",
    "observe",
    "open_connection",
    "replace_file",
    "replace_rows",
    "require_complete_schema",
    "require_current_schema",
    "require_intact_file",
    "require_writable",
    "schema_version",
    "snapshot",
    "start_writer",
    "sums",
    "sync_folder",
    "temporary_schema",
    "transact",
    "unavailable",
    "unavailable_error",
    "undo_copy",
    "upgrade_schema",
    "wal_size",
    "write_copy",
]
