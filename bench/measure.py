"""Measures cells, and checks that no acknowledged request was lost.

Each cell has a new server on a new copy of its database. It is warmed up, and then loaded in turn
with the cells that it is compared with.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench import machine, plain
from bench.cells import Cell, Sample
from bench.places import BenchError, Engine, Place, Template
from bench.postgres import Cluster
from bench.servers import Load, Server, free_port, other_command, product_command, running, wrk
from bench.stock import BUDGETS, OPEN_TAG

WARM_UP_S = 1

#: The table in which each verb stores a row for every acknowledged request: a count of the rows
#: above an id, and the highest id.
_LEDGER = {
    "check": (
        'SELECT COUNT(*) FROM "BudgetCheckLog" WHERE "id" > {}',
        'SELECT MAX("id") FROM "BudgetCheckLog"',
    ),
    "reserve": (
        'SELECT COUNT(*) FROM "Reservation" WHERE "seq" > {}',
        'SELECT MAX("seq") FROM "Reservation"',
    ),
    "release": (
        """SELECT COUNT(*) FROM "AuditLog" WHERE "id" > {} AND "action" = 'RELEASE'""",
        'SELECT MAX("id") FROM "AuditLog"',
    ),
}


class Side(NamedTuple):
    """One of the product's engines, with its templates.

    They are without reservations, with open reservations to release, and with the large history.
    """

    engine: Engine
    empty: Template
    releasable: Template
    stored: Template | None = None

    def template(self, cell: Cell) -> Template:
        """The template for the cell."""
        if cell.stored:
            if self.stored is None:
                raise BenchError(f"no large history for {cell}")
            return self.stored
        return self.releasable if cell.verb == "release" else self.empty


@dataclass
class Bench:
    """The state of all cells. `problems` are errors of the product, such as lost requests."""

    folder: Path
    slow_library: Path
    seconds: int
    sides: dict[tuple[str, bool], Side]
    problems: list[str] = field(default_factory=list)

    def measure(self, cells: Sequence[Cell], rounds: int) -> Iterator[tuple[Cell, Sample]]:
        """Measure cells that are compared with each other.

        Their servers run at the same time and are loaded in turn, so that a machine that is faster
        one minute and slower the next treats them alike.
        """
        with ExitStack() as stack:
            loads = {cell: stack.enter_context(self._server(cell)) for cell in cells}
            for _ in range(rounds):
                for cell, load in loads.items():
                    # Write what copies and other cells have left in the cache, not during this
                    # measurement.
                    os.sync()
                    yield cell, load()

    def _server(self, cell: Cell) -> AbstractContextManager[Callable[[], Sample]]:
        """A context with the cell's server running, which yields the function that loads it."""
        if cell.side in ("bare", "plain"):
            return self._other(cell)
        return self._pgbench(cell) if cell.side == "pgbench" else self._product(cell)

    @contextmanager
    def _other(self, cell: Cell) -> Iterator[Callable[[], Sample]]:
        database, key, port = (
            self.folder / f"plain-{secrets.token_hex(4)}.db",
            secrets.token_hex(16),
            free_port(),
        )
        if cell.side == "plain":
            plain.create(str(database), key, BUDGETS)
        preload = {"LD_PRELOAD": str(self.slow_library)} if cell.slow else {}
        environment = os.environ | {"PLAIN_DATABASE": str(database)} | preload
        try:
            with running(
                other_command(cell.side, port), port, environment, self.folder / f"{port}.log"
            ) as server:
                yield lambda: _loaded(
                    server,
                    None,
                    lambda: self._wrk(cell, server, key, f"{secrets.token_hex(4)}-", 0),
                )[0]
        finally:
            for path in self.folder.glob(f"{database.name}*"):
                path.unlink()

    @contextmanager
    def _product(self, cell: Cell) -> Iterator[Callable[[], Sample]]:
        side = self._side(cell)
        template, releases, port = side.template(cell), cell.verb == "release", free_port()
        rows_sql, newest_sql = _LEDGER[cell.verb]
        with (
            side.engine.copy(template.place) as place,
            self.serving(
                place,
                port,
                self.slow_library if cell.slow and cell.side == "sqlite" else None,
                without_greenlets=cell.side == "threads",
            ) as server,
        ):
            warm = self._wrk(
                cell,
                server,
                place.key,
                OPEN_TAG if releases else "warm-",
                template.first_open if releases else 0,
                WARM_UP_S,
            )
            next_number = warm.next_number

            def load() -> Sample:
                nonlocal next_number
                settled(place, rows_sql.format(0))
                newest = place.scalar(newest_sql)
                tag, first = (
                    (OPEN_TAG, next_number) if releases else (f"{secrets.token_hex(4)}-", 0)
                )
                sample, result = _loaded(
                    server,
                    side.engine.database_pid,
                    lambda: self._wrk(cell, server, place.key, tag, first),
                )
                next_number = result.next_number
                stored = settled(place, rows_sql.format(newest))
                self._compare(str(cell), result, stored, cell.clients)
                return sample._replace(stored=stored)

            yield load
            self._verify(place, str(cell))

    @contextmanager
    def _pgbench(self, cell: Cell) -> Iterator[Callable[[], Sample]]:
        side = self._side(cell)
        engine = side.engine
        if not isinstance(engine, Cluster):
            raise BenchError("pgbench needs PostgreSQL")
        with engine.copy(side.template(cell).place) as place:
            engine.pgbench(place, clients=cell.clients, seconds=WARM_UP_S, hot=cell.hot)

            def load() -> Sample:
                before_s = machine.cpu_s(engine.database_pid)
                found = engine.pgbench(
                    place, clients=cell.clients, seconds=self.seconds, hot=cell.hot
                )
                cpu_s = machine.cpu_s(engine.database_pid) - before_s
                memory = machine.memory(engine.database_pid)
                return Sample(
                    found.rate,
                    found.p50_ms,
                    found.p99_ms,
                    found.failures,
                    cpu_s,
                    *memory,
                    0,
                    round(found.rate * self.seconds),
                )

            yield load

    def _side(self, cell: Cell) -> Side:
        if cell.side in ("sqlite", "threads"):
            return self.sides["sqlite", False]
        return self.sides["postgres", cell.slow]

    def _wrk(
        self, cell: Cell, server: Server, key: str, tag: str, first: int, seconds: int | None = None
    ) -> Load:
        return wrk(
            server.port,
            cell.verb,
            key,
            clients=cell.clients,
            seconds=seconds or self.seconds,
            tag=tag,
            hot=cell.hot,
            first=first,
        )

    @contextmanager
    def serving(
        self,
        place: Place,
        port: int,
        preload: Path | None = None,
        *,
        without_greenlets: bool = False,
    ) -> Iterator[Server]:
        """The running product; without greenlets, every request has a thread."""
        command = other_command("threads", port) if without_greenlets else product_command(port)
        environment = place.environment(preload)
        with running(command, port, environment, self.folder / f"{port}.log") as server:
            yield server

    def _compare(self, what: str, result: Load, stored: int, clients: int) -> None:
        """Record a problem unless every acknowledged request is stored.

        At the end, wrk closes its connections with up to one open request for each client. These
        may be stored without a reply having been read.
        """
        if not result.acknowledged <= stored <= result.acknowledged + clients:
            self.problems.append(f"{what}: {result.acknowledged} acknowledged, {stored} stored")
        if result.first_rejection:
            self.problems.append(
                f"{what}: {result.rejected} rejected, the first with {result.first_rejection}"
            )

    def _verify(self, place: Place, what: str) -> None:
        """Record a problem unless `flask verify` succeeds."""
        try:
            place.flask("verify")
        except BenchError as error:
            findings = str(error).splitlines()
            self.problems.append(
                "\n".join([f"{what}: {findings[0]}", *findings[1:3], *findings[3:][-1:]])
            )

    def memory_growth(self, place: Place, slices: int, seconds: int, clients: int) -> list[float]:
        """Proportional memory of one server, in MB, after each of several loads."""
        found, port = [], free_port()
        with self.serving(place, port) as server:
            newest = place.scalar(_LEDGER["reserve"][1])
            reserved = Load(0, 0, 0, 0, 0, 0, 0, "")
            for _ in range(slices):
                wrk(
                    port,
                    "check",
                    place.key,
                    clients=clients,
                    seconds=seconds,
                    tag=f"{secrets.token_hex(4)}-",
                )
                load = wrk(
                    port,
                    "reserve",
                    place.key,
                    clients=clients,
                    seconds=seconds,
                    tag=f"{secrets.token_hex(4)}-",
                )
                reserved = load._replace(acknowledged=load.acknowledged + reserved.acknowledged)
                found.append(machine.memory(server.pid).proportional_mb)
            stored = settled(place, _LEDGER["reserve"][0].format(newest))
        self._compare("memory run", reserved, stored, clients * slices)
        self._verify(place, "memory run")
        return found


def _loaded(
    server: Server, database_pid: int | None, load: Callable[[], Load]
) -> tuple[Sample, Load]:
    """The figures of a load, with the processor time and memory of the server's processes."""
    pids = [server.pid] + ([database_pid] if database_pid else [])
    before_s = sum(map(machine.cpu_s, pids))
    result = load()
    cpu_s = sum(map(machine.cpu_s, pids)) - before_s
    memories = [machine.memory(pid) for pid in pids]
    sample = Sample(
        rate=result.acknowledged / result.seconds,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        errors=result.rejected + result.lost,
        cpu_s=cpu_s,
        resident_mb=sum(memory.resident_mb for memory in memories),
        proportional_mb=sum(memory.proportional_mb for memory in memories),
        start_s=server.start_s,
        acknowledged=result.acknowledged,
    )
    return sample, result


def settled(place: Place, sql: str) -> int:
    """A count, once it is stable: the requests that wrk left open have ended."""
    count = -1
    while count != (count := place.scalar(sql)):
        time.sleep(0.1)
    return count
