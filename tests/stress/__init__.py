"""Stress tests, which attack the service's invariants with faults, load and hostile input.

Each module has a function `stress(tries, place)`, which makes that many attempts and returns an
`Outcome`: the number of attempts and all violations found. `rows` lists the stress tests.
`make stress` runs them at full length and prints a table of results; `test_stress.py` runs a short
form of each through the same code.
"""
