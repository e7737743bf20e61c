"""The decisions of the ledger's verbs. Pure: plain values in, no database, no I/O.

A verb loads facts, asks this package, moves money and records the movement. If a decision sometimes
needs another query, it is split into two functions, so that the query runs only if it is needed.

Functions named `require_…` raise RequestError if the call must be rejected.
"""

from budget_sync.ledger.policy.amend import (
    require_change,
    require_free_target,
    require_own_reservation,
    require_same_currency,
    require_version,
)
from budget_sync.ledger.policy.amounts import (
    insufficient_error,
    insufficient_reason,
    require_below_ceiling,
    require_live_budget,
    require_minor,
)
from budget_sync.ledger.policy.approval import (
    over_budget_approval,
    require_approval,
    require_may_name_approver,
    require_separate_approver,
)
from budget_sync.ledger.policy.check import (
    auto_approve_limit,
    currency_without_budget,
    decide_check,
    require_own_user_id,
)
from budget_sync.ledger.policy.commit import (
    commit_error,
    commit_tolerance,
    no_open_reservation,
    require_known_request,
    require_within_tolerance,
    split_commit,
)
from budget_sync.ledger.policy.decide import (
    require_not_requester,
    require_uncovered,
    require_waiting,
)
from budget_sync.ledger.policy.release import (
    require_held,
    require_may_cancel,
    require_not_declined,
    require_requester_named,
)
from budget_sync.ledger.policy.reserve import (
    choose_requester,
    require_newer_check,
    require_not_held_by_other,
    require_own_check,
    require_same_amount,
)
from budget_sync.ledger.policy.reverse import (
    Part,
    exceeds_committed,
    require_reservation_to_hold,
    require_same_ref_amount,
    split_reversal,
)
from budget_sync.ledger.policy.spend import (
    SpendFacts,
    require_one_budget,
    require_same_spend,
)
from budget_sync.ledger.policy.values import (
    Approval,
    Approver,
    CheckDecision,
    CommitAmounts,
    CustomerDefaults,
    InvoiceTolerance,
    Requester,
    person_label,
)

__all__ = [
    "Approval",
    "Approver",
    "CheckDecision",
    "CommitAmounts",
    "CustomerDefaults",
    "InvoiceTolerance",
    "Part",
    "Requester",
    "SpendFacts",
    "auto_approve_limit",
    "choose_requester",
    "commit_error",
    "commit_tolerance",
    "currency_without_budget",
    "decide_check",
    "exceeds_committed",
    "insufficient_error",
    "insufficient_reason",
    "no_open_reservation",
    "over_budget_approval",
    "person_label",
    "require_approval",
    "require_below_ceiling",
    "require_change",
    "require_free_target",
    "require_held",
    "require_known_request",
    "require_live_budget",
    "require_may_cancel",
    "require_may_name_approver",
    "require_minor",
    "require_newer_check",
    "require_not_declined",
    "require_not_held_by_other",
    "require_not_requester",
    "require_one_budget",
    "require_own_check",
    "require_own_reservation",
    "require_own_user_id",
    "require_requester_named",
    "require_reservation_to_hold",
    "require_same_amount",
    "require_same_currency",
    "require_same_ref_amount",
    "require_same_spend",
    "require_separate_approver",
    "require_uncovered",
    "require_version",
    "require_waiting",
    "require_within_tolerance",
    "split_commit",
    "split_reversal",
]
