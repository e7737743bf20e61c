"""README and docs: their lines run as written, and their tables equal the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

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
from budget_sync.sync.describe import proposal_json
from budget_sync.sync.propose import Proposed
from budget_sync.sync.reading.detect import detect
from budget_sync.sync.reading.result import Customer
from budget_sync.sync.source import CSV, Target
from budget_sync.web.payloads import STATUSES

DOCS = PROJECT / "docs"
#: Every page for people, relative to the project's folder.
PAGES = sorted(
    path.relative_to(PROJECT)
    for path in (
        PROJECT / "README.md",
        PROJECT / "CHANGELOG.md",
        PROJECT / "deploy" / "README.md",
        PROJECT / "examples" / "orchestrator" / "README.md",
        PROJECT / "tests" / "README.md",
        *DOCS.glob("*.md"),
        *(PROJECT / ".github").rglob("*.md"),
    )
)


def read(page: str) -> str:
    """The text of a page, named relative to the project's folder."""
    return (PROJECT / page).read_text(encoding="utf-8")


README = read("README.md")
API = read("docs/api.md")
INSTALL = read("docs/install.md")
SHEETS = read("docs/sheets.md")


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language in a page's text."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def run_line(
    line: str, server: Installation, *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell as if pasted in the project's folder.

    The address, the instance folder and the programs are replaced by this installation's.
    """
    pasted = (
        line.replace("http://127.0.0.1:8000", server.url)
        .replace(" instance/", f" {server.folder}/")
        .replace("@instance/", f"@{server.folder}/")
        .replace(".venv/bin/flask", "flask")
    )
    return subprocess.run(
        ["bash", "-euc", pasted],
        cwd=PROJECT,
        env=server.shell_environment(),
        text=True,
        capture_output=True,
        check=check,
    )


def run_curl_lines(page: str, server: Installation) -> list[dict[str, Any]]:
    """The JSON replies of a page's curl lines, in their order."""
    needs(shutil.which("curl"), "curl")
    lines = [block for block in blocks(page, "sh") if block.startswith("curl")]
    return [json.loads(run_line(line, server).stdout) for line in lines]


def test_readme_curl_lines_do_what_it_says(server: Installation) -> None:
    check, reserve, commit, timeline, second_reserve = run_curl_lines(README, server)
    assert check["budget"]["available"] == 95000
    assert check["budget"]["budgetedAmount"] == 100000
    assert check["canAutoApprove"]
    assert reserve["amountReserved"] == 5000
    assert reserve["newAvailable"] == 90000
    assert commit["amountCommitted"] == 4200.5
    assert commit["amountHeld"] == 0
    assert commit["newAvailable"] == 90799.5
    actions = [movement["action"] for movement in timeline["movements"]]
    assert actions == ["RESERVE", "COMMIT", "RELEASE"]
    assert timeline["movements"][1]["externalRef"] == "PO-2041"
    assert second_reserve["amountReserved"] == 2500


def test_api_page_curl_lines_do_what_it_says(server: Installation) -> None:
    login, reserve, release, check, *later = run_curl_lines(API, server)
    assert login["user"]["name"] == "Fiona Adams"
    assert reserve["newAvailable"] == 90000
    assert release["amountReleased"] == 5000
    assert release["newAvailable"] == 95000
    assert check["available"]
    hold, amend, commit, reverse, spend = later
    assert hold["newAvailable"] == 94000
    assert (amend["previousAmount"], amend["amountReserved"]) == (1000, 1200)
    assert amend["newAvailable"] == 93800
    assert (commit["amountExceeded"], commit["newAvailable"]) == (50, 93750)
    assert (reverse["amountReversed"], reverse["newAvailable"]) == (250, 94000)
    assert (spend["overdrawn"], spend["newAvailable"]) == (False, 93900.1)


def test_readme_fits_on_a_screen_or_two() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 900


def test_readme_links_every_page() -> None:
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in README] == []


def test_sheets_page_commands_work_in_their_order(server: Installation) -> None:
    lines = [line for block in blocks(SHEETS, "sh") for line in block.splitlines()]
    ran = {line.removeprefix(".venv/bin/"): run_line(line, server, check=False) for line in lines}
    failed = {line: each.stderr for line, each in ran.items() if each.returncode}
    # Without a terminal, it lists its question and exits with 2.
    asking = "flask add-source --customer org-456 --csv sections.csv"
    assert list(failed) == [asking]
    assert "--answer unit=1000\n" in ran[asking].stdout
    assert "4 to create" in ran["flask sync-sheets --dry-run"].stdout
    assert "4 created" in ran["flask sync-sheets"].stdout


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        ("german.csv", ["currency=EUR"], {"count": 4, "total": {"EUR": 161650}}),
        ("lines.csv", ["keep:Status=approved"], {"count": 3, "total": {"USD": 196500}}),
        ("quarters.csv", [], {"count": 12, "total": {"USD": 394000}}),
        ("sections.csv", ["unit=1000"], {"count": 3, "total": {"USD": 2414500}}),
    ],
)
def test_examples_are_read_with_their_answers(
    name: str, answers: list[str], expected: dict[str, object]
) -> None:
    parsed = {text.split("=")[0]: [text.split("=")[1]] for text in answers}
    proposal = detect((PROJECT / "examples" / name).read_bytes(), Customer("USD"), parsed)
    assert proposal.open == []
    found = proposal_json(Proposed(proposal, Target(CSV)), None)["budgets"]
    assert isinstance(found, dict)
    assert {key: found[key] for key in expected} == expected


def test_every_question_is_documented() -> None:
    folder = PROJECT / "budget_sync" / "sync" / "reading" / "detect"
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    asked = set(re.findall(r'Question\(\s*f?"([a-z_]+:?)', code))
    assert {"department", "keep:", "sum", "dash", "encoding"} <= asked
    assert [name for name in sorted(asked) if f"`{name}`" not in SHEETS] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    folder = (PROJECT / page).parent
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", read(str(page))):
        if not target.startswith(("http://", "https://")):
            assert (folder / target).exists(), target


def test_demo_lines_work_as_pasted(server: Installation) -> None:
    needs(shutil.which("curl"), "curl")
    tour = server.flask("demo", "--url", server.url).stdout
    lines = re.findall(r"^  (curl .*?)\n\n", tour + "\n", flags=re.DOTALL | re.MULTILINE)
    answers = [json.loads(run_line(line, server).stdout) for line in lines]
    assert [answer.get("success") for answer in answers] == [True, True, True, True, None], answers
    assert answers[2]["newAvailable"] == 90000
    assert answers[3]["newAvailable"] == 95000
    assert answers[4]["requestId"] == "test-001"


def test_demo_passwords_sign_in(world: Flask) -> None:
    printed = demo.tour("http://127.0.0.1:8000", Path(world.instance_path))
    found = re.findall(r"^  (\S+@acme\.com) +(\S+) ", printed, flags=re.MULTILINE)
    assert [email for email, _ in found] == ["jane@acme.com", "fiona@acme.com", "alex@acme.com"]
    for email, password in found:
        reply = sign_in(world, email, password).get("/api/auth/me").get_json()
        assert reply["user"]["email"] == email


def test_documented_sql_runs_on_the_database_file(server: Installation) -> None:
    server.post(
        "/api/budget/check",
        {"requestId": "sql", "userId": "u", "userName": "U", "userEmail": "u@example.com"}
        | DEPARTMENT,
    )
    connection = sqlite3.connect(server.database)
    try:
        results = [connection.execute(statement).fetchall() for statement in blocks(API, "sql")]
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


def test_setup_commands_work_in_their_order(environment: dict[str, str]) -> None:
    installation = Installation(environment)
    (block,) = [block for block in blocks(INSTALL, "sh") if "add-customer acme" in block]
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
            env=installation.shell_environment(),
            text=True,
            capture_output=True,
            check=True,
        )
    assert "Pat Lee" in installation.flask("list-users").stdout
    assert "1 budgets" in installation.flask("verify").stdout


def test_rehearsal_of_a_restore_works_as_pasted(server: Installation, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    server.flask("backup", str(backups))
    (block,) = [block for block in blocks(INSTALL, "sh") if "flask restore" in block]
    rehearsal = tmp_path / "rehearsal"
    pasted = block.replace("/var/lib/budget-sync/rehearsal", str(rehearsal)).replace(
        "/var/backups/budget-sync", str(backups)
    )
    program = f"command flask --app {PROJECT / 'app.py'}"
    functions = f'flask() {{ {program} "$@"; }}; install() {{ mkdir "${{@: -1}}"; }}; '
    before = server.flask("stats").stdout
    done = subprocess.run(
        ["bash", "-euc", functions + pasted],
        cwd=tmp_path,
        env=server.shell_environment(),
        text=True,
        capture_output=True,
        check=True,
    )
    assert "There was no database before" in done.stdout
    assert "All balances are consistent" in done.stdout
    assert done.stdout.endswith(before)
    assert sorted(path.name for path in rehearsal.iterdir())
    assert server.flask("verify").stdout


def test_table_of_codes_equals_the_code() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d.*?) \| (.*?) \|$", API, flags=re.MULTILINE)
    assert sorted(code for code, _, _ in rows) == sorted(Code)
    for code, status, meaning in rows:
        assert MEANINGS[Code(code)] == meaning
        if status.isdecimal():
            assert STATUSES.get(Code(code), 200) == int(status), code


def test_every_call_is_documented(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        if rule.endpoint != "static" and not rule.endpoint.startswith("console."):
            path = re.sub(r"<(?:path:)?\w+>", "<", rule.rule).split("<")[0]
            assert path in API or path.removeprefix("/api/auth") in API, rule.rule


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: str(command.name))
def test_every_command_and_option_has_help(command: click.Command) -> None:
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_every_setting_is_documented() -> None:
    text = (PROJECT / "budget_sync" / "settings.py").read_text(encoding="utf-8")
    for name in set(re.findall(r'values(?:,\s+|\.get\(\s*)"([A-Z_]+)"', text)):
        assert f"`{name}`" in INSTALL, name
