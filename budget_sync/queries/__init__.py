"""Every read for display: the API, the console, `flask stats` and the metrics.

Each module covers one subject. Nothing here writes. All queries but those in `monitoring` are
limited to one customer and to what the caller may see.
"""
