"""The commands, one module per subject, listed in `cli.py`.

Each command parses its arguments, calls one function and prints the result. `support` has the
shared code.
"""
