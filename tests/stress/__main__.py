"""`python -m tests.stress`: run the stress tests and print a table of results."""

from __future__ import annotations

import sys
from pathlib import Path

# tests/ is not a package, so its folders are imported from here.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stress.command import main  # needs the path above

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
