"""`python -m tests.stress`: tries to break every promise, and prints what came of it."""

from __future__ import annotations

import sys
from pathlib import Path

# The tests are no package: what they share is found from their folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stress.command import main  # the path comes first

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
