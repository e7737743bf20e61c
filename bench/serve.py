"""Serves an app of the benchmark on the product's server: python -m bench.serve APP PORT WORKERS.

`bare` and `plain` are the apps to compare with. `threads` is the product without greenlets: every
request runs in a thread. This is for the benchmark only, and not a setting of the product.
"""

from __future__ import annotations

import logging
import sys

import app as product
from bench import bare, plain
from budget_sync.server.arbiter import Server
from budget_sync.server.worker import Worker

APPS = {"bare": bare.create_app, "plain": plain.create_app, "threads": product.create_app}


def main(app: str, port: int, workers: int) -> None:
    """Serve until stopped."""
    if app == "threads":
        Worker.uses_greenlets = False
    else:
        logging.basicConfig(level=logging.INFO)
    Server(APPS[app], host="127.0.0.1", port=port, workers=workers).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
