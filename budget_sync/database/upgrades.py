"""The steps from each schema version to the next, keyed by the version they lead to. A released step is never edited."""

from __future__ import annotations

UPGRADES: dict[int, list[str]] = {}
