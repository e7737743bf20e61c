"""The proof: every promise of the service, and a way to try to break it.

Each promise is one module with a function `stress(tries, place)`, which tries that often and returns an `Outcome`: what was
tried, and every violation found. `rows` is the table of them. `make prove` runs it all at full length and prints what came
of it; `tests/stress/test_stress.py` runs the short form of each, through the same code.
"""
