"""Budget Sync: says whether a department's budget can carry a purchase, sets the money aside, and gives it back.

The words used everywhere in this package:

- **customer**: the tenant. Nothing of one customer is ever visible to, or changed by, another.
- **budget**: what a department may spend in a fiscal period; one row of the finance team's sheet.
- **reservation**: money set aside on one budget for one request, open until all of it is committed or released.
- **reserved**: set aside for open reservations. **committed**: spent for good. **available**: budgeted - reserved - committed.
- **commit**: move reserved money to committed. **release**: give reserved money back.
- **check**: the question whether a budget could carry an amount. It is advice and is logged; it moves nothing.
- **source**: where a customer's budgets come from. **sync**: one pass over one source.
- **minor units**: an amount as an integer in its currency's smallest unit (cents for USD, yen for JPY).
"""

__version__ = "1.0.0"
