"""Conservation of money: responses match a simple model, and all stored figures agree.

A driver applies each operation to the service and to the model. It is used in two ways: with
sequences that hypothesis generates and shrinks, each on a new database; and with random operations
from parallel threads, each for its own customer, so that their transactions share group commits.
"""

from __future__ import annotations

import csv
import gc
import math
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache, partial
from itertools import chain, combinations, cycle, islice, product
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from support.installation import Installation
from support.sources import add_file
from support.speed import MEMORY
from support.world import ROOT

from budget_sync import database, ledger, sync
from budget_sync.accounts import customers, people
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.ledger import verification
from budget_sync.sync.answer_holds import Choice, answer_holds, choose, show_holds
from stress.balances import BALANCES, StoredBalance
from stress.ledger_model import DONE, REPLAYED, LedgerModel
from stress.outcome import Outcome, Place

#: Few values, so that operations interact.
DEPARTMENTS = ("Engineering", "Legal", "Sales")
REQUESTS = ("r1", "r2", "r3", "r4")
KEYS = (None, "k1", "k2")
RARE_KEYS = (None, None, *KEYS)
AMOUNTS = (1, 250, 999, 1_000, 3_000, 7_001)
LIMITS = (100, 1_000, 8_000, 10_000)
PERIOD = "Q1 2025"

THREADS = 16

#: Attempts per operation, because a busy machine may exceed a time limit.
TRIES = 3

#: Operations per customer. Spent money never returns, so budgets eventually fill up.
CUSTOMER_LIFE = 300

#: Operations per sequence, and sequences per round.
STEPS, ROUND = 40, 200


class ConservationError(AssertionError):
    """The service and the model disagree."""


@dataclass
class Driver:
    """Applies each operation to a customer of the service and to its model, and compares them."""

    customer: str
    folder: Path
    model: LedgerModel = field(default_factory=LedgerModel)
    history: list[str] = field(default_factory=list)

    #: The customer's source, if the customer already exists.
    source: sync.Source | None = None

    def __post_init__(self) -> None:
        fpa = f"fpa-{self.customer}"
        self.actor = Actor(
            f"user:{fpa}", fpa, "Fiona", f"{fpa}@example.com", Role.FPA_USER, self.customer
        )
        self.job = sync.Job(
            ROOT, sync.Reach(csv_folder=self.folder), self.folder, allow_deletes=True
        )
        sheet = dict.fromkeys(DEPARTMENTS, 10_000)
        if self.source:
            self._follow(sheet)
            return
        customers.add_customer(ROOT, self.customer, self.customer)
        people.add_user(
            ROOT,
            fpa,
            "Fiona",
            f"{fpa}@example.com",
            Role.FPA_USER,
            customer_id=self.customer,
            password=None,
            slots_folder=self.folder,
        )
        self._write_sheet(sheet)
        self.source = add_file(self.customer, self.folder, f"{self.customer}.csv")
        self.sync(sheet)

    def budget_id(self, department: str) -> str:
        """The id of a department's budget."""
        return f"{self.customer}-{department}"

    def check(self, department: str, request: str, amount: int) -> None:
        """Check."""
        body = CheckRequest(
            request_id=request,
            user_id="jane",
            user_name="Jane",
            user_email="jane@example.com",
            customer_id=self.customer,
            department=department,
            fiscal_period=PERIOD,
            amount=_units(amount),
        )
        expected = self.model.check(self.budget_id(department), request, amount)
        self._compare(
            f"check {department} {request} {amount}",
            expected,
            lambda: ledger.check(self.actor, body).data["code"],
        )

    def reserve(
        self, department: str, request: str, amount: int, *, over: bool, key: str | None
    ) -> None:
        """Reserve."""
        approval = (
            OverBudget(approved_by=self.actor.user_id or "", reason="Urgent") if over else None
        )
        body = ReserveRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            user_id="jane",
            over_budget=approval,
        )
        expected = self.model.reserve(body.budget_id, request, amount, over=over, key=key)
        self._move(
            f"reserve {department} {request} {amount} over={over} key={key}",
            expected,
            lambda: ledger.reserve(self.actor, body, idempotency_key=key),
        )

    def commit(
        self, department: str, request: str, amount: int, *, final: bool, key: str | None
    ) -> None:
        """Commit."""
        body = CommitRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            final=final,
        )
        expected = self.model.commit(body.budget_id, request, amount, final=final, key=key)
        self._move(
            f"commit {department} {request} {amount} final={final} key={key}",
            expected,
            lambda: ledger.commit(self.actor, body, idempotency_key=key),
        )

    def release(
        self, department: str, request: str, amount: int, *, action: ReleaseAction, key: str | None
    ) -> None:
        """Release."""
        body = ReleaseRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            action=action,
        )
        expected = self.model.release(body.budget_id, request, amount, action=action, key=key)
        self._move(
            f"release {department} {request} {amount} {action} key={key}",
            expected,
            lambda: ledger.release(self.actor, body, idempotency_key=key),
        )

    def sync(self, sheet: dict[str, int]) -> None:
        """Sync a sheet with these departments and amounts: changes, deletes and revives budgets.

        A person approves what the sync run holds.
        """
        self._write_sheet(sheet)
        self._follow(sheet)

        def run_sync() -> str:
            assert self.source
            result = sync.sync_source(self.job, self.source)
            # A rename that is answered may show that amounts are held, too.
            for _ in range(2):
                if result.held_count:
                    self._approve_holds(self.source.id)
                    result = sync.sync_source(self.job, self.source)
            return (
                DONE
                if result.status == "success"
                else f"{result.status}: {result.message} {result.errors}"
            )

        self._compare(f"sync {sheet}", DONE, run_sync)

    def _approve_holds(self, source_id: str) -> None:
        """Answer everything that the last sync run holds: it is as the sheet says."""
        database.open_connection()
        holds = [change.hold for change in show_holds(ROOT, source_id)]
        choice = Choice(
            different=[
                hold.budget_id for hold in holds if hold.kind == "rename" and hold.budget_id
            ],
            accept_amounts=any(hold.kind == "amount" for hold in holds),
            allow_deletes=any(hold.kind == "deletion" for hold in holds),
        )
        answer_holds(ROOT, source_id, choose(holds, choice))

    def _follow(self, sheet: dict[str, int]) -> None:
        self.model.sync(
            {self.budget_id(department): amount for department, amount in sheet.items()}
        )

    def forget_keys(self) -> None:
        """Forget all used Idempotency-Keys."""
        self.model.keys.clear()
        sql = f"""DELETE FROM "StoredReply" WHERE "customerId" = '{self.customer}'"""
        database.transact(lambda: database.db.execute_sql(sql))

    def compare_balances(self) -> None:
        """Compare stored balances with model, open reservations and audit log.

        Raises ConservationError.
        """
        database.open_connection()
        sql = f'{BALANCES} WHERE b."customerId" = {database.db.param}'
        rows = [
            StoredBalance._make(row)
            for row in database.db.execute_sql(sql, (self.customer,)).fetchall()
        ]
        if {row.budget_id for row in rows} != self.model.budgets.keys():
            raise self._error(
                f"the budgets are {sorted(row.budget_id for row in rows)},"
                f" the model has {sorted(self.model.budgets)}"
            )
        for row in rows:
            expected = self.model.budgets[row.budget_id]
            stored = (row.budgeted, bool(row.live), row.reserved, row.committed)
            if stored != (expected.budgeted, expected.live, expected.reserved, expected.committed):
                raise self._error(f"{row.budget_id} has {stored}, the model has {expected}")
            if row.inconsistency:
                raise self._error(row.inconsistency)

    def _write_sheet(self, sheet: dict[str, int]) -> None:
        with (self.folder / f"{self.customer}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Budget ID", "Department", "Fiscal Period", "Budgeted Amount"])
            writer.writerows(
                [self.budget_id(department), department, PERIOD, f"{amount / 100:.2f}"]
                for department, amount in sheet.items()
            )

    def _move(self, operation: str, expected: str, verb: Callable[[], Any]) -> None:
        def answer() -> str:
            return REPLAYED if verb().replayed else DONE

        self._compare(operation, expected, answer)

    def _compare(self, operation: str, expected: str, answer: Callable[[], str]) -> None:
        self.history.append(operation)
        del self.history[:-40]
        for _ in range(TRIES):
            try:
                answered = answer()
            except RequestError as error:
                answered = str(error.code)
            except Exception as error:  # noqa: BLE001  # reported with the history
                answered = repr(error)
            # The error states that nothing was changed, so the operation can be repeated.
            if answered != Code.UNAVAILABLE:
                break
        if answered != expected:
            raise self._error(f"{operation}: the service says {answered}, the model {expected}")

    def _error(self, text: str) -> ConservationError:
        return ConservationError("\n  ".join([text, "after:", *self.history]))


#: An operation on a driver.
Operation = Callable[..., None]


def _units(minor: int) -> Decimal:
    return Decimal(minor) / 100


def _random_operation(driver: Driver, rng: random.Random) -> None:
    """Apply a random operation; rarely a sync of a changed sheet."""
    department, request, amount, key = (
        rng.choice(DEPARTMENTS),
        rng.choice(REQUESTS),
        rng.choice(AMOUNTS),
        rng.choice(RARE_KEYS),
    )
    number = rng.random()
    if number < 0.3:
        driver.check(department, request, amount)
    elif number < 0.6:
        driver.reserve(department, request, amount, over=rng.random() < 0.1, key=key)
    elif number < 0.8:
        driver.commit(department, request, amount, final=rng.random() < 0.5, key=key)
    elif number < 0.997:
        driver.release(
            department,
            request,
            amount,
            action=rng.choice((ReleaseAction.REJECT, ReleaseAction.MANUAL, ReleaseAction.CANCEL)),
            key=key,
        )
    else:
        departments = rng.sample(DEPARTMENTS, rng.randint(1, len(DEPARTMENTS)))
        driver.sync({department: rng.choice(LIMITS) for department in departments})


def stress(tries: int, place: Place) -> Outcome:
    """Apply `tries` random operations from parallel threads."""
    outcome = Outcome()
    with place.installation(start="tables") as installation:
        _connect(installation)
        folder = place.folder
        seeds = [place.rng.randrange(10**9) for _ in range(THREADS)]

        def run(thread: int) -> None:
            rng = random.Random(seeds[thread])  # noqa: S311  # not a secret
            try:
                for count in range(tries // THREADS):
                    if count % CUSTOMER_LIFE == 0:
                        driver = Driver(f"org-{thread}-{count}", folder)
                    # Reusing a key for another operation is an error, so keys are freed regularly.
                    if count % 50 == 0:
                        driver.forget_keys()
                    _random_operation(driver, rng)
                    if count % 10 == 0:
                        driver.compare_balances()
                    outcome.tries += 1
                    place.progress(outcome.tries, tries)
                driver.compare_balances()
            finally:
                database.close_connection()

        with ThreadPoolExecutor(THREADS) as threads:
            for ended in [threads.submit(run, thread) for thread in range(THREADS)]:
                error = ended.exception()
                outcome.expect(
                    error is None,
                    repr(error) if not isinstance(error, ConservationError) else str(error),
                )
        report = verification.verify()
        outcome.expect(not report.findings, f"verify: {report.findings[:3]}")
        outcome.notes.append(
            f"{report.budgets:,} budgets, {report.reservations:,} reservations and"
            f" {report.movements:,} audit rows verified at the end"
        )
        database.disconnect()
    return outcome


def stress_by_model(tries: int, place: Place) -> Outcome:
    """Apply `tries` operations in sequences from hypothesis, comparing balances after each."""
    outcome = Outcome()
    examples = 0
    with _in_memory(place) as here, here.installation(start="tables") as installation:
        database.connect(installation.target)
        new_database = _NewDatabase(here)

        def play(operations: Sequence[Operation]) -> None:
            nonlocal examples
            driver = new_database.driver()
            last: Operation = _nothing
            examples += 1
            for chosen in operations:
                if chosen is _nothing:
                    continue
                last = last if chosen is _retry else chosen
                last(driver)
                driver.compare_balances()
                outcome.tries += 1
            place.progress(outcome.tries, tries)

        gc.collect()
        gc.freeze()
        try:
            # hypothesis remembers and searches all its examples, so they run in rounds.
            # The first sequence of each round is empty.
            while outcome.tries < tries:
                _let_play(
                    play,
                    min(ROUND, 1 + math.ceil((tries - outcome.tries) / STEPS)),
                    place.rng.randrange(10**9),
                )
        except ConservationError as error:
            outcome.expect(holds=False, otherwise=str(error))
        finally:
            gc.unfreeze()
            database.disconnect()
    outcome.notes.append(f"{outcome.tries:,} operations in {examples:,} sequences")
    return outcome


def _let_play(play: Callable[[Sequence[Operation]], None], examples: int, rng: int) -> None:
    """Play this many sequences.

    Raises ConservationError with the shortest failing history that hypothesis finds.
    """
    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )

    @seed(rng)
    @chosen
    @given(_sequences())
    def run(operations: Sequence[Operation]) -> None:
        play(operations)

    run()


@contextmanager
def _in_memory(place: Place) -> Iterator[Place]:
    """The place with a folder in memory, where fsync costs nothing. Other rows test durability."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield replace(place, folder=Path(folder))


def _nothing(driver: Driver) -> None:
    """The simplest operation. hypothesis shrinks all irrelevant operations to it."""


def _retry(driver: Driver) -> None:
    """Placeholder: repeat the operation before it."""


def _any_of(operation: Operation, **values: Iterable[Any]) -> list[Operation]:
    """The operation with each combination of these arguments."""
    return [
        partial(operation, **dict(zip(values, chosen, strict=True)))
        for chosen in product(*values.values())
    ]


@cache
def _sequences() -> st.SearchStrategy[list[Operation]]:
    """Sequences of STEPS operations, of all kinds or only some, because kinds undo each other.

    An operation is a single draw, and the first possible draw is `_nothing`. That makes shrinking
    fast and drawing cheap.
    """
    body = {"department": DEPARTMENTS, "request": REQUESTS, "amount": AMOUNTS}
    reserves = _any_of(Driver.reserve, **body, over=(False, True), key=KEYS)
    other_kinds: list[list[Operation]] = [
        _any_of(Driver.check, **body),
        _any_of(Driver.commit, **body, final=(False, True), key=KEYS),
        _any_of(Driver.release, **body, action=ReleaseAction, key=KEYS),
        [_retry],
    ]
    limits = product((None, *LIMITS), repeat=len(DEPARTMENTS))
    sheets = [
        {department: limit for department, limit in zip(DEPARTMENTS, chosen, strict=True) if limit}
        for chosen in limits
        if any(chosen)
    ]
    sync_runs = _any_of(Driver.sync, sheet=sheets)
    mixed: list[list[Operation]] = []
    for count in range(len(other_kinds), -1, -1):
        for kinds in combinations(other_kinds, count):
            # Alternate the kinds, because small numbers are drawn more often.
            turns = list(islice(zip(*map(cycle, (reserves, *kinds)), strict=True), 1000))
            mixed.append([_nothing, *chain.from_iterable(turns)])
            # A sync costs as much as many movements, so it is that much rarer.
            with_sync_runs = [
                (*turn, one) if number % 8 == 7 else turn
                for number, (turn, one) in enumerate(zip(turns, cycle(sync_runs), strict=False))
            ]
            mixed.append([_nothing, *chain.from_iterable(with_sync_runs)])
    return st.one_of(
        [
            st.lists(st.sampled_from(operations), min_size=STEPS, max_size=STEPS)
            for operations in mixed
        ]
    )


@dataclass
class _NewDatabase:
    """Creates drivers on a new database.

    On SQLite, a copy of a file with a customer; on PostgreSQL, a new customer in the same database.
    """

    place: Place
    template: Path | None = None
    source: sync.Source | None = None
    count: int = 0

    def driver(self) -> Driver:
        self.count += 1
        if not database.is_file():
            return Driver(f"org-{self.count}", self.place.folder)
        path = database.db.file_path
        if self.template is None:
            self.source = Driver("org", self.place.folder).source
            # Closing moves everything from the write-ahead log into the file.
            database.db.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            self.template = Path(shutil.copy(path, path.with_name("template.db")))
        database.close_connection()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        draft = path.with_name("draft")
        shutil.copy(self.template, draft)
        # A different file at the same path, so that open connections notice the change.
        draft.replace(path)
        return Driver("org", self.place.folder, source=self.source)


def _connect(installation: Installation) -> None:
    """Connect to the empty database, on SQLite without fsync. Other rows test durability."""
    database.connect(installation.target)
    if database.is_file():
        database.db.pragma("synchronous", "off", permanent=True)
