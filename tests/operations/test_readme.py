"""The README against the program: its lines run as they stand, and its tables are the code's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from flask import Flask
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation
from support.machine import PROJECT, needs
from support.world import sign_in

import cli
from budget_sync.domain.errors import MEANINGS, Code
from budget_sync.operations import demo
from budget_sync.web.payloads import STATUSES

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run_line(line: str, server: Installation) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell as pasted from the project's folder, with this installation's port, folder and programs."""
    pasted = (
        line.replace("http://127.0.0.1:8000", server.url)
        .replace(" instance/", f" {server.folder}/")
        .replace("@instance/", f"@{server.folder}/")
    )
    return subprocess.run(
        ["bash", "-euc", pasted],
        cwd=PROJECT,
        env=server.full_environment(),
        text=True,
        capture_output=True,
        check=True,
    )


def test_the_readmes_curl_lines_do_what_it_says(server: Installation) -> None:
    needs(shutil.which("curl"), "curl")
    lines = [block for block in blocks("sh") if block.startswith("curl")]
    answers = [json.loads(run_line(line, server).stdout) for line in lines]
    check, login, reserve, release, second_check, second_reserve, commit, story, third_reserve = (
        answers
    )
    assert check["budget"]["available"] == 95000
    assert check["budget"]["budgetedAmount"] == 100000
    assert check["canAutoApprove"]
    assert login["user"]["name"] == "Fiona Adams"
    assert reserve["amountReserved"] == 5000
    assert reserve["newAvailable"] == 90000
    assert release["amountReleased"] == 5000
    assert release["newAvailable"] == 95000
    assert second_check["available"]
    assert second_reserve["newAvailable"] == 93799.5
    assert commit["amountCommitted"] == 1200.5
    assert [movement["action"] for movement in story["movements"]] == ["RESERVE", "COMMIT"]
    assert story["movements"][1]["externalRef"] == "PO-2041"
    assert third_reserve["amountReserved"] == 2500


def test_the_lines_that_the_demo_prints_work_as_pasted(server: Installation) -> None:
    needs(shutil.which("curl"), "curl")
    tour = server.flask("demo", "--url", server.url).stdout
    lines = re.findall(r"^  (curl .*?)\n\n", tour + "\n", flags=re.DOTALL | re.MULTILINE)
    answers = [json.loads(run_line(line, server).stdout) for line in lines]
    assert [answer.get("success") for answer in answers] == [True, True, True, True, None], answers
    assert answers[2]["newAvailable"] == 90000
    assert answers[3]["newAvailable"] == 95000
    assert answers[4]["requestId"] == "test-001"


def test_the_passwords_that_the_demo_prints_sign_in(world: Flask) -> None:
    printed = demo.tour("http://127.0.0.1:8000", Path(world.instance_path))
    found = re.findall(r"^  (\S+@acme\.com) +(\S+) ", printed, flags=re.MULTILINE)
    assert [email for email, _ in found] == ["jane@acme.com", "fiona@acme.com", "alex@acme.com"]
    for email, password in found:
        assert sign_in(world, email, password).get("/api/auth/me").json["user"]["email"] == email  # type: ignore[index]  # a JSON reply


def test_the_readmes_sql_runs_on_the_database_file(server: Installation) -> None:
    server.post(
        "/api/budget/check",
        {"requestId": "sql", "userId": "u", "userName": "U", "userEmail": "u@example.com"}
        | DEPARTMENT,
    )
    connection = sqlite3.connect(server.database)
    try:
        results = [connection.execute(statement).fetchall() for statement in blocks("sql")]
    finally:
        connection.close()
    assert len(results) == 4
    assert results[2] == [(100.0,)]


DEPARTMENT = {
    "customerId": "org-456",
    "department": "Engineering",
    "fiscalPeriod": "Q1 2025",
    "amount": 5000,
}


def test_the_commands_for_real_use_work_in_their_order(environment: dict[str, str]) -> None:
    installation = Installation(environment)
    (block,) = [block for block in blocks("sh") if "add-customer acme" in block]
    commands = [
        line.removeprefix(".venv/bin/")
        for line in block.splitlines()
        if line.startswith(".venv/bin/flask")
    ]
    assert commands.pop() == "flask serve"
    for command in commands:
        pasted = f"printf 'a long password\\na long password\\n' | {command}"
        subprocess.run(
            ["bash", "-euc", pasted],
            cwd=PROJECT,
            env=installation.full_environment(),
            text=True,
            capture_output=True,
            check=True,
        )
    assert "Pat Lee" in installation.flask("list-users").stdout
    assert "1 budgets" in installation.flask("verify").stdout


def test_the_table_of_codes_is_the_codes_own() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d.*?) \| (.*?) \|$", README, flags=re.MULTILINE)
    assert sorted(code for code, _, _ in rows) == sorted(Code)
    for code, status, meaning in rows:
        assert MEANINGS[Code(code)] == meaning
        if status.isdecimal():
            assert STATUSES.get(Code(code), 200) == int(status), code


def test_every_call_of_the_service_is_in_the_readme(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        if rule.endpoint != "static" and not rule.endpoint.startswith("console."):
            path = re.sub(r"<(?:path:)?\w+>", "<", rule.rule).split("<")[0]
            assert path in README or path.removeprefix("/api/auth") in README, rule.rule


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: str(command.name))
def test_every_command_says_what_it_is_for(command: click.Command) -> None:
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_every_variable_that_the_settings_read_is_in_the_readme() -> None:
    text = (PROJECT / "budget_sync" / "settings.py").read_text(encoding="utf-8")
    for name in set(re.findall(r'values(?:, |\.get\()"([A-Z_]+)"', text)):
        assert f"`{name}`" in README, name
