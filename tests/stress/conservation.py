"""Conservation: every answer is the plain model's, and after it the balances, the reservations and the audit log all agree.

The same driver has two ways to be driven: sequences that hypothesis chooses and shrinks where they fail, each on a fresh
database; and threads that throw dice, each with a customer of its own, so that their works share group commits.
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
from support.speed import MEMORY
from support.world import ROOT

from budget_sync import database, ledger, sync
from budget_sync.accounts import people
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
from stress.balances import STANDINGS, Standing
from stress.ledger_model import DONE, REPLAYED, LedgerModel
from stress.outcome import Outcome, Place

#: Few of each, so that operations meet.
DEPARTMENTS = ("Engineering", "Legal", "Sales")
REQUESTS = ("r1", "r2", "r3", "r4")
KEYS = (None, "k1", "k2")
RARE_KEYS = (None, None, *KEYS)
AMOUNTS = (1, 250, 999, 1_000, 3_000, 7_001)
LIMITS = (100, 1_000, 8_000, 10_000)
PERIOD = "Q1 2025"

THREADS = 16

#: How often an operation is asked for that a machine busy with something else did not get to in time.
TRIES = 3

#: Operations on a customer before the next one is made: what is spent never comes back, so its budgets fill up.
CUSTOMER_LIFE = 300

#: Operations of a sequence, and sequences of a round.
STEPS, ROUND = 40, 200


class ConservationError(AssertionError):
    """The service and the model disagree."""


@dataclass
class Driver:
    """A customer of the service and its model: does every operation to both, and compares."""

    customer: str
    folder: Path
    model: LedgerModel = field(default_factory=LedgerModel)
    history: list[str] = field(default_factory=list)

    #: The customer's sheet, where it and its budgets are there already.
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
        people.add_customer(ROOT, self.customer, self.customer)
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
        self.source, _ = sync.add_source(
            ROOT, self.customer, csv_path=f"{self.customer}.csv", csv_folder=self.folder
        )
        self.sync(sheet)

    def budget_id(self, department: str) -> str:
        """The id of a department's budget."""
        return f"{self.customer}-{department}"

    def check(self, department: str, request: str, amount: int) -> None:
        """Check on both."""
        asked = CheckRequest(
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
            lambda: ledger.check(self.actor, asked).data["code"],
        )

    def reserve(
        self, department: str, request: str, amount: int, *, over: bool, key: str | None
    ) -> None:
        """Reserve on both."""
        approval = (
            OverBudget(approved_by=self.actor.user_id or "", reason="Urgent") if over else None
        )
        asked = ReserveRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            user_id="jane",
            over_budget=approval,
        )
        expected = self.model.reserve(asked.budget_id, request, amount, over=over, key=key)
        self._move(
            f"reserve {department} {request} {amount} over={over} key={key}",
            expected,
            lambda: ledger.reserve(self.actor, asked, idempotency_key=key),
        )

    def commit(
        self, department: str, request: str, amount: int, *, final: bool, key: str | None
    ) -> None:
        """Commit on both."""
        asked = CommitRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            final=final,
        )
        expected = self.model.commit(asked.budget_id, request, amount, final=final, key=key)
        self._move(
            f"commit {department} {request} {amount} final={final} key={key}",
            expected,
            lambda: ledger.commit(self.actor, asked, idempotency_key=key),
        )

    def release(
        self, department: str, request: str, amount: int, *, action: ReleaseAction, key: str | None
    ) -> None:
        """Release on both."""
        asked = ReleaseRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            action=action,
        )
        expected = self.model.release(asked.budget_id, request, amount, action=action, key=key)
        self._move(
            f"release {department} {request} {amount} {action} key={key}",
            expected,
            lambda: ledger.release(self.actor, asked, idempotency_key=key),
        )

    def sync(self, sheet: dict[str, int]) -> None:
        """Make a pass over a sheet with these departments and amounts, which cuts, deletes and revives; both follow it."""
        self._write_sheet(sheet)
        self._follow(sheet)

        def make_pass() -> str:
            assert self.source
            result = sync.sync_source(self.job, self.source)
            return (
                DONE
                if result.status == "success"
                else f"{result.status}: {result.message} {result.errors}"
            )

        self._compare(f"sync {sheet}", DONE, make_pass)

    def _follow(self, sheet: dict[str, int]) -> None:
        self.model.sync(
            {self.budget_id(department): amount for department, amount in sheet.items()}
        )

    def forget_keys(self) -> None:
        """Let every Idempotency-Key be new again, on both."""
        self.model.keys.clear()
        sql = f"""DELETE FROM "StoredReply" WHERE "customerId" = '{self.customer}'"""
        database.transact(lambda: database.db.execute_sql(sql))

    def compare_balances(self) -> None:
        """The balances are the model's, the open reservations' and the audit log's. Raises ConservationError."""
        database.open_connection()
        sql = f'{STANDINGS} WHERE b."customerId" = {database.db.param}'
        standings = [
            Standing._make(row) for row in database.db.execute_sql(sql, (self.customer,)).fetchall()
        ]
        if {standing.budget_id for standing in standings} != self.model.budgets.keys():
            raise self._error(
                f"the budgets are {sorted(standing.budget_id for standing in standings)}, the model's {sorted(self.model.budgets)}"
            )
        for standing in standings:
            expected = self.model.budgets[standing.budget_id]
            found = (standing.budgeted, bool(standing.live), standing.reserved, standing.committed)
            if found != (expected.budgeted, expected.live, expected.reserved, expected.committed):
                raise self._error(f"{standing.budget_id} is at {found}, the model at {expected}")
            if standing.contradiction:
                raise self._error(standing.contradiction)

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
            except RequestError as refusal:
                answered = str(refusal.code)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is told with what led to it
                answered = repr(error)
            # Nothing was changed, it says: so asked again it answers as the model does.
            if answered != Code.UNAVAILABLE:
                break
        if answered != expected:
            raise self._error(f"{operation}: the service says {answered}, the model {expected}")

    def _error(self, text: str) -> ConservationError:
        return ConservationError("\n  ".join([text, "after:", *self.history]))


#: What is done to a customer.
Operation = Callable[..., None]


def _units(minor: int) -> Decimal:
    return Decimal(minor) / 100


def _random_operation(driver: Driver, dice: random.Random) -> None:
    """One operation, or rarely a pass over a changed sheet."""
    department, request, amount, key = (
        dice.choice(DEPARTMENTS),
        dice.choice(REQUESTS),
        dice.choice(AMOUNTS),
        dice.choice(RARE_KEYS),
    )
    number = dice.random()
    if number < 0.3:
        driver.check(department, request, amount)
    elif number < 0.6:
        driver.reserve(department, request, amount, over=dice.random() < 0.1, key=key)
    elif number < 0.8:
        driver.commit(department, request, amount, final=dice.random() < 0.5, key=key)
    elif number < 0.997:
        driver.release(
            department,
            request,
            amount,
            action=dice.choice((ReleaseAction.REJECT, ReleaseAction.MANUAL, ReleaseAction.CANCEL)),
            key=key,
        )
    else:
        departments = dice.sample(DEPARTMENTS, dice.randint(1, len(DEPARTMENTS)))
        driver.sync({department: dice.choice(LIMITS) for department in departments})


def stress(tries: int, place: Place) -> Outcome:
    """Many callers at once, `tries` operations in all."""
    outcome = Outcome()
    with place.installation(start="tables") as installation:
        _connect(installation)
        folder = place.folder
        seeds = [place.dice.randrange(10**9) for _ in range(THREADS)]

        def run(thread: int) -> None:
            dice = random.Random(seeds[thread])  # noqa: S311  # chance, no secret
            try:
                for count in range(tries // THREADS):
                    if count % CUSTOMER_LIFE == 0:
                        driver = Driver(f"org-{thread}-{count}", folder)
                    # Keys are for retries: used anew for something else now and then, they would soon refuse everything.
                    if count % 50 == 0:
                        driver.forget_keys()
                    _random_operation(driver, dice)
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
        proof = verification.verify()
        outcome.expect(not proof.findings, f"verify: {proof.findings[:3]}")
        outcome.notes.append(
            f"{proof.budgets:,} budgets, {proof.reservations:,} reservations, {proof.movements:,} audit rows proven at the end"
        )
        database.disconnect()
    return outcome


def stress_by_model(tries: int, place: Place) -> Outcome:
    """Sequences of operations that hypothesis chooses, `tries` in all, the balances compared after every one."""
    outcome = Outcome()
    examples = 0
    with _in_memory(place) as here, here.installation(start="tables") as installation:
        database.connect(installation.target)
        fresh = _Fresh(here)

        def play(operations: Sequence[Operation]) -> None:
            nonlocal examples
            driver = fresh.driver()
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
            # In rounds, as hypothesis keeps in mind all that it tried, and looks through it before it tries more; the first sequence of each is empty.
            while outcome.tries < tries:
                _let_play(
                    play,
                    min(ROUND, 1 + math.ceil((tries - outcome.tries) / STEPS)),
                    place.dice.randrange(10**9),
                )
        except ConservationError as error:
            outcome.expect(holds=False, otherwise=str(error))
        finally:
            gc.unfreeze()
            database.disconnect()
    outcome.notes.append(f"{outcome.tries:,} operations in {examples:,} sequences")
    return outcome


def _let_play(play: Callable[[Sequence[Operation]], None], examples: int, dice: int) -> None:
    """So many sequences. Raises ConservationError with the shortest history that hypothesis finds."""
    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )

    @seed(dice)
    @chosen
    @given(_sequences())
    def run(operations: Sequence[Operation]) -> None:
        play(operations)

    run()


@contextmanager
def _in_memory(place: Place) -> Iterator[Place]:
    """The place with a folder in memory, where a sync costs nothing: what one saves is another row's."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield replace(place, folder=Path(folder))


def _nothing(driver: Driver) -> None:
    """What is left of an operation that a failure does not need."""


def _retry(driver: Driver) -> None:
    """Stands for the operation before it, again."""


def _any_of(operation: Operation, **values: Iterable[Any]) -> list[Operation]:
    """The operation with any combination of these."""
    return [
        partial(operation, **dict(zip(values, chosen, strict=True)))
        for chosen in product(*values.values())
    ]


@cache
def _sequences() -> st.SearchStrategy[list[Operation]]:
    """Sequences of STEPS operations, of all kinds, or of some alone, since what some do is undone by others.

    An operation is one draw, and the first of all is nothing: so shrinking is quick, and drawing costs less than what is drawn.
    """
    body = {"department": DEPARTMENTS, "request": REQUESTS, "amount": AMOUNTS}
    reserves = _any_of(Driver.reserve, **body, over=(False, True), key=KEYS)
    others: list[list[Operation]] = [
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
    passes = _any_of(Driver.sync, sheet=sheets)
    mixed: list[list[Operation]] = []
    for count in range(len(others), -1, -1):
        for kinds in combinations(others, count):
            # Of each kind in turn, as small numbers are drawn more often.
            turns = list(islice(zip(*map(cycle, (reserves, *kinds)), strict=True), 1000))
            mixed.append([_nothing, *chain.from_iterable(turns)])
            # A pass costs as much as many movements, and is as much rarer.
            with_passes = [
                (*turn, one) if number % 8 == 7 else turn
                for number, (turn, one) in enumerate(zip(turns, cycle(passes), strict=False))
            ]
            mixed.append([_nothing, *chain.from_iterable(with_passes)])
    return st.one_of(
        [
            st.lists(st.sampled_from(operations), min_size=STEPS, max_size=STEPS)
            for operations in mixed
        ]
    )


@dataclass
class _Fresh:
    """Makes a driver on a fresh database: on SQLite the file anew with a customer in it, on PostgreSQL a customer that nobody knows."""

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
            # So that all of it is in the one file.
            database.db.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            self.template = Path(shutil.copy(path, path.with_name("template.db")))
        database.close_connection()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        draft = path.with_name("draft")
        shutil.copy(self.template, draft)
        # Another file in the same place: whoever has the old one open notices.
        draft.replace(path)
        return Driver("org", self.place.folder, source=self.source)


def _connect(installation: Installation) -> None:
    """Connect to the empty database, on SQLite so that a power cut could lose commits: that costs less, and is another row's."""
    database.connect(installation.target)
    if database.is_file():
        database.db.pragma("synchronous", "off", permanent=True)
