"""The counts of a sheet as JSON text, for the database. Pure."""

from __future__ import annotations

import json
from decimal import Decimal

from budget_sync.domain.results import dumps
from budget_sync.sync.reading.result import Facts


def facts_to_text(facts: Facts) -> str:
    """The counts as JSON text. Sums are exact numbers in whole currency units."""
    return dumps(
        {
            "rows": facts.rows,
            "budgets": facts.budgets,
            "total": {currency: plain_number(sum_) for currency, sum_ in facts.total.items()},
            "namelessRows": facts.nameless_rows,
            "blankAmounts": facts.blank_amounts,
        }
    )


def facts_from_text(text: str) -> Facts:
    """The counts in a text of `facts_to_text`."""
    stored = json.loads(text, parse_float=Decimal)
    return Facts(
        rows=stored["rows"],
        budgets=stored["budgets"],
        total={currency: Decimal(sum_) for currency, sum_ in stored["total"].items()},
        nameless_rows=stored["namelessRows"],
        blank_amounts=stored["blankAmounts"],
    )


def plain_number(amount: Decimal) -> int | Decimal:
    """An amount as a JSON number: 5000 (an int, not 5000.0), Decimal("99.5")."""
    return int(amount) if amount == amount.to_integral_value() else amount.normalize()
