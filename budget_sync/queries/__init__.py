"""Every read for display: the API, the console, `flask stats` and the metrics.

Each module covers one subject. Nothing here writes. Queries are limited to one customer and to what
the caller may see, except in `monitoring`, and in `stats` for an operator.
"""
