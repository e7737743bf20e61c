"""The commands, by subject: each parses its line, calls one verb, and prints. `cli.py` lists them all.

`shell` is what they share; `people` (customers, users, keys), `budgets`, `sources` and `operations` (install, serve, prove, move)
are the commands themselves.
"""
