"""Serves the bare or the plain app on the product's own server, with the product's own settings: python -m bench.serve bare 8001."""

from __future__ import annotations

import logging
import sys

from bench import bare, plain
from budget_sync.server.arbiter import Server

APPS = {"bare": bare.create_app, "plain": plain.create_app}

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    Server(
        APPS[sys.argv[1]], host="127.0.0.1", port=int(sys.argv[2]), workers=int(sys.argv[3])
    ).run()
