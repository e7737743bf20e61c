"""The pages of docs/ that the service shows to integrators."""

from __future__ import annotations

import html
import json
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.machine import ENGINE, PROJECT
from support.world import key_headers

from budget_sync.domain.errors import Code
from budget_sync.domain.events import EventType
from budget_sync.web.openapi import guides
from budget_sync.web.payloads import STATUSES

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")


def served(app: Flask, name: str) -> str:
    response = app.test_client().get(f"/docs/{name}")
    assert (response.status_code, response.mimetype) == (200, "text/html"), name
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
    return response.text


def test_guides_have_every_word_of_their_file(app: Flask) -> None:
    for name in guides.PAGES:
        source = (PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        # The browser numbers the items of lists.
        source = re.sub(r"^```\w*$|^\d+\. ", "", source, flags=re.MULTILINE)
        source = re.sub(r"\]\([^)]*\)", "", source)
        shown = html.unescape(re.sub(r"<[^>]+>", " ", served(app, name)))
        assert set(re.findall(r"\w+", source)) - set(re.findall(r"\w+", shown)) == set(), name


def test_guides_have_no_inline_style_or_script(app: Flask) -> None:
    for name in guides.PAGES:
        page = served(app, name)
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page), name
        assert "<img src=" not in page.partition("<main")[2], name


def test_links_of_guides_lead_to_served_pages_and_anchors(app: Flask) -> None:
    pages = {name: served(app, name).partition("<main")[2] for name in guides.PAGES}
    ids = {name: set(re.findall(r' id="([^"]+)"', page)) for name, page in pages.items()}
    count = 0
    for name, page in pages.items():
        for link in re.findall(r'<a [^>]*href="([^"]+)"', page):
            if link.startswith(("https://", "http://")) or link == "/docs":
                continue
            path, _, fragment = link.partition("#")
            target = path.removeprefix("/docs/") or name
            assert target in pages, link
            assert not fragment or fragment in ids[target], link
            count += 1
    assert count > 20


def test_link_to_a_page_that_is_not_served_is_text() -> None:
    page = guides.render("# T\n\n[a](operate.md#x) [b](api.md#errors) [c](../README.md) [d](#t)\n")
    assert page.html == (
        '<p><span>a</span> <a href="/docs/api#errors">b</a> <span>c</span> <a href="#t">d</a></p>\n'
    )


def test_html_in_a_guide_is_escaped() -> None:
    page = guides.render("# T <b>\n\n<script>x</script>\n\n```\n<i>\n```\n\n[a](javascript:x)\n")
    assert page.title == "T <b>"
    assert not re.search(r"<(script|b|i)>|href=", page.html)
    assert "&lt;script&gt;" in page.html


def test_api_page_links_the_guides_and_others_are_404(app: Flask) -> None:
    client = app.test_client()
    page = client.get("/docs").text
    assert all(f'href="/docs/{name}"' in page for name in guides.PAGES)
    for name in ("operate", "integrate.md", "..", "Integrate"):
        assert client.get(f"/docs/{name}").status_code == 404, name


def test_integrators_page_has_every_code_with_its_status_and_event() -> None:
    page = (PROJECT / "docs" / "integrate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d{3}\b.*?) \|", page, flags=re.MULTILINE)
    found: dict[str, list[int]] = {}
    for row in rows:
        status = 0
        for number, code in re.findall(r"\b(\d{3})\b|`([A-Z_]{2,})`", row):
            if number:
                status = int(number)
            else:
                found.setdefault(code, []).append(status)
    assert set(found) == set(Code)
    # A check reports INSUFFICIENT_BUDGET with 200, and HTTP_ERROR has many statuses.
    assert found.pop("INSUFFICIENT_BUDGET") == [200, 409]
    found.pop("HTTP_ERROR")
    assert found == {code: [STATUSES.get(Code(code), 200)] for code in found}
    assert [kind for kind in EventType if f"`{kind}`" not in page] == []


def test_bodies_of_the_integrators_page_work(client: FlaskClient) -> None:
    page = (PROJECT / "docs" / "integrate.md").read_text(encoding="utf-8")
    calls = page.partition("## The calls")[2].partition("## Identifiers")[0]
    blocks = re.findall(r"```json\n(.*?)```", calls, flags=re.DOTALL)
    check, reply, reserve, commit, reject, cancel = map(json.loads, blocks)
    headers = key_headers()
    checked = client.post(
        "/api/budget/check", json=check | {"customerId": "org-456"}, headers=headers
    )
    got = json.loads(checked.text)
    assert got.keys() == reply.keys()
    assert got["budget"].keys() == reply["budget"].keys()
    assert got["code"] == reply["code"]
    for number, (call, body) in enumerate(
        [("commit", commit), ("release", reject), ("release", cancel)]
    ):
        for name, sent in (("reserve", reserve), (call, body)):
            answer = client.post(
                f"/api/budget/{name}", json=sent | {"requestId": f"r{number}"}, headers=headers
            )
            got = json.loads(answer.text)
            assert (answer.status_code, got["success"]) == (200, True), got
