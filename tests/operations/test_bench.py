"""The benchmark writes into tables directly; its rows must pass `flask verify`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
from support.machine import needs
from support.postgres import BINARIES

from bench.places import Place, Sqlite, create, stored_history
from bench.postgres import Cluster, find_binaries


@pytest.mark.long
def test_history_passes_verify(tmp_path: Path) -> None:
    place = stored_history(1_000, tmp_path / "cache", Sqlite(tmp_path)).place
    assert place.scalar('SELECT COUNT(*) FROM "Reservation"') == 1_000
    assert " 1000 reservations" in place.flask("verify")


@pytest.mark.long
def test_statements_of_pgbench_pass_verify(postgres_url: str, tmp_path: Path) -> None:
    needs(any(folder.joinpath("pgbench").exists() for folder in BINARIES), "pgbench")
    # The server is that of the tests.
    server = cast("subprocess.Popen[bytes]", None)
    cluster = Cluster(find_binaries(), tmp_path, urlsplit(postgres_url).port or 0, server)
    place = create(Place(tmp_path / "instance", postgres_url))
    found = cluster.pgbench(place, clients=2, seconds=1, hot=False)
    assert found.failures == 0
    count = place.scalar('SELECT COUNT(*) FROM "Reservation"')
    assert count > 0
    assert f" {count} reservations" in place.flask("verify")
