"""`flask load-test`: its refusals, a run against a server, its verdict, and the doctor's line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from support.installation import Installation
from support.world import ROOT

from app import create_app
from budget_sync import database, manual_budgets, settings
from budget_sync.accounts import api_keys, customers
from budget_sync.database.models import Reservation
from budget_sync.ledger import verification
from budget_sync.operations import load_test
from budget_sync.operations.load_test import purchases
from budget_sync.operations.load_test.client import Answer
from budget_sync.operations.load_test.report import percentile

pytestmark = pytest.mark.both_engines

TEST = "acme-test"


@pytest.fixture
def keys(server: Installation, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A running server with a test customer, and a file with a key of each kind of customer."""
    app = create_app(settings.load(server.environment))
    with app.app_context():
        customers.add_customer(ROOT, TEST, "Acme (test)", is_test=True)
        found = {}
        for customer_id in (TEST, "org-456", None):
            path = tmp_path / f"key of {customer_id}"
            path.write_text(f"{api_keys.add_key(ROOT, 'load', customer_id=customer_id)}\n")
            found[str(customer_id)] = path
    yield found
    database.disconnect()


def add_budget() -> None:
    """Give the test customer a budget."""
    manual_budgets.set_budget(
        *(ROOT, TEST, "Load test", "Q1 2030", Decimal(1_000)), budget_id="load-1"
    )


@pytest.mark.parametrize("customer_id", ["org-456", "None"])
def test_key_of_a_real_customer_is_rejected(
    server: Installation, keys: dict[str, Path], customer_id: str
) -> None:
    before = Reservation.select().count()
    result = server.flask(
        *("load-test", "--url", server.url, "--key-file", str(keys[customer_id])), check=False
    )
    assert result.returncode == 1
    assert "is not a test customer" in result.stderr
    assert Reservation.select().count() == before


def test_run_moves_money_of_the_test_customer_only(
    server: Installation, keys: dict[str, Path]
) -> None:
    arguments = ("load-test", "--url", server.url, "--key-file", str(keys[TEST]))
    options = ("--per-minute", "600", "--minutes", "0.05")
    result = server.flask(*arguments, *options, check=False)
    assert result.returncode == 1
    assert "No budget of acme-test has 10 available. Create one: `flask set-budget" in result.stderr
    add_budget()
    before = Reservation.select().where(Reservation.customerId != TEST).count()
    result = server.flask(*arguments, *options)
    lines = [line.split() for line in result.stdout.splitlines()]
    calls = {line[0]: (line[1], line[-1]) for line in lines if line[0] in ("check", "all")}
    assert calls == {"check": ("10", "0"), "all": ("30", "0")}
    assert "Passed: no call failed" in result.stdout
    found = list(Reservation.select().where(Reservation.customerId == TEST))
    assert sum(row.committedMinor for row in found) == 800
    assert sum(row.releasedMinor for row in found) == 200
    assert Reservation.select().where(Reservation.customerId != TEST).count() == before
    assert verification.verify().findings == []
    passed = load_test.last_passed(server.folder)
    assert passed is not None
    assert (passed.url, passed.per_minute) == (server.url, 600)
    doctor = server.flask("doctor", check=False).stdout
    assert f"`flask load-test` last passed at {passed.time}" in doctor


def test_unreachable_service_and_bad_key_files_are_reported(
    server: Installation, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    for content, url, message in (
        ("bsk_1_2", "http://127.0.0.1:1", "cannot be read: no reply"),
        ("bsk_1_2", server.url, "this API key is not valid"),
        ("bsk_1_2", "ftp://host", "must begin with http"),
        ("secret", server.url, "has no API key"),
    ):
        key.write_text(content)
        result = server.flask("load-test", "--url", url, "--key-file", str(key), check=False)
        assert result.returncode in (1, 2)
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


class Replies(load_test.Client):
    """A client without a network, whose replies are given."""

    def __init__(self, status: int = 200) -> None:
        super().__init__("http://localhost", "bsk_1_2")
        self.status = status
        self.sent: list[str] = []

    def post(self, path: str, body: dict[str, object], key: str, stop: threading.Event) -> Answer:
        """The given status, without a network."""
        self.sent.append(path.rpartition("/")[2])
        is_ok = self.status == 200
        return Answer(self.status, {"success": is_ok, "available": is_ok}, 0)


PLAN = load_test.Plan(
    TEST, [{"id": "b", "department": "d", "fiscalPeriod": "p"}], per_minute=6_000, minutes=0.01
)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time between the calls of a purchase."""
    monkeypatch.setattr(purchases, "NEXT_CALL_AFTER_S", 0.0)


def test_failed_calls_fail_the_test_and_end_their_purchase(fast: None) -> None:
    client = Replies(status=409)
    report = load_test.run(client, PLAN, threading.Event())
    assert set(client.sent) == {"check"}
    assert len(client.sent) == PLAN.purchases == 20
    assert report.errors["check"] == 20
    assert not report.passed


def test_slow_calls_fail_the_test(fast: None) -> None:
    report = load_test.run(Replies(), PLAN, threading.Event())
    assert report.calls == 60
    assert report.passed
    report.add("commit", 2.5, 0, None)
    assert not report.passed


def test_latency_counts_from_the_intended_start(
    fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One thread: the calls after a slow one wait, and that counts.
    monkeypatch.setattr(purchases, "MAX_WAITING", 1)
    stop = threading.Event()

    class Slow(Replies):
        def post(
            self, path: str, body: dict[str, object], key: str, stop: threading.Event
        ) -> Answer:
            if not self.sent:
                stop.wait(0.3)
            return super().post(path, body, key, stop)

    report = load_test.run(Slow(), PLAN, stop)
    late = [each for each in report.latencies_s["check"] if each > 0.1]
    assert len(late) > 3


def test_interrupted_run_has_a_table_and_does_not_pass(fast: None) -> None:
    stop = threading.Event()

    class Interrupting(Replies):
        def post(
            self, path: str, body: dict[str, object], key: str, stop: threading.Event
        ) -> Answer:
            if len(self.sent) == 5:
                stop.set()
            return super().post(path, body, key, stop)

    report = load_test.run(Interrupting(), PLAN, stop)
    assert 0 < report.calls < 60
    assert not report.passed
    assert report.rows()[-1][0] == "all"


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 99, 0.0), ([3.0], 50, 3.0), ([1.0, 2.0, 3.0, 4.0], 50, 2.0), ([1.0, 9.0], 100, 9.0)],
)
def test_percentile_is_the_nearest_rank(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_damaged_result_file_is_ignored(tmp_path: Path) -> None:
    assert load_test.last_passed(tmp_path) is None
    for text in ("", "[]", '{"time": 1}', "{"):
        (tmp_path / "load-test.json").write_text(text)
        assert load_test.last_passed(tmp_path) is None
