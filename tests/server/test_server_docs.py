"""docs/server.md describes every file of the server, and names the pinned version of gunicorn."""

from __future__ import annotations

import re

import pytest
from gunicorn.workers.gthread import ThreadWorker
from support.machine import PROJECT

from budget_sync.server import arbiter, connection, request_buffer, worker
from budget_sync.server.accepting import AcceptingWorker
from budget_sync.web import payloads

PAGE = (PROJECT / "docs" / "server.md").read_text(encoding="utf-8")

FILES = sorted(path.name for path in (PROJECT / "budget_sync" / "server").glob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_page_describes_every_file(name: str) -> None:
    assert f"\n| `{name}` | " in PAGE


def test_page_describes_no_other_files() -> None:
    assert sorted(re.findall(r"\n\| `(\w+\.py)` \|", PAGE)) == FILES


def test_page_names_the_pinned_version_of_gunicorn() -> None:
    requirements = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"^gunicorn==(\S+)", requirements, re.MULTILINE)
    assert len(pinned) == 1
    assert set(re.findall(r"gunicorn (\d[\d.]*\d)", PAGE)) == set(pinned)


@pytest.mark.parametrize(
    ("constant", "value", "text"),
    [
        ("worker.ARRIVAL_S", worker.ARRIVAL_S, "10 s"),
        ("request_buffer.MAX_HEAD_BYTES", request_buffer.MAX_HEAD_BYTES / 1024, "32 KiB"),
        ("web.payloads.MAX_BODY_BYTES", payloads.MAX_BODY_BYTES / 1024, "64 KiB"),
        ("connection.SEND_TIMEOUT_S", connection.SEND_TIMEOUT_S, "10 s"),
        ("arbiter.MAX_CONNECTIONS", arbiter.MAX_CONNECTIONS, "800"),
        ("arbiter.THREADS", arbiter.THREADS, "16"),
    ],
)
def test_page_has_the_limits_of_the_code(constant: str, value: float, text: str) -> None:
    assert f"{value:g}" == text.split(maxsplit=1)[0]
    assert re.search(rf"\| {text}\b.* \| `{re.escape(constant)}` \|", PAGE)


def test_overridden_internals_exist_in_gunicorn() -> None:
    """The methods that the page names for a file are those that it overrides in gunicorn."""
    for file, own_class in (("accepting", AcceptingWorker), ("worker", worker.Worker)):
        (row,) = re.findall(rf"\n\| `{file}\.py` \|.*", PAGE)
        overrides = row.split(" | ")[2].partition("; uses")[0].replace("ThreadWorker.", "")
        own = {
            name
            for name in vars(own_class)
            if hasattr(ThreadWorker, name) and not name.startswith("__")
        }
        assert set(re.findall(r"`(\w+)`", overrides)) == own
