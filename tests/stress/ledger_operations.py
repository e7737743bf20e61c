"""The operations of a driver: at random, or in sequences that hypothesis generates and shrinks."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import chain, combinations, cycle, islice, product
from typing import Any, NamedTuple

from hypothesis import strategies as st

from budget_sync.domain.request_models import ReleaseAction, ReverseTo
from stress.ledger_customer import DEPARTMENTS
from stress.ledger_driver import CURRENT, SENT, Driver
from stress.ledger_model_rows import PERSON, SERVICE

#: Few values, so that operations interact. A spend may have the id of a request.
REQUESTS = ("r1", "r2", "r3", "r4")
SPENDS = ("s1", "s2", "s3", "s4", "r1")
KEYS = (None, "k1", "k2")
REFS = (None, "PO-1", "PO-2")
AMOUNTS = (1, 250, 999, 1_000, 1_050, 1_090, 3_000, 7_001)
LIMITS = (100, 1_000, 8_000, 10_000)
DAYS = ("2025-01-31", "2025-02-28")
CALLERS = (PERSON, SERVICE)
_RARELY = (False, False, False, False, False, False, False, True)
_RARE_KEYS = (None, None, *KEYS)
_BODY: Mapping[str, Sequence[Any]] = {
    "department": DEPARTMENTS,
    "request": REQUESTS,
    "amount": AMOUNTS,
}

#: Operations per sequence.
STEPS = 40

#: Different operations of one kind that a sequence is drawn from.
MOST_OF_A_KIND = 1_000

#: An operation on a driver.
Operation = Callable[..., None]


class Kind(NamedTuple):
    """A kind of operation: how often it is drawn at random, and the values of its arguments."""

    weight: float
    operation: Operation
    values: Mapping[str, Sequence[Any]]

    def draw(self, rng: random.Random) -> Operation:
        """The operation with random arguments."""
        chosen = {name: rng.choice(values) for name, values in self.values.items()}
        return partial(self.operation, **chosen)

    def combinations(self) -> list[Operation]:
        """The operation with each combination of its arguments, or with many, the simple first."""
        names = list(self.values)
        found = list(product(*(dict.fromkeys(values) for values in self.values.values())))
        if len(found) > MOST_OF_A_KIND:
            rng = random.Random(0)  # noqa: S311  # not a secret
            places = sorted(rng.sample(range(len(found)), MOST_OF_A_KIND))
            found = [found[place] for place in places]
            # Otherwise a sequence would be drawn from one department.
            rng.shuffle(found)
        return [partial(self.operation, **dict(zip(names, each, strict=True))) for each in found]


RESERVE = Kind(24, Driver.reserve, {**_BODY, "over": _RARELY, "by": CALLERS, "key": _RARE_KEYS})
OTHER_KINDS = (
    Kind(20, Driver.check, _BODY),
    Kind(
        15,
        Driver.commit,
        {
            **_BODY,
            "final": (False, True),
            "ref": (None, *REFS),
            "over": _RARELY,
            "by": CALLERS,
            "key": _RARE_KEYS,
        },
    ),
    Kind(8, Driver.approve, {"department": DEPARTMENTS, "request": REQUESTS}),
    Kind(10, Driver.release, {**_BODY, "action": tuple(ReleaseAction), "key": _RARE_KEYS}),
    Kind(
        12,
        Driver.amend,
        {
            **_BODY,
            "amount": (*AMOUNTS, None),
            "to": (None, None, *DEPARTMENTS),
            "extend": (False, False, False, True),
            "over": _RARELY,
            "if_version": (None, None, CURRENT, SENT),
            "by": CALLERS,
            "key": _RARE_KEYS,
        },
    ),
    Kind(
        9,
        Driver.reverse,
        {
            **_BODY,
            "request": (*REQUESTS, *SPENDS),
            "to": tuple(ReverseTo),
            "ref": (None, *REFS),
            "by": CALLERS,
            "key": _RARE_KEYS,
        },
    ),
    Kind(
        5,
        Driver.spend,
        {
            "department": DEPARTMENTS,
            "spend_id": SPENDS,
            "amount": AMOUNTS,
            "day": DAYS,
            "named": (False, True),
            "by": CALLERS,
        },
    ),
)
EXPIRY = (
    Kind(2, Driver.let_expire, {"department": DEPARTMENTS, "request": REQUESTS}),
    Kind(1, Driver.expire, {}),
    Kind(0.5, Driver.set_hold_days, {"days": (30, None)}),
)

#: How often the operation before is repeated, and a sheet is synced, which is slow.
_RETRY_SHARE, _SYNC_SHARE = 0.05, 0.003


def random_operation(rng: random.Random, last: Operation) -> Operation:
    """A random operation; sometimes the last one again, rarely a sync of a changed sheet."""
    number = rng.random()
    if number < _SYNC_SHARE:
        departments = rng.sample(DEPARTMENTS, rng.randint(1, len(DEPARTMENTS)))
        sheet = {department: rng.choice(LIMITS) for department in departments}
        return partial(Driver.sync, sheet=sheet)
    if number < _SYNC_SHARE + _RETRY_SHARE:
        return last
    kinds = (RESERVE, *OTHER_KINDS, *EXPIRY)
    return rng.choices(kinds, [kind.weight for kind in kinds])[0].draw(rng)


def nothing(driver: Driver) -> None:
    """The simplest operation. hypothesis shrinks all irrelevant operations to it."""


def retry(driver: Driver) -> None:
    """Placeholder: repeat the operation before it."""


@cache
def sequences() -> st.SearchStrategy[list[Operation]]:
    """Sequences of STEPS operations, of all kinds or only some, because kinds undo each other.

    An operation is a single draw, and the first possible draw is `nothing`. That makes shrinking
    fast and drawing cheap.
    """
    reserves = RESERVE.combinations()
    other_kinds: list[list[Operation]] = [
        *(kind.combinations() for kind in OTHER_KINDS),
        list(chain.from_iterable(kind.combinations() for kind in EXPIRY)),
        [retry],
    ]
    limits = product((None, *LIMITS), repeat=len(DEPARTMENTS))
    sheets = [
        {department: limit for department, limit in zip(DEPARTMENTS, chosen, strict=True) if limit}
        for chosen in limits
        if any(chosen)
    ]
    sync_runs = [partial(Driver.sync, sheet=sheet) for sheet in sheets]
    mixed: list[list[Operation]] = []
    total = len(other_kinds)
    # All kinds, all but one, three, two, one, and only reserve.
    for count in (total, total - 1, 3, 2, 1, 0):
        for kinds in combinations(other_kinds, count):
            # Alternate the kinds, because small numbers are drawn more often.
            turns = list(islice(zip(*map(cycle, (reserves, *kinds)), strict=True), MOST_OF_A_KIND))
            mixed.append([nothing, *chain.from_iterable(turns)])
            # A sync costs as much as many movements, so it is that much rarer.
            with_sync_runs = [
                (*turn, one) if number % 8 == 7 else turn
                for number, (turn, one) in enumerate(zip(turns, cycle(sync_runs), strict=False))
            ]
            mixed.append([nothing, *chain.from_iterable(with_sync_runs)])
    return st.one_of(
        [
            st.lists(st.sampled_from(operations), min_size=STEPS, max_size=STEPS)
            for operations in mixed
        ]
    )
