"""The ledger's decisions, one table per decision, without a database."""

from __future__ import annotations

import ast
from decimal import Decimal
from typing import NamedTuple

import pytest
from support.machine import PROJECT

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import ANONYMOUS, Actor, Role, Scope
from budget_sync.ledger import policy
from budget_sync.ledger.policy import (
    Approval,
    Approver,
    CheckDecision,
    CommitAmounts,
    CustomerDefaults,
    InvoiceTolerance,
    Part,
    Requester,
    SpendFacts,
)

#: 1,000 dollars, of which 300 are reserved and 200 committed: 500 are available.
BALANCE = Balance("USD", 2, 100_000, 30_000, 20_000)
OVERDRAWN = Balance("USD", 2, 100_000, 90_000, 20_000)
YEN = Balance("JPY", 0, 1_000, 0, 0)

JANE = Actor("user:jane", "jane", "Jane", "jane@acme.com", Role.BUSINESS_USER, "acme")
FIONA = Actor("user:fiona", "fiona", "Fiona", "fiona@acme.com", Role.FPA_USER, "acme")
SERVICE = Actor("key:ab12", None, "orchestrator", None, Role.API_SYSTEM, "acme")

AS_JANE = Requester("jane", "Jane", "jane@acme.com")
AS_FIONA = Requester("fiona", "Fiona", "fiona@acme.com")
AS_SERVICE = Requester("key:ab12", "orchestrator", "")
MARK = Requester("mark", "Mark", "mark@acme.com")


class Expected(NamedTuple):
    """A RequestError: its code, a part of its sentence, and its fields and facts."""

    code: Code
    sentence: str
    facts: dict[str, object]


def is_error(error: RequestError, expected: Expected) -> bool:
    """Assert that the error is the expected one; always true."""
    assert (error.code, error.fields | error.facts) == (expected.code, expected.facts)
    assert expected.sentence in error.sentence
    return True


def test_policy_imports_only_the_domain() -> None:
    files = list((PROJECT / "budget_sync/ledger/policy").glob("*.py"))
    imported = {
        node.module
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    allowed = ("budget_sync.domain.", "budget_sync.ledger.policy.")
    ours = {module for module in imported if module.startswith("budget_sync")}
    assert len(files) > 5
    assert all(module.startswith(allowed) for module in ours)
    assert imported - ours == {"__future__", "collections.abc", "decimal", "typing"}


# All verbs


def test_label_of_a_person() -> None:
    assert AS_JANE.label == "Jane (jane@acme.com)"
    assert AS_SERVICE.label == "orchestrator"


@pytest.mark.parametrize(
    ("amount", "sent_currency", "minor"),
    [("99.5", None, 9_950), ("99.5", "USD", 9_950), ("0.01", None, 1)],
)
def test_amount_in_minor_units(amount: str, sent_currency: str | None, minor: int) -> None:
    assert policy.require_minor(Decimal(amount), "USD", 2, sent_currency) == minor


@pytest.mark.parametrize(
    ("amount", "sent_currency", "fields"),
    [
        ("5", "EUR", {"currency": "must be USD, the budget's currency"}),
        ("0.001", None, {"amount": "must have at most 2 decimals in its currency"}),
        (
            "0.001",
            "EUR",
            {
                "currency": "must be USD, the budget's currency",
                "amount": "must have at most 2 decimals in its currency",
            },
        ),
    ],
)
def test_amount_that_does_not_fit_the_budget(
    amount: str, sent_currency: str | None, fields: dict[str, object]
) -> None:
    with pytest.raises(RequestError) as raised:
        policy.require_minor(Decimal(amount), "USD", 2, sent_currency)
    assert is_error(raised.value, Expected(Code.INVALID_REQUEST, "", fields))


def test_insufficient_error_has_the_shortfall() -> None:
    reason = "Insufficient budget. Available: $500, Requested: $500.01"
    facts = {
        "reason": reason,
        "budgetId": "b-1",
        "available": 500,
        "shortfall": Decimal("0.01"),
    }
    error = policy.insufficient_error("b-1", BALANCE, 50_000, 50_001)
    assert is_error(error, Expected(Code.INSUFFICIENT_BUDGET, reason, facts))


# check


@pytest.mark.parametrize(
    ("sent_currency", "expected"),
    [(None, ("EUR", 2)), ("JPY", ("JPY", 0)), ("KWD", ("KWD", 3)), ("EUR", ("EUR", 2))],
)
def test_currency_without_budget(sent_currency: str | None, expected: tuple[str, int]) -> None:
    customer = CustomerDefaults("EUR", 2, None)
    assert policy.currency_without_budget(customer, sent_currency) == expected


def test_unknown_currency_without_budget() -> None:
    with pytest.raises(RequestError) as raised:
        policy.currency_without_budget(CustomerDefaults("EUR", 2, None), "QQQ")
    facts: dict[str, object] = {"currency": "'QQQ' is not a currency code such as USD or EUR"}
    assert is_error(raised.value, Expected(Code.INVALID_REQUEST, "", facts))


def test_ordinary_user_checks_only_for_themselves() -> None:
    policy.require_own_user_id(JANE, Scope.OWN, "jane")
    policy.require_own_user_id(FIONA, Scope.ANY, "jane")
    policy.require_own_user_id(ANONYMOUS, Scope.ANY, "jane")
    with pytest.raises(RequestError) as raised:
        policy.require_own_user_id(JANE, Scope.OWN, "mark")
    assert is_error(raised.value, Expected(Code.NOT_YOUR_REQUEST, "your own userId", {}))


@pytest.mark.parametrize(
    ("balance", "budget_limit", "customer", "limit"),
    [
        (BALANCE, 5_000, CustomerDefaults("USD", 2, 9_000), 5_000),
        (BALANCE, 0, CustomerDefaults("USD", 2, 9_000), 0),
        (BALANCE, 5_000, CustomerDefaults("USD", 2, None), 5_000),
        (BALANCE, None, CustomerDefaults("USD", 2, 9_000), 9_000),
        (BALANCE, None, CustomerDefaults("USD", 2, None), None),
        (BALANCE, None, CustomerDefaults("EUR", 2, 9_000), None),
        (YEN, 50, CustomerDefaults("USD", 2, 9_000), 50),
        (YEN, None, CustomerDefaults("JPY", 0, 100), 100),
        (YEN, None, CustomerDefaults("JPY", 2, 10_050), 100),
        (YEN._replace(exponent=2), None, CustomerDefaults("JPY", 0, 100), 10_000),
    ],
)
def test_auto_approve_limit(
    balance: Balance, budget_limit: int | None, customer: CustomerDefaults, limit: int | None
) -> None:
    assert policy.auto_approve_limit(balance, budget_limit, customer) == limit


NO_BUDGET = CheckDecision(
    Code.NO_BUDGET, "No budget found", available=False, can_auto_approve=False
)
NEEDS_APPROVAL = CheckDecision(
    Code.REQUIRES_APPROVAL,
    "Budget available. Requires FP&A approval",
    available=True,
    can_auto_approve=False,
)
AUTO_APPROVED = CheckDecision(
    Code.AUTO_APPROVED,
    "Budget available. Within the auto-approve limit",
    available=True,
    can_auto_approve=True,
)


def insufficient(available: str, requested: str) -> CheckDecision:
    """The decision if the budget is insufficient."""
    return CheckDecision(
        Code.INSUFFICIENT_BUDGET,
        f"Insufficient budget. Available: {available}, Requested: {requested}",
        available=False,
        can_auto_approve=False,
    )


@pytest.mark.parametrize(
    ("balance", "own_minor", "amount_minor", "limit_minor", "decision"),
    [
        (None, 0, 1, None, NO_BUDGET),
        (None, 0, 1, 5_000, NO_BUDGET),
        (BALANCE, 0, 50_000, 50_000, AUTO_APPROVED),
        (BALANCE, 0, 50_000, 49_999, NEEDS_APPROVAL),
        (BALANCE, 0, 50_000, None, NEEDS_APPROVAL),
        (BALANCE, 0, 1, 0, NEEDS_APPROVAL),
        (BALANCE, 0, 50_001, 90_000, insufficient("$500", "$500.01")),
        # The request's own reservation counts as available.
        (BALANCE, 30_000, 80_000, 80_000, AUTO_APPROVED),
        (BALANCE, 30_000, 80_001, None, insufficient("$800", "$800.01")),
        (OVERDRAWN, 0, 1, 5_000, insufficient("-$100", "$0.01")),
    ],
)
def test_check_decision(
    balance: Balance | None,
    own_minor: int,
    amount_minor: int,
    limit_minor: int | None,
    decision: CheckDecision,
) -> None:
    assert policy.decide_check(balance, own_minor, amount_minor, limit_minor) == decision


# reserve


def test_request_held_by_another_user() -> None:
    policy.require_not_held_by_other("r-1", is_held_by_other=False)
    with pytest.raises(RequestError) as raised:
        policy.require_not_held_by_other("r-1", is_held_by_other=True)
    facts: dict[str, object] = {"requestId": "r-1"}
    assert is_error(raised.value, Expected(Code.NOT_YOUR_REQUEST, "another user", facts))


@pytest.mark.parametrize(
    ("actor", "scope", "user_id", "holder", "last_checked_for", "requester"),
    [
        # An open reservation keeps its requester.
        (SERVICE, Scope.ANY, "jane", MARK, AS_JANE, MARK),
        (JANE, Scope.OWN, None, MARK, None, MARK),
        # An ordinary user is always the requester.
        (JANE, Scope.OWN, None, None, None, AS_JANE),
        (JANE, Scope.OWN, "mark", None, None, AS_JANE),
        (JANE, Scope.OWN, None, None, MARK, AS_JANE),
        # FP&A and services: the body's userId, the last check's user, the caller.
        (SERVICE, Scope.ANY, "mark", None, None, "mark"),
        (SERVICE, Scope.ANY, "mark", None, MARK, MARK),
        (SERVICE, Scope.ANY, None, None, MARK, MARK),
        (SERVICE, Scope.ANY, None, None, None, AS_SERVICE),
        (FIONA, Scope.ANY, None, None, None, AS_FIONA),
        (FIONA, Scope.ANY, None, None, MARK, MARK),
        # The caller's name is the one of the account, not of a check.
        (FIONA, Scope.ANY, "fiona", None, None, AS_FIONA),
        (FIONA, Scope.ANY, None, None, Requester("fiona", "Another", "name"), AS_FIONA),
    ],
)
def test_choice_of_the_requester(
    actor: Actor,
    scope: Scope,
    user_id: str | None,
    holder: Requester | None,
    last_checked_for: Requester | None,
    requester: Requester | str,
) -> None:
    chosen = policy.choose_requester(
        actor, scope, user_id=user_id, holder=holder, last_checked_for=last_checked_for
    )
    assert chosen == requester


def test_person_names_only_themselves_as_approver() -> None:
    policy.require_may_name_approver(SERVICE, "fiona")
    policy.require_may_name_approver(FIONA, "fiona")
    with pytest.raises(RequestError) as raised:
        policy.require_may_name_approver(FIONA, "alex")
    facts: dict[str, object] = {"approvedBy": "alex"}
    assert is_error(raised.value, Expected(Code.OVERSPEND_NOT_ALLOWED, "your own user id", facts))


def test_requester_is_not_the_approver() -> None:
    policy.require_separate_approver("fiona", is_requester=False)
    with pytest.raises(RequestError) as raised:
        policy.require_separate_approver("fiona", is_requester=True)
    sentence = "The requester cannot approve their own request"
    facts: dict[str, object] = {"approvedBy": "fiona"}
    assert is_error(raised.value, Expected(Code.OVERSPEND_NOT_ALLOWED, sentence, facts))


@pytest.mark.parametrize(
    ("approver", "is_accepted"),
    [
        (Approver(Role.FPA_USER, "acme", "Fred", "fred@acme.com"), True),
        (Approver(Role.FPA_ADMIN, "acme", "Fred", "fred@acme.com"), True),
        (Approver(Role.ADMIN, "acme", "Fred", "fred@acme.com"), True),
        (Approver(Role.SUPER_ADMIN, None, "Fred", "fred@acme.com"), True),
        (Approver(Role.MANAGER, "acme", "Fred", "fred@acme.com"), False),
        (Approver(Role.BUSINESS_USER, "acme", "Fred", "fred@acme.com"), False),
        (Approver("unknown role", "acme", "Fred", "fred@acme.com"), False),
        (Approver(Role.FPA_USER, "globex", "Fred", "fred@acme.com"), False),
        (None, False),
    ],
)
def test_approver_must_be_fpa_of_same_customer(
    approver: Approver | None, is_accepted: bool
) -> None:
    if is_accepted:
        approval = policy.over_budget_approval("fred", approver, "acme", "The board insists")
        assert approval == Approval("Fred (fred@acme.com)", "The board insists")
        return
    with pytest.raises(RequestError) as raised:
        policy.over_budget_approval("fred", approver, "acme", "The board insists")
    facts: dict[str, object] = {"approvedBy": "fred"}
    assert is_error(raised.value, Expected(Code.OVERSPEND_NOT_ALLOWED, "FP&A or admin", facts))


def test_open_reservation_of_another_amount() -> None:
    policy.require_same_amount(BALANCE, "res-1", 5_000, 5_000)
    for amount_minor in (4_999, 5_001):
        with pytest.raises(RequestError) as raised:
            policy.require_same_amount(BALANCE, "res-1", 5_000, amount_minor)
        facts: dict[str, object] = {"reservationId": "res-1", "amountReserved": 50}
        assert is_error(raised.value, Expected(Code.REQUEST_CONFLICT, "Release it first", facts))


def test_closed_reservation_needs_a_newer_check() -> None:
    policy.require_newer_check("res-1", has_newer_check=True)
    with pytest.raises(RequestError) as raised:
        policy.require_newer_check("res-1", has_newer_check=False)
    facts: dict[str, object] = {"reservationId": "res-1"}
    assert is_error(raised.value, Expected(Code.RESERVATION_CLOSED, "Check the request", facts))


def test_ordinary_user_needs_their_own_check() -> None:
    policy.require_own_check("r-1", has_own_check=True)
    with pytest.raises(RequestError) as raised:
        policy.require_own_check("r-1", has_own_check=False)
    facts: dict[str, object] = {"requestId": "r-1"}
    assert is_error(raised.value, Expected(Code.CHECK_REQUIRED, "Check it first", facts))


def test_deleted_budget_takes_no_reservations() -> None:
    policy.require_live_budget("b-1", is_deleted=False)
    with pytest.raises(RequestError) as raised:
        policy.require_live_budget("b-1", is_deleted=True)
    facts: dict[str, object] = {"budgetId": "b-1"}
    assert is_error(raised.value, Expected(Code.BUDGET_DELETED, "no new reservations", facts))


def test_reserve_beyond_the_budget_needs_an_approval() -> None:
    approval = Approval("Fiona (fiona@acme.com)", "The board insists")
    assert policy.require_approval("b-1", BALANCE, 60_000, approval) == approval
    with pytest.raises(RequestError) as raised:
        policy.require_approval("b-1", BALANCE, 60_000, None)
    reason = "Insufficient budget. Available: $500, Requested: $600"
    facts = {"reason": reason, "budgetId": "b-1", "available": 500, "shortfall": 100}
    assert is_error(raised.value, Expected(Code.INSUFFICIENT_BUDGET, reason, facts))


@pytest.mark.parametrize(
    ("balance", "largest_minor", "money"),
    [
        (BALANCE, 10**15 - 1 - 50_000, "$9,999,999,999,499.99"),
        (Balance("USD", 2, 0, 0, 10**15 - 2), 1, "$0.01"),
        (Balance("JPY", 0, 0, 5 * 10**14, 5 * 10**14 - 1), 0, "¥0"),
        (Balance("JPY", 0, 0, 10**15, 10**15), 0, "¥0"),
    ],
)
def test_reserved_and_committed_stay_below_the_ceiling(
    balance: Balance, largest_minor: int, money: str
) -> None:
    policy.require_below_ceiling("b-1", balance, largest_minor)
    with pytest.raises(RequestError) as raised:
        policy.require_below_ceiling("b-1", balance, largest_minor + 1)
    facts: dict[str, object] = {"budgetId": "b-1", "largestAmount": balance.number(largest_minor)}
    sentence = f"This budget can take {money} more."
    assert is_error(raised.value, Expected(Code.AMOUNT_TOO_LARGE, sentence, facts))


# commit


def test_unknown_request() -> None:
    policy.require_known_request("r-1", is_known=True)
    with pytest.raises(RequestError) as raised:
        policy.require_known_request("r-1", is_known=False)
    facts: dict[str, object] = {"requestId": "r-1"}
    assert is_error(raised.value, Expected(Code.REQUEST_NOT_FOUND, "Request not found.", facts))


def test_error_without_open_reservation() -> None:
    facts: dict[str, object] = {"requestId": "r-1"}
    error = policy.no_open_reservation("r-1")
    assert is_error(error, Expected(Code.NO_OPEN_RESERVATION, "Reserve an amount first", facts))


@pytest.mark.parametrize(
    ("held", "amount", "final", "amounts"),
    [
        (5_000, 5_000, False, CommitAmounts(5_000, 0, 0, 0)),
        (5_000, 5_000, True, CommitAmounts(5_000, 0, 0, 0)),
        (5_000, 1_200, False, CommitAmounts(1_200, 0, 3_800, 0)),
        (5_000, 1_200, True, CommitAmounts(1_200, 0, 3_800, 3_800)),
        (5_000, 6_000, False, CommitAmounts(5_000, 1_000, 0, 0)),
        (5_000, 6_000, True, CommitAmounts(5_000, 1_000, 0, 0)),
    ],
)
def test_amounts_of_a_commit(held: int, amount: int, final: bool, amounts: CommitAmounts) -> None:
    assert policy.split_commit(held, amount, final=final) == amounts


def test_error_of_a_commit_beyond_the_available_amount() -> None:
    # Its own 100 count as available.
    reason = "Insufficient budget. Available: $600, Requested: $700"
    facts = {"reason": reason, "budgetId": "b-1", "available": 600, "shortfall": 100}
    error = policy.commit_error("b-1", BALANCE, 10_000, 70_000, is_deleted=False)
    assert is_error(error, Expected(Code.INSUFFICIENT_BUDGET, reason, facts))


def test_error_of_a_commit_beyond_reservation_if_deleted() -> None:
    facts: dict[str, object] = {"budgetId": "b-1"}
    error = policy.commit_error("b-1", BALANCE, 10_000, 10_001, is_deleted=True)
    assert is_error(error, Expected(Code.BUDGET_DELETED, "Commit $100 or less.", facts))


# release


def test_service_must_name_the_requester() -> None:
    policy.require_requester_named(SERVICE, "jane")
    policy.require_requester_named(FIONA, None)
    policy.require_requester_named(JANE, None)
    with pytest.raises(RequestError) as raised:
        policy.require_requester_named(SERVICE, None)
    facts: dict[str, object] = {"originalRequesterId": "is required when a service cancels"}
    assert is_error(raised.value, Expected(Code.INVALID_REQUEST, "", facts))


@pytest.mark.parametrize(
    ("actor", "scope", "requester_id", "named_id", "sentence"),
    [
        (JANE, Scope.OWN, "jane", "jane", None),
        (JANE, Scope.OWN, "jane", None, "your own requests"),
        (JANE, Scope.OWN, "jane", "mark", "your own requests"),
        (JANE, Scope.OWN, "mark", "mark", "your own requests"),
        (JANE, Scope.OWN, "mark", "jane", "your own requests"),
        (JANE, Scope.OWN, None, "jane", "your own requests"),
        (JANE, Scope.OWN, None, None, "your own requests"),
        # No user id equals no requester.
        (SERVICE, Scope.OWN, None, None, "your own requests"),
        (SERVICE, Scope.ANY, "jane", "jane", None),
        (SERVICE, Scope.ANY, "jane", "mark", "not the requester"),
        (SERVICE, Scope.ANY, None, "mark", None),
        (FIONA, Scope.ANY, "jane", None, None),
        (FIONA, Scope.ANY, "jane", "mark", None),
    ],
)
def test_permission_to_cancel(
    actor: Actor,
    scope: Scope,
    requester_id: str | None,
    named_id: str | None,
    sentence: str | None,
) -> None:
    if sentence is None:
        policy.require_may_cancel(actor, scope, "r-1", requester_id, named_id)
        return
    with pytest.raises(RequestError) as raised:
        policy.require_may_cancel(actor, scope, "r-1", requester_id, named_id)
    facts: dict[str, object] = {"requestId": "r-1"}
    assert is_error(raised.value, Expected(Code.NOT_YOUR_REQUEST, sentence, facts))


@pytest.mark.parametrize(
    ("held_minor", "amount_minor", "held"), [(5_000, 5_001, 50), (0, 1, 0), (0, 99_999, 0)]
)
def test_release_of_more_than_held(held_minor: int, amount_minor: int, held: int) -> None:
    policy.require_held(BALANCE, amount_minor, amount_minor)
    with pytest.raises(RequestError) as raised:
        policy.require_held(BALANCE, held_minor, amount_minor)
    facts: dict[str, object] = {"amountReleased": 0, "amountHeld": held, "newAvailable": 500}
    assert is_error(
        raised.value, Expected(Code.AMOUNT_EXCEEDS_RESERVED, "Amount exceeds reserved: ", facts)
    )


@pytest.mark.parametrize(
    ("held", "basis_points", "amount", "limit", "expected"),
    [
        (10_000, 1_000, None, 50_000, 1_000),
        (10_000, 1_000, None, 500, 500),
        (10_000, 1_000, None, None, 0),
        (10_000, 1_000, 300, None, 300),
        (10_000, 1_000, 300, 100, 300),
        (10_000, 1_000, 0, 50_000, 0),
        (10_000, 0, 300, 50_000, 0),
        (10_000, 10_000, 90_000, 50_000, 10_000),
        (9_999, 1_000, None, 50_000, 999),
        (9, 1_000, None, 50_000, 0),
    ],
)
def test_tolerance_of_a_commit(
    held: int, basis_points: int, amount: int | None, limit: int | None, expected: int
) -> None:
    tolerance = InvoiceTolerance(basis_points, amount)
    customer = CustomerDefaults("USD", 2, limit)
    assert policy.commit_tolerance(BALANCE, held, None, customer, tolerance) == expected


@pytest.mark.parametrize(("limit", "expected"), [(None, 0), (5, 5), (500, 100)])
def test_amount_of_the_tolerance_is_in_the_customers_currency(
    limit: int | None, expected: int
) -> None:
    tolerance = InvoiceTolerance(1_000, 300)
    customer = CustomerDefaults("USD", 2, 50_000)
    assert policy.commit_tolerance(YEN, 1_000, limit, customer, tolerance) == expected


def test_commit_beyond_the_tolerance() -> None:
    amounts = policy.split_commit(30_000, 33_001, final=False)
    policy.require_within_tolerance("b", BALANCE, amounts, 3_001)
    with pytest.raises(RequestError) as raised:
        policy.require_within_tolerance("b", BALANCE, amounts, 3_000)
    facts = {
        "budgetId": "b",
        "amountHeld": 300,
        "exceededBy": Decimal("30.01"),
        "largestAmount": 330,
    }
    sentence = "The request holds $300, and the commit is $30.01 more. At most $330 can be"
    assert is_error(raised.value, Expected(Code.COMMIT_EXCEEDS_RESERVED, sentence, facts))


# amend, reverse and spend


def test_amend_must_change_something() -> None:
    policy.require_change(Decimal(1), moves=False, extends=False)
    policy.require_change(None, moves=True, extends=False)
    policy.require_change(None, moves=False, extends=True)
    with pytest.raises(RequestError) as raised:
        policy.require_change(None, moves=False, extends=False)
    assert list(raised.value.fields) == ["amount"]


@pytest.mark.parametrize("requester_id", ["mark", None])
def test_ordinary_user_amends_only_their_own_request(requester_id: str | None) -> None:
    policy.require_own_reservation(FIONA, Scope.ANY, "r", requester_id)
    policy.require_own_reservation(JANE, Scope.OWN, "r", "jane")
    with pytest.raises(RequestError) as raised:
        policy.require_own_reservation(JANE, Scope.OWN, "r", requester_id)
    expected = Expected(Code.NOT_YOUR_REQUEST, "only your own requests", {"requestId": "r"})
    assert is_error(raised.value, expected)


def test_amend_of_another_version() -> None:
    for version in (None, 7):
        policy.require_version("res", BALANCE, 30_000, 7, version)
    for version in (6, 8):
        with pytest.raises(RequestError) as raised:
            policy.require_version("res", BALANCE, 30_000, 7, version)
        facts = {"reservationId": "res", "version": 7, "amountHeld": 300}
        sentence = "has version 7 and holds $300. Read the request"
        assert is_error(raised.value, Expected(Code.AMEND_OUT_OF_DATE, sentence, facts))


def test_target_of_a_move() -> None:
    policy.require_same_currency(BALANCE, OVERDRAWN)
    for other in (YEN, Balance("USD", 4, 0, 0, 0), Balance("EUR", 2, 0, 0, 0)):
        with pytest.raises(RequestError) as raised:
            policy.require_same_currency(BALANCE, other)
        assert raised.value.fields == {"toBudgetId": "must be a budget in USD"}
    policy.require_free_target("b", BALANCE, 0)
    with pytest.raises(RequestError) as raised:
        policy.require_free_target("b", BALANCE, 1)
    facts = {"budgetId": "b", "amountHeld": Decimal("0.01")}
    assert is_error(raised.value, Expected(Code.REQUEST_CONFLICT, "already holds $0.01", facts))


@pytest.mark.parametrize(
    ("committed", "amount", "parts"),
    [
        ([100], 100, [Part(0, 100)]),
        ([100], 1, [Part(0, 1)]),
        ([100, 50], 100, [Part(0, 100)]),
        ([100, 50], 101, [Part(0, 100), Part(1, 1)]),
        ([0, 50, 0, 7], 57, [Part(1, 50), Part(3, 7)]),
    ],
)
def test_parts_of_a_reversal(committed: list[int], amount: int, parts: list[Part]) -> None:
    assert policy.split_reversal(committed, amount) == parts


def test_reference_of_another_amount() -> None:
    policy.require_same_ref_amount(BALANCE, "INV-1", 300, 300)
    for amount in (299, 301):
        with pytest.raises(RequestError) as raised:
            policy.require_same_ref_amount(BALANCE, "INV-1", 300, amount)
        facts = {"externalRef": "INV-1", "amount": 3}
        sentence = "INV-1 was already recorded for $3 on this budget"
        assert is_error(raised.value, Expected(Code.EXTERNAL_REF_CONFLICT, sentence, facts))


def test_spend_id_of_another_spend() -> None:
    first = SpendFacts("b", 100, "2025-03-31")
    policy.require_same_spend("s", first, first)
    for sent in (
        first._replace(budget_id="c"),
        first._replace(amount_minor=101),
        first._replace(spent_on="2025-04-01"),
    ):
        with pytest.raises(RequestError) as raised:
            policy.require_same_spend("s", first, sent)
        expected = Expected(Code.IDEMPOTENCY_KEY_REUSED, "another budget", {"spendId": "s"})
        assert is_error(raised.value, expected)
