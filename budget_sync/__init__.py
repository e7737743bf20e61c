"""Budget Sync checks a department's budget before a purchase, reserves the money, and returns it.

Terms used throughout the package:

- **customer**: the tenant. No customer can see or change anything of another customer.
- **source**: the origin of a customer's budgets: a Google Sheet, a CSV file or an Excel file.
- **sync run**: one sync of one source.
- **budget**: the amount that a department may spend in a fiscal period. It is one row of the
  finance team's sheet.
- **check**: the question whether a budget can cover an amount. A check is logged but moves nothing.
- **reservation**: money set aside on one budget for one request. It is open until all of it is
  committed or released.
- **requester**: the user or service that a reservation belongs to.
- **reserved**: set aside for open reservations.
- **committed**: spent for good.
- **available**: budgeted - reserved - committed.
- **commit**: moves reserved money to committed (fulfillment).
- **release**: returns reserved money to the budget.
- **minor units**: an amount as an integer in the smallest unit of its currency (cents for USD, yen
  for JPY).
"""

__version__ = "1.0.0"
