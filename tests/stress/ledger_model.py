"""A model of the ledger in dictionaries and integers, to compare the service with.

It is written from the specification and independent of the service's code. Amounts are in minor
units.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stress.ledger_model_rows import (
    DONE,
    FUTURE,
    PAST,
    PERSON,
    REPLAYED,
    SERVICE,
    Budget,
    Call,
    Check,
    Hold,
    Spend,
    room,
    set_aside,
    settle,
)


@dataclass
class LedgerModel:
    """One customer's budgets, reservations and spends.

    Each method returns the response expected of the service: DONE, REPLAYED or an error code.
    """

    budgets: dict[str, Budget] = field(default_factory=dict)
    #: The reservations of each request on each budget, the latest one last.
    holds: dict[tuple[str, str], list[Hold]] = field(default_factory=dict)
    #: All reservations with their budgets, as they were created.
    in_order: list[tuple[str, Hold]] = field(default_factory=list)
    spends: dict[str, Spend] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    #: The checks of each request, the latest one last.
    checks: dict[str, list[Check]] = field(default_factory=dict)
    keys: dict[tuple[str, str, str], Call] = field(default_factory=dict)
    #: The amount of each commit and reversal with an externalRef: (verb, budget, request, ref).
    refs: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    #: By how many hundredths of a percent, and how much at most, a service may exceed a hold.
    tolerance: tuple[int, int] = (1000, 0)
    hold_days: int | None = None

    def hold_of(self, budget_id: str, request: str) -> Hold | None:
        """The latest reservation of a request on a budget."""
        holds = self.holds.get((budget_id, request))
        return holds[-1] if holds else None

    def check(self, budget_id: str, request: str, amount: int) -> str:
        """Check: logs the answer, and allows to reserve again after a reservation was closed."""
        code = self._check(budget_id, request, amount)
        number = sum(map(len, self.checks.values()))
        found = None if code == "NO_BUDGET" else budget_id
        self.checks.setdefault(request, []).append(Check(number, found, code, amount))
        return code

    def _check(self, budget_id: str, request: str, amount: int) -> str:
        self.known.add(request)
        budget, hold = self.budgets[budget_id], self.hold_of(budget_id, request)
        if not budget.live:
            return "NO_BUDGET"
        if hold:
            hold.reopened = True
        return (
            "REQUIRES_APPROVAL"
            if amount <= budget.available + (hold.held if hold else 0)
            else "INSUFFICIENT_BUDGET"
        )

    def reserve(
        self, budget_id: str, request: str, amount: int, *, over: bool, by: str, key: str | None
    ) -> str:
        """Set aside."""
        body = (budget_id, request, amount, over)
        budget, hold = self.budgets[budget_id], self.hold_of(budget_id, request)
        answer = self._keyed("reserve", by, key, body)
        if answer is None and hold and hold.held:
            answer = REPLAYED if hold.amount == amount else "REQUEST_CONFLICT"
        if answer is None and hold and not hold.reopened:
            # If a hold only moved, a late duplicate of its reserve is a replay.
            is_replay = hold.is_held_elsewhere and hold.amount == amount
            answer = REPLAYED if is_replay else "RESERVATION_CLOSED"
        if answer is None:
            answer = set_aside(budget, amount, over=over)
        if answer is None:
            self.known.add(request)
            self._open(budget_id, request, amount, self._new_expiry())
            answer = DONE
        return self._keep("reserve", by, key, body, answer)

    def commit(
        self,
        budget_id: str,
        request: str,
        amount: int,
        *,
        final: bool,
        ref: str | None,
        over: bool,
        by: str,
        key: str | None,
    ) -> str:
        """Spend reserved money."""
        if request not in self.known and not self.hold_of(budget_id, request):
            return "REQUEST_NOT_FOUND"
        body = (budget_id, request, amount, final, ref, over)
        hold = self.hold_of(budget_id, request)
        call = ("commit", amount, final, ref)
        answer = self._keyed("commit", by, key, body)
        answer = answer or self._referred("commit", budget_id, request, ref, amount)
        if answer is None and hold and hold.closed_by == call:
            answer = REPLAYED
        if answer is None and (hold is None or not hold.held):
            answer = "NO_OPEN_RESERVATION"
        if answer is None and hold:
            answer = self._commit(budget_id, hold, call, over=over, by=by)
            if answer == DONE and ref:
                self.refs["commit", budget_id, request, ref] = amount
        return self._keep("commit", by, key, body, str(answer))

    def _commit(self, budget_id: str, hold: Hold, call: Call, *, over: bool, by: str) -> str:
        """Commit an open hold. `call` has the amount and whether it is final."""
        _, amount, final, _ = call
        assert isinstance(amount, int)
        budget, exceeded = self.budgets[budget_id], max(0, amount - hold.held)
        if exceeded:
            answer = room(budget, exceeded, over=over)
            if answer:
                return answer
            basis_points, at_most = self.tolerance
            tolerated = min(hold.held * basis_points // 10_000, at_most)
            if by == SERVICE and not over and exceeded > tolerated:
                return "COMMIT_EXCEEDS_RESERVED"
            if exceeded > budget.available:
                # The approval raises the hold first, with an audit row of its own.
                budget.version += 1
        budget.reserved -= amount - exceeded
        budget.committed += amount
        budget.version += 1
        hold.held -= amount - exceeded
        hold.committed += amount
        if final and hold.held:
            budget.reserved -= hold.held
            budget.version += 1
            hold.held = 0
        settle(budget, hold, call)
        return DONE

    def release(
        self, budget_id: str, request: str, amount: int, *, action: str, key: str | None
    ) -> str:
        """Give back."""
        body = (budget_id, request, amount, action)
        budget, hold = self.budgets[budget_id], self.hold_of(budget_id, request)
        call = ("release", amount, action)
        answer = self._keyed("release", PERSON, key, body)
        if answer is None and hold and hold.closed_by == call:
            answer = REPLAYED
        if answer is None and (hold is None or amount > hold.held):
            answer = "AMOUNT_EXCEEDS_RESERVED"
        if answer is None and hold:
            budget.reserved -= amount
            budget.version += 1
            hold.held -= amount
            settle(budget, hold, call)
            answer = DONE
        return self._keep("release", PERSON, key, body, str(answer))

    def amend(
        self,
        budget_id: str,
        request: str,
        amount: int | None,
        *,
        to: str | None,
        extend: bool,
        over: bool,
        if_version: int | None,
        by: str,
        key: str | None,
    ) -> str:
        """Change the amount, move the hold to another budget, or extend it."""
        body = (budget_id, request, amount, to, extend, over, if_version)
        moves = to is not None and to != budget_id
        if amount is None and not moves and not extend:
            return "INVALID_REQUEST"
        hold = self.hold_of(budget_id, request)
        if hold is None and request not in self.known:
            return "REQUEST_NOT_FOUND"
        answer = self._keyed("amend", by, key, body)
        if answer is None and hold and moves and hold.closed_by == ("transfer", to, amount):
            answer = REPLAYED
        if answer is None and hold and not moves and not extend:
            is_latest = hold.held > 0 and hold.last == ("amend", amount) and amount == hold.held
            answer = REPLAYED if is_latest and if_version in (None, hold.before) else None
        if answer is None and (hold is None or not hold.held):
            answer = "NO_OPEN_RESERVATION"
        if answer is None and hold and if_version not in (None, hold.version):
            answer = "AMEND_OUT_OF_DATE"
        if answer is None and hold:
            answer = (
                self._transfer(budget_id, str(to), request, amount, extend=extend, over=over)
                if moves
                else self._change(budget_id, hold, amount, extend=extend, over=over)
            )
        return self._keep("amend", by, key, body, str(answer))

    def _change(
        self, budget_id: str, hold: Hold, amount: int | None, *, extend: bool, over: bool
    ) -> str:
        """Change the amount of an open hold, extend it, or both. The same amount is no change."""
        budget = self.budgets[budget_id]
        more = 0 if amount is None else amount - hold.held
        if more > 0:
            answer = set_aside(budget, more, over=over)
            if answer:
                return answer
        elif more < 0:
            budget.reserved += more
            budget.version += 1
        hold.held += more
        if more:
            hold.before, hold.version = hold.version, budget.version
            hold.last = ("amend", amount)
        if extend and (self.hold_days or hold.expires):
            budget.version += 1
            hold.version, hold.last, hold.expires = budget.version, (), self._new_expiry()
        return DONE

    def _transfer(
        self,
        budget_id: str,
        to: str,
        request: str,
        amount: int | None,
        *,
        extend: bool,
        over: bool,
    ) -> str:
        """Move an open hold to another budget, where the request must hold nothing."""
        source, target = self.budgets[budget_id], self.budgets[to]
        hold, there = self.holds[budget_id, request][-1], self.hold_of(to, request)
        if there and there.held:
            return "REQUEST_CONFLICT"
        moved = hold.held if amount is None else amount
        answer = set_aside(target, moved, over=over)
        if answer:
            return answer
        expires = self._new_expiry() if extend else hold.expires
        hold.moved_to = self._open(to, request, moved, expires)
        hold.moved_to.approved = hold.approved
        source.reserved -= hold.held
        source.version += 1
        hold.held = 0
        settle(source, hold, ("transfer", to, amount))
        return DONE

    def reverse(
        self,
        budget_id: str,
        request: str,
        amount: int,
        *,
        to: str,
        ref: str | None,
        by: str,
        key: str | None,
    ) -> str:
        """Return money that the request, or the spend of that id, committed on the budget."""
        body = (budget_id, request, amount, to, ref)
        holds = self.holds.get((budget_id, request), [])
        spend = self.spends.get(request)
        # The latest first, and a spend after all reservations.
        found: list[Hold | Spend] = [*reversed(holds)]
        if spend and spend.budget_id == budget_id:
            found.append(spend)
        if not found and request not in self.known:
            return "REQUEST_NOT_FOUND"
        if found and not holds and to == "reserved":
            return "INVALID_REQUEST"
        call = ("reverse", amount, to)
        answer = self._keyed("reverse", by, key, body)
        answer = answer or self._referred("reverse", budget_id, request, ref, amount)
        if answer is None and ref is None and found:
            latest = max(found, key=lambda each: each.version)
            answer = REPLAYED if latest.last == call else None
        if to == "reserved":
            found = found[: len(holds)]
        if answer is None and amount > sum(each.committed for each in found):
            answer = "AMOUNT_EXCEEDS_COMMITTED"
        if answer is None:
            self._return(self.budgets[budget_id], found, amount, call if ref is None else (), to=to)
            if ref:
                self.refs["reverse", budget_id, request, ref] = amount
            answer = DONE
        return self._keep("reverse", by, key, body, answer)

    def _return(
        self, budget: Budget, found: list[Hold | Spend], amount: int, call: Call, *, to: str
    ) -> None:
        """Take the amount from the latest ones first, with one audit row each, theirs last."""
        rest, taken = amount, []
        for number, each in enumerate(found):
            part = min(rest, each.committed)
            rest -= part
            if part or (to == "reserved" and number == 0):
                taken.append((each, part))
        budget.committed -= amount
        for each, part in reversed(taken):
            each.committed -= part
            budget.version += 1
            each.version, each.last = budget.version, call
        if to == "reserved":
            latest = found[0]
            assert isinstance(latest, Hold)
            budget.reserved += amount
            if not latest.held:
                latest.closed_by, latest.expires = None, self._new_expiry()
            latest.held += amount

    def spend(self, budget_id: str, spend_id: str, amount: int, *, day: str, named: bool) -> str:
        """Record money that was spent; `named` if the budget is named by department and period."""
        budget, first = self.budgets[budget_id], self.spends.get(spend_id)
        same = first and (first.budget_id, first.amount, first.day) == (budget_id, amount, day)
        if first and (first.budget_id == budget_id or budget.live or not named):
            return REPLAYED if same else "IDEMPOTENCY_KEY_REUSED"
        if not budget.live:
            return "BUDGET_NOT_FOUND" if named else "BUDGET_DELETED"
        budget.committed += amount
        budget.version += 1
        self.spends[spend_id] = Spend(budget_id, amount, day, budget.version, amount)
        return DONE

    def expire(self) -> int:
        """Release all expired holds, the oldest first; returns how many."""
        expired = 0
        for budget_id, hold in self.in_order:
            budget = self.budgets[budget_id]
            if hold.held and hold.expires == PAST:
                expired += 1
                budget.reserved -= hold.held
                budget.version += 1
                hold.held = 0
                settle(budget, hold, ("expiry",))
        return expired

    def sync(self, sheet: dict[str, int]) -> None:
        """Apply a sheet (budget -> amount): delete absent budgets, revive returning ones."""
        for budget_id, amount in sheet.items():
            budget = self.budgets.setdefault(budget_id, Budget(amount))
            budget.budgeted, budget.live = amount, True
        for budget_id in self.budgets.keys() - sheet.keys():
            self.budgets[budget_id].live = False

    def _new_expiry(self) -> str | None:
        return FUTURE if self.hold_days else None

    def _open(self, budget_id: str, request: str, amount: int, expires: str | None) -> Hold:
        """Add a reservation. The budget has counted it already."""
        hold = Hold(amount, amount, self.budgets[budget_id].version, expires)
        self.holds.setdefault((budget_id, request), []).append(hold)
        self.in_order.append((budget_id, hold))
        return hold

    def _keyed(self, call: str, by: str, key: str | None, body: Call) -> str | None:
        """The response to an Idempotency-Key that was used before by that caller."""
        used_for = key and self.keys.get((call, by, key))
        if not used_for:
            return None
        return REPLAYED if used_for == body else "IDEMPOTENCY_KEY_REUSED"

    def _referred(
        self, verb: str, budget_id: str, request: str, ref: str | None, amount: int
    ) -> str | None:
        """The response to an externalRef that was used before."""
        first = ref and self.refs.get((verb, budget_id, request, ref))
        if not first:
            return None
        return REPLAYED if first == amount else "EXTERNAL_REF_CONFLICT"

    def _keep(self, call: str, by: str, key: str | None, body: Call, answer: str) -> str:
        """Store the key of a successful call."""
        if key and answer in (DONE, REPLAYED):
            self.keys[call, by, key] = body
        return answer
