"""Google Sheets: one tab with its merges, hidden rows, dates and percentages.

A sync run sends three requests: for the properties and formats (`about`), and twice for the values
(`sheet`). `client` and `transport` bound their time and size, and `problems` explains errors.
"""

from budget_sync.sync.google.about import Spreadsheet, Tab
from budget_sync.sync.google.sheet import fetch_sheet, list_tabs, sharing_address

__all__ = ["Spreadsheet", "Tab", "fetch_sheet", "list_tabs", "sharing_address"]
