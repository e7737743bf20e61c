"""Conservation of money: responses match a simple model, and all stored figures agree.

A driver applies each operation to the service and to the model. It is used in two ways: with
sequences that hypothesis generates and shrinks, each on a new database; and with random operations
from parallel threads, each for its own customer, so that their transactions share group commits.
"""

from __future__ import annotations

import gc
import math
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from support.installation import Installation
from support.speed import MEMORY

from budget_sync import database, sync
from budget_sync.ledger import verification
from stress.ledger_customer import ConservationError
from stress.ledger_driver import Driver
from stress.ledger_operations import STEPS, Operation, nothing, random_operation, retry, sequences
from stress.outcome import Outcome, Place

THREADS = 16

#: Operations per customer. Otherwise the comparison of all its rows would take ever longer.
CUSTOMER_LIFE = 300

#: Sequences per round.
ROUND = 200


def stress(tries: int, place: Place) -> Outcome:
    """Apply `tries` random operations from parallel threads."""
    outcome = Outcome()
    with place.installation(start="tables") as installation:
        _connect(installation)
        folder = place.folder
        seeds = [place.rng.randrange(10**9) for _ in range(THREADS)]
        answers: list[Counter[tuple[str, str]]] = [Counter() for _ in range(THREADS)]

        def run(thread: int) -> None:
            rng = random.Random(seeds[thread])  # noqa: S311  # not a secret
            last: Operation = nothing
            try:
                for count in range(tries // THREADS):
                    if count % CUSTOMER_LIFE == 0:
                        driver = Driver(f"org-{thread}-{count}", folder, answers=answers[thread])
                    # Reusing a key for another operation is an error, so keys are freed regularly.
                    if count % 50 == 0:
                        driver.forget_keys()
                    last = random_operation(rng, last)
                    last(driver)
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
    outcome.notes.append(_describe(sum(answers, Counter())))
    return outcome


def _describe(answers: Counter[tuple[str, str]]) -> str:
    """How often each operation got each answer."""
    verbs = sorted({operation for operation, _ in answers if operation not in ("expire", "sync")})
    return "; ".join(
        f"{verb}: "
        + ", ".join(
            f"{answer} {times:,}"
            for (operation, answer), times in answers.most_common()
            if operation == verb
        )
        for verb in verbs
    )


def stress_by_model(tries: int, place: Place) -> Outcome:
    """Apply `tries` operations in sequences from hypothesis, comparing balances after each."""
    outcome = Outcome()
    examples = 0
    with _in_memory(place) as here, here.installation(start="tables") as installation:
        database.connect(installation.target)
        answers: Counter[tuple[str, str]] = Counter()
        new_database = _NewDatabase(here, answers)

        def play(operations: Sequence[Operation]) -> None:
            nonlocal examples
            driver = new_database.driver()
            last: Operation = nothing
            examples += 1
            for chosen in operations:
                if chosen is nothing:
                    continue
                last = last if chosen is retry else chosen
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
    outcome.notes.append(_describe(answers))
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
    @given(sequences())
    def run(operations: Sequence[Operation]) -> None:
        play(operations)

    run()


@contextmanager
def _in_memory(place: Place) -> Iterator[Place]:
    """The place with a folder in memory, where fsync costs nothing. Other rows test durability."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield replace(place, folder=Path(folder))


@dataclass
class _NewDatabase:
    """Creates drivers on a new database.

    On SQLite, a copy of a file with a customer; on PostgreSQL, a new customer in the same database.
    """

    place: Place
    answers: Counter[tuple[str, str]]
    template: Path | None = None
    source: sync.Source | None = None
    count: int = 0

    def driver(self) -> Driver:
        self.count += 1
        if not database.is_file():
            return Driver(f"org-{self.count}", self.place.folder, answers=self.answers)
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
        return Driver("org", self.place.folder, answers=self.answers, source=self.source)


def _connect(installation: Installation) -> None:
    """Connect to the empty database, on SQLite without fsync. Other rows test durability."""
    database.connect(installation.target)
    if database.is_file():
        database.db.pragma("synchronous", "off", permanent=True)
