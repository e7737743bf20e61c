"""Files in forms: only the forms for files accept a large body, and only a few arrive at once."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, closing

import pytest
import requests
from support.installation import Installation

from budget_sync.server.worker import MAX_UPLOADS
from budget_sync.web.server_interface import MAX_UPLOAD_BYTES

#: A CSV file of about 3 MB, which is larger than any other request may be.
LARGE = "Department,Fiscal Period,Budgeted Amount,Remark\n" + "".join(
    f"Team {row},Q1 2026,{row}.50,{'x' * 900}\n" for row in range(3_000)
)

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
)


@pytest.fixture
def site(installation: Installation) -> Installation:
    """A server with one worker."""
    installation.start("--workers", "1")
    return installation


def send(site: Installation, path: str, content: str) -> requests.Response:
    """Send a form with a file as an admin."""
    session = site.session("fiona")
    page = session.get(f"{site.url}/sync/connect", timeout=30).text
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return session.post(
        f"{site.url}{path}",
        data={"csrf_token": found[1]},
        files={"file": ("plan.csv", content)},
        timeout=120,
        allow_redirects=False,
    )


def test_large_file_is_uploaded(site: Installation) -> None:
    response = send(site, "/sync/file", LARGE)
    assert response.status_code == 302, response.text[:2000]
    assert "/sync/reading?source=src_" in response.headers["Location"]


def test_other_forms_stay_small_and_no_file_is_endless(site: Installation) -> None:
    for path in ("/sync/run", "/sync/files", "/sync/tabs"):
        assert send(site, path, LARGE[:100_000]).status_code in (404, 413), path
    # A file that is too large is rejected before it arrives.
    with closing(begin(site, "/sync/file", MAX_UPLOAD_BYTES + 1)) as client:
        assert b"302" in client.recv(1000)


def begin(site: Installation, path: str, length: int) -> socket.socket:
    """Send the beginning of a request."""
    client = socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2])), timeout=20)
    client.sendall(HEAD.format(path=path, length=length).encode())
    return client


def test_only_a_few_uploads_arrive_at_once(site: Installation) -> None:
    with ExitStack() as stack:
        waiting = [
            stack.enter_context(closing(begin(site, "/sync/file", 1_000_000)))
            for _ in range(MAX_UPLOADS)
        ]
        time.sleep(0.3)
        extra = stack.enter_context(closing(begin(site, "/sync/file", 1_000_000)))
        assert b"503" in extra.recv(1000)
        # Other requests are not affected.
        assert requests.get(f"{site.url}/healthz", timeout=10).status_code == 200
        waiting[0].close()
        time.sleep(0.3)
        again = stack.enter_context(closing(begin(site, "/sync/file", 1_000_000)))
        again.settimeout(0.5)
        with pytest.raises(TimeoutError):
            again.recv(1000)
