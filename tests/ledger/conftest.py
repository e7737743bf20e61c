"""The company whose purchases the tests of the verbs record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from support.purchases import found_company

from budget_sync.ledger import verification


@pytest.fixture
def company(app: Flask) -> Iterator[Flask]:
    """A company with budgets; after the test, counters, reservations and audit log agree."""
    found_company()
    yield app
    assert verification.verify().findings == []
