"""Creates, changes, removes and revives budgets by hand.

The sheet sync does this for the budgets that have a source.
"""

from budget_sync.manual_budgets.change import set_budget
from budget_sync.manual_budgets.figures import BudgetFigures
from budget_sync.manual_budgets.remove import remove_budget, restore_budget

__all__ = ["BudgetFigures", "remove_budget", "restore_budget", "set_budget"]
