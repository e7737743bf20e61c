"""Helpers that connect sheets in the console, as a person does with a browser."""

from __future__ import annotations

import html
import re
from io import BytesIO

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from budget_sync.database.models import BudgetDataSourceConfig
from support.console_site import hidden, token

#: Answers by question id.
Answers = dict[str, list[str]]

PLAIN = b"Department,Fiscal Period,Budgeted Amount\nSales,Q1 2025,1000\nDesign,Q1 2025,2500\n"

#: A sheet that asks which rows count.
WITH_STATUS = b"""Spending plan 2026,,,,,
Cost Center,Class,FY,Status,Adopted Budget,Curr
Distillery,Copper,FY2026,Approved,"75,000",USD
Distillery,Peat,FY2026,Approved,"45,000",USD
Cooperage,Oak,FY2026,Draft,"38,000",USD
Cooperage,Ash,FY2026,Approved,"12,500",USD
Total,,,,"132,500",
"""

REVENUE = b"""Department,Fiscal Year,Revenue Category,Amount
Parks,2025,Fees,100
Parks,2025,Permits,200
Library,2025,Fees,300
"""


def upload(
    client: FlaskClient, content: bytes, path: str = "/sync/file", name: str = "plan.csv"
) -> TestResponse:
    """Send the form with a file."""
    form = {"csrf_token": token(client), "file": (BytesIO(content), name)}
    return client.post(path, data=form, content_type="multipart/form-data")


def fields(page: str) -> dict[str, list[str]]:
    """The fields of the form with the questions, as a browser sends them without a change."""
    found: dict[str, list[str]] = {}
    form = page.partition('<form id="reading"')[2].partition("</form>")[0]
    for tag in re.findall(r"<input [^>]*>", form):
        about = {
            name: html.unescape(value) for name, value in re.findall(r'([\w-]+)="([^"]*)"', tag)
        }
        is_choice = about.get("type") in ("radio", "checkbox")
        if not is_choice or re.search(r" checked\b", tag):
            found.setdefault(about["name"], []).append(about.get("value", ""))
    return found


def answer(client: FlaskClient, path: str, answers: Answers) -> TestResponse:
    """Use answers, by question id, on the page at a path."""
    return send_answers(client, path, client.get(path).text, "read", answers)


def send_answers(
    client: FlaskClient, path: str, page: str, do: str, answers: Answers | None = None
) -> TestResponse:
    """Send the form of a page with some of its answers changed; `do` is the button."""
    sent = fields(page) | {"do": [do]}
    for question_id, values in (answers or {}).items():
        (name,) = {
            html.unescape(each)
            for each in re.findall(r'name="((?:answer|text):[^"]*)"', page)
            if html.unescape(each).partition(":")[2] == f'"{question_id}"'
        }
        is_typed = name.startswith("text:")
        sent[name] = values if is_typed else [f'"{value}"' for value in values]
    return client.post(path, data=sent)


def connect(
    client: FlaskClient,
    content: bytes = PLAIN,
    answers: Answers | None = None,
    name: str = "plan.csv",
) -> str:
    """Connect a file and confirm how it is read; return the source's id."""
    path = upload(client, content, name=name).location
    page = client.get(path).text
    if answers:
        page = send_answers(client, path, page, "read", answers).text
    response = send_answers(client, path, page, "confirm")
    assert response.status_code == 302, response.text
    return path.partition("source=")[2]


def newer(client: FlaskClient, source_id: str, content: bytes) -> TestResponse:
    """Upload a newer file and apply it."""
    path = f"/sync/upload?source={source_id}"
    assert upload(client, content, path).status_code == 302
    page = client.get(path).text
    form = {"csrf_token": token(client), "shown": hidden(page, "shown")}
    return client.post(f"/sync/upload/use?source={source_id}", data=form)


def sources() -> list[BudgetDataSourceConfig]:
    """The active sources of all customers, oldest first."""
    active = BudgetDataSourceConfig.select().where(BudgetDataSourceConfig.removedAt.is_null())
    return list(active.order_by(BudgetDataSourceConfig.createdAt, BudgetDataSourceConfig.id))
