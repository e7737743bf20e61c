"""The commands that propose, store and show how a sheet is read, and that answer holds."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskCliRunner
from support.installation import Installation
from support.machine import PROJECT
from support.sources import add_file, write_reading
from support.sync_world import ORG, World, open_world

from app import create_app
from budget_sync import sync
from budget_sync.commands import readings
from budget_sync.commands.reading_answers import option_text, parse_answers
from budget_sync.database.models import AuditLog, BudgetDataSourceConfig
from budget_sync.settings import Settings
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.standard import standard_reading, template

pytestmark = pytest.mark.both_engines

PLAIN = "Department,Fiscal Period,Budgeted Amount\nSales,Q1 2025,1000\nLegal,Q1 2025,99.50\n"

#: The worked example of the design: a filter without a default, and lines that are added up.
SPENDING = """Spending plan 2026,,,,,
Cost Center,Class,FY,Status,Adopted Budget,Curr
Distillery,Copper,FY2026,Approved,"75,000",USD
Distillery,Peat,FY2026,Approved,"45,000",USD
Cooperage,Oak,FY2026,Draft,"38,000",USD
Cooperage,Ash,FY2026,Approved,"12,500",USD
Total,,,,"132,500",
"""
STATUS = "keep:Status"

#: The reading of SPENDING with the answer "approved".
SPENDING_READING = {
    "version": 1,
    "file": {"delimiter": ",", "encoding": "utf-8", "sepLine": False},
    "header": {"rows": 1},
    "department": {"column": "Cost Center", "fill": "no", "code": "keep"},
    "period": {"column": "FY"},
    "amount": {"columns": ["Adopted Budget"]},
    "currency": {"column": "Curr", "words": {}},
    "sum": True,
    "keep": [{"column": "Status", "in": ["approved"], "out": ["draft"]}],
    "totals": {"names": [], "departments": []},
    "unit": 1,
    "sign": "as is",
    "marks": {"decimal": ".", "group": ","},
    "blanks": [],
}
KEYS = [
    *("sourceId", "reading", "open", "questions", "refused", "budgets", "skipped", "errors"),
    "notes",
]


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        world.write("plain.csv", PLAIN)
        world.write("spending.csv", SPENDING)
        yield world


@pytest.fixture
def shell(world: World, chosen: Settings) -> Iterator[FlaskCliRunner]:
    app = create_app(
        replace(
            chosen,
            google_credentials=world.job.reach.credentials_path,
            google_sheets_api_url=world.google.url,
            csv_folder=world.folder,
        )
    )
    with app.app_context():
        yield app.test_cli_runner()


def add(shell: FlaskCliRunner, file: str, *options: str, command: str = "add-source") -> Result:
    """Run add-source (or another command) for a file."""
    return shell.invoke(args=[command, "--customer", ORG, "--csv", file, *options])


def said(ran: Result) -> dict[str, Any]:
    """The one JSON object that a command printed."""
    (line,) = ran.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def stored_reading() -> Any:
    """The reading of the only source."""
    return json.loads(BudgetDataSourceConfig.get().reading or "null")


def sources() -> int:
    """The number of stored sources."""
    return int(BudgetDataSourceConfig.select().count())


# JSON.


def test_plain_sheet_needs_only_accept(shell: FlaskCliRunner, world: World) -> None:
    ran = add(shell, "plain.csv", "--json")
    assert (ran.exit_code, sources()) == (2, 0)
    proposed = said(ran)
    assert list(proposed) == KEYS
    assert (proposed["sourceId"], proposed["open"], proposed["refused"]) == (None, [], None)
    ran = add(shell, "plain.csv", "--json", "--accept")
    assert ran.exit_code == 0, ran.output
    stored = BudgetDataSourceConfig.get()
    assert said(ran)["sourceId"] == stored.id
    assert stored_reading() == said(ran)["reading"]
    assert stored.readingConfirmedBy == "root (command line)"
    assert json.loads(stored.readingFacts or "{}")["total"] == {"USD": 1099.5}
    assert world.sync().status == "success"
    assert world.budgets() == {"Legal, Q1 2025": "99.5", "Sales, Q1 2025": "1000"}


def test_object_lists_the_budgets_with_exact_amounts(shell: FlaskCliRunner) -> None:
    assert said(add(shell, "plain.csv", "--json"))["budgets"] == {
        "count": 2,
        "total": {"USD": 1099.5},
        "first": [
            {
                "department": "Sales",
                "fiscalPeriod": "Q1 2025",
                "period": "2025-Q1",
                "amount": 1000,
                "currency": "USD",
                "row": 2,
                "rows": 1,
            },
            {
                "department": "Legal",
                "fiscalPeriod": "Q1 2025",
                "period": "2025-Q1",
                "amount": 99.5,
                "currency": "USD",
                "row": 3,
                "rows": 1,
            },
        ],
    }


def test_open_question_stores_nothing(shell: FlaskCliRunner) -> None:
    ran = add(shell, "spending.csv", "--json", "--accept")
    assert (ran.exit_code, sources()) == (2, 0)
    assert said(ran)["open"] == [STATUS]
    question = next(each for each in said(ran)["questions"] if each["id"] == STATUS)
    assert question["options"] == ["approved", "draft"]
    assert (question["default"], question["proposal"]) == (None, None)


def test_answer_settles_the_question_and_shows_in_the_reading(shell: FlaskCliRunner) -> None:
    ran = add(shell, "spending.csv", "--json", "--accept", f"--answer={STATUS}=approved")
    assert ran.exit_code == 0, ran.output
    found = said(ran)
    assert found["reading"] == SPENDING_READING
    assert found["open"] == []
    assert STATUS in [question["id"] for question in found["questions"]]
    assert [each["row"] for each in found["skipped"]] == [5, 7]
    amounts = {each["department"]: each["amount"] for each in found["budgets"]["first"]}
    assert amounts == {"Distillery": 120000, "Cooperage": 12500}


@pytest.mark.parametrize(
    "answers",
    [
        [f"--answer={STATUS}=approved", f"--answer={STATUS}=draft"],
        [f'--answer={STATUS}=["approved", "draft"]'],
    ],
    ids=["repeated", "JSON list"],
)
def test_question_with_several_values_takes_them_both_ways(
    shell: FlaskCliRunner, answers: list[str]
) -> None:
    found = said(add(shell, "spending.csv", "--json", *answers, command="preview-source"))
    assert found["reading"]["keep"] == [
        {"column": "Status", "in": ["approved", "draft"], "out": []}
    ]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("sum=maybe", "maybe"),
        ("summ=sum", "summ"),
        (f"{STATUS}=final", "final"),
        ("unit=1", None),
    ],
)
def test_wrong_answer_is_refused_and_an_unasked_one_ignored(
    shell: FlaskCliRunner, answer: str, named: str | None
) -> None:
    ran = add(shell, "spending.csv", "--json", f"--answer={answer}", command="preview-source")
    found = said(ran)
    if named is None:
        assert (ran.exit_code, found["refused"]) == (2, None)
        assert any("unit" in note for note in found["notes"])
    else:
        assert ran.exit_code == 1
        assert named in found["refused"]
        assert (found["reading"], found["budgets"]) == (None, None)


def test_two_answers_to_a_question_with_one_value_are_refused(shell: FlaskCliRunner) -> None:
    ran = add(shell, "spending.csv", "--json", "--answer=sum=sum", "--answer=sum=refuse")
    assert ran.exit_code == 1
    assert said(ran)["refused"] == "'sum' has several answers. Give one."


def test_preview_stores_nothing_and_exits_with_0(shell: FlaskCliRunner) -> None:
    ran = add(shell, "plain.csv", "--json", command="preview-source")
    assert (ran.exit_code, said(ran)["sourceId"], sources()) == (0, None, 0)
    assert add(shell, "spending.csv", "--json", command="preview-source").exit_code == 2


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("gone.csv", "not in the folder"),
        ("../x.csv", "must be inside"),
        ("payroll.csv", "payroll"),
        ("empty.csv", ""),
    ],
)
def test_sheet_that_cannot_be_read_is_refused(
    world: World, shell: FlaskCliRunner, file: str, says: str
) -> None:
    world.write(
        "payroll.csv",
        "Employee ID,Department,Job Title,Base Salary,Hire Date\n"
        + "".join(f"{n},Sales,Clerk,{50000 + n},2020-01-01\n" for n in range(9)),
    )
    world.write("empty.csv", "")
    ran = add(shell, file, "--json", "--accept")
    assert (ran.exit_code, sources()) == (1, 0)
    found = said(ran)
    assert list(found) == KEYS
    assert says in found["refused"]
    assert (found["reading"], found["budgets"], found["sourceId"]) == (None, None, None)


def test_second_source_of_a_sheet_is_refused(shell: FlaskCliRunner) -> None:
    assert add(shell, "plain.csv", "--accept").exit_code == 0
    ran = add(shell, "plain.csv", "--json", "--accept")
    assert (ran.exit_code, sources()) == (1, 1)
    assert "exists already" in said(ran)["refused"]


def test_unknown_customer_is_refused(shell: FlaskCliRunner) -> None:
    ran = shell.invoke(
        args=["preview-source", "--customer", "nobody", "--csv", "plain.csv", "--json"]
    )
    assert ran.exit_code == 1
    assert "nobody" in said(ran)["refused"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--csv", "plain.csv", "--xlsx", "plain.xlsx"],
        ["--csv", "plain.csv", "--worksheet", "A"],
        ["--csv", "plain.csv", "--answer", "sum"],
        ["--csv", "plain.csv", "--answer", "sum=sum", "--reading", "reading.json"],
        ["--csv", "plain.csv", "--reading", "gone.json"],
        ["--csv", "plain.csv", "--map", "Department=Team"],
    ],
)
def test_wrong_option_exits_with_2_and_one_line(shell: FlaskCliRunner, options: list[str]) -> None:
    for command in ("add-source", "preview-source"):
        ran = shell.invoke(args=[command, "--customer", ORG, "--json", *options])
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert len(ran.stderr.splitlines()) == 1


# A reading that is given.


def test_given_reading_is_applied_without_questions(
    world: World, shell: FlaskCliRunner, tmp_path: Path
) -> None:
    path = write_reading(tmp_path, Reading.from_text(json.dumps(SPENDING_READING)))
    ran = add(shell, "spending.csv", "--json", "--reading", str(path), "--accept")
    assert ran.exit_code == 0, ran.output
    assert (said(ran)["reading"], said(ran)["questions"]) == (SPENDING_READING, [])
    assert world.sync().status == "success"
    assert world.budgets() == {"Cooperage, FY2026": "12500", "Distillery, FY2026": "120000"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a reading"),
        ('{"colour": 1}', "colour"),
        (standard_reading(is_csv=False).to_text(), "file"),
    ],
)
def test_given_reading_that_is_wrong_is_refused(
    shell: FlaskCliRunner, tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "reading.json"
    path.write_text(text, encoding="utf-8")
    ran = add(shell, "plain.csv", "--json", "--reading", str(path), "--accept")
    assert (ran.exit_code, sources()) == (1, 0)
    assert says in said(ran)["refused"]


def test_given_reading_that_does_not_fit_is_refused(shell: FlaskCliRunner, tmp_path: Path) -> None:
    path = write_reading(tmp_path)
    ran = add(shell, "spending.csv", "--json", "--reading", str(path), "--accept")
    assert ran.exit_code == 1
    assert "'Department'" in said(ran)["refused"]


def test_shown_reading_is_accepted_by_reading(
    world: World, shell: FlaskCliRunner, tmp_path: Path
) -> None:
    added = add(shell, "spending.csv", "--json", "--accept", f"--answer={STATUS}=approved")
    shown = shell.invoke(args=["show-reading", said(added)["sourceId"]])
    assert json.loads(shown.output) == SPENDING_READING
    path = tmp_path / "reading.json"
    path.write_text(shown.output, encoding="utf-8")
    world.write("copy.csv", SPENDING)
    assert add(shell, "copy.csv", "--reading", str(path), "--accept").exit_code == 0


def test_source_without_a_reading_is_not_synced(world: World, shell: FlaskCliRunner) -> None:
    source = add_file(ORG, world.folder, "plain.csv")
    columns = ("reading", "readingConfirmedBy", "readingConfirmedAt", "readingFacts")
    BudgetDataSourceConfig.update(dict.fromkeys(columns)).execute()
    assert "waiting for confirmation" in shell.invoke(args=["list-sources"]).output
    ran = shell.invoke(args=["sync-sheets", "--json"])
    assert ran.exit_code == 0
    found = json.loads(ran.stdout)
    assert (found["source"], found["status"]) == (source.id, "skipped")
    assert found["errors"] == [{"rows": [], "message": sync.UNCONFIRMED}]
    shown = shell.invoke(args=["show-reading", source.id])
    assert (shown.exit_code, shown.stderr) == (1, f"Error: {sync.UNCONFIRMED}\n")
    assert shell.invoke(args=["reread-source", source.id, "--accept"]).exit_code == 0
    assert world.sync().status == "success"


# Without a terminal.


def test_open_questions_are_listed_with_their_answers(shell: FlaskCliRunner) -> None:
    ran = add(shell, "spending.csv", "--accept")
    assert (ran.exit_code, sources()) == (2, 0)
    assert f"  --answer {STATUS}=approved\n  --answer {STATUS}=draft\n" in ran.stdout
    assert "Department: 'Cost Center'" in ran.stdout


def test_assumed_answers_are_listed_with_the_others(shell: FlaskCliRunner) -> None:
    ran = add(shell, "spending.csv", f"--answer={STATUS}=approved", command="preview-source")
    assert "Add them up? Assumed: sum.\n  --answer sum=refuse\n" in ran.stdout
    ran = add(
        shell,
        "spending.csv",
        f"--answer={STATUS}=approved",
        "--answer=sum=sum",
        command="preview-source",
    )
    assert "Assumed" not in ran.stdout


def test_text_says_each_column_once(shell: FlaskCliRunner) -> None:
    ran = add(shell, "spending.csv", command="preview-source")
    assert ran.stdout.count("Department: ") == 1


def test_column_without_heading_has_a_number(shell: FlaskCliRunner, world: World) -> None:
    text = (PROJECT / "examples" / "sections.csv").read_text(encoding="utf-8")
    world.write("sections.csv", text)
    ran = add(shell, "sections.csv", command="preview-source")
    assert "Department: column 1, which has no heading, on separate lines." in ran.stdout
    assert "@0" not in ran.stdout


def test_text_names_columns_sums_and_the_largest_budget(shell: FlaskCliRunner) -> None:
    ran = add(shell, "spending.csv", f"--answer={STATUS}=approved", command="preview-source")
    assert ran.exit_code == 0
    assert "Header: row 2. Department: 'Cost Center'. Period: 'FY'" in ran.stdout
    assert "Amount: 'Adopted Budget'." in ran.stdout
    assert ran.stdout.count("Header: row") == 1
    assert "up to 2 rows a budget" in ran.stdout
    assert "row 7 (total)" in ran.stdout
    assert (
        "2 budgets, 132,500.00 USD in total. The largest is Distillery, FY2026: 120,000.00 USD."
        in ran.stdout
    )


def test_missing_accept_says_what_to_do(shell: FlaskCliRunner) -> None:
    ran = add(shell, "plain.csv")
    assert ran.exit_code == 2
    assert ran.stdout.endswith("Nothing was stored. Add --accept to confirm this reading.\n")


def test_accepted_source_is_one_line_on_standard_output(shell: FlaskCliRunner) -> None:
    ran = add(shell, "plain.csv", "--accept")
    source = BudgetDataSourceConfig.get()
    assert ran.exit_code == 0
    assert ran.stdout == (
        f"Added source {source.id} (CSV plain.csv). Preview the first sync run with "
        f"`flask sync-sheets --customer {ORG} --dry-run`.\n"
    )


def test_refusal_without_json_is_one_line(shell: FlaskCliRunner) -> None:
    ran = add(shell, "gone.csv", "--accept")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert len(ran.stderr.splitlines()) == 1


def test_google_sheet_and_excel_file_are_added(world: World, shell: FlaskCliRunner) -> None:
    world.google.share("the-only-key", [line.split(",") for line in PLAIN.splitlines()])
    ran = shell.invoke(
        args=[
            *("add-source", "--customer", ORG, "--spreadsheet", "the-only-key"),
            *("--worksheet", "Budgets", "--accept", "--json"),
        ]
    )
    assert ran.exit_code == 0, ran.output
    assert "file" not in said(ran)["reading"]
    assert world.sync().status == "success"


# Rereading.


def test_reread_starts_from_the_stored_answers(world: World, shell: FlaskCliRunner) -> None:
    source_id = said(
        add(shell, "spending.csv", "--json", "--accept", f"--answer={STATUS}=approved")
    )["sourceId"]
    ran = shell.invoke(args=["reread-source", source_id, "--json"])
    assert ran.exit_code == 2
    assert list(said(ran)) == [*KEYS, "difference"]
    assert (said(ran)["open"], said(ran)["difference"]) == ([], [])
    assert said(ran)["sourceId"] is None


def test_reread_follows_a_new_heading_and_shows_the_difference(
    world: World, shell: FlaskCliRunner
) -> None:
    source_id = said(
        add(shell, "spending.csv", "--json", "--accept", f"--answer={STATUS}=approved")
    )["sourceId"]
    world.write("spending.csv", SPENDING.replace("Adopted Budget", "Approved Budget"))
    assert world.sync().status == "failed"
    ran = shell.invoke(args=["reread-source", source_id, "--json", "--accept"])
    assert ran.exit_code == 0, ran.output
    assert said(ran)["sourceId"] == source_id
    assert said(ran)["difference"] == [
        {"key": "amount.columns", "old": ["Adopted Budget"], "new": ["Approved Budget"]}
    ]
    assert world.sync().status == "success"


def test_reread_asks_again_if_a_value_is_new(world: World, shell: FlaskCliRunner) -> None:
    source_id = said(
        add(shell, "spending.csv", "--json", "--accept", f"--answer={STATUS}=approved")
    )["sourceId"]
    world.write("spending.csv", SPENDING.replace("Draft", "Deferred"))
    ran = shell.invoke(args=["reread-source", source_id, "--json", "--accept"])
    assert (ran.exit_code, said(ran)["open"]) == (2, [STATUS])


def test_reread_is_audited_with_both_readings(shell: FlaskCliRunner) -> None:
    source_id = said(
        add(shell, "spending.csv", "--json", "--accept", f"--answer={STATUS}=approved")
    )["sourceId"]
    options = ["--accept", f'--answer={STATUS}=["approved","draft"]']
    assert shell.invoke(args=["reread-source", source_id, *options]).exit_code == 0
    first, second = AuditLog.select().where(AuditLog.action == "SET_READING").order_by(AuditLog.id)
    assert (first.subject, first.oldValue) == (source_id, None)
    assert second.oldValue == first.newValue
    assert json.loads(first.newValue or "") == SPENDING_READING
    assert json.loads(second.newValue or "")["keep"][0]["in"] == ["approved", "draft"]


@pytest.mark.parametrize("command", ["reread-source", "show-reading", "answer-hold"])
def test_unknown_source_is_refused(shell: FlaskCliRunner, command: str) -> None:
    options = ["--accept-amounts"] if command == "answer-hold" else []
    ran = shell.invoke(args=[command, "src_none", *options])
    assert ran.exit_code == 1
    assert ran.stderr == "Error: There is no source 'src_none'; see list-sources.\n"


# The --answer option.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum=sum", {"sum": ["sum"]}),
        ("period=FY=2026", {"period": ["FY=2026"]}),
        ("part=", {"part": [""]}),
        ("keep:A=B=yes", {"keep:A=B": ["yes"]}),
        ("keep:A=yes=no", {"keep:A": ["yes=no"]}),
        ("keep:C=yes=no", {"keep:C": ["yes=no"]}),
        ('columns=["FY26 Budget", "x"]', {"columns": ["FY26 Budget", "x"]}),
        ("columns=[draft]", {"columns": ["[draft]"]}),
        ('amount=["x"]', {"amount": ['["x"]']}),
    ],
)
def test_answer_is_split_after_the_id_of_a_question(
    text: str, expected: dict[str, list[str]]
) -> None:
    asked = {"sum", "keep:A=B"} if "B" in text else {"sum", "keep:A"}
    assert parse_answers([text], lambda _: asked) == expected


def test_listed_option_can_be_pasted_into_a_shell() -> None:
    text = option_text("keep:Mary's column", '$HOME `x` = "y"')
    echoed = subprocess.run(
        ["bash", "-c", f"printf %s {text.removeprefix('--answer ')}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert echoed.stdout == 'keep:Mary\'s column=$HOME `x` = "y"'


# The template.


def test_template_is_a_sheet_without_questions(world: World, shell: FlaskCliRunner) -> None:
    printed = shell.invoke(args=["sheet-template"])
    assert (printed.exit_code, printed.stdout) == (0, template(time.gmtime().tm_year))
    world.write("template.csv", printed.stdout)
    assert add(shell, "template.csv", "--accept").exit_code == 0
    assert world.sync().status == "success"
    assert len(world.budgets()) == 2


# With a terminal.


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands converse, although the test types in advance."""
    monkeypatch.setattr(readings, "has_dialogue", lambda: True)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    "typed",
    [
        "1\nyes\n",
        "approved\ny\n",
        "?\n9\n\n1\nperhaps\nyes\n",
        "1, 2\nno\n",
    ],
)
def test_dialogue_asks_and_stores_what_is_confirmed(shell: FlaskCliRunner, typed: str) -> None:
    args = ["add-source", "--customer", ORG, "--csv", "spending.csv"]
    ran = shell.invoke(args=args, input=typed)
    if typed.endswith("no\n"):
        assert (ran.exit_code, sources()) == (2, 0)
        assert ran.stdout.endswith("Nothing was stored.\n")
    else:
        assert (ran.exit_code, sources()) == (0, 1), ran.output
        assert stored_reading() == SPENDING_READING


@pytest.mark.usefixtures("terminal")
def test_dialogue_lets_an_assumed_answer_be_changed(shell: FlaskCliRunner) -> None:
    args = ["add-source", "--customer", ORG, "--csv", "spending.csv"]
    ran = shell.invoke(args=args, input="1\n1\nrefuse\nyes\n")
    assert "Assumed:\n  1  " in ran.stdout
    assert ran.exit_code == 0, ran.output
    assert stored_reading()["sum"] is False


@pytest.mark.usefixtures("terminal")
def test_dialogue_that_ends_early_stores_nothing(shell: FlaskCliRunner) -> None:
    args = ["add-source", "--customer", ORG, "--csv", "spending.csv"]
    assert shell.invoke(args=args, input="1\n").exit_code == 1
    assert sources() == 0


@pytest.mark.usefixtures("terminal")
def test_accepted_dialogue_needs_no_confirmation(shell: FlaskCliRunner) -> None:
    args = ["add-source", "--customer", ORG, "--csv", "plain.csv", "--accept"]
    assert shell.invoke(args=args).exit_code == 0
    assert sources() == 1


@pytest.mark.usefixtures("terminal")
def test_preview_on_a_terminal_asks_and_stores_nothing(shell: FlaskCliRunner) -> None:
    args = ["preview-source", "--customer", ORG, "--csv", "spending.csv"]
    ran = shell.invoke(args=args, input="1\n")
    assert (ran.exit_code, sources()) == (0, 0)
    assert "132,500.00 USD in total" in ran.stdout


@pytest.mark.usefixtures("terminal")
def test_impossible_text_is_asked_again(world: World, shell: FlaskCliRunner) -> None:
    world.write("undated.csv", "Department,Budgeted Amount\nSales,1000\nLegal,2000\n")
    args = ["add-source", "--customer", ORG, "--csv", "undated.csv"]
    ran = shell.invoke(args=args, input="soon\nFY2026\nyes\n")
    assert ran.exit_code == 0, ran.output
    assert "soon" in ran.stdout
    assert stored_reading()["period"] == {"constant": "FY2026"}


def test_dialogue_works_on_a_real_terminal(installation: Installation) -> None:
    sheets = installation.folder / "sheets"
    sheets.mkdir(exist_ok=True)
    (sheets / "spending.csv").write_text(SPENDING, encoding="utf-8")
    command = ["add-source", "--customer", "org-456", "--csv", "spending.csv"]
    shown = converse(installation, command, [("Number", "1\r"), ("Is this right", "yes\r")])
    assert "Added source src_" in shown
    assert "reading" in shown
    assert "success: 2 created" in installation.flask("sync-sheets").stdout


def converse(installation: Installation, command: list[str], answers: list[tuple[str, str]]) -> str:
    """Run a command on a terminal, and type each answer after its prompt. Returns the output."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r+b", buffering=0) as terminal:
        process = installation.begin(command, [terminal, terminal, terminal])
    shown = ""
    try:
        for prompt, answer in answers:
            seen = len(shown)
            while prompt not in shown[seen:]:
                shown += _read(ours) or pytest.fail(f"no {prompt!r} in {shown}")
            os.write(ours, answer.encode())
        while more := _read(ours):
            shown += more
    finally:
        os.close(ours)
    assert process.wait(30) == 0, shown
    return shown


def _read(terminal: int) -> str:
    """What a program wrote to a terminal; empty at its end, or if it waits for long."""
    if not select.select([terminal], [], [], 30)[0]:
        return ""
    with suppress(OSError):
        return os.read(terminal, 4096).decode(errors="replace")
    return ""


# Periods of a trial.


def test_period_that_depends_on_an_open_question_is_null(
    world: World, shell: FlaskCliRunner
) -> None:
    world.write("undated.csv", "Department,Budgeted Amount\nSales,1000\nLegal,2000\n")
    world.write(
        "dashes.csv",
        "Department,Period,Budgeted Amount\nSales,2011-12,1\nLegal,2011-12,2\nIT,Q1 2012,3\n",
    )
    undated = said(add(shell, "undated.csv", "--json"))
    assert undated["open"] == ["period"]
    assert [each["period"] for each in undated["budgets"]["first"]] == [None, None]
    assert undated["reading"]["period"] == {"constant": None}
    dashes = said(add(shell, "dashes.csv", "--json"))
    assert "dash" in dashes["open"]
    periods = {each["department"]: each["period"] for each in dashes["budgets"]["first"]}
    assert periods == {"Sales": None, "Legal": None, "IT": "2012-Q1"}
    assert "Period: not known yet." in add(shell, "undated.csv").stdout
